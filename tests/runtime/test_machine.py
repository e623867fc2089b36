"""What is said about the machine."""

from paddlex_seg.cores import num_usable_cores
from paddlex_seg.runtime.machine import describe_machine, package_versions

X86 = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu avx2 avx512_bf16 fma avx512f\n"


def test_the_processor_and_what_it_can_do_are_named() -> None:
    machine = describe_machine(X86 + X86)
    assert machine["cpu"] == "Some CPU @ 2 GHz"
    assert machine["flags"] == ["fma", "avx2", "avx512f", "avx512_bf16"]
    assert machine["cores"] == num_usable_cores()


def test_another_system_has_a_processor_too() -> None:
    machine = describe_machine("")
    assert machine["cpu"] and machine["flags"] == []


def test_only_installed_packages_have_a_version() -> None:
    versions = package_versions(["numpy", "no-such-package"])
    assert {"python", "paddlex_seg", "numpy"} <= set(versions)
    assert "no-such-package" not in versions
