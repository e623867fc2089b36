"""The contents of the wheel and the sdist: all modules, configurations, templates, styles and images."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build folder of a wheel. It is built without network and writes nothing into the repository."""
    pytest.importorskip("setuptools", minversion="77", reason="building needs what the dev extra brings")
    folder = tmp_path_factory.mktemp("built")
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return folder


def files_below(folder: Path, pattern: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern)}


def test_the_wheel_holds_every_module_and_no_other_package(built: Path) -> None:
    modules = files_below(ROOT / "paddlex_seg", "*.py")
    assert files_below(built, "*.py") == {f"paddlex_seg/{module}" for module in modules}


def test_the_wheel_holds_every_shipped_configuration(built: Path) -> None:
    configs = files_below(ROOT / "configs", "*.yaml")
    assert configs
    assert files_below(built, "*.yaml") == {f"paddlex_seg/configs/{config}" for config in configs}


def test_the_wheel_tells_type_checkers_that_it_has_types(built: Path) -> None:
    assert (built / "paddlex_seg" / "py.typed").is_file()


def page_files() -> set[str]:
    package = ROOT / "paddlex_seg"
    return {
        f"paddlex_seg/{folder}/{path.name}"
        for folder in ("reports/templates", "reports/static", "serving/static")
        for path in (package / folder).iterdir()
    }


def stored_files() -> set[str]:
    stored = ROOT / "paddlex_seg" / "inference" / "stored"
    return {f"paddlex_seg/inference/stored/{path.name}" for path in stored.iterdir()}


def test_the_wheel_holds_the_images_of_certificates(built: Path) -> None:
    files = stored_files()
    assert {"paddlex_seg/inference/stored/person.png", "paddlex_seg/inference/stored/SOURCE.md"} <= files
    assert files <= files_below(built, "*")


def test_the_wheel_holds_the_templates_and_styles_of_pages(built: Path) -> None:
    files = page_files()
    assert {
        "paddlex_seg/reports/templates/dataset.html.jinja",
        "paddlex_seg/reports/static/page.css",
        "paddlex_seg/serving/static/index.html",
    } <= files
    assert files <= files_below(built, "*")


def test_the_sdist_holds_the_data_of_the_package(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77", reason="building needs what the dev extra brings")
    command = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(tmp_path), "sdist"]
    subprocess.run([*command, "--dist-dir", str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    assert page_files() | stored_files() <= names


def test_a_page_is_rendered_outside_the_repository(built: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from paddlex_seg.reports.dataset import write_report; "
        "write_report(Path('r.html'), title='nuts', image_dir=Path('.'), shapes={}, findings=[], counts={}, "
        "passed=True)"
    )
    environment = {"PYTHONPATH": str(built)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert "<h1>nuts</h1>" in (tmp_path / "r.html").read_text(encoding="utf-8")


def printed(code: str, built: Path, folder: Path) -> str:
    """What a program prints that runs in a folder, with the built package."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(built)},
        check=True,
        capture_output=True,
        text=True,
    )
    return result.stdout.strip()


def test_a_configuration_is_found_by_name_outside_the_repository(built: Path, tmp_path: Path) -> None:
    code = "from paddlex_seg.config.read import find_config; print(find_config('PP-YOLOE_seg-S.yaml'))"
    assert Path(printed(code, built, tmp_path)).is_relative_to(built.resolve() / "paddlex_seg" / "configs")


def test_the_pipeline_is_found_by_name_outside_the_repository(built: Path, tmp_path: Path) -> None:
    code = (
        "from paddlex_seg.config.pipeline import find_pipeline, read_pipeline; "
        "assert read_pipeline('instance_segmentation', None).model_name == 'Mask-RT-DETR-S'; "
        "print(find_pipeline('instance_segmentation'))"
    )
    assert Path(printed(code, built, tmp_path)).is_relative_to(
        built.resolve() / "paddlex_seg" / "configs" / "pipelines"
    )
