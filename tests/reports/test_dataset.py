import base64
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_tools

from paddlex_seg.data.checking.statistics import Shapes, SplitShapes
from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.masks.rle import annotation_to_rle
from paddlex_seg.reports.dataset import write_report
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord

NAUGHTY = "<script>alert('1')</script>&\"é花"
SQUARE = [[20.0, 10, 60, 10, 60, 50, 20, 50]]
SIZE_WH = (120, 80)


class _Page(HTMLParser):
    """The tags and attributes of a page. ``open`` has the tags that were not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "br", "path", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "rect"):
            assert self.open.pop() == tag


def split_of(
    name: str,
    images: Sequence[ImageRecord],
    annotations: Sequence[Annotation],
    categories: Sequence[Category] = (Category(1, "nut"), Category(2, NAUGHTY)),
) -> SplitShapes:
    size_of = {image.id: (image.height, image.width) for image in images}
    masks = [annotation_to_rle(item, *size_of[item.image_id]) for item in annotations]
    return SplitShapes(
        coco=CocoFile(Path(f"instance_{name}.json"), tuple(images), tuple(annotations), tuple(categories)),
        areas=np.array([mask_tools.area(mask) for mask in masks], np.float64),
        boxes_xywh=mask_tools.toBbox(masks).reshape(-1, 4) if masks else np.zeros((0, 4)),
    )


def images_of(folder: Path, names: Sequence[str], colour: tuple[int, int, int] = (0, 0, 0)) -> None:
    for name in names:
        Image.new("RGB", SIZE_WH, colour).save(folder / name)


@pytest.fixture
def shapes(tmp_path: Path) -> Shapes:
    """Train has three images with one object each. Val has one image without objects."""
    names = ["a.jpg", "b.png", "c.jpg", "d.png"]
    images_of(tmp_path, names)
    records = [ImageRecord(i + 1, name, *SIZE_WH) for i, name in enumerate(names)]
    annotations = [Annotation(i + 1, i + 1, 1 + i // 2, SQUARE) for i in range(3)]
    return {"train": split_of("train", records[:3], annotations), "val": split_of("val", records[3:], [])}


def report(
    folder: Path,
    shapes: Shapes,
    findings: Sequence[Finding] = (),
    counts: dict[str, int] | None = None,
    title: str = "nuts",
) -> str:
    path = folder / "out" / "report.html"
    write_report(
        path,
        title=title,
        image_dir=folder,
        shapes=shapes,
        findings=findings,
        counts=Counter(item.code for item in findings) if counts is None else counts,
        passed=not findings,
    )
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]  # no temporary file stays
    return path.read_text(encoding="utf-8")


def embedded(text: str, kind: str = "jpeg") -> list[Image.Image]:
    found = re.findall(rf'(?:src|href)="data:image/{kind};base64,([^"]+)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def section(text: str, name: str) -> str:
    return text.partition(f'id="{name}"')[2].partition("</section>")[0]


def train_finding(code: str, image_id: int | None, annotation_id: int | None = None) -> Finding:
    return finding(
        code, "instance_train.json", f"wrong {NAUGHTY}", image_id=image_id, annotation_id=annotation_id
    )


def test_the_page_needs_no_network_and_runs_no_script(tmp_path: Path, shapes: Shapes) -> None:
    text = report(tmp_path, shapes, [train_finding("bbox_mismatch", 1, 1)])
    page = _Page(text)
    assert page.open == []
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
    sources = [value for name, value in page.attributes if name in ("src", "href", "srcset")]
    assert all(value.startswith(("data:image/", "#")) for value in sources)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "http:" not in text and "https:" not in text and "url(" not in text and "@import" not in text


def test_names_from_the_data_set_are_escaped(tmp_path: Path) -> None:
    name = "<script>alert(1)<\\script>.png"
    records = [ImageRecord(1, name, *SIZE_WH)]
    shapes = {"train": split_of("train", records, [Annotation(1, 1, 2, SQUARE)])}
    findings = [train_finding("image_missing", 1), train_finding("mask_empty", 1, 1)]
    text = report(tmp_path, shapes, [replace(item, hint=NAUGHTY) for item in findings], title=NAUGHTY)
    assert "<script" not in text
    assert _Page(text).open == []
    assert "&lt;script&gt;alert(1)" in text
    assert "é花" in text


def test_single_surrogate_in_a_name_does_not_stop_the_report(tmp_path: Path, shapes: Shapes) -> None:
    assert "ab?c" in report(tmp_path, shapes, title="ab\ud800c")


def test_the_headline_counts_all_findings(tmp_path: Path, shapes: Shapes) -> None:
    findings = [train_finding("bbox_mismatch", 1, 1), train_finding("image_missing", 2)]
    text = report(tmp_path, shapes, findings, {"bbox_mismatch": 12345, "image_missing": 1, "crowd": 0})
    assert "Failed" in text and "Passed" not in text
    assert "<b>1</b> error<" in text
    assert "<b>12\u202f345</b> warnings<" in text
    assert "<b>0</b> infos<" in text
    assert text.index('id="image_missing"') < text.index('id="bbox_mismatch"')  # errors first
    assert "12\u202f344 more findings with this code" in text
    assert "CheckDataset.fix repairs this: The box is computed from the mask." in text


def test_a_sound_data_set_has_passed(tmp_path: Path, shapes: Shapes) -> None:
    text = report(tmp_path, shapes)
    assert "Passed" in text and "Failed" not in text
    assert "No findings." in text
    assert len(embedded(text)) == 4  # the samples
    assert len(embedded(text, "png")) == 2  # heat map of train and its colour scale; val has no objects


def test_the_annotation_of_a_finding_is_drawn(tmp_path: Path, shapes: Shapes) -> None:
    text = report(tmp_path, shapes, [train_finding("mask_empty", 1, 1), train_finding("image_alpha", 2)])
    (masked,) = embedded(section(text, "mask_empty").partition("</article>")[0])
    (bare,) = embedded(section(text, "image_alpha").partition("</article>")[0])
    assert np.asarray(masked).max() > 80
    assert np.asarray(bare).max() < 20
    inside, outside = masked.getpixel((87, 80)), masked.getpixel((250, 160))
    assert max(inside) > 60 > 20 > max(outside)


@pytest.mark.parametrize("kind", ["polygon", "rle"])
def test_a_small_object_is_shown_enlarged_at_its_place(tmp_path: Path, kind: str) -> None:
    pixels = np.zeros((800, 1000, 3), np.uint8)
    pixels[600:620, 900:930, 1] = 255  # a green object
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    polygon = [[900.0, 600, 930, 600, 930, 620, 900, 620]]
    annotation = Annotation(1, 1, 1, polygon, bbox_xywh=(900, 600, 30, 20))
    if kind == "rle":
        annotation = replace(annotation, segmentation=annotation_to_rle(annotation, 800, 1000))
    shapes = {"train": split_of("train", [ImageRecord(1, "a.jpg", 1000, 800)], [annotation])}
    text = report(tmp_path, shapes, [train_finding("bbox_mismatch", 1, 1)])
    (thumbnail,) = embedded(section(text, "bbox_mismatch"))[:1]
    drawn = np.asarray(thumbnail).astype(int)
    assert max(thumbnail.size) == 260
    # The mask colour is blended over the green object. 96 pixels of the image are enlarged to 260.
    rows, columns = np.nonzero((drawn[..., 1] > 130) & (drawn[..., 2] > 60))
    assert 0.7 < len(rows) / (30 * 20 * (260 / 96) ** 2) < 1.2
    x, y = (915 - 867) * 260 / 96, (610 - 562) * 260 / 96
    assert abs(np.median(columns) - x) < 4
    assert abs(np.median(rows) - y) < 4


@pytest.mark.parametrize("code", ["image_exif_frame", "image_alpha"])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("turned_labels", [True, False])
def test_images_are_shown_in_the_orientation_of_their_annotations(
    tmp_path: Path, code: str, suffix: str, turned_labels: bool
) -> None:
    pixels = np.zeros((600, 800, 3), np.uint8)
    pixels[:300, :400] = 255  # top left as stored, top right when turned clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", exif=exif)
    size_wh = (600, 800) if turned_labels else (800, 600)
    record = ImageRecord(1, f"a.{suffix}", *size_wh)
    shapes = {"train": split_of("train", [record], [Annotation(1, 1, 1, SQUARE)])}
    text = report(tmp_path, shapes, [train_finding(code, 1)])
    (thumbnail,) = embedded(section(text, code).partition("</article>")[0])
    assert thumbnail.size == ((195, 260) if turned_labels else (260, 195))
    bright = (thumbnail.width - 40, 40) if turned_labels else (60, 60)
    dark = (40, 60) if turned_labels else (thumbnail.width - 40, 60)
    assert min(thumbnail.getpixel(bright)) > 235
    assert max(thumbnail.getpixel(dark)) < 20


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "I;16", "1"])
def test_images_of_all_kinds_are_shown(tmp_path: Path, mode: str) -> None:
    name = "a.jpg" if mode == "CMYK" else "a.png"
    Image.new("L", SIZE_WH, 0).convert(mode).save(tmp_path / name)
    shapes = {"train": split_of("train", [ImageRecord(1, name, *SIZE_WH)], [Annotation(1, 1, 1, SQUARE)])}
    (sample,) = embedded(report(tmp_path, shapes))
    assert sample.mode == "RGB"
    assert sample.size == (480, 320)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_damaged_metadata_do_not_hide_an_image(tmp_path: Path) -> None:
    Image.new("RGB", SIZE_WH).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03")
    shapes = {"train": split_of("train", [ImageRecord(1, "a.jpg", *SIZE_WH)], [])}
    assert len(embedded(report(tmp_path, shapes))) == 1


def test_an_image_of_another_size_is_shown_without_masks(tmp_path: Path) -> None:
    images_of(tmp_path, ["a.jpg"])
    record = ImageRecord(1, "a.jpg", 999, 555)
    shapes = {"train": split_of("train", [record], [Annotation(1, 1, 1, SQUARE)])}
    text = report(tmp_path, shapes, [train_finding("image_size_mismatch", 1)])
    images = embedded(text)
    assert len(images) == 2
    assert all(np.asarray(image).max() < 20 for image in images)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"no image", "cut jpg", "cut png"],
    ids=["missing", "empty", "text", "cut jpg", "cut png"],
)
def test_a_broken_image_gets_a_placeholder(tmp_path: Path, content: bytes | str | None) -> None:
    name = f"a.{str(content)[-3:]}" if isinstance(content, str) else "a.jpg"
    if isinstance(content, str):
        noise = np.random.default_rng(0).integers(0, 255, (*SIZE_WH[::-1], 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / name)
        content = (tmp_path / name).read_bytes()[:5000]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    record = ImageRecord(1, name, *SIZE_WH)
    shapes = {"train": split_of("train", [record], [Annotation(1, 1, 1, SQUARE)])}
    text = report(tmp_path, shapes, [train_finding("image_corrupt", 1)])
    assert text.count("The image file cannot be read") == 2  # as finding and as sample
    assert embedded(text) == []


def test_an_image_outside_the_folder_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    images_of(tmp_path, ["secret.png"])
    shapes = {"train": split_of("train", [ImageRecord(1, "../secret.png", *SIZE_WH)], [])}
    text = report(tmp_path / "images", shapes, [train_finding("file_name_outside", 1)])
    assert embedded(text) == []


@pytest.mark.parametrize(
    ("file", "image_id", "annotation_id", "num_images"),
    [
        ("instance_train.json", None, None, 0),
        ("instance_train.json", 404, None, 0),
        ("instance_train.json", 404, 1, 0),
        ("instance_train.json", 1, 404, 1),
        ("instance_train.json", 1, 2, 1),
        ("elsewhere.xml", 1, 1, 0),
    ],
    ids=["no image", "image", "annotation of it", "annotation", "another's annotation", "file"],
)
def test_findings_about_unknown_records_are_listed(
    tmp_path: Path,
    shapes: Shapes,
    file: str,
    image_id: int | None,
    annotation_id: int | None,
    num_images: int,
) -> None:
    found = finding("mask_empty", file, "hollow", image_id=image_id, annotation_id=annotation_id)
    listed = section(report(tmp_path, shapes, [found]), "mask_empty").partition("</article>")[0]
    assert "hollow" in listed and file in listed
    images = embedded(listed)
    assert len(images) == num_images
    assert all(np.asarray(image).max() < 20 for image in images)  # nothing is drawn


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"train": split_of("train", [], [], [])},
        {"train": split_of("train", [], []), "val": split_of("val", [], [])},
    ],
    ids=["no split", "nothing at all", "classes only"],
)
def test_an_empty_data_set_has_a_report(tmp_path: Path, shapes: Shapes) -> None:
    found = finding("split_without_images", "instance_train.json", "lists no images")
    text = report(tmp_path, shapes, [found])
    assert _Page(text).open == []
    assert "lists no images" in text
    assert "nan" not in text.lower()


def test_val_may_be_absent(tmp_path: Path, shapes: Shapes) -> None:
    text = report(tmp_path, {"train": shapes["train"]})
    assert len(embedded(text)) == 3
    assert "<h3>val</h3>" not in text
    assert 'class="s1"' not in section(text, "classes")


def test_rare_classes_are_among_the_samples(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(60)]
    images_of(tmp_path, names)
    records = [ImageRecord(i, name, *SIZE_WH) for i, name in enumerate(names)]
    annotations = [Annotation(i, i, 2 if i == 37 else 1, SQUARE) for i in range(60)]
    shapes = {"train": split_of("train", records, annotations)}
    text = report(tmp_path, shapes)
    assert len(embedded(text)) == 12
    assert ">37.png, 120" in section(text, "samples")
    assert report(tmp_path, shapes) == text


def test_many_classes_fit_in_a_table(tmp_path: Path) -> None:
    images_of(tmp_path, ["a.png"])
    categories = [Category(i, f"class {i}") for i in range(1500)]
    annotations = [Annotation(i, 1, i, SQUARE) for i in range(1500)]
    shapes = {"train": split_of("train", [ImageRecord(1, "a.png", *SIZE_WH)], annotations, categories)}
    classes = section(report(tmp_path, shapes), "classes")
    assert "The 20 most frequent of 1\u202f500 classes" in classes
    assert classes.count('class="bar-name"') == 20
    assert ">class 999<" in classes and ">class 1001<" not in classes
    assert "500 more classes are not listed" in classes


def test_the_report_of_a_large_and_noisy_data_set_stays_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.jpg", quality=95)
    for i in range(200):
        (tmp_path / f"{i}.jpg").symlink_to("noise.jpg")
    records = [ImageRecord(i, f"{i}.jpg", 1200, 900) for i in range(200)]
    annotations = [Annotation(i, i, 1, [[0.0, 0, 1200, 0, 1200, 900, 0, 900]]) for i in range(200)]
    train = split_of("train", records, annotations)
    val = replace(train, coco=replace(train.coco, path=Path("instance_val.json")))
    codes = [
        "mask_empty",
        "bbox_mismatch",
        "crowd",
        "polygon_nan",
        "image_alpha",
        "area_mismatch",
        "bbox_zero",
    ]
    findings = [
        replace(train_finding(code, i, i), message='"' * 100_000) for code in codes for i in range(200)
    ]
    text = report(tmp_path, {"train": train, "val": val}, findings)
    assert len(text.encode()) < 15_000_000
    images = embedded(text)
    assert len(images) == 24 + 80
    assert max(max(image.size) for image in embedded(section(text, "findings"))) <= 260


def test_findings_beyond_the_byte_budget_are_only_counted(
    tmp_path: Path, shapes: Shapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddlex_seg.reports.dataset_findings._FINDINGS_BUDGET_BYTES", 1500)
    text = report(tmp_path, shapes, [train_finding("mask_empty", 1, 1)] * 50)
    assert 0 < text.count('class="card"') < 12
    assert "more findings with this code are not listed here" in text


def test_images_beyond_the_byte_budget_are_left_out(
    tmp_path: Path, shapes: Shapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddlex_seg.reports.dataset_images._IMAGE_BUDGET_BYTES", 8000)
    text = report(tmp_path, shapes, [train_finding("mask_empty", 1, 1)] * 12)
    assert 0 < len(embedded(text)) < 16
    assert text.count('class="card"') == 12
    assert "cannot be read" not in text


def test_a_failed_report_leaves_the_old_one(
    tmp_path: Path, shapes: Shapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = report(tmp_path, shapes)

    def fail(source: str, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report(tmp_path, shapes, title="new")
    (left,) = (tmp_path / "out").iterdir()
    assert left.read_text(encoding="utf-8") == old


def test_large_images_are_decoded_for_samples_and_findings_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddlex_seg.reports.dataset_images._MAX_MEGAPIXELS", 0.205)
    names = [f"{i}.png" for i in range(40)]
    images_of(tmp_path, names)  # of 0.0096 megapixels
    records = [ImageRecord(i, name, *SIZE_WH) for i, name in enumerate(names)]
    shapes = {name: split_of(name, records, []) for name in ("train", "val")}
    text = report(tmp_path, shapes, [train_finding("image_alpha", i) for i in range(12)])
    assert len(embedded(section(text, "samples"))) == 21  # of 24
    assert len(embedded(section(text, "findings"))) == 12
