"""The documentation matches the code: generated pages, links and options."""

import importlib.util
import re
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import pytest

from paddlex_seg.catalog import MODELS
from paddlex_seg.config.read import load_config
from paddlex_seg.errors import ConfigError

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["config.md", "models.md", "check_dataset.md"])
def test_generated_page_is_up_to_date(page: str) -> None:
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert written == generator().PAGES[page](), "run `python docs/generate.py`"


def test_every_model_has_measured_figures() -> None:
    missing = MODELS.keys() - generator().model_figures()["models"].keys()
    assert not missing, "measure with benchmarks/forward.py --write docs/model_figures.json"


def test_readme_lists_the_models_of_the_generated_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for row in generator().models_page().splitlines():
        if row.startswith("| ") and not row.startswith("| model"):
            name, _, parameters, size = (cell.strip() for cell in row.split("|")[1:5])
            assert f"| {name} | {parameters} | {size} |" in readme


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), f"{page.name} links to {link}, which does not exist"


SHOWN_AS_WRONG = {"Train.epoch_iters=3", "Train.batch_size=many"}
PLACEHOLDERS = ("Key.sub", "KEY=", "Section.key=")


def shown_overrides() -> list[tuple[str, str]]:
    return [
        (page.name, option.strip("'\""))
        for page in PAGES
        for option in re.findall(r"-o ('[^']+'|\"[^\"]+\"|[^\s`]+)", page.read_text(encoding="utf-8"))
        if "=" in option and not any(word in option for word in PLACEHOLDERS)
    ]


@pytest.mark.parametrize(("page", "option"), shown_overrides())
def test_option_shown_in_the_documentation_is_valid(page: str, option: str) -> None:
    with pytest.raises(ConfigError) if option in SHOWN_AS_WRONG else nullcontext():
        load_config("PP-YOLOE_seg-S.yaml", [option])


def architecture() -> str:
    return (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_files_that_the_architecture_names_exist() -> None:
    for name in re.findall(r"`((?:tests/|docs/|benchmarks/)?[\w/]+\.py)`", architecture()):
        assert (ROOT / name).is_file() or (ROOT / "paddlex_seg" / name).is_file(), name


def test_the_map_of_rooms_is_complete() -> None:
    tree = architecture().split("paddlex_seg/\n", 1)[1].split("```", 1)[0]
    rooms = dict(re.findall(r"^  (\w+(?:\.py|/)) +((?:.|\n   )+)", tree, flags=re.MULTILINE))
    package = ROOT / "paddlex_seg"
    expected = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    expected |= {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").is_file()}
    assert rooms.keys() == expected
    for room, words in rooms.items():
        for name in re.findall(r"\w+\.py", words) if room.endswith("/") else ():
            assert list((package / room).rglob(name)), f"{room} has no {name}"


def test_rows_of_the_architecture_are_those_of_the_test() -> None:
    table = architecture().split("## Who may import whom", 1)[1].split("```")[1]
    rows = {int(line.split()[0]): set(line.split()[1:]) for line in table.strip().splitlines()}
    spec = importlib.util.spec_from_file_location("layering", ROOT / "tests" / "test_layering.py")
    assert spec is not None and spec.loader is not None
    layering = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layering)
    assert [rows[number] for number in sorted(rows)] == layering.ROWS


def test_every_row_of_what_can_go_wrong_is_held_by_a_test() -> None:
    text = (ROOT / "docs" / "what_can_go_wrong.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| what")]
    assert rows
    for row in rows:
        *_, last = (cell.strip() for cell in row.strip("|").split("|"))
        found = re.fullmatch(r"`(tests/[\w/]+\.py)::(\w+)`", last)
        assert found, row
        assert f"\ndef {found[2]}(" in (ROOT / found[1]).read_text(encoding="utf-8"), row
