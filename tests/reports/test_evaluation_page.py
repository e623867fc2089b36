"""The pages of evaluations and comparisons: what they show of any records, and how large they get."""

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluation_pages import SIZE_HW, full_comparison, full_page, mask, save_image
from made_instances import disc, instances_of, rectangle
from numpy.typing import NDArray

from paddlex_seg.masks.rle import mask_to_rle
from paddlex_seg.metrics.matching import match
from paddlex_seg.metrics.overlaps import measure_overlaps
from paddlex_seg.reports.comparison import write_comparison_page
from paddlex_seg.reports.drawings import draw, whole
from paddlex_seg.reports.evaluation import write_evaluation_page
from paddlex_seg.reports.evaluation_images import (
    ImageMistakes,
    choose_images,
    compared_images,
    count_mistakes,
    drawn_images,
)
from paddlex_seg.reports.evaluation_records import (
    Calibration,
    ClassRow,
    ComparisonPage,
    Confusion,
    DrawnMask,
    ErrorCost,
    EvaluationPage,
    Line,
    ModelColumn,
    SliceRow,
    Tile,
)
from paddlex_seg.reports.sortable import Column, count_cell, difference_cell, make_table, name_cell
from paddlex_seg.reports.text import figure, interval, signed
from paddlex_seg.reports.windows import Window
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord, Instances

MEGABYTE = 1_000_000


def written(page: EvaluationPage, folder: Path, image_dir: Path | None = None) -> str:
    write_evaluation_page(folder / "page.html", page, image_dir=image_dir)
    return (folder / "page.html").read_text(encoding="utf-8")


def texts(html: str, tag: str) -> list[str]:
    """The texts of all elements of a kind, without the tags in them."""
    found = re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", html, re.S)
    return [" ".join(re.sub(r"<[^>]*>", " ", text).split()) for text in found]


# ---- Choosing images


def mistakes(*rows: tuple[int, int, int]) -> ImageMistakes:
    right, missed, false = np.array(rows, np.int64).reshape(-1, 3).T
    return ImageMistakes(tuple(range(len(rows))), right, missed, false)


@pytest.mark.parametrize(
    ("rows", "worst", "best"),
    [
        ((), (), ()),
        (((0, 0, 0),), (), ()),
        (((0, 1, 0), (0, 3, 0)), (1, 0), ()),
        (((0, 2, 0), (0, 0, 2), (0, 1, 1)), (0, 1, 2), ()),
        (((40, 5, 5), (0, 3, 0)), (1, 0), ()),  # many mistakes among much that is right
        (((2, 0, 0), (5, 0, 0), (2, 0, 0)), (), (1, 0, 2)),
        (((1, 0, 0), (9, 1, 0)), (1,), (0,)),  # not in both
    ],
    ids=["none", "nothing there", "by number", "equal", "few are right", "best", "once"],
)
def test_the_worst_and_best_images_are_chosen(rows: tuple, worst: tuple, best: tuple) -> None:
    assert choose_images(mistakes(*rows)) == (worst, best)


def test_only_some_images_are_chosen() -> None:
    worst, best = choose_images(mistakes(*[(1, 5, 0)] * 30, *[(3, 0, 0)] * 30))
    assert worst == tuple(range(12))
    assert best == tuple(range(30, 36))
    assert choose_images(mistakes(*[(0, 5, 0)] * 3), num_worst=1, num_best=0) == ((0,), ())


CATEGORIES = (Category(7, "bolt"), Category(3, "nut"))  # not in the order of the ids
BOLT, NUT = 0, 1


def scene() -> tuple[CocoFile, dict[str | int, Instances]]:
    """Image 9 stands first in the file: a bolt that is found, a nut found as a bolt, a bolt not found."""
    square = [[5.0, 5, 25, 5, 25, 25, 5, 25]]
    lower = [[5.0, 35, 25, 35, 25, 55, 5, 55]]
    right = [[50.0, 5, 70, 5, 70, 25, 50, 25]]
    coco = CocoFile(
        Path("val.json"),
        (ImageRecord(9, "nine.png", 80, 60), ImageRecord(2, "two.png", 80, 60)),
        (
            Annotation(1, 9, 7, square),
            Annotation(2, 9, 3, lower),
            Annotation(3, 9, 7, right),
            Annotation(4, 2, 3, square),
        ),
        CATEGORIES,
    )
    masks = [
        rectangle(box, SIZE_HW) for box in [(5, 5, 25, 25), (5, 35, 25, 54), (6, 6, 26, 25), (40, 40, 60, 55)]
    ]
    classes, scores = [BOLT, BOLT, BOLT, NUT], [0.9, 0.8, 0.7, 0.3]
    boxes = [[5, 5, 25, 25], [5, 35, 25, 54], [6, 6, 26, 25], [40, 40, 60, 55]]
    return coco, {9: instances_of(masks, classes, scores, boxes)}


def test_mistakes_are_counted_in_file_order() -> None:
    coco, results = scene()
    overlaps = measure_overlaps(coco, results, [7, 3])
    counted = count_mistakes(coco, overlaps, match(overlaps), 0.5)
    assert counted.image_ids == (9, 2)
    assert counted.right.tolist() == [1, 0]
    assert counted.missed.tolist() == [2, 1]
    assert counted.false.tolist() == [2, 0]
    assert counted.f1 == pytest.approx([1 / 3, 0])
    every = count_mistakes(coco, overlaps, match(overlaps))
    assert every.false.tolist() == [3, 0]
    of_class = count_mistakes(coco, overlaps, match(overlaps), np.array([0.2, 0.95]))  # by category id
    assert (of_class.right[0], of_class.false[0]) == (0, 1)


def test_each_mask_says_what_it_is() -> None:
    coco, results = scene()
    overlaps = measure_overlaps(coco, results, [7, 3])
    (image,) = drawn_images([9], coco, results, overlaps, match(overlaps), 0.2)
    assert (image.file_name, image.width, image.height) == ("nine.png", 80, 60)
    assert [(item.name, item.state, item.note) for item in image.truth] == [
        ("bolt", "right", ""),
        ("nut", "wrong", "found: bolt, IoU 0.95"),
        ("bolt", "wrong", "nothing found here"),
    ]
    assert [(item.name, item.state, item.score, item.note) for item in image.found] == [
        ("bolt", "right", pytest.approx(0.9), "IoU 1.00"),
        ("bolt", "wrong", pytest.approx(0.8), "the object is nut, IoU 0.95"),
        ("bolt", "wrong", pytest.approx(0.7), "another detection of this object is better, IoU 0.86"),
        ("nut", "wrong", pytest.approx(0.3), "no object here"),
    ]
    (confident,) = drawn_images([9], coco, results, overlaps, match(overlaps), 0.75)
    assert len(confident.found) == 2
    (empty,) = drawn_images([2], coco, results, overlaps, match(overlaps), 0.75)
    assert (len(empty.truth), empty.found, empty.score) == (1, (), 0.0)


def test_an_object_that_one_model_finds_is_drawn_as_found() -> None:
    coco, results = scene()
    views = []
    for threshold in (0.95, 0.5):
        overlaps = measure_overlaps(coco, results, [7, 3])
        views.append(drawn_images([9], coco, results, overlaps, match(overlaps), threshold))
    (image,) = compared_images(views)
    assert [item.state for item in image.truth] == ["right", "wrong", "wrong"]
    assert [len(found) for found in image.found] == [0, 3]
    assert image.scores == (0.0, pytest.approx(1 / 3))
    assert [item.state for item in compared_images([*views, views[0]])[0].truth] == [
        "right",
        "wrong",
        "wrong",
    ]


# ---- Drawings


def filled(path: str, size_hw: tuple[int, int], scale: int = 4) -> NDArray[np.bool_]:
    """The pixels inside an SVG path, on a grid that is ``scale`` times as fine."""
    rings = []
    for start, steps in re.findall(r"M([^l]*)l([^z]*)z", path):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", start + " " + steps)]
        rings.append(np.cumsum(np.array(numbers).reshape(-1, 2), axis=0) * scale)
    canvas = np.zeros((size_hw[0] * scale, size_hw[1] * scale), np.uint8)
    cv2.fillPoly(canvas, [(ring - 0.5).round().astype(np.int32) for ring in rings], 1)
    return canvas.astype(bool)


def outline(
    pixels: NDArray[np.bool_], window: Window | None = None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What the path of a mask fills, and what it should fill."""
    height, width = pixels.shape
    record = ImageRecord(1, "image.png", width, height)
    drawn = DrawnMask(mask_to_rle(pixels), "bolt")
    drawing = draw(record, window or whole(record), [[drawn]], image_dir=None, side=100, max_bytes=10_000)
    x, y, across, down = (int(value) for value in window or (0, 0, width, height))
    part = pixels[y : y + down, x : x + across].astype(np.uint8)
    size_wh = drawing.width, drawing.height
    expected = cv2.resize(part, (size_wh[0] * 4, size_wh[1] * 4), interpolation=cv2.INTER_NEAREST)
    (layer,) = drawing.layers
    path = "".join(item.path for item in layer.outlines)
    return filled(path, (drawing.height, drawing.width)), expected.astype(bool)


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("window", [None, Window(30, 20, 60, 50)], ids=["whole", "crop"])
def test_a_path_covers_its_mask(window: Window | None) -> None:
    size_hw = (120, 160)
    ring = disc((70, 60), 40, size_hw) & ~disc((70, 60), 18, size_hw)
    parts = ring | rectangle((130, 100, 150, 115), size_hw)
    drawn, expected = outline(parts, window)
    assert iou(drawn, expected) > 0.95
    assert not drawn[(60 - (20 if window else 0)) * 4, (70 - (30 if window else 0)) * 4]  # the hole


def test_the_path_of_a_large_image_is_smaller() -> None:
    drawn, expected = outline(disc((2000, 1000), 700, (2000, 3000)))
    assert drawn.shape == (960 * 4, 1440 * 4)
    assert iou(drawn, expected) > 0.99


def test_a_thin_mask_does_not_vanish() -> None:
    drawn, _ = outline(np.eye(1500, 6000, dtype=bool))
    assert drawn.any()


@pytest.mark.parametrize("grain", [1, 4])
def test_noise_is_drawn_coarsely(grain: int) -> None:
    rng = np.random.default_rng(0)
    record = ImageRecord(1, "noise.png", 480, 360)
    cells = rng.random((360 // grain, 480 // grain)) > 0.5
    noise = DrawnMask(mask_to_rle(cells.repeat(grain, axis=0).repeat(grain, axis=1)), "noise")
    drawing = draw(record, whole(record), [[noise] * 30], image_dir=None, side=100, max_bytes=1000)
    (layer,) = drawing.layers
    assert 4 <= len(layer.outlines) < 30 and layer.total == 30
    assert sum(len(item.path) for item in layer.outlines) <= 60_000


def test_mistakes_are_drawn_first_and_small_masks_on_top() -> None:
    masks = [mask("bolt", (0, 0, 10 + i % 60, 10)) for i in range(200)]
    masks[150] = mask("bolt", (0, 0, 2, 2), "wrong")
    record = ImageRecord(1, "image.png", 80, 60)
    (layer,) = draw(record, whole(record), [masks], image_dir=None, side=100, max_bytes=1000).layers
    assert len(layer.outlines) == 150 and layer.total == 200
    assert layer.outlines[-1].state == "wrong"
    assert [label.state for label in layer.labels] == ["wrong"]  # there are too many for all names


def test_an_image_of_another_size_has_no_masks(tmp_path: Path) -> None:
    image = save_image(tmp_path, "image.png", (50, 90))
    html = written(replace(full_page(image), suspicions=()), tmp_path, tmp_path)
    assert "The image file has another size" in html
    assert 'class="pixels"' in html and "<path class=" not in re.sub(r"<svg viewBox.*?</svg>", "", html)


def test_images_that_are_missing_show_their_masks(tmp_path: Path) -> None:
    html = written(full_page("missing.png"), tmp_path, tmp_path)
    assert "The image file cannot be read." in html
    assert '<path class="wrong"' in html and "<image" not in html
    assert "There are no image files." in written(full_page("missing.png"), tmp_path)


# ---- The page


def test_the_verdict_comes_first(tmp_path: Path) -> None:
    html = written(full_page(save_image(tmp_path, "image.png")), tmp_path, tmp_path)
    body = html[html.index("<body>") :]
    places = [
        body.index(part) for part in ("headline", "sentence", "factt", "0.432", "0.300–0.500", "<main>")
    ]
    assert places == sorted(places)
    headings = texts(html, "h2")
    assert headings == [
        *("What costs AP", "Classes", "Figures", "Curves", "Confusion", "Slices", "Scores"),
        *("Counts and areas", "Images", "Labels to review", "Notes"),
    ]
    links = re.findall(r'<a href="#([^"]*)">', html)
    assert len(links) == len(headings)
    assert set(links) <= set(re.findall(r'<section id="([^"]*)">', html))


def test_the_most_expensive_error_is_first(tmp_path: Path) -> None:
    html = written(full_page("image.png"), tmp_path)
    costs = html[html.index('<ul class="costs">') : html.index("</section>")]
    assert costs.index("errortext") < costs.index("Cheap")
    assert re.findall(r"width:([\d.]+)%", costs) == ["100.0", "5.0"]
    assert "7×" in costs and "0.200" in costs


def test_unknown_numbers_have_no_key_and_empty_columns_are_left_out() -> None:
    columns = [Column("Class", is_number=False), Column("Objects"), Column("AP")]
    table = make_table("Classes", columns, [[name_cell("a"), count_cell(3), count_cell(None)]])
    assert [column.name for column in table.columns] == ["Class", "Objects"]
    assert table.rows[0][1].sort == 3
    assert count_cell(None).sort is None


def test_a_difference_is_coloured_if_it_is_sure() -> None:
    sure, worse, unsure = (
        difference_cell(value, ends, reach=0.2).bar
        for value, ends in ((0.1, (0.05, 0.15)), (-0.1, (-0.2, -0.01)), (0.1, (-0.05, 0.15)))
    )
    assert sure is not None and worse is not None and unsure is not None
    assert (sure.css, worse.css, unsure.css) == ("good", "error", "")
    assert (sure.start, sure.dot, sure.start + sure.length) == (62.5, 75.0, 87.5)
    assert difference_cell(0.1, None, reach=0.2).bar != sure


def test_figures_are_readable() -> None:
    assert (figure(0.12345), figure(None), figure(float("nan"))) == ("0.123", "–", "–")
    assert (signed(0.0123), signed(-0.0123), signed(-0.0001)) == ("+0.012", "\u22120.012", "0.000")
    assert interval((0.1, 0.25)) == "0.100–0.250"
    assert interval((-0.1, 0.25), with_sign=True) == "\u22120.100 to +0.250"
    assert interval(None) == interval((float("nan"), 1.0)) == ""


EMPTY = {
    "nothing": EvaluationPage("Empty"),
    "no objects": EvaluationPage(
        "Empty",
        ("There are no objects.",),
        tiles=(Tile("Mask AP", None),),
        errors=(ErrorCost("Missed", 0.0, 0, ""),),
        classes=(ClassRow("bolt", 0, 0),),
        precision_recall=(Line("all", np.zeros(0), np.zeros(0)),),
        over_score=(Line("F1", np.zeros(0), np.zeros(0)),),
        confusion=Confusion((), np.zeros((1, 1), int)),
        calibration=Calibration(None, ()),
        slices=(SliceRow("Size", "small", 0, 0, None),),
        worst=(),
    ),
    "one class": replace(full_page("image.png"), classes=(ClassRow("bolt", 1, 1, 1.0),)),
}


@pytest.mark.parametrize("page", EMPTY.values(), ids=EMPTY.keys())
def test_a_page_with_little_to_show_is_complete(page: EvaluationPage, tmp_path: Path) -> None:
    html = written(page, tmp_path)
    assert html.rstrip().endswith("</html>")
    assert "None" not in html and "nan" not in re.sub(
        r"<style>.*?</style>|<script>.*?</script>", "", html, flags=re.S
    )
    assert ("There is nothing to show" in html) == (page == EMPTY["nothing"])


@pytest.mark.parametrize("num_classes", [80, 1200])
def test_many_classes_do_not_fill_the_page(num_classes: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = tuple(f"class {i}" for i in range(num_classes))
    classes = tuple(
        ClassRow(name, int(rng.integers(0, 500)), 5, float(rng.random()), None, 0.5) for name in names
    )
    counts = rng.integers(0, 9, (num_classes + 1, num_classes + 1))
    page = EvaluationPage("Many", classes=classes, confusion=Confusion(names, counts))
    html = written(page, tmp_path)
    first, everything = re.findall(r'<table class="sortable">.*?</table>', html, re.S)
    assert 13 <= first.count("<tr>") <= 25
    assert everything.count("<tr>") == num_classes + 1
    worst = min(classes, key=lambda row: row.ap or 0)
    frequent = max(classes, key=lambda row: row.objects)
    assert f">{worst.name}</th>" in first and f">{frequent.name}</th>" in first
    matrix = html[html.index('<table class="matrix">') :]
    matrix = matrix[: matrix.index("</table>")]
    assert matrix.count('scope="row"') == 20 and f"{num_classes - 18} other classes" in matrix
    shown = [int(text.replace(" ", "")) for text in texts(matrix, "td") if text]
    assert sum(shown) == counts.sum()  # nothing is lost
    assert shown[-1] == counts[-1, -1]
    assert len(html) < MEGABYTE


def test_what_is_confused_most_is_said_in_words(tmp_path: Path) -> None:
    counts = np.array([[8, 2, 10], [0, 5, 0], [3, 0, 0]])
    page = EvaluationPage("Two", confusion=Confusion(("bolt", "nut"), counts, 0.25))
    html = written(page, tmp_path)
    assert texts(html, "ol") == ["bolt found as nut: 2 of 20 objects (10 %)"]
    assert 'title="bolt, found as nothing: 50\u202f%" class="bad" style="--share:0.500">10<' in html
    assert "IoU 0.50, score 0.25" in html


def test_a_page_of_a_large_data_set_is_small(tmp_path: Path) -> None:
    """As many images and labels as are shown, all of noise, which is what takes most bytes."""
    rng = np.random.default_rng(0)
    size_hw = (350, 450)
    image = save_image(tmp_path, "noise.png", size_hw)
    noise = mask_to_rle(cv2.resize(rng.random((50, 64)), size_hw[::-1]) > 0.5)
    right, wrong = (DrawnMask(noise, "grain", state, 0.9) for state in ("right", "wrong"))  # type: ignore[arg-type]
    page = full_page(image)
    drawn = replace(page.worst[0], width=450, height=350, truth=(right,) * 100, found=(wrong,) * 100)
    suspicion = replace(page.suspicions[0], width=450, height=350, truth=right, proposal=wrong)
    names = [f"class {i}" for i in range(300)]
    page = replace(
        full_page(image, names),
        worst=(drawn,) * 5000,
        best=(drawn,) * 5000,
        suspicions=(suspicion,) * 5000,
        slices=tuple(SliceRow("camera", f"camera {i}", 1, 1, 0.5) for i in range(5000)),
    )
    html = written(page, tmp_path, tmp_path)
    assert html.count('<figure class="case"') == 18 and html.count('<svg class="crop"') == 40
    assert html.count('id="pixels-') == 18  # one JPEG for both panels
    assert 2 * MEGABYTE < len(html) < 10 * MEGABYTE


def test_a_comparison_shows_each_model(tmp_path: Path) -> None:
    image = save_image(tmp_path, "image.png")
    for models in (("A", "B"), ("A", "B", "C")):
        write_comparison_page(tmp_path / "page.html", full_comparison(image, models), image_dir=tmp_path)
        html = (tmp_path / "page.html").read_text(encoding="utf-8")
        case = html[html.index('<figure class="case"') :]
        case = case[: case.index("</figure>")]
        names = [text.split()[0] for text in texts(case, "p")]
        assert names == ["Annotated", *models]
        assert "F1 0.50" in case
        heads = texts(html[html.index("<thead>") :], "th")
        assert heads[:3] == ["Figure", "Difference" + (" of B" if len(models) > 2 else ""), "95 %"]
        assert heads[2 * len(models) - 1 :][: len(models)] == list(models)
        assert html.count('<span class="range good">') == 2 * (len(models) - 1)
        assert "+0.100" in html and "\u22120.060 to +0.030" in html


def test_a_comparison_may_have_nothing_to_show(tmp_path: Path) -> None:
    page = ComparisonPage("Empty", (ModelColumn("A"), ModelColumn("B")))
    write_comparison_page(tmp_path / "page.html", page)
    assert "There is nothing to show" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_only_our_scripts_may_run_and_nothing_is_loaded(tmp_path: Path) -> None:
    image = save_image(tmp_path, "image.png")
    write_comparison_page(tmp_path / "comparison.html", full_comparison(image), image_dir=tmp_path)
    for html in (
        written(full_page(image), tmp_path, tmp_path),
        (tmp_path / "comparison.html").read_text(encoding="utf-8"),
    ):
        scripts = re.findall(r"<script>(.*?)</script>", html, re.S)
        hashes = [
            f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
            for script in scripts
        ]
        assert len(scripts) == html.count("<script") == 2
        (policy,) = re.findall(r'Content-Security-Policy"\s+content="([^"]*)"', html)
        assert policy.split("; ") == [
            *("default-src 'none'", "img-src data:", "style-src 'unsafe-inline'"),
            f"script-src {' '.join(hashes)}",
        ]
        assert not re.search(
            r"https?:|//|url\(|@import", re.sub(r'"data:[^"]*"|^\s*//.*$|// .*$', "", html, flags=re.M)
        )
