"""The documentation agrees with the code."""

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
def test_links_between_files_have_existing_targets(page: Path) -> None:
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
