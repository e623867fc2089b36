import pytest

from paddlex_seg.engine.launch import mkl_code_path

AVX512 = "avx2 fma avx512f avx512dq avx512bw avx512vl"


@pytest.mark.parametrize(
    ("vendor", "flags", "path"),
    [
        ("GenuineIntel", AVX512, None),
        ("AuthenticAMD", AVX512, "7"),
        ("AuthenticAMD", "sse4_2 avx avx2 fma", "5"),
        ("AuthenticAMD", "sse4_2 avx", None),
    ],
    ids=["intel", "amd avx512", "amd avx2", "old amd"],
)
def test_mkl_is_asked_only_for_what_an_amd_cpu_can_do(vendor: str, flags: str, path: str | None) -> None:
    assert mkl_code_path(f"processor : 0\nvendor_id : {vendor}\nflags\t\t: fpu {flags} sha_ni\n") == path


def test_unknown_cpu_is_left_alone() -> None:
    assert mkl_code_path("") is None
