"""Names of users appear in the pages exactly as typed and are never interpreted as markup."""

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from evaluation_pages import full_comparison, full_page
from PIL import Image

from paddlex_seg import reports
from paddlex_seg.data.checking.statistics import SplitShapes
from paddlex_seg.data.findings import finding
from paddlex_seg.data.samples.tasks import TrainSample
from paddlex_seg.reports.comparison import write_comparison_page
from paddlex_seg.reports.dataset import write_report
from paddlex_seg.reports.evaluation import write_evaluation_page
from paddlex_seg.reports.training import TrainingPage
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord, RateChange, ScheduleReport
from paddlex_seg.training.metrics_log import MetricsLog

ATTACK = "<script>alert(1)</script>\"'&{{1e9}}"
KNOWN_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "nav", "section", "article", "h1"),
    *(
        "h2",
        "h3",
        "p",
        "a",
        "ul",
        "ol",
        "li",
        "b",
        "i",
        "br",
        "code",
        "pre",
        "span",
        "div",
        "details",
        "summary",
    ),
    *("table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img"),
    *("svg", "path", "circle", "text", "image"),
}
KNOWN_ATTRIBUTES = {
    *(
        "lang",
        "charset",
        "name",
        "content",
        "http-equiv",
        "class",
        "id",
        "href",
        "src",
        "alt",
        "width",
        "height",
    ),
    *(
        "style",
        "scope",
        "role",
        "aria-label",
        "tabindex",
        "viewbox",
        "x",
        "y",
        "d",
        "cx",
        "cy",
        "r",
        "transform",
    ),
    "preserveaspectratio",
}


class Parsed(HTMLParser):
    """The texts, tags and attributes of a page, as a browser reads them."""

    known_tags, known_attributes = KNOWN_TAGS, KNOWN_ATTRIBUTES

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def require_harmless(self) -> None:
        assert self.tags <= self.known_tags
        assert {name for name, _ in self.attributes} <= self.known_attributes
        for name, value in self.attributes:
            if name in ("href", "src"):
                assert value.startswith(("#", "data:image/")), value
        assert "1000000000" not in "".join(self.texts)  # what a template makes of it
        ids = [value for name, value in self.attributes if name == "id"]
        assert len(ids) == len(set(ids))

    def shows(self, text: str) -> bool:
        return any(text in shown for shown in self.texts)

    def has_attribute(self, name: str, text: str) -> bool:
        return any(name == found and text in value for found, value in self.attributes)


class EvaluationParsed(Parsed):
    """A page that has scripts and drawings as well."""

    known_tags = KNOWN_TAGS | {"script", "label", "input", "dl", "dt", "dd", "g", "use", "small"}
    known_attributes = KNOWN_ATTRIBUTES | {
        *("data-sort", "title", "type", "checked", "value", "autocomplete", "open"),
    }


def attack(field: str) -> str:
    """The attack text, with the name of the field it is used in."""
    return f"{field}{ATTACK}"


def test_a_data_set_page_shows_hostile_names_as_typed(tmp_path: Path) -> None:
    file = attack("file").replace("/", "")
    Image.new("RGB", (40, 30)).save(tmp_path / file, "PNG")
    square = [[5.0, 5, 20, 5, 20, 20, 5, 20]]
    coco = CocoFile(
        Path(attack("json").replace("/", "")),
        (ImageRecord(1, file, 40, 30), ImageRecord(2, attack("folder"), 40, 30)),
        (Annotation(1, 1, 1, square),),
        (Category(1, attack("class"), attack("super")),),
    )
    shapes = {attack("split"): SplitShapes(coco, np.array([225.0]), np.array([[5.0, 5, 15, 15]]))}
    found = finding("mask_empty", coco.path.name, attack("message"), image_id=1, annotation_id=1)
    missing = finding("image_missing", coco.path.name, attack("later"), image_id=2)
    findings = [replace(found, hint=attack("hint"))] * 12 + [missing, found]
    write_report(
        tmp_path / "report.html",
        title=attack("title"),
        image_dir=tmp_path,
        shapes=shapes,
        findings=findings,
        counts=Counter(item.code for item in findings),
        passed=False,
    )
    page = Parsed(tmp_path / "report.html")
    page.require_harmless()
    for field in ("title", "class", "split", "message", "later", "hint", "folder"):
        assert page.shows(attack(field)), field
    for name in (file, coco.path.name):
        assert page.shows(name), name
    assert page.has_attribute("alt", file)
    assert page.has_attribute("alt", attack("class"))


def test_a_training_page_shows_hostile_names_as_typed(tmp_path: Path) -> None:
    sample = TrainSample(
        image=np.zeros((30, 40, 3), np.uint8),
        boxes_xyxy=np.array([[0, 0, 20, 20]], np.float32),
        class_ids=np.zeros(1, np.int64),
        masks=np.ones((1, 30, 40), np.uint8),
        polygons=(None,),
        image_id=1,
        im_shape=np.array([30, 40], np.float32),
        scale_factor=np.ones(2, np.float32),
        file_names=(attack("file"),),
    )
    loss = attack("loss")
    with MetricsLog(tmp_path) as log:
        speed = {"data_seconds": 0.1, "step_seconds": 0.5, "images_per_second": 8.0}
        log.step(epoch=1, step=1, learning_rate=0.1, losses={"loss": 1.0, loss: 2.0}, **speed)
        log.evaluation(epoch=1, step=1, losses={"loss": 1.0, loss: 2.0}, mask_ap=0.5)
        log.event(attack("event"), epoch=1, step=1, **{attack("detail"): attack("reason")})
    rate = RateChange(5, 2, 0.01)
    page = TrainingPage(
        tmp_path,
        title=attack("title"),
        schedule=ScheduleReport("piecewise", 0.1, 0.1, 0.01, 2, 4, 8, 0, 0, (rate,), ((0, 0.1), (7, 0.01))),
        samples=[sample],
        categories=[Category(1, attack("class"), attack("super"))],
        settings=f"Global:\n  model: {attack('model')}\n  output: {attack('output')}\n",
    )
    page.write()
    parsed = Parsed(tmp_path / "training.html")
    parsed.require_harmless()
    for field in ("title", "class", "loss", "event", "detail", "reason", "model", "output"):
        assert parsed.shows(attack(field)), field
    assert parsed.has_attribute("alt", attack("class"))
    assert parsed.has_attribute("aria-label", loss)


def test_an_evaluation_page_shows_hostile_names_as_typed(tmp_path: Path) -> None:
    file = attack("file").replace("/", "")
    Image.new("RGB", (80, 60)).save(tmp_path / file, "PNG")
    names = [attack("first"), f"{attack('second')}\n\x07\ud800", attack("third")]
    page = full_page(file, names, text=ATTACK)
    write_evaluation_page(tmp_path / "page.html", page, image_dir=tmp_path)
    parsed = EvaluationParsed(tmp_path / "page.html")
    parsed.require_harmless()
    for field in (
        *("title", "headline", "sentence", "fact", "value", "tile", "error", "meaning", "about", "first"),
        *("second", "third", "curve", "slice", "dark", "kind", "reason", "note"),
    ):
        assert parsed.shows(attack(field)), field
    assert parsed.shows(file)
    assert any(name == "type" and value in ("checkbox", "radio") for name, value in parsed.attributes)


def test_a_comparison_shows_hostile_names_as_typed(tmp_path: Path) -> None:
    file = attack("file").replace("/", "")
    Image.new("RGB", (80, 60)).save(tmp_path / file, "PNG")
    page = full_comparison(file, [attack("A"), attack("B")], text=ATTACK)
    write_comparison_page(tmp_path / "page.html", page, image_dir=tmp_path)
    parsed = EvaluationParsed(tmp_path / "page.html")
    parsed.require_harmless()
    for field in ("title", "headline", "fact", "value", "class", "slice", "dark", "note", "A", "B"):
        assert parsed.shows(attack(field)), field
    assert parsed.shows(file)


def test_only_styles_and_drawings_are_markup() -> None:
    folder = Path(reports.__path__[0])
    made = {
        path.name: path.read_text(encoding="utf-8").count("Markup(")
        for path in folder.rglob("*.py")
        if "Markup(" in path.read_text(encoding="utf-8")
    }
    assert made == {"page.py": 1, "chart_svg.py": 1}
    templates = list((folder / "templates").iterdir())
    assert templates
    for template in templates:
        text = template.read_text(encoding="utf-8")
        text = text.replace("<script>{{ script }}</script>", "")
        assert not re.search(r"\|\s*safe\b|autoescape|<script", text), template.name


def test_styles_and_scripts_load_nothing() -> None:
    files = list((Path(reports.__path__[0]) / "static").iterdir())
    assert {file.suffix for file in files} == {".css", ".js"}
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"url\(|@import|</|<!--|\bimport\b|fetch\(|eval\(|innerHTML|src\b", text), (
            file.name
        )
