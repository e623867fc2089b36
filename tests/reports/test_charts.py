import re
from collections.abc import Callable
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from made_fonts import only_fonts

from paddlex_seg.fonts import line_mask
from paddlex_seg.reports import charts
from paddlex_seg.reports.charts import (
    Bars,
    Chart,
    Curve,
    Mark,
    bar_chart,
    draw_curves,
    draw_histogram,
    heat_map,
    line_chart,
    value_range,
)

HOSTILE = ["$5_{x}$", "_hidden", "<script>alert(1)</script>", "a & b \"'", "{{7*7}}", "螺母", "\x01\ud800"]
SHOWN = [*HOSTILE[:-1], "\ufffd\ufffd"]  # characters not allowed in XML are replaced


class Texts(HTMLParser):
    """The texts, titles and attribute values of an SVG."""

    def __init__(self, chart: Chart) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.titles: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(chart.svg)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes += attrs

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        {"text": self.texts, "title": self.titles}[self.open[-1]].append(data)


def points(path: str) -> np.ndarray:
    return np.array([[float(x), float(y)] for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)])


def lines(chart: Chart) -> list[np.ndarray]:
    return [points(path) for path in re.findall(r'class="line s\d" d="([^"]+)"', chart.svg)]


def named_lines(names: list[str]) -> Chart:
    curves = [Curve(name, np.arange(3.0), np.arange(3.0) + i) for i, name in enumerate(names)]
    return line_chart(
        names[0], curves, x_label="step", marks=[Mark(i / 4, name) for i, name in enumerate(names)]
    )


def named_bars(names: list[str]) -> Chart:
    ticks = [(i + 0.5, name) for i, name in enumerate(names)]
    return bar_chart(names[0], [Bars("train", np.ones(len(names)), names)], ticks=ticks)


def named_cells(names: list[str]) -> Chart:
    return heat_map(names[0], np.eye(len(names)), rows=names, columns=names)


MAKERS = pytest.mark.parametrize(
    "make", [named_lines, named_bars, named_cells], ids=["lines", "bars", "heat"]
)


@MAKERS
def test_names_are_drawn_literally(
    make: Callable[[list[str]], Chart], recwarn: pytest.WarningsRecorder
) -> None:
    parsed = Texts(make(HOSTILE))
    shown = [*parsed.texts, *parsed.titles]
    for name in SHOWN:
        cut = charts.shorten(name, 24)  # as heat maps do
        assert any(text in (name, cut) or text.startswith(f"{name}, ") for text in shown), name
    assert set(parsed.tags) <= {"svg", "path", "circle", "text", "title", "image"}
    assert not [warning for warning in recwarn if "lyph" in str(warning.message)]


@MAKERS
def test_equal_input_gives_equal_bytes_without_ids(make: Callable[[list[str]], Chart]) -> None:
    chart = make(["nut", "bolt"])
    assert chart.svg == make(["nut", "bolt"]).svg
    names = {name for name, _ in Texts(chart).attributes}
    assert not names & {"id", "clip-path", "xlink:href"}
    assert "url(" not in chart.svg and not re.search(r"\b20\d\d-\d\d-\d\d", chart.svg)


@MAKERS
def test_charts_only_use_colours_of_the_page(make: Callable[[list[str]], Chart]) -> None:
    svg = make(["nut", "bolt"]).svg
    assert re.findall("(?:fill|stroke): var\\(--", svg)
    assert not re.search("(?:fill|stroke): (?!var|none)", svg)


def test_many_series_differ_in_colour_or_dash() -> None:
    curves = [Curve(f"c{i}", np.arange(70.0), np.full(70, 1.0 + i)) for i in range(20)]
    chart = line_chart("PR", curves, x_label="recall")
    assert len(lines(chart)) == 20
    assert len({swatch.css for swatch in chart.legend}) == 20
    styles = re.findall(r'<path class="line s\d" d="[^"]+" style="([^"]+)"', chart.svg)
    assert len(set(styles)) == 20


def test_linear_axis_with_negative_values_has_correct_positions() -> None:
    curve = Curve("a", np.array([0.0, 1, 2]), np.array([-1.0, 0, 1]))
    chart = line_chart("a", [curve], x_label="step", y_range=(-1, 1))
    np.testing.assert_allclose(lines(chart)[0], [[52, 190], [254, 110], [456, 30]])
    assert "step 2: 1" in Texts(chart).titles[2]
    low, high = value_range([curve])
    assert low <= -1 and high >= 1
    assert value_range([Curve("a", np.arange(2.0), np.array([-3.0, -2]))])[1] == 0


def test_a_log_axis_has_equal_steps_for_equal_factors_and_leaves_out_zeros() -> None:
    x, y = np.array([1.0, 10, 100, 1000]), np.array([0.0, 1, 100, 10000])
    chart = line_chart("a", [Curve("a", x, y)], x_label="n", x_scale="log", y_scale="log", y_range=(1, 10000))
    drawn = lines(chart)[0]
    np.testing.assert_allclose(np.diff(drawn, axis=0), [[404 / 3, -80]] * 2, atol=0.02)
    assert {"1", "100", "1000"} <= set(Texts(chart).texts)


def test_a_curve_has_a_gap_where_a_value_is_not_finite() -> None:
    y = np.array([1.0, 2, np.nan, 4, 5])
    chart = line_chart("a", [Curve("a", np.arange(5.0), y)], x_label="step")
    (path,) = re.findall(r'class="line s0" d="([^"]+)"', chart.svg)
    assert path.count("M") == 2 and len(points(path)) == 4
    assert chart.svg.count("<circle") == 4


@pytest.mark.parametrize("y", [np.zeros(0), np.zeros(3), np.full(3, np.nan), np.full(3, 1e-9)], ids=str)
def test_curves_without_a_range_can_be_drawn(y: np.ndarray) -> None:
    for scale in ("linear", "log"):
        chart = line_chart("a", [Curve("a", np.arange(len(y)) * 1.0, y)], x_label="step", y_scale=scale)
        assert "nan" not in chart.svg


def test_bars_stand_side_by_side_and_a_small_one_is_seen() -> None:
    series = [Bars("a", np.array([0.5, 1e-6]), ["x", "y"]), Bars("b", np.array([1.0, 0.0]), ["z", "w"])]
    chart = bar_chart("a", series, ticks=[(0.5, "first")])
    found = re.findall(r'<path class="(s\d)" d="([^"]+)"', chart.svg)
    boxes = [(css, *points(path).min(axis=0), *np.ptp(points(path), axis=0)) for css, path in found]
    assert [css for css, *_ in boxes] == ["s0", "s0", "s1"]
    assert [round(box[4]) for box in boxes] == [84, 1, 168]
    assert boxes[0][1] + boxes[0][3] == pytest.approx(boxes[2][1], abs=0.02)
    assert Texts(chart).titles == ["x", "y", "z"]


def test_bars_of_negative_values_hang_from_zero() -> None:
    chart = bar_chart("a", [Bars("a", np.array([1.0, -1.0]), ["x", "y"])], ticks=[])
    up, down = (points(path) for path in re.findall(r'<path class="s0" d="([^"]+)"', chart.svg))
    assert up[:, 1].max() == down[:, 1].min() == pytest.approx(106)


def test_the_first_split_may_be_empty_and_the_second_keeps_its_colour() -> None:
    series = [Bars("train", np.zeros(2), ["", ""]), Bars("val", np.ones(2), ["", ""])]
    chart = bar_chart("a", series, ticks=[])
    assert [swatch.css.split()[0] for swatch in chart.legend] == ["s0", "s1"]
    assert set(re.findall(r'<path class="(s\d)"', chart.svg)) == {"s1"}


def test_matrix_cells_are_crisp_and_position_maps_are_smooth() -> None:
    assert 'class="cells"' in named_cells(["nut", "bolt"]).svg
    assert 'class="cells"' not in heat_map("train", np.eye(3)).svg


@pytest.mark.parametrize("pair", [("_a", "_b"), ("$a$", "a"), ("$5_{x", "$5_{y")], ids=str)
def test_curves_png_has_the_names_as_they_are(pair: tuple[str, str]) -> None:
    one, other = (draw_curves([Curve(name, np.arange(3.0), np.arange(3.0))], []) for name in pair)
    assert (one != other).any()


@pytest.mark.parametrize(
    "name", ["Schraube ß", "гайка", "$5_{x", "$\\frac{$", "_hidden", "برغي", "a\nb", "x" * 300]
)
def test_histogram_draws_names_as_they_are(name: str) -> None:
    """The name is found below the axis, turned, pixel by pixel."""
    line = line_mask([name], 120 / 7, 240)
    assert line is not None
    turned = 255 - np.rot90(np.asarray(line))
    below = draw_histogram([name], [3], [1])[100:].min(axis=2)
    _, _, (x, y), _ = cv2.minMaxLoc(cv2.matchTemplate(below, turned, cv2.TM_SQDIFF))
    found = below[y : y + turned.shape[0], x : x + turned.shape[1]]
    assert abs(found.astype(int) - turned).max() < 3


def test_histogram_names_a_class_without_a_font_by_its_number() -> None:
    with only_fonts():
        drawn = draw_histogram(["nut", "螺母"], [2, 1], [0, 0])
        assert np.array_equal(drawn, draw_histogram(["nut", "class 1"], [2, 1], [0, 0]))


def bar_heights(histogram: np.ndarray, colour: tuple[int, int, int]) -> list[int]:
    """Heights of the bars of ``colour``, from left to right, without the legend."""
    here = (abs(histogram[100:].astype(int) - colour).max(axis=2) < 3).sum(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], here > 0, [0]]).astype(int)))
    return [int(np.median(here[a:b])) for a, b in edges.reshape(-1, 2)]


def test_histogram_shows_the_most_frequent_class_of_train_first() -> None:
    histogram = draw_histogram(["few", "many", "some"], [2, 9, 5], [4, 1, 2])
    train, val = bar_heights(histogram, (31, 119, 180)), bar_heights(histogram, (255, 127, 14))
    assert histogram.dtype == np.uint8
    assert histogram.shape == (600, 960, 3)
    assert train == sorted(train, reverse=True)
    assert len(train) == 3
    assert val[2] > val[1] > val[0]


def test_histogram_of_many_classes_is_wider() -> None:
    histogram = draw_histogram([f"class number {i}" for i in range(80)], list(range(80)), [1] * 80)
    assert histogram.shape == (600, 80 / 5 * 120, 3)
