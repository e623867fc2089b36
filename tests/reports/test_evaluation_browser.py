"""The page of an evaluation in a browser: sorting, layers, zoom, and that nothing else runs or is loaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Visit, chromium
from evaluation_pages import full_comparison, full_page, save_image
from PIL import Image

from paddlex_seg.reports.comparison import write_comparison_page
from paddlex_seg.reports.evaluation import write_evaluation_page

HOSTILE = "<script>document.title='hacked'</script>\"'&{{1e9}}" + "w" * 80
DARK, LIGHT = "rgb(20, 24, 28)", "rgb(255, 255, 255)"


def colour_at(view: Any, across: float, down: float) -> list[float]:
    """The mean colour around a place of a panel."""
    pixels = np.asarray(Image.open(BytesIO(view.screenshot())).convert("RGB"), float)
    x, y = round(across * pixels.shape[1]), round(down * pixels.shape[0])
    return pixels[y - 9 : y + 10, x - 9 : x + 10].mean(axis=(0, 1)).tolist()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of all parts, with names of many letters and markup."""
    folder = tmp_path_factory.mktemp("pages")
    image = save_image(folder, "image.png")
    names = [f"{i} {HOSTILE}" for i in range(30)]
    write_evaluation_page(folder / "page.html", full_page(image), image_dir=folder)
    write_evaluation_page(folder / "hostile.html", full_page(image, names, text=HOSTILE), image_dir=folder)
    models = ("A", HOSTILE, "C")
    write_comparison_page(
        folder / "comparison.html", full_comparison(image, models, HOSTILE), image_dir=folder
    )
    return folder


@contextmanager
def visit(browser: Any, folder: Path, name: str = "page.html", **context: Any) -> Iterator[Any]:
    """The page, which must not have had any problem in the end, nor asked for anything but itself."""
    opened = Visit(browser, folder.as_uri(), **context)
    try:
        yield opened.open(f"/{name}")
        assert opened.problems == []
        asked = {url for _, url in opened.requests if not url.startswith("data:")}
        assert asked == {f"{folder.as_uri()}/{name}"}
    finally:
        opened.context.close()


def column(page: Any, index: int, section: str = "#classes") -> list[str]:
    rows = page.locator(f"{section} tbody tr")
    return [rows.nth(i).locator("th, td").nth(index).inner_text().strip() for i in range(rows.count())]


def displays(case: Any, selector: str) -> set[str]:
    """Whether the elements are drawn."""
    drawn = case.locator(selector).evaluate_all("all => all.map(e => e.getClientRects().length)")
    return {"yes" if rectangles else "no" for rectangles in drawn}


def test_a_click_sorts_and_unknown_values_stay_last(browser: Any, folder: Path) -> None:
    with visit(browser, folder) as page:
        assert column(page, 0) == ["bolt", "washer", "nut"]
        head = page.locator("#classes th[scope=col]", has_text="AP").first
        assert head.get_attribute("aria-sort") == "none"
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        assert column(page, 2) == ["0.200", "0.100", "–"]
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        assert column(page, 2) == ["0.100", "0.200", "–"]
        page.locator("#classes th[scope=col]").first.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "none"
        assert column(page, 0) == ["bolt", "nut", "washer"]
        assert column(page, 0, "#figures") == ["AP", "AP small"]  # other tables stay


def test_the_keyboard_sorts(browser: Any, folder: Path) -> None:
    with visit(browser, folder) as page:
        page.locator("#classes th[scope=col] button").nth(1).focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Space")
        assert column(page, 1) == ["8", "9", "10"]
        page.locator("#figures th[scope=col] button").first.press("Enter")
        page.keyboard.press("Enter")
        assert column(page, 0, "#figures") == ["AP small", "AP"]


def test_layers_can_be_hidden(browser: Any, folder: Path) -> None:
    with visit(browser, folder) as page:
        case = page.locator(".case").first
        layers = {
            "Image": ":is(image, .pixels)",
            "Objects": ".panel:first-child .truth > path",
            "Detections": ".panel:last-child .found > path",
            "Right": "path.right",
            "Mistakes": "path.wrong",
            "Names": "text",
        }
        assert {name: displays(case, selector) for name, selector in layers.items()} == {
            name: {"yes"} for name in layers
        }
        for name, selector in layers.items():
            box = case.get_by_role("checkbox", name=name, exact=True)
            box.focus()
            page.keyboard.press("Space")
            assert displays(case, selector) == {"no"}, name
            others = [other for other in ("Objects", "Image") if other != name]
            assert "yes" in displays(case, layers[others[0]]), name
            box.check()
        assert displays(page.locator(".case").nth(1), "path") == {"yes"}


def test_detections_can_be_laid_over_objects(browser: Any, folder: Path) -> None:
    # At the false detection, in the panel of the objects.
    topmost = """view => {
        view.scrollIntoView({ behavior: "instant" });
        const box = view.getBoundingClientRect();
        const [x, y] = [box.left + box.width * 12 / 80, box.top + box.height * 47 / 60];
        return document.elementFromPoint(x, y).tagName;
    }"""
    with visit(browser, folder) as page:
        case = page.locator(".case").first
        view, both = case.locator(".view").first, case.get_by_label("Both in one")
        assert view.evaluate(topmost) == "image"
        both.check()
        assert view.evaluate(topmost) == "use"
        red, green, blue = colour_at(view, 12 / 80, 47 / 60)
        assert red > 1.3 * green and blue > 30  # translucent, in the colour of false detections
        case.get_by_label("Mistakes").uncheck()
        assert view.evaluate(topmost) == "image"
        case.get_by_label("Mistakes").check()
        both.uncheck()
        assert view.evaluate(topmost) == "image"


def test_both_panels_zoom_and_move_together(browser: Any, folder: Path) -> None:
    with visit(browser, folder) as page:
        case = page.locator(".case").first
        width = case.locator(".view").first.bounding_box()["width"]
        place = "all => all.map(e => [e.scrollLeft, e.scrollTop])"
        case.get_by_label("2×").check()
        assert case.locator(".canvas").first.bounding_box()["width"] == pytest.approx(2 * width, abs=2)
        scrolled = case.locator(".view").evaluate_all(place)
        assert scrolled[0] == scrolled[1]
        assert scrolled[0][0] == pytest.approx(width / 2, abs=10)  # the middle stays in the middle
        view = case.locator(".view").first
        assert view.get_attribute("tabindex") == "0"  # not all browsers let a reader reach what scrolls
        view.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function(
            "x => [...document.querySelectorAll('.view')].slice(0, 2).every(e => e.scrollLeft > x)",
            arg=scrolled[0][0],
        )
        view.scroll_into_view_if_needed()
        box = view.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.wait_for_timeout(300)  # the arrow scrolls smoothly
        before = case.locator(".view").evaluate_all(place)[1]
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x - 40, y - 30)
        page.mouse.up()
        page.wait_for_function(
            "x => document.querySelectorAll('.view')[1].scrollLeft >= x",
            arg=before[0] + 35,
        )
        case.get_by_label("1×").check()
        assert case.locator(".view").evaluate_all(place) == [[0, 0], [0, 0]]
        assert view.get_attribute("tabindex") is None


def test_control_and_the_wheel_zoom(browser: Any, folder: Path) -> None:
    with visit(browser, folder) as page:
        view = page.locator(".view").first
        view.hover()
        page.mouse.wheel(0, -100)  # scrolls the page
        assert page.locator(".case").first.get_by_label("1×").is_checked()
        view.hover()
        page.keyboard.down("Control")
        page.mouse.wheel(0, -120)
        page.keyboard.up("Control")
        page.wait_for_function("() => document.querySelector('.case .zoom-2').checked")


@pytest.mark.parametrize("name", ["page.html", "hostile.html", "comparison.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_page_does_not_scroll_sideways(name: str, scheme: str, browser: Any, folder: Path) -> None:
    small = {"viewport": {"width": 390, "height": 800}, "color_scheme": scheme}
    with visit(browser, folder, name, **small) as page:
        page.eval_on_selector_all("details", "all => all.forEach(e => { e.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert back == (DARK if scheme == "dark" else LIGHT)
        assert "hacked" not in page.title().split("<")[0]
        assert page.evaluate("document.scripts.length") == 2


def test_the_policy_holds(browser: Any, folder: Path) -> None:
    """Even if markup of a user got into the page, a browser would not run or load it."""
    opened = Visit(browser, folder.as_uri())
    page = opened.open("/page.html")
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.hacked = true";
            document.body.append(script);
            document.body.insertAdjacentHTML("beforeend", "<img src='x.png' onerror='window.hacked = true'>");
        }"""
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    assert len(opened.problems) >= 2 and all("Content Security Policy" in text for text in opened.problems)
    opened.context.close()


def test_the_page_works_without_scripts(browser: Any, folder: Path) -> None:
    with visit(browser, folder, java_script_enabled=False) as page:
        assert page.locator("#classes th button").count() == 0
        case = page.locator(".case").first
        assert case.locator("path.wrong").first.is_visible()
        case.get_by_label("Mistakes").uncheck()
        assert not case.locator("path.wrong").first.is_visible()
        width = case.locator(".canvas").first.bounding_box()["width"]
        case.get_by_label("4×").check()
        assert case.locator(".canvas").first.bounding_box()["width"] == pytest.approx(4 * width, abs=4)
