import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converted import assert_same_objects, coco_file, encode, labelled_masks, ring_mask, save_image
from PIL import Image
from pycocotools import mask as mask_tools

from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.demo import COCO_FOLDER, LABELME_FOLDER, write_demo_dataset
from paddlex_seg.data.formats.conversion import Conversion
from paddlex_seg.data.formats.labelme.read import read_labelme
from paddlex_seg.data.formats.labelme.write import write_labelme
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import annotation_to_rle
from paddlex_seg.structures import CocoFile

TRIANGLE = [[10, 10], [30, 10], [10, 30]]


def shape(label: str = "bolt", points: Any = None, shape_type: str | None = "polygon", **more: Any) -> dict:
    return {
        "label": label,
        "points": TRIANGLE if points is None else points,
        "shape_type": shape_type,
        **more,
    }


def write_file(
    root: Path,
    name: str,
    shapes: list[Any],
    image: str | None = "../images/a.jpg",
    size_hw: tuple[int, int] | None = (40, 60),
    encoding: str = "utf-8",
    **more: Any,
) -> None:
    document: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        **more,
    }
    if size_hw is not None:
        document |= {"imageHeight": size_hw[0], "imageWidth": size_hw[1]}
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json.dumps(document, ensure_ascii=False).encode(encoding))


def only_split(conversion: Conversion, split: str = "all") -> CocoFile:
    assert list(conversion.splits) == [split]
    return conversion.splits[split]


def codes(conversion: Conversion) -> list[str]:
    return [item.code for item in conversion.findings]


def read_shapes(root: Path, *shapes: Any) -> Conversion:
    save_image(root / "images/a.jpg")
    write_file(root, "annotations/a.json", list(shapes))
    return read_labelme(root)


def test_an_image_may_have_hundreds_of_objects(tmp_path: Path) -> None:
    coco = only_split(read_shapes(tmp_path, *[shape() for _ in range(300)]))
    assert len(coco.annotations) == 300
    assert coco.annotations[-1].area == coco.annotations[0].area > 100


def the_mask(conversion: Conversion) -> np.ndarray:
    ((_, mask),) = labelled_masks(only_split(conversion))["a.jpg"]
    return mask


def png_base64(mask: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


# ---- real files


def test_fruits_and_nuts_equal_the_reference_conversion(shared_dir: Path) -> None:
    folder = shared_dir / "data/labelme_fruits_nuts"
    coco = only_split(conversion := read_labelme(folder))
    expected = read_coco(folder / "expected_coco.json")
    assert [(item.code, item.file) for item in conversion.findings] == [
        ("source_unsupported", "expected_coco.json")
    ]
    assert [category.name for category in coco.categories] == ["date", "fig", "hazelnut"]

    def polygons(file: CocoFile) -> set[tuple[str, str, str]]:
        names = {record.id: record.file_name for record in file.images}
        labels = {category.id: category.name for category in file.categories}
        return {
            (names[item.image_id], labels[item.category_id], json.dumps(item.segmentation))
            for item in file.annotations
        }

    assert len(coco.annotations) == 84
    assert polygons(coco) == polygons(expected)
    assert all(isinstance(conversion.images[record.file_name], Path) for record in coco.images)


def test_grouped_shapes_equal_labelmes_own_conversion(shared_dir: Path) -> None:
    folder = shared_dir / "data/labelme_examples/instance_segmentation"
    coco = only_split(conversion := read_labelme(folder))
    expected = json.loads((folder / "data_dataset_coco/annotations.json").read_text())
    assert codes(conversion) == ["source_unsupported"]
    assert [category.name for category in coco.categories] == [
        entry["name"] for entry in expected["categories"] if entry["name"] != "_background_"
    ]
    stem_of_id = {entry["id"]: Path(entry["file_name"]).name for entry in expected["images"]}
    label_of_id = {entry["id"]: entry["name"] for entry in expected["categories"]}
    found = {Path(name).name: items for name, items in labelled_masks(coco).items()}
    for name in found:
        entries = [entry for entry in expected["annotations"] if stem_of_id[entry["image_id"]] == name]
        assert [label for label, _ in found[name]] == [label_of_id[entry["category_id"]] for entry in entries]
        for (_, mask), entry in zip(found[name], entries, strict=True):
            # LabelMe lists the parts of a group in another order; the union is the same.
            drawn = mask_tools.decode(
                mask_tools.merge(mask_tools.frPyObjects(entry["segmentation"], *mask.shape))
            )
            np.testing.assert_array_equal(mask, drawn.astype(bool))
    assert sorted(len(item.segmentation) for item in coco.annotations)[-2:] == [2, 4]


def test_rectangles_become_polygons_of_their_corners(shared_dir: Path) -> None:
    coco = only_split(read_labelme(shared_dir / "data/labelme_examples/bbox_detection"))
    assert (len(coco.images), len(coco.annotations)) == (3, 9)
    bus = next(item for item in coco.annotations if item.segmentation[0][:1] == [84.0])
    y1, y2 = 20.384615384615387, 373.38461538461536
    assert bus.segmentation == [[84.0, y1, 435.0, y1, 435.0, y2, 84.0, y2]]
    assert bus.bbox_xywh == (84.0, 20.0, 351.0, 353.0)
    assert bus.area == 351 * 353


def test_primitives_become_masks_where_they_have_an_area(shared_dir: Path) -> None:
    folder = shared_dir / "data/labelme_examples/primitives"
    coco = only_split(conversion := read_labelme(folder))
    found = labelled_masks(coco)["primitives.jpg"]
    assert [label for label, _ in found] == ["rectangle", "circle", "rectangle", "polygon", "octagon"]
    assert codes(conversion) == ["shape_without_area"] * 3
    entry = json.loads((folder / "primitives.json").read_text())["shapes"][-1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(entry["mask"])))).astype(bool)
    assert found[-1][1].sum() == pixels.sum()
    np.testing.assert_array_equal(found[-1][1][305:405, 417:517], pixels)


def test_old_file_with_chinese_labels_and_only_an_embedded_image(shared_dir: Path) -> None:
    coco = only_split(conversion := read_labelme(shared_dir / "data/labelme_examples/no_version_chinese"))
    assert conversion.findings == ()
    assert [category.name for category in coco.categories] == ["不导电", "角位漏底"]
    (record,) = coco.images
    assert (record.file_name, record.width, record.height) == ("20180928115506.jpg", 2560, 1920)
    image = conversion.images[record.file_name]
    assert isinstance(image, bytes) and image[:3] == b"\xff\xd8\xff"
    assert [item.area for item in coco.annotations] == [2558 * 268, 2560 * 155]


def test_aerial_png_beside_its_file(shared_dir: Path) -> None:
    folder = shared_dir / "data/labelme_examples/aerial_terrain2"
    coco = only_split(conversion := read_labelme(folder))
    points = [entry["points"] for entry in json.loads((folder / "terrain2.json").read_text())["shapes"]]
    assert [np.reshape(item.segmentation[0], (-1, 2)).tolist() for item in coco.annotations] == points
    assert conversion.images == {"terrain2.png": folder / "terrain2.png"}


def test_demo_twin_equals_the_coco_twin(tmp_path: Path) -> None:
    write_demo_dataset(tmp_path, num_train=8, num_val=3)
    conversion = read_labelme(tmp_path / LABELME_FOLDER)
    assert conversion.findings == () and conversion.images == {}
    assert list(conversion.splits) == ["train", "val"]
    for split, coco in conversion.splits.items():
        twin = read_coco(tmp_path / COCO_FOLDER / "annotations" / f"instance_{split}.json")
        assert_same_objects(coco, twin)
        assert [item.bbox_xywh for item in coco.annotations] == [item.bbox_xywh for item in twin.annotations]
        assert [item.area for item in coco.annotations] == [item.area for item in twin.annotations]
        assert coco.path == tmp_path / LABELME_FOLDER / "annotations" / f"instance_{split}.json"


# ---- kinds of shapes


@pytest.mark.parametrize("shape_type", ["polygon", None], ids=["polygon", "no type"])
def test_polygon_keeps_its_coordinates(tmp_path: Path, shape_type: str | None) -> None:
    points = [[10.123456789, 10], [30, 10.5], [-2.25, 61]]
    coco = only_split(read_shapes(tmp_path, shape(points=points, shape_type=shape_type)))
    assert coco.annotations[0].segmentation == [[10.123456789, 10, 30, 10.5, -2.25, 61]]


@pytest.mark.parametrize(
    ("shape_type", "points"),
    [
        ("rectangle", [[30, 25], [10, 5]]),
        ("rectangle", [[10, 5], [30, 5], [30, 25], [10, 25]]),
        ("oriented_rectangle", [[10, 5], [30, 5], [30, 25], [10, 25]]),
        ("rotation", [[10, 5], [30, 5], [30, 25], [10, 25]]),
    ],
    ids=["two corners", "four corners", "oriented", "rotation"],
)
def test_rectangle_covers_its_pixels(tmp_path: Path, shape_type: str, points: list) -> None:
    mask = the_mask(read_shapes(tmp_path, shape(points=points, shape_type=shape_type)))
    expected = np.zeros((40, 60), bool)
    expected[5:25, 10:30] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("radius", [1.5, 6.0, 17.3, 150.0])
def test_circle_is_a_disc(tmp_path: Path, radius: float) -> None:
    save_image(tmp_path / "images/a.jpg", (400, 500))
    points = [[220.3, 190.6], [220.3 + radius * 0.6, 190.6 - radius * 0.8]]
    write_file(
        tmp_path, "annotations/a.json", [shape(points=points, shape_type="circle")], size_hw=(400, 500)
    )
    mask = the_mask(read_labelme(tmp_path))
    y, x = np.mgrid[0:400, 0:500] + 0.5
    disc = np.hypot(x - 220.3, y - 190.6) <= radius
    iou = (mask & disc).sum() / (mask | disc).sum()
    assert iou > {1.5: 0.7, 6.0: 0.95, 17.3: 0.98, 150.0: 0.997}[radius]
    assert abs(mask.sum() - np.pi * radius**2) < 2 * radius + 1


@pytest.mark.parametrize("shape_type", ["line", "linestrip"])
@pytest.mark.parametrize("key", ["line_width", "width"])
def test_line_with_a_width_becomes_a_polygon(tmp_path: Path, shape_type: str, key: str) -> None:
    stroke = shape(points=[[10, 20], [40, 20]], shape_type=shape_type, **{key: 6})
    coco = only_split(read_shapes(tmp_path, stroke))
    ((_, mask),) = labelled_masks(coco)["a.jpg"]
    assert mask[17:23, 10:40].all() and not mask[:16].any() and not mask[24:].any()
    assert abs(mask.sum() - (30 * 6 + np.pi * 9)) < 8
    assert isinstance(coco.annotations[0].segmentation, list)


def test_closed_line_keeps_its_hole(tmp_path: Path) -> None:
    corners = [[10, 8], [40, 8], [40, 30], [10, 30], [10, 8]]
    coco = only_split(read_shapes(tmp_path, shape(points=corners, shape_type="linestrip", line_width=4)))
    ((_, mask),) = labelled_masks(coco)["a.jpg"]
    assert isinstance(coco.annotations[0].segmentation, dict)
    assert mask[7:9, 12:38].all() and not mask[11:27, 13:37].any()


@pytest.mark.parametrize(
    ("shape_type", "points"),
    [
        ("line", [[1, 1], [9, 9]]),
        ("linestrip", [[1, 1], [9, 9], [3, 20]]),
        ("point", [[5, 5]]),
        ("points", [[5, 5], [6, 6], [7, 3]]),
    ],
    ids=["line", "linestrip", "point", "points"],
)
def test_shape_without_area_is_reported_and_the_rest_converted(
    tmp_path: Path, shape_type: str, points: list
) -> None:
    conversion = read_shapes(tmp_path, shape(points=points, shape_type=shape_type), shape())
    assert codes(conversion) == ["shape_without_area"]
    assert conversion.findings[0].file == "annotations/a.json"
    assert "shape 1" in conversion.findings[0].message
    assert len(only_split(conversion).annotations) == 1


@pytest.mark.parametrize(
    "broken",
    [
        shape(points=[[1, 1], [9, 9]]),
        shape(points=[]),
        shape(points=None) | {"points": None},
        shape(points=[[1, 1], [9, 9], [float("nan"), 3]]),
        shape(points=[[1, 1], [9, 9], [1e9, 3]]),
        shape(points=[[1, 1], [9, 9], ["four", 3]]),
        shape(points=[[1, 1], [9, 9], [True, 3]]),
        shape(points=[[1, 1], [9, 9], [4]]),
        shape(points=[[1, 1]], shape_type="rectangle"),
        shape(points=TRIANGLE, shape_type="circle"),
        shape(points=[[3, 3], [3, 3]], shape_type="circle"),
        shape(points=TRIANGLE, shape_type="oriented_rectangle"),
        shape(points=[[3, 3]], shape_type="line", line_width=3),
        shape(points=[[3, 3], [9, 9]], shape_type="mask", mask="no png"),
        shape(points=[[3, 3], [9, 9]], shape_type="mask"),
        shape(points=[], shape_type="mask", mask=png_base64(np.ones((2, 2), bool))),
        shape(shape_type="spline"),
        shape(shape_type=[]) | {"shape_type": ["polygon"]},
        {"points": TRIANGLE},
        {"label": None, "points": TRIANGLE},
        {"label": True, "points": TRIANGLE},
        {"label": ["bolt"], "points": TRIANGLE},
        {"label": "", "points": TRIANGLE},
        "no shape",
    ],
    ids=lambda broken: str(broken)[:70],
)
def test_unusable_shape_is_reported_and_the_rest_converted(tmp_path: Path, broken: Any) -> None:
    conversion = read_shapes(tmp_path, shape("washer"), broken)
    assert codes(conversion) == ["shape_unusable"]
    assert "shape 2" in conversion.findings[0].message
    assert len(only_split(conversion).annotations) == 1


@pytest.mark.parametrize("corner", [(4, 7), (-3, -2), (55, 37)], ids=["inside", "cut above", "cut below"])
def test_mask_is_placed_with_its_corner_at_the_first_point(tmp_path: Path, corner: tuple[int, int]) -> None:
    left, top = corner
    inside = ring_mask()[5:25, 8:34]
    points = [[left, top], [left + 25, top + 19]]
    coco = only_split(read_shapes(tmp_path, shape(points=points, shape_type="mask", mask=png_base64(inside))))
    expected = np.zeros((120, 120), bool)
    expected[top + 20 : top + 40, left + 20 : left + 46] = inside
    np.testing.assert_array_equal(labelled_masks(coco)["a.jpg"][0][1], expected[20:60, 20:80])
    segmentation = coco.annotations[0].segmentation
    assert isinstance(segmentation["counts"], str) and segmentation["size"] == [40, 60]


# ---- groups, labels, crowd


def test_shapes_of_one_label_and_group_are_one_object(tmp_path: Path) -> None:
    other = [[40, 5], [50, 5], [50, 15]]
    conversion = read_shapes(
        tmp_path,
        shape(group_id=3),
        shape("washer", group_id=3),
        shape(points=other, group_id=3),
        shape(points=other, group_id=None),
        shape(points=other, group_id=0),
    )
    coco = only_split(conversion)
    names = {category.id: category.name for category in coco.categories}
    assert [(names[item.category_id], len(item.segmentation)) for item in coco.annotations] == [
        ("bolt", 2),
        ("washer", 1),
        ("bolt", 1),
        ("bolt", 1),
    ]
    assert coco.annotations[0].segmentation == [[10, 10, 30, 10, 10, 30], [40, 5, 50, 5, 50, 15]]


def test_group_of_polygon_and_mask_is_their_union(tmp_path: Path) -> None:
    mask = png_base64(np.ones((4, 5), bool))
    coco = only_split(
        read_shapes(
            tmp_path,
            shape(points=[[2, 2], [9, 2], [9, 9], [2, 9]], group_id=1),
            shape(points=[[30, 20], [34, 23]], shape_type="mask", mask=mask, group_id=1),
        )
    )
    expected = np.zeros((40, 60), bool)
    expected[2:9, 2:9] = expected[20:24, 30:35] = True
    np.testing.assert_array_equal(labelled_masks(coco)["a.jpg"][0][1], expected)


@pytest.mark.parametrize("name", ["label.txt", "labels.txt", "class_names.txt"])
def test_list_gives_the_order_of_classes_and_unlisted_labels_are_reported_once(
    tmp_path: Path, name: str
) -> None:
    text = "__ignore__\n_background_\n\nwasher\n螺栓\n"
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    conversion = read_shapes(tmp_path, shape("螺栓"), shape("nut"), shape("nut"), shape("__ignore__"))
    coco = only_split(conversion)
    assert [(category.id, category.name) for category in coco.categories] == [(1, "washer"), (2, "螺栓")]
    assert [item.category_id for item in coco.annotations] == [2]
    assert codes(conversion) == ["label_unknown"]
    assert "2 shapes" in conversion.findings[0].message and "'nut'" in conversion.findings[0].message


def test_without_a_list_classes_come_in_the_order_of_first_appearance_over_train_then_val(
    tmp_path: Path,
) -> None:
    for name, label in (("a", "nut"), ("b", "bolt"), ("c", "washer")):
        save_image(tmp_path / f"images/{name}.jpg")
        write_file(tmp_path, f"annotations/{name}.json", [shape(label)], f"../images/{name}.jpg")
    (tmp_path / "train_anno_list.txt").write_text("annotations/c.json\n")
    (tmp_path / "val_anno_list.txt").write_text("annotations/b.json\nannotations/a.json\n")
    conversion = read_labelme(tmp_path)
    for coco in conversion.splits.values():
        assert [category.name for category in coco.categories] == ["washer", "bolt", "nut"]
    train, val = conversion.splits["train"], conversion.splits["val"]
    assert [record.id for record in (*train.images, *val.images)] == [1, 2, 3]
    assert [item.id for item in (*train.annotations, *val.annotations)] == [1, 2, 3]
    assert [record.file_name for record in val.images] == ["b.jpg", "a.jpg"]
    assert conversion.list_lines["b.jpg"] == "annotations/b.json"


def test_flag_iscrowd_marks_a_crowd_region(tmp_path: Path) -> None:
    coco = only_split(read_shapes(tmp_path, shape(flags={"iscrowd": True}), shape(flags={"iscrowd": False})))
    assert [item.iscrowd for item in coco.annotations] == [True, False]


# ---- lists and files


def test_lists_tolerate_blank_lines_spaces_backslashes_and_byte_order_marks(tmp_path: Path) -> None:
    for name in ("my part 1", "zwei"):
        save_image(tmp_path / f"images/{name}.jpg")
        write_file(tmp_path, f"annotations/{name}.json", [shape()], f"..\\images\\{name}.jpg")
    lines = "annotations\\my part 1.json\r\n\r\n  annotations/zwei.json \r\nannotations/zwei.json\r\n"
    (tmp_path / "train_anno_list.txt").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    (tmp_path / "val_anno_list.txt").write_text("")
    conversion = read_labelme(tmp_path)
    assert [record.file_name for record in conversion.splits["train"].images] == ["my part 1.jpg", "zwei.jpg"]
    assert conversion.splits["val"].images == () and conversion.splits["val"].annotations == ()
    assert conversion.splits["val"].categories == conversion.splits["train"].categories
    assert conversion.findings == ()


def test_list_for_train_alone_does_not_split(tmp_path: Path) -> None:
    (tmp_path / "train_anno_list.txt").write_text("annotations/a.json\n")
    assert len(only_split(read_shapes(tmp_path, shape())).images) == 1


def test_list_for_val_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "val_anno_list.txt").write_text("annotations/a.json\n")
    with pytest.raises(DatasetError, match="train_anno_list.txt: the file does not exist"):
        read_shapes(tmp_path, shape())


def test_scan_skips_json_files_that_are_not_labelme(tmp_path: Path) -> None:
    (tmp_path / "annotations/.hidden").mkdir(parents=True)
    (tmp_path / "annotations/instance_train.json").write_text("{ not read")
    (tmp_path / "folds/1/annotations").mkdir(parents=True)
    (tmp_path / "folds/1/annotations/instance_val.json").write_text("{ not read")
    (tmp_path / "annotations/other.json").write_text('{"images": []}')
    (tmp_path / "annotations/old.json.bak").write_text("{}")
    write_file(tmp_path, "annotations/.hidden/a.json", [shape()])
    conversion = read_shapes(tmp_path, shape())
    assert len(only_split(conversion).images) == 1
    assert [(item.code, item.file) for item in conversion.findings] == [
        ("source_skipped", "annotations/other.json")
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"shapes": [', "not JSON"),
        (b"", "not JSON"),
        (b'{"label": "\xff\xff\xff"}', "neither UTF-8 nor GB 18030"),
    ],
    ids=["cut off", "empty", "no text"],
)
def test_one_bad_file_among_good_ones_is_a_finding(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/b.json").write_bytes(content)
    conversion = read_shapes(tmp_path, shape())
    assert len(only_split(conversion).annotations) == 1
    assert codes(conversion) == ["source_unreadable"]
    assert conversion.findings[0].file == "annotations/b.json"
    assert expected in conversion.findings[0].message


def test_listed_files_that_are_missing_or_no_labelme_are_findings(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[]")
    (tmp_path / "train_anno_list.txt").write_text("gone.json\nother.json\nannotations/a.json\n")
    conversion = read_shapes(tmp_path, shape())
    assert [(item.code, item.file) for item in conversion.findings] == [
        ("list_entry_missing", "train_anno_list.txt"),
        ("source_unreadable", "other.json"),
    ]
    assert "1 of 3 lines lead to no file; the first is 'gone.json'" in conversion.findings[0].message
    assert len(only_split(conversion).images) == 1


def test_no_labelme_file_at_all_is_an_error(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg")
    with pytest.raises(DatasetError, match="no LabelMe file"):
        read_labelme(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_file_in_any_of_the_usual_encodings(tmp_path: Path, encoding: str) -> None:
    save_image(tmp_path / "images/零件 1.jpg")
    write_file(
        tmp_path, "annotations/零件 1.json", [shape("螺栓")], "..\\images\\零件 1.jpg", encoding=encoding
    )
    conversion = read_labelme(tmp_path)
    coco = only_split(conversion)
    assert conversion.findings == ()
    assert coco.images[0].file_name == "零件 1.jpg" and coco.categories[0].name == "螺栓"


# ---- images


@pytest.mark.parametrize(
    ("image", "lies_at", "file_name"),
    [
        ("../images/a.jpg", "images/a.jpg", "a.jpg"),
        ("..\\images\\line 1\\a.jpg", "images/line 1/a.jpg", "line 1/a.jpg"),
        ("D:\\data\\images\\sub\\a.jpg", "images/sub/a.jpg", "sub/a.jpg"),
        ("/home/somebody/a.jpg", "images/a.jpg", "a.jpg"),
        ("elsewhere/b.jpg", "images/a.PNG", "a.PNG"),
        (None, "images/a.jpg", "a.jpg"),
    ],
    ids=["relative", "back-slashes", "other machine", "other machine, flat", "by stem", "no path"],
)
def test_image_is_found(tmp_path: Path, image: str | None, lies_at: str, file_name: str) -> None:
    save_image(tmp_path / lies_at)
    write_file(tmp_path, "annotations/a.json", [shape()], image)
    conversion = read_labelme(tmp_path)
    assert [record.file_name for record in only_split(conversion).images] == [file_name]
    assert conversion.findings == () and conversion.images == {}


def test_images_of_one_name_in_different_folders_stay_apart(tmp_path: Path) -> None:
    for folder, side in (("left", 40), ("right", 44)):
        save_image(tmp_path / f"images/{folder}/a.jpg", (side, 60))
        write_file(tmp_path, f"annotations/{folder}/a.json", [shape(folder)], "a.jpg", size_hw=None)
        save_image(tmp_path / f"more/{folder}/b.jpg", (side, 60))
        write_file(tmp_path, f"more/{folder}/b.json", [shape(folder)], "b.jpg", size_hw=None)
    conversion = read_labelme(tmp_path)
    found = {record.file_name: record.height for record in only_split(conversion).images}
    assert found == {"left/a.jpg": 40, "right/a.jpg": 44, "more/left/b.jpg": 40, "more/right/b.jpg": 44}
    assert conversion.images == {
        f"more/{side}/b.jpg": tmp_path / f"more/{side}/b.jpg" for side in ("left", "right")
    }


def test_image_beside_its_file_takes_no_name_that_another_has(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg", (30, 30))
    save_image(tmp_path / "annotations/a.jpg")
    write_file(tmp_path, "annotations/a.json", [shape()], "a.jpg")
    conversion = read_labelme(tmp_path)
    assert [record.file_name for record in only_split(conversion).images] == ["a_2.jpg"]
    assert conversion.images == {"a_2.jpg": tmp_path / "annotations/a.jpg"}


def test_second_conversion_finds_the_images_that_the_first_one_put_into_images(tmp_path: Path) -> None:
    save_image(tmp_path / "annotations/a.jpg")
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40)).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    write_file(tmp_path, "annotations/a.json", [shape()], "a.jpg")
    write_file(tmp_path, "annotations/b.json", [shape()], "gone.jpg", imageData=data)
    first = read_labelme(tmp_path)
    assert sorted(first.images) == ["a.jpg", "b.png"]
    for name, source in first.images.items():
        target = tmp_path / "images" / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(source if isinstance(source, bytes) else source.read_bytes())
    second = read_labelme(tmp_path)
    assert second.images == {}
    assert only_split(second) == only_split(first)


@pytest.mark.parametrize(("image_format", "suffix"), [("PNG", ".png"), ("JPEG", ".jpg"), ("BMP", ".bmp")])
def test_embedded_image_is_given_with_the_ending_of_its_format(
    tmp_path: Path, image_format: str, suffix: str
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40)).save(buffer, image_format)
    data = base64.b64encode(buffer.getvalue()).decode()
    write_file(tmp_path, "annotations/a.json", [shape()], "gone.tif", size_hw=None, imageData=data)
    conversion = read_labelme(tmp_path)
    (record,) = only_split(conversion).images
    assert (record.file_name, record.height, record.width) == (f"a{suffix}", 40, 60)
    assert conversion.images == {f"a{suffix}": buffer.getvalue()}


def test_damaged_embedded_image_is_a_finding(tmp_path: Path) -> None:
    write_file(tmp_path, "annotations/b.json", [shape()], "gone.jpg", imageData="bm8gcGljdHVyZQ==")
    conversion = read_shapes(tmp_path, shape())
    assert [(item.code, item.file) for item in conversion.findings] == [
        ("source_unreadable", "annotations/b.json")
    ]


def test_missing_image_is_a_finding(tmp_path: Path) -> None:
    write_file(tmp_path, "annotations/b.json", [shape()], "../images/gone.jpg")
    conversion = read_shapes(tmp_path, shape())
    assert [record.file_name for record in only_split(conversion).images] == ["a.jpg"]
    assert codes(conversion) == ["image_missing"] and "gone.jpg" in conversion.findings[0].message


def test_size_is_read_from_the_image_where_the_file_has_none(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg", (33, 47))
    write_file(tmp_path, "annotations/a.json", [shape()], size_hw=None)
    (record,) = only_split(read_labelme(tmp_path)).images
    assert (record.height, record.width) == (33, 47)


def test_size_other_than_the_images_is_a_finding_with_both(tmp_path: Path) -> None:
    save_image(tmp_path / "images/b.jpg", (80, 120))
    write_file(tmp_path, "annotations/b.json", [shape()], "../images/b.jpg", size_hw=(40, 60))
    conversion = read_shapes(tmp_path, shape())
    assert codes(conversion) == ["source_unreadable"]
    assert "(40, 60)" in conversion.findings[0].message and "(80, 120)" in conversion.findings[0].message
    assert len(only_split(conversion).images) == 1


@pytest.mark.parametrize(
    ("listed", "expected"),
    [((60, 40), (60, 40)), ((40, 60), (40, 60)), (None, (60, 40))],
    ids=["labelled upright", "labelled as stored", "not listed"],
)
def test_exif_orientation_explains_swapped_sides(
    tmp_path: Path, listed: tuple[int, int] | None, expected: tuple[int, int]
) -> None:
    save_image(tmp_path / "images/a.jpg", (40, 60), orientation=6)
    write_file(tmp_path, "annotations/a.json", [shape()], size_hw=listed)
    conversion = read_labelme(tmp_path)
    (record,) = only_split(conversion).images
    assert (record.height, record.width) == expected and conversion.findings == ()


# ---- writing


def test_written_files_are_as_labelme_writes_them(tmp_path: Path) -> None:
    save_image(tmp_path / "images/line 1/a.jpg")
    parts = [[10.5, 10, 30, 10, 10, 30], [40, 5, 50, 5, 50, 15.25]]
    objects = [("bolt", parts[:1]), ("washer", parts), ("bolt", encode(ring_mask())), ("washer", parts)]
    train = coco_file("train", {"line 1/a.jpg": objects}, ["washer", "bolt"])
    val = coco_file("val", {}, ["washer", "bolt"])
    target = tmp_path / "out"
    assert write_labelme({"train": train, "val": val}, tmp_path / "images", target) == []
    document = json.loads((target / "annotations/line 1/a.json").read_text(encoding="utf-8"))
    assert document["version"] == "5.5.0" and document["imageData"] is None
    assert (document["imageHeight"], document["imageWidth"]) == (40, 60)
    assert (target / "annotations/line 1" / document["imagePath"]).samefile(target / "images/line 1/a.jpg")
    assert [(entry["shape_type"], entry["group_id"]) for entry in document["shapes"]] == [
        ("polygon", None),
        ("polygon", 1),
        ("polygon", 1),
        ("mask", None),
        ("polygon", 2),
        ("polygon", 2),
    ]
    assert document["shapes"][0]["points"] == [[10.5, 10], [30, 10], [10, 30]]
    assert document["shapes"][3]["points"] == [[8.0, 5.0], [33.0, 24.0]]
    assert {entry["description"] for entry in document["shapes"]} == {""}
    assert (target / "label.txt").read_text() == "washer\nbolt\n"
    assert (target / "train_anno_list.txt").read_text() == "annotations/line 1/a.json\n"
    assert (target / "val_anno_list.txt").read_text() == ""


def test_crowd_region_comes_back_as_one(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg")
    coco = coco_file("all", {"a.jpg": [("bolt", [[10, 10, 30, 10, 10, 30]])]}, ["bolt"], crowd=True)
    write_labelme({"all": coco}, tmp_path / "images", tmp_path / "out")
    read = only_split(read_labelme(tmp_path / "out"))
    assert [item.iscrowd for item in read.annotations] == [True]
    assert_same_objects(read, coco)


def test_missing_image_and_empty_mask_are_findings_of_the_writer(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg")
    empty = encode(np.zeros((40, 60), bool))
    coco = coco_file("train", {"gone.jpg": [], "../a.jpg": [], "a.jpg": [("bolt", empty)]}, ["bolt"])
    findings = write_labelme({"train": coco}, tmp_path / "images", tmp_path / "out")
    assert [(item.code, item.image_id) for item in findings] == [
        ("image_missing", 5),
        ("image_missing", 6),
        ("mask_approximated", 7),
    ]
    assert not (tmp_path / "a.json").exists()


def test_images_that_differ_in_their_ending_get_files_of_their_own(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        save_image(tmp_path / "images" / name)
    objects = {
        "a.jpg": [("bolt", [[10, 10, 30, 10, 10, 30]])],
        "a.png": [("nut", [[0, 0, 9, 0, 9, 9]]), ("bolt", [[5, 5, 9, 5, 9, 9]])],
    }
    coco = coco_file("train", objects, ["bolt", "nut"])
    write_labelme({"train": coco}, tmp_path / "images", tmp_path / "out")
    assert_same_objects(only_split(read_labelme(tmp_path / "out")), coco)


def test_mask_written_for_an_annotation_is_its_rle(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg")
    coco = coco_file("all", {"a.jpg": [("bolt", encode(ring_mask()))]}, ["bolt"])
    write_labelme({"all": coco}, tmp_path / "images", tmp_path / "out")
    read = only_split(read_labelme(tmp_path / "out"))
    found, expected = (annotation_to_rle(file.annotations[0], 40, 60) for file in (read, coco))
    assert found == expected
