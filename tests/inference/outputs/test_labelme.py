"""The LabelMe file of one image: LabelMe opens it, a person corrects it, our reader converts it.

What LabelMe does is taken from its source (wkentaro/labelme, label_file.py and app.py of 5.0.1 to 5.8.3). It
shows ``imageData`` if there is some, else the file at ``imagePath``. On saving, it keeps all keys of shapes,
those that it does not know too, makes ``imagePath`` relative to the file, and embeds the image.
"""

import base64
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import check_dataset
from made_instances import EASILY_LOST, disc, instances_of, rectangle
from PIL import Image, ImageOps

from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.formats.labelme.read import read_labelme
from paddlex_seg.data.images import load_image
from paddlex_seg.inference.outputs.labelme import result_to_labelme
from paddlex_seg.masks.rle import annotation_to_rle, mask_to_rle, rle_iou, rle_to_mask
from paddlex_seg.structures import CocoFile, Instances

SIZE_HW = (60, 80)
LABELS = ["螺母", "bolt", "never found"]
PIXELS = np.random.default_rng(0).integers(0, 255, (*SIZE_HW, 3), np.uint8)


def write(
    folder: Path,
    name: str,
    instances: Instances,
    *,
    image: np.ndarray = PIXELS,
    input_path: Path | str | None = None,
    page_index: int | None = None,
    save_name: str = "a",
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = result_to_labelme(
        instances,
        LABELS,
        image=image,
        input_path=None if input_path is None else str(input_path),
        page_index=page_index,
        save_name=save_name,
        folder=folder,
    )
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def as_labelme_shows(path: Path) -> np.ndarray:
    """The image that LabelMe shows for a file."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if document["imageData"] is not None:
        content = io.BytesIO(base64.b64decode(document["imageData"]))
        return np.asarray(Image.open(content).convert("RGB"))
    with Image.open(path.parent / document["imagePath"]) as image:
        assert image.mode in ("1", "L", "P", "RGB", "RGBA", "LA", "PA")  # it opens no others
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def saved_by_labelme(path: Path, shapes: list[dict[str, Any]]) -> None:
    """The file as LabelMe saves it with these shapes."""
    document = json.loads(path.read_text(encoding="utf-8"))
    content = io.BytesIO()
    Image.fromarray(as_labelme_shows(path)).save(content, "PNG")
    document |= {
        "version": "5.8.3",
        "shapes": shapes,
        "imageData": base64.b64encode(content.getvalue()).decode("ascii"),
    }
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2), encoding="utf-8")


def shapes_of(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["shapes"]


def image_file(path: Path, pixels: np.ndarray = PIXELS, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def read(root: Path) -> CocoFile:
    conversion = read_labelme(root)
    assert conversion.findings == ()
    (coco,) = conversion.splits.values()
    return coco


@pytest.mark.parametrize("mask", EASILY_LOST.values(), ids=EASILY_LOST.keys())
def test_a_mask_comes_back_as_one_object(tmp_path: Path, mask: np.ndarray) -> None:
    image = image_file(tmp_path / "images/a.png")
    others = [rectangle((0, 0, 9, 9)), EASILY_LOST["several parts"]]
    found = instances_of([mask, *others], class_ids=[1, 0, 1])
    path = write(tmp_path / "annotations", "a.json", found, input_path=image)
    assert {shape["shape_type"] for shape in shapes_of(path)} == {"polygon"}
    coco = read(tmp_path)
    labels = {category.id: category.name for category in coco.categories}
    assert [labels[item.category_id] for item in coco.annotations] == ["bolt", "螺母", "bolt"]
    for annotation, expected in zip(coco.annotations, [mask, *others], strict=True):
        assert rle_iou(annotation_to_rle(annotation, *SIZE_HW), mask_to_rle(expected)) >= 0.98


def test_shapes_are_as_labelme_writes_them(tmp_path: Path) -> None:
    image = image_file(tmp_path / "photos/a.png")
    masks = [rectangle((2, 3, 9, 8)), EASILY_LOST["several parts"]]
    path = write(tmp_path / "out/sub", "a.json", instances_of(masks, scores=[0.875, 0.5]), input_path=image)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["imagePath"] == "../../photos/a.png" and document["imageData"] is None
    assert (document["imageHeight"], document["imageWidth"]) == SIZE_HW
    assert document["shapes"][0] == {
        "label": "螺母",
        "points": [[2, 3], [9, 3], [9, 8], [2, 8]],
        "group_id": None,
        "description": "score 0.875",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
        "score": 0.875,
    }
    assert [shape["group_id"] for shape in document["shapes"][1:]] == [2, 2, 2]
    assert np.array_equal(as_labelme_shows(path), PIXELS)


def test_a_corrected_result_becomes_a_data_set(tmp_path: Path) -> None:
    """A point is moved, an object deleted, its hole kept, another one drawn; then the files are converted."""
    masks = [rectangle((10, 10, 30, 20)), EASILY_LOST["ring"], disc((20, 45), 8)]
    rng = np.random.default_rng(1)
    for name in ("a", "b", "c"):
        pixels = rng.integers(0, 255, (*SIZE_HW, 3), np.uint8)
        image = image_file(tmp_path / f"data/images/{name}.png", pixels)
        found = instances_of(masks, class_ids=[0, 1, 0])
        path = write(
            tmp_path / "data/annotations",
            f"{name}.json",
            found,
            image=pixels,
            input_path=image,
            save_name=name,
        )
        first, ring, _ = shapes_of(path)
        first["points"][2] = [40.5, 30.5]
        drawn = {"label": "screw", "points": [[60, 5], [75, 5], [75, 20]], "shape_type": "polygon"}
        drawn |= {"group_id": None, "description": "", "flags": {}, "mask": None}
        saved_by_labelme(path, [first, ring, drawn])
    options = {
        "CheckDataset__convert__enable": True,
        "CheckDataset__convert__src_dataset_type": "LabelMe",
        "CheckDataset__split__enable": True,
        "CheckDataset__split__train_percent": 67,
        "CheckDataset__split__val_percent": 33,
    }
    desk = check_dataset(tmp_path / "data", tmp_path / "output", **options)
    assert desk.exit_code == 0, desk.text
    assert desk.codes == {}
    train, val = (
        read_coco(tmp_path / f"data/annotations/instance_{split}.json") for split in ("train", "val")
    )
    assert (len(train.images), len(val.images)) == (2, 1)
    labels = {category.id: category.name for category in val.categories}
    assert [labels[one.category_id] for one in val.annotations] == ["螺母", "bolt", "screw"]
    moved, ring_read, _ = (
        rle_to_mask(annotation_to_rle(one, *SIZE_HW)).astype(bool) for one in val.annotations
    )
    assert moved[25, 35] and moved[15, 15] and moved.sum() > masks[0].sum()
    assert (ring_read & masks[1]).sum() / (ring_read | masks[1]).sum() >= 0.98


# ---- what LabelMe shows


def test_a_photo_on_its_side_is_shown_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = image_file(tmp_path / "images/a.jpg", PIXELS.transpose(1, 0, 2), exif=exif, quality=95)
    upright = load_image(image)
    assert upright.shape[:2] == SIZE_HW
    path = write(
        tmp_path / "annotations",
        "a.json",
        instances_of([disc((40, 30), 20)]),
        image=upright,
        input_path=image,
    )
    assert json.loads(path.read_text())["imageData"] is None
    assert np.array_equal(as_labelme_shows(path), upright)
    (record,) = read(tmp_path).images
    assert (record.height, record.width) == SIZE_HW


def save_16_bit(path: Path) -> None:
    Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(path)


def save_with_alpha(path: Path) -> None:
    Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]])).save(path)


def save_cmyk(path: Path) -> None:
    Image.fromarray(PIXELS).convert("CMYK").save(path, quality=95)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("a.png", save_16_bit),
        ("b.png", save_with_alpha),
        ("c.jpg", save_cmyk),
        ("d.tif", lambda path: Image.fromarray(PIXELS).save(path)),
    ],
    ids=["16 bits", "alpha", "CMYK", "TIFF"],
)
def test_an_image_that_labelme_shows_differently_is_embedded(tmp_path: Path, name: str, save: Any) -> None:
    image = tmp_path / "images" / name
    image.parent.mkdir()
    save(image)
    seen = load_image(image)
    stem = Path(name).stem
    path = write(
        tmp_path / "annotations",
        f"{stem}.json",
        instances_of([disc((40, 30), 20)]),
        image=seen,
        input_path=image,
        save_name=stem,
    )
    assert json.loads(path.read_text())["imagePath"] == f"../images/{name}"
    assert np.array_equal(as_labelme_shows(path), seen)
    (record,) = read(tmp_path).images
    assert record.file_name == name  # the data set has the file itself


def test_a_file_that_was_replaced_or_deleted_since_is_embedded(tmp_path: Path) -> None:
    image = image_file(tmp_path / "images/a.png", 255 - PIXELS)
    found = instances_of([disc((40, 30), 20)])
    path = write(tmp_path / "annotations", "a.json", found, input_path=image)
    assert np.array_equal(as_labelme_shows(path), PIXELS)
    image.unlink()
    path = write(tmp_path / "annotations", "a.json", found, input_path=image)
    assert np.array_equal(as_labelme_shows(path), PIXELS)


@pytest.mark.parametrize(
    ("input_path", "page_index"),
    [(None, None), ("https://x.org/a.jpg", None), ("images/scan.tif", 2)],
    ids=str,
)
def test_an_image_without_a_file_of_its_own_is_embedded(
    tmp_path: Path, input_path: str | None, page_index: int | None
) -> None:
    if page_index is not None:
        input_path = str(tmp_path / str(input_path))
        pages = [Image.fromarray(np.full((*SIZE_HW, 3), 40 * page, np.uint8)) for page in range(4)]
        Path(input_path).parent.mkdir()
        pages[0].save(input_path, save_all=True, append_images=pages[1:])
    path = write(
        tmp_path,
        "a.json",
        instances_of([disc((40, 30), 20)]),
        input_path=input_path,
        page_index=page_index,
        save_name="sub/scan_2" if page_index else "sub/a",
    )
    assert np.array_equal(as_labelme_shows(path), PIXELS)
    conversion = read_labelme(tmp_path)
    (coco,) = conversion.splits.values()
    (record,) = coco.images
    placed = conversion.images[record.file_name]
    content = placed if isinstance(placed, bytes) else Path(placed).read_bytes()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")), PIXELS)


def test_objects_without_a_pixel_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = instances_of([np.zeros(SIZE_HW, bool), disc((30, 30), 9)], boxes=[(1, 2, 3, 4), (21, 21, 39, 39)])
    with caplog.at_level(logging.WARNING):
        path = write(tmp_path, "a.json", found)
    assert len(shapes_of(path)) == 1
    assert "a: 1 of 2 objects" in caplog.text
    assert shapes_of(write(tmp_path, "b.json", instances_of([]))) == []
