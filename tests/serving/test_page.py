"""The page of the service in a browser: from an image to masks, thresholds, downloads and errors."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Visit, chromium
from made_instances import disc, instances_of, rectangle
from numpy.typing import NDArray
from PIL import Image
from served_model import TwentyMsModel, serving

import paddlex_seg.serving
from paddlex_seg.data.formats.labelme.read import read_labelme
from paddlex_seg.inference.results import Result
from paddlex_seg.masks.rle import annotation_to_rle, mask_to_rle, polygons_to_rles, rle_iou
from paddlex_seg.structures import Instances
from paddlex_seg.visualize import class_colour

STATIC = Path(paddlex_seg.serving.__file__).parent / "static"
HEIGHT, WIDTH = SIZE_HW = (300, 400)
LABELS = ("bolt", "washer", "<b>nut</b>")
BOLT, PARTS, EMPTY, FAINT = range(4)  # objects of the scene
SCORES = (0.9, 0.7, 0.6, 0.3)
CLASSES = (0, 1, 2, 0)
MASKS = (
    disc((90, 80), 50, SIZE_HW) & ~disc((90, 80), 12, SIZE_HW),
    rectangle((200, 40, 260, 120), SIZE_HW) | rectangle((300, 40, 360, 120), SIZE_HW),
    np.zeros(SIZE_HW, bool),
    rectangle((60, 200, 180, 260), SIZE_HW),
)
SCENE = instances_of(
    MASKS,
    CLASSES,
    SCORES,
    [[40, 30, 140, 130], [200, 40, 360, 120], [300, 200, 340, 240], [60, 200, 180, 260]],
)


class PlantedModel(TwentyMsModel):
    """Finds the same objects in each image of their size, by default those of `SCENE`."""

    labels, thresholds = LABELS, (0.5, 0.5, 0.5)

    def __init__(self, found: Instances = SCENE) -> None:
        super().__init__(seconds=0)
        self._found = found

    def _result(self, image: NDArray[np.uint8], limits: NDArray[np.float32]) -> Result:
        found = (
            self._found
            if image.shape[:2] == self._found.size_hw
            else instances_of([], size_hw=image.shape[:2])
        )
        found = found.take(np.flatnonzero(found.scores > limits[found.class_ids]))
        blank = {"input_path": None, "page_index": None, "save_name": "image"}
        return Result(**blank, image=image[..., ::-1], instances=found, labels=self.labels)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def service() -> Iterator[Any]:
    with serving(PlantedModel(), max_body_mb=2, max_image_pixels=9_000_000) as running:
        yield running


@pytest.fixture
def visit(browser: Any, service: Any) -> Iterator[Visit]:
    """A visit of the page, without an image yet. It ends with a look at what went wrong in the browser."""
    with visiting(browser, service.url) as visit:
        yield visit


@contextmanager
def visiting(browser: Any, url: str, **context: Any) -> Iterator[Visit]:
    visit = Visit(browser, url, **context)
    try:
        yield visit
    finally:
        visit.context.close()
    assert not visit.problems


def image_file(name: str = "scene.png", size_hw: tuple[int, int] = SIZE_HW, **save: Any) -> dict[str, Any]:
    """A gray image as Playwright gives it to a file chooser."""
    return {"name": name, "mimeType": "image/png", "buffer": image_bytes(name, size_hw, **save)}


def image_bytes(name: str, size_hw: tuple[int, int] = SIZE_HW, **save: Any) -> bytes:
    file = BytesIO()
    kind = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF"}[Path(name).suffix]
    Image.new("RGB", size_hw[::-1], (120, 120, 120)).save(file, kind, **save)
    return file.getvalue()


def give(page: Any, *files: dict[str, Any]) -> None:
    page.set_input_files("#files", list(files))


def wait_for(page: Any, state: str, count: int = 1) -> None:
    page.locator(f"#strip li[data-state={state}]").nth(count - 1).wait_for()


def wait_for_image(page: Any) -> None:
    """Wait until the image is decoded."""
    page.locator("#stage[aria-busy=false]").wait_for()


def until(page: Any, condition: Callable[[], object]) -> None:
    """Wait until something holds, for things that no element tells."""
    for _ in range(500):
        if condition():
            return
        page.wait_for_timeout(20)
    pytest.fail("it did not become true within 10 s")


def opened(visit: Visit, *files: dict[str, Any]) -> Any:
    """The page with the results of these images, by default of one of the scene."""
    page = visit.open()
    give(page, *(files or (image_file(),)))
    wait_for(page, "done", max(1, len(files)))
    wait_for_image(page)
    return page


def at(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a point of the fitted image is in the window."""
    box = page.locator("#stage").bounding_box()
    scale = min(box["width"] / WIDTH, box["height"] / HEIGHT, 8)
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    return middle[0] + (x - WIDTH / 2) * scale, middle[1] + (y - HEIGHT / 2) * scale


def drawn(page: Any, layer: str, x: float, y: float) -> list[int]:
    """Red, green, blue and alpha of the canvas at a point of the fitted image, after the next frame."""
    left, top = at(page, x, y)
    code = """async ([layer, x, y]) => {
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      const canvas = document.querySelector(layer);
      const box = canvas.getBoundingClientRect();
      return [...canvas.getContext("2d").getImageData(x - box.left, y - box.top, 1, 1).data];
    }"""
    return page.evaluate(code, [f"#stage .{layer}", left, top])


def rows(page: Any) -> list[str]:
    """The shown rows of the table of objects."""
    return [
        re.sub(r"\s+", " ", text).strip() for text in page.locator("#objects tr:visible").all_inner_texts()
    ]


def set_threshold(page: Any, value: float) -> None:
    page.get_by_label("Score threshold").fill(str(value))


def set_class(page: Any, name: str, shown: bool) -> None:
    page.locator("#classes label", has_text=name).get_by_role("checkbox").set_checked(shown)


def download(page: Any, name: str) -> tuple[str, bytes]:
    """The name and the content of a downloaded file."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=name, exact=True).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


# ---- masks and colours are those of the toolkit


def random_masks() -> list[NDArray[np.bool_]]:
    rng = np.random.default_rng(5)
    noise = [
        rng.random(size) < part
        for size, part in zip(rng.integers(1, 40, (40, 2)), rng.random(40), strict=True)
    ]
    large = disc((1500, 900), 800, (2000, 3000))  # with numbers of several characters in its RLE
    return [*noise, large, np.ones((7, 5), bool), np.zeros((7, 5), bool), np.ones((1, 1), bool)]


def test_masks_are_decoded_and_painted_as_by_pycocotools(visit: Visit) -> None:
    page = visit.open()
    masks = random_masks()
    entries = [
        {"rleResult": mask_to_rle(mask)["counts"].decode(), "size": mask.shape, "offset": [3, 4]}
        for mask in masks
    ]
    code = """async (entries) => {
      const { decodeMask, covers, paintMask } = await import("/static/masks.js");
      return entries.map((entry) => {
        const mask = decodeMask(entry);
        const { width, height } = mask;
        const grid = { cells: new Uint16Array(width * height), width, height, left: 3, top: 4, scale: 1 };
        paintMask(mask, grid, 1);
        let wrong = 0;
        for (let x = 0; x < width; x++) {
          for (let y = 0; y < height; y++) wrong += covers(mask, x + 3, y + 4) != grid.cells[x * height + y];
        }
        const text = new TextDecoder("ascii").decode(new Uint8Array(grid.cells));
        return { area: mask.area, wrong, cells: btoa(text) };
      });
    }"""
    for mask, found in zip(masks, page.evaluate(code, entries), strict=True):
        cells = np.frombuffer(base64.b64decode(found["cells"]), np.uint8).reshape(mask.shape[::-1]).T
        assert np.array_equal(cells, mask)
        assert (found["area"], found["wrong"]) == (mask.sum(), 0)


def test_damaged_masks_are_refused(visit: Visit) -> None:
    page = visit.open()
    code = """async (counts) => {
      const { decodeMask } = await import("/static/masks.js");
      return counts.map((rleResult) => {
        try { decodeMask({ rleResult, size: [4, 5], offset: [0, 0] }); return "decoded"; }
        catch (error) { return error.message; }
      });
    }"""
    whole = mask_to_rle(np.ones((4, 5), bool))["counts"].decode()
    damaged = ["", "`", "0", "0d0d", "é", whole + "1", mask_to_rle(np.ones((9, 9), bool))["counts"].decode()]
    assert page.evaluate(code, [whole]) == ["decoded"]
    assert page.evaluate(code, damaged) == ["The text of a mask is damaged."] * len(damaged)


@pytest.mark.parametrize("scale", [0.23, 1.7, 12])
def test_masks_are_painted_at_any_zoom_where_the_centres_of_cells_are(visit: Visit, scale: float) -> None:
    page = visit.open()
    mask = np.random.default_rng(1).random((40, 60)) < 0.5
    code = """async ([entry, scale]) => {
      const { decodeMask, paintMask } = await import("/static/masks.js");
      const grid = { cells: new Uint16Array(90 * 70), width: 90, height: 70, left: 7.3, top: 2.4, scale };
      paintMask(decodeMask(entry), grid, 7);
      return [...grid.cells];
    }"""
    entry = {"rleResult": mask_to_rle(mask)["counts"].decode(), "size": mask.shape, "offset": [10, 5]}
    cells = np.array(page.evaluate(code, [entry, scale])).reshape(90, 70).T
    x = np.floor((np.arange(90) + 0.5) / scale + 7.3).astype(int) - 10
    y = np.floor((np.arange(70) + 0.5) / scale + 2.4).astype(int) - 5
    expected = np.zeros((70, 90), int)
    inside = np.ix_((y >= 0) & (y < 40), (x >= 0) & (x < 60))
    expected[inside] = 7 * mask[np.ix_(y[(y >= 0) & (y < 40)], x[(x >= 0) & (x < 60)])]
    assert cells.any() and np.array_equal(cells, expected)


def test_classes_have_the_colours_of_drawings(visit: Visit) -> None:
    page = visit.open()
    code = """async () => {
      const { classColour } = await import("/static/drawing.js");
      return [...Array(300).keys()].map(classColour);
    }"""
    assert page.evaluate(code) == [list(class_colour(class_id)) for class_id in range(300)]


# ---- images and what is shown of them


def test_chosen_images_are_sent_once_and_shown_with_their_objects(visit: Visit) -> None:
    page = visit.open()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose images").click()
    chooser.value.set_files([image_file("one.png"), image_file("two.png")])
    wait_for(page, "done", 2)
    assert len(visit.predictions) == 2
    assert all("visualize=false" in url and "threshold=0.05" in url for url in visit.predictions)
    assert rows(page) == [f"bolt 0.90 {MASKS[BOLT].sum():,}", "washer 0.70 9,600", "<b>nut</b> 0.60 0"]
    assert page.locator("#strip .name").all_inner_texts() == ["one.png", "two.png"]
    assert page.locator("#strip .state").all_inner_texts() == ["3 objects", "3 objects"]
    page.get_by_role("status").get_by_text("one.png, 400 × 300: 3 objects shown, score above 0.50").wait_for()
    wait_for_image(page)
    assert drawn(page, "image", 5, 5) == [120, 120, 120, 255]
    red, green, blue, alpha = drawn(page, "overlay", 90, 120)
    assert np.abs(np.subtract((red, green, blue), class_colour(0))).max() <= 2 and alpha == round(0.45 * 255)
    assert drawn(page, "overlay", 90, 80)[3] == 0  # the hole
    page.get_by_role("button", name=re.compile("^two.png")).click()
    page.get_by_role("img", name="two.png. 3 objects").wait_for()
    assert len(visit.predictions) == 2


def test_the_model_and_its_classes_are_named(visit: Visit) -> None:
    page = visit.open()
    page.get_by_text("toy, 3 classes").click()
    assert page.get_by_role("list", name="Classes").inner_text().splitlines() == list(LABELS)
    assert page.locator("#facts").inner_text().split() == (
        ["Model", "toy", "Backend", "paddle", "Precision", "f32", "Device", "cpu"]
    )
    page.keyboard.press("Escape")
    assert page.get_by_role("list", name="Classes").is_hidden()


def test_the_threshold_moves_without_a_request(visit: Visit) -> None:
    page = opened(visit)
    before = list(visit.requests)
    assert drawn(page, "overlay", 120, 230)[3] == 0
    set_threshold(page, 0.2)
    assert len(rows(page)) == 4 and drawn(page, "overlay", 120, 230)[3] > 0
    assert page.locator("#strip .state").all_inner_texts() == ["4 objects"]
    assert page.locator("#classes .number").all_inner_texts() == ["2", "1", "1"]
    page.get_by_role("status").get_by_text("4 objects shown, score above 0.20").wait_for()
    set_threshold(page, 0.7)  # the server's rule: a higher score
    assert rows(page) == [f"bolt 0.90 {MASKS[BOLT].sum():,}"]
    set_threshold(page, 1)
    assert rows(page) == [] and page.get_by_text("No object is shown.").is_visible()
    page.get_by_role("button", name="Reset").click()
    assert len(rows(page)) == 3
    assert visit.requests == before


def test_a_class_is_hidden_and_shown(visit: Visit) -> None:
    page = opened(visit)
    assert page.locator("#classes label").all_inner_texts() == ["bolt\n1", "washer\n1", "<b>nut</b>\n1"]
    set_class(page, "bolt", shown=False)
    assert [row.split()[0] for row in rows(page)] == ["washer", "<b>nut</b>"]
    assert drawn(page, "overlay", 90, 120)[3] == 0 and drawn(page, "overlay", 230, 80)[3] > 0
    give(page, image_file("next.png"))  # also in the next image
    wait_for(page, "done", 2)
    assert [row.split()[0] for row in rows(page)] == ["washer", "<b>nut</b>"]
    page.get_by_role("button", name="Hide all").click()
    assert rows(page) == []
    page.get_by_role("button", name="Show all").click()
    assert len(rows(page)) == 3 and drawn(page, "overlay", 90, 120)[3] > 0


def test_masks_boxes_and_labels_are_switched(visit: Visit) -> None:
    page = opened(visit)
    corner, label = (360, 119.8), (202, 32)
    assert drawn(page, "overlay", *corner)[3] and drawn(page, "overlay", *label)[3]
    page.get_by_label("Boxes").uncheck()
    page.get_by_label("Labels").uncheck()
    assert not drawn(page, "overlay", 360.5, 119.8)[3] and not drawn(page, "overlay", *label)[3]
    page.get_by_label("Mask opacity").fill("1")
    assert drawn(page, "overlay", 230, 80) == [*class_colour(1), 255]
    page.get_by_label("Masks").uncheck()
    assert not drawn(page, "overlay", 230, 80)[3]


def test_an_object_under_the_pointer_says_what_it_is(visit: Visit) -> None:
    page = opened(visit)
    tip = page.locator(".tip")
    page.mouse.move(*at(page, 230, 80))
    assert tip.inner_text().splitlines() == [
        "washer 0.70",
        "Area 9,600 px, 8 % of the image",
        "Box 160 × 80 px at 200, 40",
    ]
    assert page.locator("#objects tr.hot").inner_text().split() == ["washer", "0.70", "9,600"]
    page.mouse.move(*at(page, 90, 80))  # the hole of the bolt
    assert tip.is_hidden()
    page.mouse.move(*at(page, 90, 120))
    assert tip.inner_text().startswith("bolt 0.90")
    set_class(page, "bolt", shown=False)
    page.mouse.move(*at(page, 90, 119))
    assert tip.is_hidden()


def test_fingers_point_and_zoom(browser: Any, service: Any) -> None:
    with visiting(browser, service.url, has_touch=True) as visit:
        page = opened(visit)
        page.touchscreen.tap(*at(page, 230, 80))
        assert page.locator(".tip").inner_text().startswith("washer 0.70")
        page.touchscreen.tap(*at(page, 10, 290))
        assert page.locator(".tip").is_hidden()
        fitted = int(page.locator("#percent").inner_text().split()[0])
        x, y = at(page, 200, 150)
        touch = visit.context.new_cdp_session(page)
        for kind, half in (("touchStart", 50), ("touchMove", 75), ("touchMove", 150), ("touchEnd", 0)):
            points = [{"x": x + side * half, "y": y, "id": side} for side in (-1, 1) if half]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        until(page, lambda: abs(int(page.locator("#percent").inner_text().split()[0]) - 3 * fitted) < 5)


def test_the_image_is_zoomed_at_the_pointer_and_moved(visit: Visit) -> None:
    page = opened(visit)
    percent = page.locator("#percent")
    fitted = percent.inner_text()
    page.mouse.move(*at(page, 230, 80))
    for _ in range(5):
        page.mouse.wheel(0, -200)
    until(page, lambda: int(percent.inner_text().split()[0]) > 5.5 * int(fitted.split()[0]))
    x, y = at(page, 230, 80)
    tip = page.locator(".tip")  # beside the pointer, where the same point of the image still is
    assert tip.inner_text().startswith("washer")
    assert tip.bounding_box()["x"] == pytest.approx(x + 14, abs=2)
    page.mouse.down()
    page.mouse.move(x - 700, y + 10, steps=4)
    page.mouse.up()
    page.mouse.move(x, y)
    assert page.locator(".tip").is_hidden()  # the gap between the parts of the washer
    page.get_by_role("button", name="Fit").click()
    assert percent.inner_text() == fitted
    page.get_by_role("button", name="100 %").click()
    assert percent.inner_text() == "100 %"


def test_images_are_dropped_and_pasted(visit: Visit) -> None:
    page = visit.open()
    code = """([kind, name, text]) => {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], name, { type: "image/png" }));
      const options = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
      const target = document.querySelector("#viewport");
      if (kind === "paste") return document.dispatchEvent(new ClipboardEvent("paste", options));
      target.dispatchEvent(new DragEvent("dragover", options));
      const isMarked = () => document.body.classList.contains("dragging");
      return [isMarked(), target.dispatchEvent(new DragEvent("drop", options)), isMarked()];
    }"""
    content = base64.b64encode(image_bytes("x.png")).decode()
    assert page.evaluate(code, ["drop", "dropped.png", content]) == [True, False, False]
    wait_for(page, "done", 1)
    assert page.evaluate(code, ["paste", "image.png", content]) is False
    wait_for(page, "done", 2)
    assert page.locator("#strip .name").all_inner_texts() == ["dropped.png", "pasted-1.png"]
    page.get_by_role("img", name="pasted-1.png. 3 objects").wait_for()  # the newest is shown
    labelme = json.loads(download(page, "LabelMe")[1])
    assert base64.b64decode(labelme["imageData"]) == image_bytes("x.png")  # the user has it nowhere else


def test_the_camera_gives_an_image(visit: Visit) -> None:
    page = visit.open()
    page.get_by_role("button", name="Use the camera").first.click()
    page.get_by_role("button", name="Take an image").click()
    wait_for(page, "done")
    assert page.locator("#strip .name").inner_text() == "camera-1.png"
    assert page.evaluate("document.querySelector('video').srcObject === null")  # its light goes off


def test_why_there_is_no_camera_is_said(visit: Visit) -> None:
    visit.page.add_init_script("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    page = visit.open()
    page.get_by_role("button", name="Use the camera").first.click()
    assert "pages with https" in page.get_by_role("dialog").inner_text()
    assert page.get_by_role("button", name="Take an image").is_hidden()
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").is_hidden()


def test_an_image_that_the_browser_cannot_decode_is_shown_as_the_server_sees_it(visit: Visit) -> None:
    page = opened(visit, image_file("turned.jpg", (WIDTH, HEIGHT), exif=turned()), image_file("scan.tif"))
    assert len(visit.predictions) == 2, page.locator("#status").inner_text()
    assert drawn(page, "image", 3, 3) == [120, 120, 120, 255]  # upright: 400 wide
    page.get_by_role("button", name=re.compile("^scan.tif")).click()
    until(page, lambda: len(visit.predictions) == 3)
    wait_for_image(page)
    assert drawn(page, "image", 3, 3)[3] == 255 and drawn(page, "overlay", 90, 120)[3] > 0
    assert "threshold=1&visualize=true" in visit.predictions[2]


def test_an_image_that_the_browser_turns_otherwise_is_shown_as_the_server_sees_it(visit: Visit) -> None:
    visit.page.add_init_script("""
      const decode = createImageBitmap;
      window.createImageBitmap = async (source, options) => {
        const bitmap = await decode(source, options);
        return source instanceof File ? decode(bitmap, 0, 0, bitmap.height, bitmap.width) : bitmap;
      };
    """)
    page = opened(visit, image_file("turned.jpg", (WIDTH, HEIGHT), exif=turned()))
    until(page, lambda: len(visit.predictions) == 2)
    wait_for_image(page)
    assert drawn(page, "image", 3, 3)[3] == 255  # not as high as the window, with nothing at its sides


def test_objects_are_listed_and_saved_when_their_image_cannot_be_shown(visit: Visit) -> None:
    visit.page.add_init_script("window.createImageBitmap = async () => { throw new Error('No memory.'); }")
    page = opened(visit)
    assert page.locator("#notice").inner_text() == "The image cannot be shown. No memory."
    page.locator("#objects button").nth(1).click()
    assert page.locator("#objects tr.hot").inner_text().startswith("washer")
    assert page.get_by_role("button", name="PNG", exact=True).is_disabled()
    assert len(json.loads(download(page, "JSON")[1])["result"]["instances"]) == 3


def turned() -> Image.Exif:
    """The EXIF data of an image that is stored lying on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_images_are_removed(visit: Visit) -> None:
    page = opened(visit, image_file("one.png"), image_file("two.png"))
    page.get_by_role("button", name="Remove one.png").click()
    assert page.locator("#strip .name").all_inner_texts() == ["two.png"]
    page.get_by_role("img", name="two.png. 3 objects").wait_for()
    assert "two.png" in page.evaluate("document.activeElement.textContent")
    page.get_by_role("button", name="Remove two.png").click()
    assert page.get_by_text("Drop images here").is_visible()
    assert page.evaluate("document.activeElement.textContent") == "Choose images"


def test_an_image_of_24_megapixels_with_300_objects(browser: Any) -> None:
    corners = [(x, y) for y in range(100, 3900, 240) for x in range(100, 5800, 290)][:300]
    boxes = [(x, y, x + 200, y + 180) for x, y in corners]
    found = Instances(
        size_hw=(4000, 6000),
        class_ids=np.arange(300) % 3,
        scores=np.linspace(0.9, 0.1, 300, dtype=np.float32),
        boxes_xyxy=np.array(boxes, np.float32),
        masks=tuple(
            polygons_to_rles([[x1, y1, x2, y1, x2, y2, x1, y2] for x1, y1, x2, y2 in boxes], (4000, 6000))
        ),
    )
    with serving(PlantedModel(found)) as running, visiting(browser, running.url) as visit:
        page = visit.open()
        give(page, image_file("large.jpg", (4000, 6000)))
        wait_for(page, "done")
        set_threshold(page, 0.05)
        page.get_by_role("status").get_by_text("large.jpg, 6000 × 4000: 300 objects shown").wait_for()
        page.get_by_role("button", name="100 %").click()
        page.locator("#objects button").nth(149).click()  # comes into view
        wait_for_image(page)
        code = """async () => {
          await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
          return [...document.querySelectorAll("#stage canvas")].map((canvas) => {
            const middle = [canvas.width / 2, canvas.height / 2];
            return canvas.getContext("2d").getImageData(...middle, 1, 1).data[3] > 0;
          });
        }"""
        assert page.evaluate(code) == [True, True]
        name, content = download(page, "PNG")
        with Image.open(BytesIO(content)) as image:
            assert (name, image.size) == ("large_drawn.png", (6000, 4000))


# ---- downloads


def test_json_is_the_reply_of_the_server_with_the_shown_objects(visit: Visit) -> None:
    page = visit.open()
    with page.expect_response("**/instance-segmentation**") as reply:
        give(page, image_file("my scene.v2.png"))
    wait_for(page, "done")
    name, content = download(page, "JSON")
    expected = reply.value.json()
    assert [one["score"] for one in expected["result"]["instances"]] == pytest.approx(SCORES)
    del expected["result"]["instances"][FAINT]
    assert (name, json.loads(content)) == ("my scene.v2_result.json", expected)
    set_class(page, "washer", shown=False)
    del expected["result"]["instances"][PARTS]
    assert json.loads(download(page, "JSON")[1]) == expected


def test_png_is_the_image_at_full_size_with_what_is_shown(visit: Visit) -> None:
    page = opened(visit)
    page.get_by_label("Boxes").uncheck()
    page.get_by_label("Labels").uncheck()
    page.get_by_label("Mask opacity").fill("0.5")
    set_class(page, "bolt", shown=False)
    page.get_by_role("button", name="Zoom in").click()
    with Image.open(BytesIO(download(page, "PNG")[1])) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (*SIZE_HW, 3)
    changed = (pixels != 120).any(axis=2)
    assert np.array_equal(changed, MASKS[PARTS])
    assert np.abs(pixels[80, 230] - (120 + np.array(class_colour(1))) / 2).max() <= 1.5
    assert np.array_equal(pixels[40, 230], class_colour(1))  # the outline


def test_labelme_is_read_back_as_the_shown_objects(visit: Visit, tmp_path: Path) -> None:
    page = opened(visit)
    set_class(page, "bolt", shown=False)
    set_threshold(page, 0.2)
    name, content = download(page, "LabelMe")
    assert name == "scene.json"  # LabelMe looks for it beside the image
    assert json.loads(content)["imageData"] is None
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "scene.png").write_bytes(image_bytes("scene.png"))
    (tmp_path / "images" / name).write_bytes(content)
    conversion = read_labelme(tmp_path)
    (coco,) = conversion.splits.values()
    (found,) = coco.annotations  # one object of two parts; the empty mask has no shape
    assert [category.name for category in coco.categories if category.id == found.category_id] == ["washer"]
    assert rle_iou(annotation_to_rle(found, *SIZE_HW), mask_to_rle(MASKS[PARTS])) > 0.99
    set_class(page, "bolt", shown=True)
    labels = [
        (shape["label"], shape["score"]) for shape in json.loads(download(page, "LabelMe")[1])["shapes"]
    ]
    assert labels[1:] == [("washer", 0.7), ("washer", 0.7), ("bolt", 0.3)] and labels[0] == ("bolt", 0.9)
    assert len(visit.predictions) == 2  # asked for once


# ---- what goes wrong


def test_the_reason_of_the_server_is_shown(visit: Visit) -> None:
    page = visit.open()
    give(page, {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no image"}, image_file())
    wait_for(page, "failed")
    wait_for(page, "done")
    notice = page.locator("#notice")
    assert re.search("not an? .*image|no image", notice.inner_text())
    assert notice.get_by_role("button").is_hidden()  # the same file would fail again
    assert page.locator("#strip .state").all_inner_texts() == ["Failed", "3 objects"]
    assert page.get_by_role("button", name="JSON").is_disabled()
    assert visit.refusals
    page.get_by_role("button", name="Remove notes.txt").click()
    assert notice.is_hidden()
    give(page, {"name": "more.txt", "mimeType": "text/plain", "buffer": b"no image"})
    wait_for(page, "failed")
    page.get_by_role("button", name="Remove scene.png").click()
    page.get_by_role("button", name="Remove more.txt").click()
    assert notice.is_hidden() and page.get_by_text("Drop images here").is_visible()


def fulfill(route: Any, **reply: Any) -> None:
    """Reply in place of the server."""
    route.fulfill(**reply)


def test_replies_of_a_proxy_are_put_into_words(visit: Visit) -> None:
    page = visit.open()
    words = {
        200: "The reply cannot be read. It was cut off, or it is not from this service.",
        413: "The image is larger than the server takes.",
        502: "The server behind the proxy does not answer.",
        418: "The server replied with the status 418.",
    }
    for count, (status, text) in enumerate(words.items(), start=1):
        reply = partial(fulfill, status=status, content_type="text/html", body="<html>nginx</html>")
        page.route("**/instance-segmentation**", reply, times=1)
        give(page, image_file(f"{status}.png"))
        wait_for(page, "failed", count)
        assert page.locator("#notice p").inner_text() == text
        assert page.locator("#notice button").is_visible() == (status in (200, 502))


def test_images_that_are_too_large_are_refused(visit: Visit) -> None:
    page = visit.open()
    give(page, image_file("wide.png", (900, 10_001)))
    wait_for(page, "failed")
    assert "it has 9,000,900 pixels" in page.locator("#notice").inner_text()
    sent = len(visit.predictions)
    give(page, {"name": "heavy.png", "mimeType": "image/png", "buffer": bytes(2_100_000)})
    wait_for(page, "failed", 2)
    assert page.locator("#notice").inner_text() == (
        "The file has 2.1 MB; this server takes up to 2.0 MB. Make the image smaller."
    )
    assert len(visit.predictions) == sent


def test_a_server_that_has_gone_is_said_and_asked_again(browser: Any) -> None:
    with serving(PlantedModel()) as running, visiting(browser, running.url) as visit:
        page = opened(visit)
        visit.page.route("**/instance-segmentation**", lambda route: route.abort("connectionrefused"))
        give(page, image_file("later.png"), image_file("last.png"))
        wait_for(page, "failed", 2)
        notice = page.locator("#notice")
        assert re.fullmatch(
            r"The server at 127\.0\.0\.1:\d+ does not answer\. .*still running\.\s+Try again",
            notice.inner_text(),
        )
        visit.page.unroute("**/instance-segmentation**")
        notice.get_by_role("button", name="Try again").click()
        wait_for(page, "done", 3)  # all of them
        running.stop()
        give(page, image_file("too_late.png"))
        wait_for(page, "failed")
        assert "does not answer" in notice.inner_text()


def test_the_page_waits_while_the_server_is_busy(visit: Visit) -> None:
    page = visit.open()
    refusal = partial(
        fulfill, status=429, headers={"Retry-After": "1"}, json={"errorMsg": "The queue is full."}
    )
    page.route("**/instance-segmentation**", refusal, times=1)
    give(page, image_file())
    wait_for(page, "waiting")
    assert page.locator("#notice").inner_text() == "The queue is full. Sent again in 1 s."
    assert page.locator("#strip .state").inner_text() == "The server is busy"
    wait_for(page, "done")
    assert len(visit.predictions) == 2


def test_at_most_two_images_are_sent_at_once(visit: Visit) -> None:
    page = visit.open()
    waiting, hold = list[Any](), [True]
    page.route(
        "**/instance-segmentation**", lambda route: waiting.append(route) if hold else route.continue_()
    )
    give(page, *(image_file(f"{number}.png") for number in range(5)))
    wait_for(page, "sent", 2)
    page.wait_for_timeout(200)
    assert len(waiting) == 2 and page.locator("#strip li[data-state=queued]").count() == 3
    hold.clear()
    for route in waiting:
        route.continue_()
    wait_for(page, "done", 5)


def test_the_api_key_is_asked_for_and_kept_in_memory_only(browser: Any) -> None:
    with serving(PlantedModel(), api_key="s3cret") as running, visiting(browser, running.url) as visit:
        page = visit.open()
        key = page.get_by_label("API key")
        key.fill("wrong")
        key.press("Enter")
        page.get_by_text("The server did not accept this key.").wait_for()
        give(page, image_file())
        key.fill("s3cret")
        page.get_by_role("button", name="Use this key").click()
        wait_for(page, "done")
        assert key.is_hidden()
        kept = page.evaluate("[document.cookie, localStorage.length, sessionStorage.length, location.href]")
        assert kept == ["", 0, 0, f"{running.url}/"]
        assert not any("s3cret" in url for _, url in visit.requests)


def test_the_page_of_the_api_describes_every_path(browser: Any) -> None:
    with serving(PlantedModel(), api_key="s3cret") as running, visiting(browser, running.url) as visit:
        page = visit.open("/docs")
        page.get_by_label("API key").fill("s3cret")
        page.get_by_role("button", name="Use this key").click()
        page.get_by_text("An example").wait_for()
        paths = running.app.openapi()["paths"]
        shown = page.locator(".operation > summary code").all_inner_texts()
        assert shown == [path for path, methods in paths.items() for _ in methods]
        predict = page.locator("details[open]")
        rows = [" ".join(row.split()) for row in predict.locator("tr").all_inner_texts()]
        assert "result.instances[].bbox list of number, required x1, y1, x2, y2" in rows
        assert "maskFormat rle | full_rle | polygon | png | none, default rle" in rows
        assert "curl -H 'X-API-Key: ...'" in page.locator("#example pre").inner_text()


def test_thresholds_of_classes_hold_until_the_slider_is_moved(browser: Any) -> None:
    model = PlantedModel()
    model.thresholds = (0.2, 0.8, 0.5)
    with serving(model) as running, visiting(browser, running.url) as visit:
        page = opened(visit)
        assert page.locator("#threshold-value").inner_text() == "by class"
        assert [row.split()[0] for row in rows(page)] == ["bolt", "<b>nut</b>", "bolt"]
        limits = page.locator("#classes .muted").all_inner_texts()
        assert limits == ["above 0.20", "above 0.80", "above 0.50"]
        set_threshold(page, 0.65)
        assert page.locator("#classes .muted").all_inner_texts() == [""] * 3
        assert [row.split()[0] for row in rows(page)] == ["bolt", "washer"]
        page.get_by_role("button", name="Reset").click()
        assert page.locator("#threshold-value").inner_text() == "by class" and len(rows(page)) == 3


# ---- for everyone


def test_the_page_is_used_with_the_keyboard_alone(visit: Visit) -> None:
    page = visit.open()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    page.wait_for_url("**/#main")
    page.keyboard.press("Tab")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(image_file())
    wait_for(page, "done")

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
        pytest.fail(f"Tab does not reach {selector}")

    page.get_by_role("button", name="Add images").focus()
    tab_to("#stage")
    fitted = page.locator("#percent").inner_text()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#percent").inner_text() != fitted
    page.keyboard.press("0")
    assert page.locator("#percent").inner_text() == fitted
    tab_to("#threshold")
    page.keyboard.press("Home")
    assert len(rows(page)) == 4
    tab_to("#objects button")
    page.keyboard.press("ArrowDown")
    assert page.locator(".tip").inner_text().startswith("washer 0.70\nArea 9,600 px")
    page.keyboard.press("End")
    assert page.locator("#objects tr.hot").inner_text().startswith("bolt")
    page.keyboard.press("Enter")
    assert page.locator("#percent").inner_text() != fitted  # brought into view
    tab_to("#save-json")
    with page.expect_download() as waiting:
        page.keyboard.press("Enter")
    assert waiting.value.suggested_filename == "scene_result.json"


def contrast(first: str, second: str) -> float:
    """The contrast of two CSS colours by WCAG, 1 to 21."""

    def luminance(colour: str) -> float:
        part = np.array([int(value) for value in re.findall(r"\d+", colour)[:3]]) / 255
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_in_light_and_dark(browser: Any, service: Any, scheme: str) -> None:
    with visiting(browser, service.url, color_scheme=scheme) as visit:
        page = visit.open()
        give(page, image_file(), {"name": "a.txt", "mimeType": "text/plain", "buffer": b"x"})
        wait_for(page, "done")
        wait_for(page, "failed")
        code = """() => {
          const isText = (node) => node.nodeType === 3 && node.data.trim();
          const hasText = (one) => [...one.childNodes].some(isText);
          const back = (one) => {
            const colour = one ? getComputedStyle(one).backgroundColor : "rgb(255, 255, 255)";
            return colour === "rgba(0, 0, 0, 0)" ? back(one.parentElement) : colour;
          };
          return [...document.querySelectorAll("body *")]
            .filter((one) => one.checkVisibility() && !one.disabled && hasText(one))
            .map((one) => [one.textContent.trim(), getComputedStyle(one).color, back(one)]);
        }"""
        texts = page.evaluate(code)
        assert len(texts) > 30
        assert [text for text in texts if contrast(*text[1:]) < 4.5] == []
        (back,) = {page.evaluate("getComputedStyle(document.body).backgroundColor")}
        assert (contrast(back, "rgb(0, 0, 0)") > 10) == (scheme == "light")


@pytest.mark.parametrize("size", [(320, 640), (640, 400), (1024, 640)], ids=str)
def test_nothing_is_cut_off_in_small_windows(browser: Any, service: Any, size: tuple[int, int]) -> None:
    with visiting(browser, service.url, viewport={"width": size[0], "height": size[1]}) as visit:
        page = opened(visit, image_file("a rather long name of an image from the line 17.png"))
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        for name in ("Add images", "Zoom out", "JSON", "LabelMe"):
            button = page.get_by_role("button", name=name)
            button.scroll_into_view_if_needed()
            box = button.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= size[0] and box["height"] >= 24


def test_names_of_files_and_classes_are_text(visit: Visit) -> None:
    page = opened(visit, image_file("<img src=x onerror=alert(1)>.png"))
    assert page.locator("#strip .name").inner_text() == "<img src=x onerror=alert(1)>.png"
    assert page.locator("img, #objects b, #classes b").count() == 0


def test_the_files_of_the_page_name_no_other_server_and_no_absolute_path() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir()}
    assert {"index.html", "app.js", "style.css"} <= set(texts)
    for name, text in texts.items():
        addresses = set(re.findall(r"https?://[^\s\"')]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg", "http://127.0.0.1"}, name
        assert not re.search(r"""(?:href|src|from|fetch|import)\s*[=(]?\s*["'`]/""", text), name
    assert not re.search(r"\son\w+=|style=|<script(?! type=\"module\" src=)|<style", texts["index.html"])
