"""LabelMe files as people have them: renamed, from X-AnyLabeling, with odd labels, annotated in sittings.

What X-AnyLabeling writes is taken from its source (CVHub520/X-AnyLabeling, shape.py, label_file.py and
schema.py in anylabeling/views/labeling): rectangles of four points, ``rotation`` with ``direction``,
``quadrilateral``, ``circle`` of a centre and a point on the rim, ``imageHeight`` -1 in a new file. The XML of
CVAT's format LabelMe 3.0 is that of the old LabelMe: ``<annotation><object><polygon><pt>``.
"""

import base64
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cases import CASES, check_dataset, copy_case
from converted import save_image

from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.findings import Finding
from paddlex_seg.data.formats.conversion import Conversion
from paddlex_seg.data.formats.labelme.read import read_labelme
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import annotation_to_rle, rle_area

CONVERT = {"CheckDataset__convert__enable": True, "CheckDataset__convert__src_dataset_type": "LabelMe"}
TRIANGLE = [[10, 10], [30, 10], [10, 30]]


def shape(label: Any = "bolt", points: Any = TRIANGLE, shape_type: str = "polygon", **more: Any) -> dict:
    return {"label": label, "points": points, "shape_type": shape_type, "group_id": None, **more}


def write_file(
    path: Path, image: str | None, *shapes: dict, size_hw: tuple[int, int] | None = (40, 60), **more: Any
) -> Path:
    document = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": image, **more}
    if size_hw is not None:
        document |= {"imageHeight": size_hw[0], "imageWidth": size_hw[1]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def labelled(root: Path, name: str, *shapes: dict, image: str | None = None) -> None:
    """An image ``images/<name>.jpg`` and its file ``annotations/<name>.json``."""
    save_image(root / f"images/{name}.jpg")
    write_file(root / f"annotations/{name}.json", image or f"../images/{name}.jpg", *(shapes or (shape(),)))


def codes(conversion: Conversion) -> list[str]:
    return [item.code for item in conversion.findings]


def the_finding(conversion: Conversion, code: str) -> Finding:
    (found,) = (item for item in conversion.findings if item.code == code)
    return found


def objects_of_images(conversion: Conversion) -> dict[str, int]:
    counts: dict[str, int] = {}
    for coco in conversion.splits.values():
        of_image = Counter(item.image_id for item in coco.annotations)
        for record in coco.images:
            assert record.file_name not in counts
            counts[record.file_name] = of_image[record.id]
    return counts


def areas(conversion: Conversion) -> list[float | None]:
    return [item.area for coco in conversion.splits.values() for item in coco.annotations]


# ---- which image a file is for


def test_stale_image_paths_are_errors_and_nothing_is_merged(tmp_path: Path) -> None:
    data = copy_case("M03-stale-imagepath", tmp_path / "data")
    desk = check_dataset(data, tmp_path / "output", **CONVERT)
    assert desk.exit_code == 3
    assert desk.codes["image_path_differs"] == 3
    first = desk.messages("image_path_differs")[0]
    assert "imagePath names images/1.jpg, as annotations/1.json does" in first
    assert "the file has the name of images/2.jpg" in first
    assert objects_of_images(read_labelme(data)) == {"1.jpg": 1, "2.jpg": 1, "3.jpg": 1, "4.jpg": 1}


def test_a_path_to_another_image_is_an_error_even_if_no_other_file_names_it(tmp_path: Path) -> None:
    labelled(tmp_path, "b", image="../images/a.jpg")
    save_image(tmp_path / "images/a.jpg")
    found = the_finding(read_labelme(tmp_path), "image_path_differs")
    assert "imagePath names images/a.jpg, but the file has the name of images/b.jpg" in found.message
    assert "rename the file" in found.hint


def test_the_size_in_the_file_can_tell_which_image_is_meant(tmp_path: Path) -> None:
    for name, size_hw in (("1", (40, 60)), ("2", (44, 66))):
        save_image(tmp_path / f"images/{name}.jpg", size_hw)
    write_file(tmp_path / "annotations/1.json", "../images/1.jpg", shape())
    write_file(tmp_path / "annotations/2.json", "../images/1.jpg", shape(), size_hw=(44, 66))
    conversion = read_labelme(tmp_path)
    assert objects_of_images(conversion) == {"1.jpg": 1, "2.jpg": 1}
    assert codes(conversion) == ["image_path_corrected"]


def test_an_embedded_image_can_tell_which_image_is_meant(tmp_path: Path) -> None:
    for name in ("1", "2"):
        save_image(tmp_path / f"images/{name}.png")
    second = tmp_path / "images/2.png"
    second.write_bytes(second.read_bytes() + b"\0")
    data = base64.b64encode(second.read_bytes()).decode()
    write_file(tmp_path / "annotations/2.json", "../images/1.png", shape(), imageData=data)
    write_file(tmp_path / "annotations/1.json", "../images/1.png", shape())
    conversion = read_labelme(tmp_path)
    assert objects_of_images(conversion) == {"1.png": 1, "2.png": 1}
    assert codes(conversion) == ["image_path_corrected"]


def test_a_second_file_for_an_image_is_an_error_and_is_not_merged(tmp_path: Path) -> None:
    labelled(tmp_path, "a")
    write_file(tmp_path / "annotations/other.json", "../images/a.jpg", shape("nut"), shape("nut"))
    conversion = read_labelme(tmp_path)
    assert objects_of_images(conversion) == {"a.jpg": 1}
    found = the_finding(conversion, "source_shared")
    assert found.severity == "error" and found.file == "annotations/other.json"
    assert "those of the second (2) were left out" in found.message


def test_a_copy_of_a_file_is_used_once(tmp_path: Path) -> None:
    labelled(tmp_path, "a")
    write_file(tmp_path / "annotations/a (1).json", "../images/a.jpg", shape())
    conversion = read_labelme(tmp_path)
    assert objects_of_images(conversion) == {"a.jpg": 1}
    assert [(item.code, item.file) for item in conversion.findings] == [
        ("source_repeated", "annotations/a (1).json")
    ]


def test_two_images_of_the_name_of_a_file_are_not_chosen_from(tmp_path: Path) -> None:
    for ending in ("jpg", "png"):
        save_image(tmp_path / f"images/a.{ending}")
    write_file(tmp_path / "annotations/a.json", "gone.bmp", shape())
    labelled(tmp_path, "b")
    conversion = read_labelme(tmp_path)
    assert objects_of_images(conversion) == {"b.jpg": 1}
    assert the_finding(conversion, "image_missing").file == "annotations/a.json"


def test_image_path_with_an_ending_decides_between_two_images(tmp_path: Path) -> None:
    for ending in ("jpg", "png"):
        save_image(tmp_path / f"images/a.{ending}")
    write_file(tmp_path / "annotations/a.json", "D:\\photos\\a.png", shape())
    assert objects_of_images(read_labelme(tmp_path)) == {"a.png": 1}


@pytest.mark.parametrize(
    ("image", "lies_at"),
    [
        ("a.jpg", "set/images/a.jpg"),
        ("C:\\Users\\x\\a.jpg", "set/images/a.JPG"),
        ("../images/cafe\u0301.jpg", "set/images/caf\u00e9.jpg"),
    ],
    ids=["set below", "other machine, other case", "other Unicode form"],
)
def test_the_set_may_be_one_folder_below(tmp_path: Path, image: str, lies_at: str) -> None:
    save_image(tmp_path / lies_at)
    write_file(tmp_path / "set/annotations/a.json", image, shape())
    conversion = read_labelme(tmp_path)
    assert list(objects_of_images(conversion).values()) == [1] and codes(conversion) == []


def test_an_image_of_the_same_name_in_another_folder_is_not_taken(tmp_path: Path) -> None:
    save_image(tmp_path / "images/cam1/0001.jpg")
    write_file(tmp_path / "annotations/cam2/0001.json", "../../images/cam2/0001.jpg", shape())
    conversion = read_labelme(tmp_path)
    assert objects_of_images(conversion) == {}
    assert "images/cam2/0001.jpg" in the_finding(conversion, "image_missing").message


@pytest.mark.parametrize(
    ("image", "lies_at"),
    [("../images/my%20part.jpg", "my part.jpg"), ("../images/part.HEIC", "part.jpg")],
    ids=["URL", "converted image"],
)
def test_an_image_path_in_another_spelling_is_followed(tmp_path: Path, image: str, lies_at: str) -> None:
    save_image(tmp_path / "images" / lies_at)
    write_file(tmp_path / "annotations/0001.json", image, shape())
    assert objects_of_images(read_labelme(tmp_path)) == {lies_at: 1}


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    data, store = tmp_path / "data", tmp_path / "store"
    labelled(store, "cam1/a")
    labelled(data, "b")
    for folder in ("images", "annotations"):
        (data / folder / "cam1").symlink_to(store / folder / "cam1", target_is_directory=True)
    path = data / "annotations/cam1/a.json"
    write_file(path, "../../images/cam1/a.jpg", shape())
    (data / "images/again").symlink_to(data, target_is_directory=True)
    conversion = read_labelme(data)
    assert objects_of_images(conversion) == {"b.jpg": 1, "cam1/a.jpg": 1} and codes(conversion) == []


def test_images_without_a_file_are_counted(tmp_path: Path) -> None:
    labelled(tmp_path, "a")
    for name in ("b", "c"):
        save_image(tmp_path / f"images/{name}.jpg")
    assert (
        "2 images have no LabelMe file" in the_finding(read_labelme(tmp_path), "image_unreferenced").message
    )


# ---- shapes


def test_all_shapes_of_x_anylabeling_with_an_area_become_polygons(tmp_path: Path) -> None:
    desk = check_dataset(copy_case("M04-xanylabeling", tmp_path / "data"), tmp_path / "output", **CONVERT)
    assert desk.exit_code == 0, desk.text
    attributes = desk.result["attributes"]
    assert attributes["train_annotations"] + attributes["val_annotations"] == 9
    conversion = read_labelme(CASES / "M04-xanylabeling")
    assert areas(conversion) == [1200, 600, 476] * 3
    assert all(isinstance(item.segmentation, list) for item in conversion.splits["all"].annotations)


def test_more_fields_and_closed_outlines_do_not_change_a_shape(tmp_path: Path) -> None:
    corners = [[10, 10], [50, 10], [50, 30], [10, 30]]
    extra = {
        "direction": 1.57,
        "difficult": True,
        "score": 0.5,
        "attributes": {"colour": "red"},
        "kie_linking": [],
        "description": "bent",
        "text": "",
    }
    shapes = [
        shape(points=[*corners, corners[0]], shape_type=kind, **extra)
        for kind in ("rectangle", "rotation", "quadrilateral")
    ]
    circle = shape(points=[[30, 20], [30, 30]], shape_type="circle", **extra)
    labelled(tmp_path, "a", *shapes, circle)
    conversion = read_labelme(tmp_path)
    assert codes(conversion) == []
    assert areas(conversion)[:3] == [800, 800, 800]
    assert areas(conversion)[3] == pytest.approx(math.pi * 100, rel=0.03)


def test_an_unknown_kind_of_shape_is_named_and_the_rest_kept(tmp_path: Path) -> None:
    cuboid = shape(
        points=[[1, 1], [9, 1], [9, 9], [1, 9], [3, 3], [11, 3], [11, 11], [3, 11]], shape_type="cuboid"
    )
    labelled(tmp_path, "a", cuboid, shape())
    conversion = read_labelme(tmp_path)
    found = the_finding(conversion, "shape_unusable")
    assert found.severity == "error" and "unknown shape_type 'cuboid'" in found.message
    assert objects_of_images(conversion) == {"a.jpg": 1}


def test_every_shape_of_labelme_keeps_its_area() -> None:
    conversion = read_labelme(CASES / "N01-labelme-zoo")
    assert areas(conversion) == [700, 400, 314, 105, 92, 150] * 3
    assert codes(conversion) == []


def test_coordinates_as_texts_are_read(tmp_path: Path) -> None:
    labelled(tmp_path, "a", shape(points=[["10", "10"], ["30.0", 10], [30, "30"], [10, 30]]), shape())
    conversion = read_labelme(tmp_path)
    assert areas(conversion)[0] == 400 and len(areas(conversion)) == 2
    assert "1 shapes have coordinates as texts" in the_finding(conversion, "coordinates_as_text").message


def test_a_new_file_of_x_anylabeling_has_no_size(tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    write_file(tmp_path / "a.json", "a.jpg", shape(), size_hw=(-1, -1), checked=False)
    assert objects_of_images(read_labelme(tmp_path)) == {"a.jpg": 1}


# ---- labels


def test_a_number_as_label_is_read_as_its_text(tmp_path: Path) -> None:
    data = copy_case("M05-number-label", tmp_path / "data")
    desk = check_dataset(data, tmp_path / "output", **CONVERT)
    assert desk.exit_code == 0, desk.text
    assert "have the label 1, which was read as '1'" in desk.messages("label_not_text")[0]
    assert "have the label 'bolt ', which was read as 'bolt'" in desk.messages("label_padded")[0]
    conversion = read_labelme(CASES / "M05-number-label")
    assert [category.name for category in conversion.splits["all"].categories] == ["1", "bolt"]
    assert objects_of_images(conversion) == {"p0.jpg": 2, "p1.jpg": 2, "p2.jpg": 2}


@pytest.mark.parametrize(
    ("label", "text"), [(0, "0"), (2.0, "2"), (1.5, "1.5"), (-3, "-3")], ids=["0", "2.0", "1.5", "-3"]
)
def test_other_numbers_as_labels(tmp_path: Path, label: float, text: str) -> None:
    labelled(tmp_path, "a", shape(label))
    conversion = read_labelme(tmp_path)
    assert [category.name for category in conversion.splits["all"].categories] == [text]
    assert codes(conversion) == ["label_not_text"]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (None, "has the label null; expected text"),
        (True, "has the label true; expected text"),
        (["bolt"], 'has the label ["bolt"]; expected text'),
        ({"name": "bolt"}, 'has the label {"name": "bolt"}; expected text'),
        ("", "has the empty label ''"),
        ("  ", "has the empty label '  '"),
    ],
    ids=["null", "true", "list", "object", "empty", "blank"],
)
def test_other_labels_are_shown_in_an_error(tmp_path: Path, label: Any, message: str) -> None:
    labelled(tmp_path, "a", shape(label), shape())
    conversion = read_labelme(tmp_path)
    assert message in the_finding(conversion, "shape_unusable").message
    assert objects_of_images(conversion) == {"a.jpg": 1}


@pytest.mark.parametrize("label", ["Bolt", "BOLT ", "Ｂolt"])
def test_a_label_that_differs_from_the_list_by_case_is_the_listed_one(label: str, tmp_path: Path) -> None:
    labelled(tmp_path, "a", shape(label), shape("bolt"))
    (tmp_path / "label.txt").write_text("bolt\n")
    conversion = read_labelme(tmp_path)
    assert objects_of_images(conversion) == {"a.jpg": 2}
    found = the_finding(conversion, "label_spelling")
    assert found.message == f"1 shapes in 1 files have the label {label.strip()!r}, which was read as 'bolt'"


def test_a_label_that_may_be_two_listed_ones_is_an_error(tmp_path: Path) -> None:
    labelled(tmp_path, "a", shape("BOLT"), shape("Bolt"))
    (tmp_path / "label.txt").write_text("bolt\nBolt\n")
    conversion = read_labelme(tmp_path)
    assert objects_of_images(conversion) == {"a.jpg": 1} and codes(conversion) == ["label_unknown"]


@pytest.mark.parametrize(
    ("kind", "points", "area"), [("Polygon", TRIANGLE, 190), ("RECTANGLE", [[10, 10], [30, 20]], 200)]
)
def test_the_kind_of_a_shape_may_be_in_another_case(
    kind: str, points: Any, area: int, tmp_path: Path
) -> None:
    labelled(tmp_path, "a", shape(points=points, shape_type=kind))
    conversion = read_labelme(tmp_path)
    [annotation] = conversion.splits["all"].annotations
    assert abs(rle_area(annotation_to_rle(annotation, 40, 60)) - area) <= 20
    assert f"the shape_type {kind!r}" in the_finding(conversion, "label_spelling").message


def test_an_empty_class_list_does_not_drop_all_shapes(tmp_path: Path) -> None:
    labelled(tmp_path, "a")
    (tmp_path / "label.txt").write_text("\n")
    conversion = read_labelme(tmp_path)
    assert objects_of_images(conversion) == {"a.jpg": 1} and codes(conversion) == ["names_inconsistent"]


# ---- lists


def test_files_that_were_annotated_after_the_lists_are_counted(tmp_path: Path) -> None:
    data = copy_case("M13-annotate-more", tmp_path / "data")
    desk = check_dataset(data, tmp_path / "output", **CONVERT)
    (message,) = desk.messages("source_unlisted")
    assert "6 LabelMe files are in no list (train_anno_list.txt, val_anno_list.txt)" in message
    assert "annotations/p4.json, annotations/p5.json, annotations/p6.json ..." in message


def test_files_annotated_after_our_own_conversion_are_counted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in range(5):
        labelled(data, f"p{number}")
    assert check_dataset(data, tmp_path / "first", **CONVERT).exit_code == 0
    assert (data / "train_anno_list.txt").is_file()
    labelled(data, "late")
    desk = check_dataset(data, tmp_path / "second", **CONVERT)
    assert "1 LabelMe files are in no list" in desk.messages("source_unlisted")[0]
    for name in ("train", "val"):
        (data / f"{name}_anno_list.txt").rename(data / f"old_{name}_anno_list.txt")
    desk = check_dataset(data, tmp_path / "third", **CONVERT)
    assert "source_unlisted" not in desk.codes
    splits = [read_coco(data / f"annotations/instance_{name}.json") for name in ("train", "val")]
    assert sum(len(coco.images) for coco in splits) == 6


def test_files_in_no_list_are_counted_with_a_train_list_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        labelled(tmp_path, name)
    (tmp_path / "train_anno_list.txt").write_text("annotations/a.json\n")
    found = the_finding(read_labelme(tmp_path), "source_unlisted")
    assert "1 LabelMe files are in no list (train_anno_list.txt): annotations/b.json" in found.message


def test_lines_from_another_machine_are_followed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        labelled(tmp_path, name)
    (tmp_path / "train_anno_list.txt").write_text("D:\\parts\\annotations\\a.json\nAnnotations/B.json\n")
    conversion = read_labelme(tmp_path)
    assert objects_of_images(conversion) == {"a.jpg": 1, "b.jpg": 1} and codes(conversion) == []


def test_lines_that_lead_nowhere_are_one_error_with_their_number(tmp_path: Path) -> None:
    labelled(tmp_path, "a")
    (tmp_path / "train_anno_list.txt").write_text("annotations/a.json\n")
    (tmp_path / "val_anno_list.txt").write_text("annotations/x.json\nannotations/y.json\n")
    conversion = read_labelme(tmp_path)
    found = the_finding(conversion, "list_entry_missing")
    assert (found.severity, found.file) == ("error", "val_anno_list.txt")
    assert "2 of 2 lines lead to no file; the first is 'annotations/x.json'" in found.message
    assert list(conversion.splits) == ["train", "val"]


@pytest.mark.parametrize(
    ("line", "image"),
    [
        ("JPEGImages/{}.jpg Annotations/{}.json", "{}"),
        ("images/{}.JPG\tannotations/{}.json", "{}"),
        ("images/{}.jpg,annotations/{}.json", "my {}"),
        ('"images/{}.jpg" "annotations/{}.json"', "my {}"),
        ("images\\{}.jpg Annotations\\{}.xml", "{}.jpg"),
        ("./images/{}.jpg", "{}"),
        ("annotations/{}.json", "{}"),
    ],
    ids=["PaddleX", "tab", "blank in the name", "quoted", "another annotation", "image only", "file only"],
)
def test_lists_of_paddlex_give_the_splits(line: str, image: str, tmp_path: Path) -> None:
    names = {split: image.format(split) for split in ("train", "val")}
    for split, name in names.items():
        labelled(tmp_path, name)
        (tmp_path / f"{split}_list.txt").write_text(line.format(name, name) + "\n")
    labelled(tmp_path, "late")
    conversion = read_labelme(tmp_path)
    assert {
        split: [record.file_name for record in coco.images] for split, coco in conversion.splits.items()
    } == {split: [f"{name}.jpg"] for split, name in names.items()}
    found = the_finding(conversion, "source_unlisted")
    assert found.message.endswith("in no list (train_list.txt, val_list.txt): annotations/late.json")
    assert len(conversion.findings) == 1


def test_lists_of_annotations_come_before_those_of_paddlex(tmp_path: Path) -> None:
    for name in ("a", "b"):
        labelled(tmp_path, name)
    (tmp_path / "train_anno_list.txt").write_text("annotations/a.json\n")
    (tmp_path / "val_anno_list.txt").write_text("annotations/b.json\n")
    (tmp_path / "test_list.txt").write_text("images/a.jpg annotations/a.json\n")
    assert list(read_labelme(tmp_path).splits) == ["train", "val"]


def test_a_line_of_paddlex_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    labelled(tmp_path, "a")
    (tmp_path / "train_list.txt").write_text("images/a.jpg annotations/a.json\nimages/b.jpg b.json\n")
    found = the_finding(read_labelme(tmp_path), "list_entry_missing")
    assert found.file == "train_list.txt" and "1 of 2 lines" in found.message


# ---- files of other formats


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ({"images": [], "annotations": [], "categories": []}, "COCO"),
        ({"info": {"description": "ISAT"}, "objects": []}, "ISAT"),
        ({"_via_settings": {}, "_via_img_metadata": {}}, "VGG Image Annotator (VIA)"),
        ({"a.jpg1234": {"filename": "a.jpg", "regions": []}}, "VGG Image Annotator (VIA)"),
        ({"width": 60, "height": 40, "step_1": {"result": []}}, "LabelBee"),
        ([{"id": 1, "annotations": [], "data": {"image": "a.jpg"}}], "Label Studio"),
        ({"size": {"height": 40}, "objects": []}, "Supervisely"),
    ],
    ids=["COCO", "ISAT", "VIA", "VIA 1", "LabelBee", "Label Studio", "Supervisely"],
)
def test_other_annotations_are_named(tmp_path: Path, document: Any, name: str) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/x.json").write_text(json.dumps(document))
    with pytest.raises(DatasetError) as caught:
        read_labelme(tmp_path)
    assert f"1 {name} file (annotations/x.json)" in str(caught.value)
    labelled(tmp_path, "a")
    assert name in the_finding(read_labelme(tmp_path), "source_unsupported").message


def test_the_xml_of_the_old_labelme_is_named(tmp_path: Path) -> None:
    save_image(tmp_path / "default/a.jpg")
    (tmp_path / "default/a.xml").write_text(
        "<annotation><filename>a.jpg</filename><object><name>bolt</name><polygon><pt><x>1</x><y>2</y></pt>"
        "</polygon></object></annotation>"
    )
    with pytest.raises(DatasetError, match="1 LabelMe XML file \\(default/a.xml\\)"):
        read_labelme(tmp_path)


def test_dead_links_are_findings(tmp_path: Path) -> None:
    labelled(tmp_path, "a")
    for name in ("annotations/b.json", "annotations/b.xml", "images/b.jpg"):
        (tmp_path / name).symlink_to(tmp_path / "gone")
    conversion = read_labelme(tmp_path)
    assert objects_of_images(conversion) == {"a.jpg": 1}
    assert the_finding(conversion, "source_unreadable").file == "annotations/b.json"


def test_file_and_image_may_differ_in_case(tmp_path: Path) -> None:
    save_image(tmp_path / "A.JPG")
    write_file(tmp_path / "a.json", "a.jpg", shape())
    conversion = read_labelme(tmp_path)
    assert objects_of_images(conversion) == {"A.JPG": 1}
    assert conversion.findings == ()


def test_a_second_conversion_finds_the_same_errors(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in "abcde":
        labelled(data, name)
    (data / "annotations/e.json").write_text('{"shapes": [{"la')
    for number in range(2):
        desk = check_dataset(data, tmp_path / f"output{number}", **CONVERT)
        assert desk.exit_code == 3
        assert desk.codes["source_unreadable"] == 1


def test_a_mask_shape_without_a_mask_is_named(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.jpg")
    empty = shape(points=[[1, 1], [5, 5]], shape_type="mask", mask=None)
    write_file(tmp_path / "annotations/a.json", "../images/a.jpg", shape(), empty)
    assert "has no mask" in the_finding(read_labelme(tmp_path), "shape_unusable").message
