"""Masks as image files, as tools write them: CVAT, labelme2voc, VOC, Label Studio, EISeg, PaddleSeg.

What the tools write was looked up in their sources, and the files are built here from that:
- CVAT, Segmentation mask 1.1: cvat/apps/dataset_manager/formats/mask.py exports Datumaro's voc_segmentation.
- Datumaro: datumaro/plugins/voc_format/converter.py and format.py. ``labelmap.txt`` has lines
  label:color_rgb:parts:actions; masks are colour images, objects in the order of the VOC palette; the list of
  a subset, such as ``default``, also has the images without annotations; images are only there if saved.
- labelme: examples/instance_segmentation/labelme2voc.py, which wrote the folders ``...PNG`` until 2023.
- Label Studio: label_studio_converter/brush.py, save_brush_images_from_annotation.
- EISeg: PaddleSeg/EISeg/eiseg/app.py, exportLabel: gray, ``_pseudo`` and ``_cutout`` images of classes.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import CASES, check_dataset, copy_case
from converted import labelled_masks, save_image
from PIL import Image, ImageFilter
from scipy import ndimage
from scipy.spatial import cKDTree

from paddlex_seg.data.formats.conversion import Conversion
from paddlex_seg.data.formats.mask_colours import voc_colour
from paddlex_seg.data.formats.mask_png import read_mask_png
from paddlex_seg.data.formats.voc import read_voc
from paddlex_seg.errors import DatasetError

SIZE = (40, 60)
FIRST, SECOND = np.s_[5:15, 5:25], np.s_[20:35, 30:55]  # 200 and 375 pixels


def objects(conversion: Conversion) -> dict[str, list[tuple[str, int]]]:
    """Label and area of each object, by image, over all splits."""
    return {
        name: [(label, int(mask.sum())) for label, mask in items]
        for coco in conversion.splits.values()
        for name, items in labelled_masks(coco).items()
    }


def codes(conversion: Conversion) -> list[str]:
    return [item.code for item in conversion.findings]


def save(path: Path, values: np.ndarray, palette: list[int] | None = None, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette is not None:
        image.putpalette(palette)
    image.save(path, **options)


def numbers(first: int = 1, second: int = 2, dtype: type = np.uint8) -> np.ndarray:
    values: np.ndarray = np.zeros(SIZE, dtype)
    values[FIRST], values[SECOND] = first, second
    return values


def coloured(first: tuple[int, int, int], second: tuple[int, int, int]) -> np.ndarray:
    values = np.zeros((*SIZE, 3), np.uint8)
    values[FIRST], values[SECOND] = first, second
    return values


def voc_palette() -> list[int]:
    return [voc_colour(number) >> 8 * channel & 255 for number in range(256) for channel in range(3)]


BOTH = [("bolt", 1200), ("nut", 600)]


# ---- CVAT, Segmentation mask 1.1


@pytest.mark.parametrize("case", ["V01-cvat-smask", "V01b-cvat-smask-palette"])
def test_classes_of_cvat_are_those_of_the_labelmap(case: str, tmp_path: Path) -> None:
    conversion = read_voc(CASES / case)
    assert objects(conversion) == {f"p{number}.jpg": BOTH for number in range(3)}
    assert [item.name for item in conversion.splits["all"].categories] == ["bolt", "nut"]
    assert conversion.findings == ()
    desk = check_dataset(
        copy_case(case, tmp_path / "data"),
        tmp_path / "output",
        CheckDataset__convert__enable=True,
        CheckDataset__convert__src_dataset_type="VOC",
    )
    assert desk.exit_code == 0
    attributes = desk.result["attributes"]
    assert attributes["train_samples"] + attributes["val_samples"] == 3


def cvat_export(root: Path, labelmap: str, classes: np.ndarray, instances: np.ndarray) -> Path:
    save_image(root / "JPEGImages/a.jpg", SIZE)
    save(root / "SegmentationClass/a.png", classes)
    save(root / "SegmentationObject/a.png", instances)
    (root / "labelmap.txt").write_text(f"# label:color_rgb:parts:actions\n{labelmap}", encoding="utf-8")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/default.txt").write_text("a\n")
    return root


def voc_rgb(number: int) -> tuple[int, int, int]:
    code = voc_colour(number)
    return code & 255, code >> 8 & 255, code >> 16


def test_custom_colours_colons_and_blanks_in_labels_and_two_objects_of_a_class(tmp_path: Path) -> None:
    labelmap = "background:0,0,0::\nM8: hex bolt:250,50,83::\n螺母 5:51,221,255:head,foot:running\n"
    first = coloured((250, 50, 83), (250, 50, 83))
    first[38, 58] = (51, 221, 255)  # an object of one pixel
    second = coloured(voc_rgb(12), voc_rgb(3))
    second[38, 58] = voc_rgb(7)
    conversion = read_voc(cvat_export(tmp_path, labelmap, first, second))
    assert conversion.findings == ()
    assert objects(conversion) == {"a.jpg": [("M8: hex bolt", 375), ("螺母 5", 1), ("M8: hex bolt", 200)]}
    assert [item.name for item in conversion.splits["all"].categories] == ["M8: hex bolt", "螺母 5"]


def test_a_colour_that_is_not_in_the_labelmap_is_a_finding(tmp_path: Path) -> None:
    masks = coloured((128, 0, 0), (1, 2, 3)), coloured(voc_rgb(1), voc_rgb(2))
    conversion = read_voc(cvat_export(tmp_path, "background:0,0,0::\nbolt:128,0,0::\n", *masks))
    assert objects(conversion) == {"a.jpg": [("bolt", 200)]}
    assert codes(conversion) == ["label_unknown"]
    assert (
        "object 2 has the colour 1,2,3; expected a colour of labelmap.txt" in conversion.findings[0].message
    )


def test_two_classes_of_one_colour_are_not_told_apart_by_guessing(tmp_path: Path) -> None:
    masks = coloured((128, 0, 0), (9, 9, 0)), coloured(voc_rgb(1), voc_rgb(2))
    labelmap = "background:0,0,0::\nbolt:128,0,0::\nscrew:128,0,0::\nnut:9,9,0::\n"
    conversion = read_voc(cvat_export(tmp_path, labelmap, *masks))
    assert objects(conversion) == {"a.jpg": [("nut", 375)]}
    assert "the colour 128,0,0, which bolt and screw share" in conversion.findings[0].message


def test_a_labelmap_without_colours_and_masks_of_numbers(tmp_path: Path) -> None:
    labelmap = "background:::\nbolt:::\nnut:::\n"
    root = cvat_export(tmp_path, labelmap, numbers(2, 1), numbers(1, 2))
    assert objects(read_voc(root)) == {"a.jpg": [("nut", 200), ("bolt", 375)]}
    save(root / "SegmentationClass/a.png", coloured(voc_rgb(2), voc_rgb(1)))
    assert objects(read_voc(root)) == {"a.jpg": [("nut", 200), ("bolt", 375)]}


def test_the_meta_file_of_datumaro_gives_the_colours(tmp_path: Path) -> None:
    masks = coloured((9, 9, 9), (200, 0, 7)), coloured(voc_rgb(1), voc_rgb(2))
    root = cvat_export(tmp_path, "", *masks)
    (root / "labelmap.txt").unlink()
    meta = {
        "labels": ["background", "bolt", "nut"],
        "label_map": {"0": "background", "1": "bolt", "2": "nut"},
        "segmentation_colors": [[0, 0, 0], [9, 9, 9], [200, 0, 7]],
    }
    (root / "dataset_meta.json").write_text(json.dumps(meta))
    conversion = read_voc(root)
    assert objects(conversion) == {"a.jpg": [("bolt", 200), ("nut", 375)]} and conversion.findings == ()


def test_a_palette_in_another_order_means_its_colours(tmp_path: Path) -> None:
    colours = [(0, 128, 0), (0, 0, 0), (128, 0, 0)]  # background is value 1
    palette = [channel for colour in colours for channel in colour]
    values = np.ones(SIZE, np.uint8)
    values[FIRST], values[SECOND] = 2, 0
    labelmap = "background:0,0,0::\nbolt:128,0,0::\nnut:0,128,0::\n"
    root = cvat_export(tmp_path, labelmap, values, values)
    for folder in ("SegmentationClass", "SegmentationObject"):
        save(root / folder / "a.png", values, palette)
    assert objects(read_voc(root)) == {"a.jpg": [("bolt", 200), ("nut", 375)]}


def test_a_listed_image_without_masks_is_background_and_is_counted(tmp_path: Path) -> None:
    masks = coloured((128, 0, 0), (128, 0, 0)), coloured(voc_rgb(1), voc_rgb(2))
    root = cvat_export(tmp_path, "background:0,0,0::\nbolt:128,0,0::\n", *masks)
    save_image(root / "JPEGImages/sub/b.jpg", SIZE)
    (root / "ImageSets/Segmentation/default.txt").write_text("a\nsub/b\n")
    conversion = read_voc(root)
    assert objects(conversion) == {"a.jpg": [("bolt", 200), ("bolt", 375)], "sub/b.jpg": []}
    assert codes(conversion) == ["image_without_labels"]


def test_an_export_without_images_says_how_to_get_them(tmp_path: Path) -> None:
    masks = coloured((128, 0, 0), (128, 0, 0)), coloured(voc_rgb(1), voc_rgb(2))
    root = cvat_export(tmp_path, "background:0,0,0::\nbolt:128,0,0::\n", *masks)
    shutil.rmtree(root / "JPEGImages")
    with pytest.raises(DatasetError, match=r"1 masks in SegmentationObject, but no image .*Save images"):
        read_voc(root)
    save_image(root / "images/a.jpg", SIZE)
    assert objects(read_voc(root)) == {"a.jpg": [("bolt", 200), ("bolt", 375)]}


@pytest.mark.parametrize("names", [("Train", "Validation"), ("train", "val"), ("training", "valid")])
def test_subsets_of_cvat_are_the_splits(names: tuple[str, str], tmp_path: Path) -> None:
    masks = coloured((128, 0, 0), (128, 0, 0)), coloured(voc_rgb(1), voc_rgb(2))
    root = cvat_export(tmp_path, "background:0,0,0::\nbolt:128,0,0::\n", *masks)
    for stem in ("b", "c"):
        for folder, suffix in (
            ("JPEGImages", "jpg"),
            ("SegmentationClass", "png"),
            ("SegmentationObject", "png"),
        ):
            shutil.copy(root / folder / f"a.{suffix}", root / folder / f"{stem}.{suffix}")
    sets = root / "ImageSets/Segmentation"
    (sets / "default.txt").unlink()
    (sets / f"{names[0]}.txt").write_bytes(b"a\r\n\r\nb.jpg\r\n")
    (sets / f"{names[1]}.txt").write_text("JPEGImages/c.jpg SegmentationClass/c.png\n")
    conversion = read_voc(root)
    found = {split: [record.file_name for record in coco.images] for split, coco in conversion.splits.items()}
    assert found == {"train": ["a.jpg", "b.jpg"], "val": ["c.jpg"]}
    assert conversion.findings == ()


# ---- labelme2voc and VOC


def test_folders_of_an_older_labelme2voc_are_read() -> None:
    conversion = read_voc(CASES / "V02-labelme2voc-old")
    assert objects(conversion) == {f"p{number}.jpg": BOTH for number in range(3)}
    assert conversion.findings == ()


def test_arrays_of_labelme2voc_are_read_when_the_images_of_masks_are_gone(tmp_path: Path) -> None:
    root = copy_case("V02-labelme2voc-old", tmp_path / "data")
    shutil.rmtree(root / "SegmentationClassPNG")
    shutil.rmtree(root / "SegmentationObjectPNG")
    ignored = np.load(root / "SegmentationClass/p0.npy")
    ignored[ignored == 2] = -1
    np.save(root / "SegmentationClass/p0.npy", ignored)
    conversion = read_voc(root)
    assert objects(conversion) == {"p0.jpg": BOTH[:1], "p1.jpg": BOTH, "p2.jpg": BOTH}
    assert codes(conversion) == ["label_unknown"]


def test_a_newer_labelme2voc_with_an_ignored_class(tmp_path: Path) -> None:
    save_image(tmp_path / "JPEGImages/a.jpg", SIZE)
    save(tmp_path / "SegmentationClass/a.png", numbers(1, 255), voc_palette())
    save(tmp_path / "SegmentationObject/a.png", numbers(1, 255), voc_palette())
    save(tmp_path / "SegmentationClassVisualization/a.jpg", coloured((1, 1, 1), (2, 2, 2)))
    (tmp_path / "SegmentationClassNpy").mkdir()
    np.save(tmp_path / "SegmentationClassNpy/a.npy", numbers(1, 255))
    (tmp_path / "class_names.txt").write_text("_background_\nbolt")
    conversion = read_voc(tmp_path)
    assert objects(conversion) == {"a.jpg": [("bolt", 200)]}
    assert conversion.findings == ()


def test_masks_of_classes_alone_are_not_split_into_objects(tmp_path: Path) -> None:
    root = copy_case("V02-labelme2voc-old", tmp_path / "data")
    shutil.rmtree(root / "SegmentationObject")
    shutil.rmtree(root / "SegmentationObjectPNG")
    with pytest.raises(
        DatasetError, match="3 masks in SegmentationClassPNG show classes, not where one object"
    ):
        read_voc(root)


def test_the_only_folder_below_is_found_and_guessed_classes_are_a_warning(tmp_path: Path) -> None:
    conversion = read_voc(CASES / "V04-vocdevkit")
    assert objects(conversion) == {
        f"p{number}.jpg": [("aeroplane", 1200), ("bicycle", 600)] for number in range(3)
    }
    assert codes(conversion) == ["classes_guessed"]
    assert conversion.findings[0].severity == "warning"
    assert "class_names.txt" in conversion.findings[0].hint
    root = copy_case("V04-vocdevkit", tmp_path / "data")
    (root / "VOCdevkit/VOC2012/labels.txt").write_text("bolt\nnut\n")
    conversion = read_voc(root)
    assert objects(conversion)["p0.jpg"] == BOTH
    assert conversion.findings == ()


def test_two_folders_below_are_not_chosen_by_guessing(tmp_path: Path) -> None:
    root = copy_case("V04-vocdevkit", tmp_path / "data")
    shutil.copytree(root / "VOCdevkit/VOC2012", root / "VOCdevkit/VOC2007")
    with pytest.raises(DatasetError, match="VOCdevkit/VOC2007, VOCdevkit/VOC2012"):
        read_voc(root)


def test_folders_of_splits_are_read_as_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):  # as people run labelme2voc for each
        copy_case("V02-labelme2voc-old", tmp_path / "data" / split)
    (tmp_path / "data/test/class_names.txt").write_text("_background_\nnut\nwasher\n")
    conversion = read_voc(tmp_path)
    assert {split: len(coco.images) for split, coco in conversion.splits.items()} == {"test": 3, "train": 3}
    assert {item.name for item in conversion.splits["train"].categories} == {"bolt", "nut", "washer"}
    found = objects(conversion)
    assert sorted(found) == ["p0.jpg", "p0_2.jpg", "p1.jpg", "p1_2.jpg", "p2.jpg", "p2_2.jpg"]
    assert sorted({tuple(items) for items in found.values()}) == [
        tuple(BOTH),
        (("nut", 1200), ("washer", 600)),
    ]


def test_folders_of_splits_with_masks_share_the_list_of_classes(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        copy_case("K03-mask-suffix", tmp_path / split)
        (tmp_path / split / "label.txt").rename(tmp_path / "label.txt")
    conversion = read_mask_png(tmp_path)
    assert {split: len(coco.images) for split, coco in conversion.splits.items()} == {"train": 3, "val": 3}
    assert [item.name for item in conversion.splits["val"].categories] == ["bolt"]
    assert {item.file for item in conversion.findings} == {"train/masks", "valid/masks"}


def test_names_of_pascal_voc_or_its_boxes_make_its_classes_certain(tmp_path: Path) -> None:
    root = copy_case("V04-vocdevkit", tmp_path / "data") / "VOCdevkit/VOC2012"
    (root / "Annotations").mkdir()
    xml = "<annotation><object><name>{}</name></object></annotation>"
    (root / "Annotations/p0.xml").write_text(xml.format("aeroplane"))
    assert codes(read_voc(root)) == []
    (root / "Annotations/p0.xml").write_text(xml.format("bolt"))
    assert codes(read_voc(root)) == ["classes_guessed"]
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        for path in sorted((root / folder).iterdir()):
            path.rename(path.with_stem(path.stem.replace("p", "2007_00000")))
    assert "classes_guessed" not in codes(read_voc(root))


def test_missing_masks_of_classes_are_named(tmp_path: Path) -> None:
    conversion = read_voc(CASES / "V05-no-class")
    assert objects(conversion) == {}
    assert codes(conversion) == ["mask_class_missing"]
    assert conversion.findings[0].severity == "error"
    assert "SegmentationClass/p0.png does not exist" in conversion.findings[0].message
    desk = check_dataset(
        copy_case("V05-no-class", tmp_path / "data"),
        tmp_path / "output",
        CheckDataset__convert__enable=True,
        CheckDataset__convert__src_dataset_type="VOC",
    )
    assert desk.exit_code != 0


def test_one_missing_mask_of_classes_is_named(tmp_path: Path) -> None:
    root = copy_case("V02-labelme2voc-old", tmp_path / "data")
    (root / "SegmentationClassPNG/p1.png").unlink()
    conversion = read_voc(root)
    assert sorted(objects(conversion)) == ["p0.jpg", "p2.jpg"]
    assert [(item.code, item.file) for item in conversion.findings] == [
        ("source_unreadable", "SegmentationObjectPNG/p1.png")
    ]
    assert "SegmentationClassPNG/p1.png does not exist" in conversion.findings[0].message


def test_one_missing_mask_of_objects_is_named_even_without_its_image(tmp_path: Path) -> None:
    root = copy_case("V02-labelme2voc-old", tmp_path / "data")
    (root / "SegmentationObjectPNG/p1.png").unlink()
    conversion = read_voc(root)
    assert [(item.code, item.file) for item in conversion.findings] == [("source_unreadable", "p1")]
    (root / "JPEGImages/p1.jpg").unlink()
    conversion = read_voc(root)
    assert [(item.code, item.file) for item in conversion.findings] == [
        ("image_missing", "SegmentationClassPNG/p1.png")
    ]


def test_colours_of_the_voc_palette_count_the_list_of_classes(tmp_path: Path) -> None:
    root = copy_case("V02-labelme2voc-old", tmp_path / "data")
    for path in [*root.glob("SegmentationClassPNG/*.png"), *root.glob("SegmentationObjectPNG/*.png")]:
        Image.open(path).convert("RGB").save(path)
    assert objects(read_voc(root)) == {f"p{number}.jpg": BOTH for number in range(3)}
    save(root / "SegmentationClassPNG/p0.png", np.full((64, 96, 3), (1, 2, 3), np.uint8))
    conversion = read_voc(root)
    assert codes(conversion) == ["source_unreadable"]
    assert "labelmap.txt does not exist" in conversion.findings[0].message


def test_values_beyond_the_list_are_counted(tmp_path: Path) -> None:
    root = copy_case("V02-labelme2voc-old", tmp_path / "data")
    (root / "class_names.txt").write_text("_background_\nbolt\n")
    conversion = read_voc(root)
    assert objects(conversion) == {f"p{number}.jpg": BOTH[:1] for number in range(3)}
    assert codes(conversion) == ["label_unknown"]
    assert "3 objects in 3 masks have the class 2; expected 1..1" in conversion.findings[0].message


def test_files_in_no_list_and_entries_that_lead_nowhere_are_findings(tmp_path: Path) -> None:
    root = copy_case("V01-cvat-smask", tmp_path / "data")
    (root / "ImageSets/Segmentation/default.txt").write_text("p0\nlost\n")
    conversion = read_voc(root)
    assert sorted(objects(conversion)) == ["p0.jpg"]
    assert codes(conversion) == ["list_entry_missing", "source_unlisted"]
    assert "'lost'" in conversion.findings[0].message and "2 masks" in conversion.findings[1].message


def test_two_images_of_one_name_are_a_finding(tmp_path: Path) -> None:
    root = copy_case("V02-labelme2voc-old", tmp_path / "data")
    Image.open(root / "JPEGImages/p0.jpg").save(root / "JPEGImages/p0.png")
    conversion = read_voc(root)
    assert sorted(objects(conversion)) == ["p1.jpg", "p2.jpg"]
    assert codes(conversion) == ["source_shared"]
    assert "JPEGImages/p0.jpg and JPEGImages/p0.png" in conversion.findings[0].message


def test_pixels_of_a_class_without_an_object_are_a_finding(tmp_path: Path) -> None:
    root = copy_case("V02-labelme2voc-old", tmp_path / "data")
    values = np.array(Image.open(root / "SegmentationObjectPNG/p0.png"))
    values[values == 2] = 0
    save(root / "SegmentationObjectPNG/p0.png", values, voc_palette())
    conversion = read_voc(root)
    assert objects(conversion)["p0.jpg"] == BOTH[:1]
    assert codes(conversion) == ["mask_class_without_object"]
    assert "SegmentationClassPNG/p0.png with pixels of nut" in conversion.findings[0].message


def test_masks_of_classes_in_the_place_of_objects_are_a_warning(tmp_path: Path) -> None:
    root = copy_case("V02-labelme2voc-old", tmp_path / "data")
    values = np.zeros((64, 96), np.uint8)
    for place, value in enumerate((1, 2, 1, 2)):  # every class has two pieces
        values[5:15, 2 + 24 * place : 22 + 24 * place] = value
    for number in range(3):
        for folder in ("SegmentationClassPNG", "SegmentationObjectPNG"):
            save(root / folder / f"p{number}.png", values, voc_palette())
    conversion = read_voc(root)
    assert codes(conversion) == ["mask_several_pieces"]


def test_white_objects_of_voc_are_not_dropped_silently(tmp_path: Path) -> None:
    root = copy_case("V02-labelme2voc-old", tmp_path / "data")
    values = np.asarray(Image.open(root / "SegmentationObjectPNG/p0.png"))
    save(root / "SegmentationObjectPNG/p0.png", (values > 0).astype(np.uint8) * 255)
    conversion = read_voc(root)
    assert objects(conversion)["p0.jpg"] == []
    assert codes(conversion) == ["mask_void_only"]


@pytest.mark.parametrize("has_other", [False, True])
def test_void_of_a_mask_of_objects_is_no_object_of_cvat(has_other: bool, tmp_path: Path) -> None:
    classes, instances = np.zeros((2, *SIZE, 3), np.uint8)
    instances[:] = voc_rgb(255)
    if has_other:
        classes[FIRST], instances[FIRST] = (250, 50, 83), voc_rgb(1)
    classes[33:40, 50:57] = (250, 50, 83)
    root = cvat_export(tmp_path, "background:0,0,0::\nbolt:250,50,83::\n", classes, instances)
    conversion = read_voc(root)
    assert objects(conversion) == {"a.jpg": [("bolt", 200)] if has_other else []}
    assert codes(conversion) == ["mask_class_without_object" if has_other else "mask_void_only"]


@pytest.mark.parametrize("has_list", [False, True], ids=["labelmap", "class_names"])
@pytest.mark.parametrize("is_border", [False, True])
def test_255_is_an_object_of_a_mask_that_counts_to_254(
    is_border: bool, has_list: bool, tmp_path: Path
) -> None:
    instances = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.int64) // 9
    instances[instances > 255] = 0
    assert instances.max() == 255
    classes = ((instances > 0) & ~(is_border & (instances == 255))).astype(np.uint8)
    root = cvat_export(tmp_path, "background:0,0,0::\nbolt:128,0,0::\n", classes, instances.astype(np.uint8))
    for path in ("SegmentationClass/a.png", "SegmentationObject/a.png"):
        save(root / path, np.asarray(Image.open(root / path)), voc_palette())
    if has_list:
        (root / "labelmap.txt").unlink()
        (root / "class_names.txt").write_text("_background_\nbolt\n")
    conversion = read_voc(root)
    assert objects(conversion) == {"a.jpg": [("bolt", 9)] * (254 if is_border else 255)}
    assert codes(conversion) == []


MOSTLY_UNLABELLED = (
    "1 objects have no class on most of their pixels; the first is object 1 of {mask}, where {without} of "
    "200 pixels have no class"
)


@pytest.mark.parametrize(("labelled", "codes_found"), [(100, []), (99, ["object_mostly_unlabelled"])])
@pytest.mark.parametrize("value", [0, 255], ids=["background", "void"])
def test_an_object_of_voc_that_is_mostly_background_is_a_warning(
    labelled: int, codes_found: list[str], value: int, tmp_path: Path
) -> None:
    classes, instances = numbers(value, 1), numbers(1, 2)
    classes[np.nonzero(instances == 1)[0][:labelled], np.nonzero(instances == 1)[1][:labelled]] = 1
    root = cvat_export(tmp_path, "background:0,0,0::\nbolt:128,0,0::\n", classes, instances)
    for path in ("SegmentationClass/a.png", "SegmentationObject/a.png"):
        save(root / path, np.asarray(Image.open(root / path)), voc_palette())
    conversion = read_voc(root)
    assert objects(conversion) == {"a.jpg": [("bolt", 200), ("bolt", 375)]}
    assert codes(conversion) == codes_found
    for item in conversion.findings:
        mask = "SegmentationObject/a.png"
        assert item.message == MOSTLY_UNLABELLED.format(mask=mask, without=200 - labelled)


# ---- masks of numbers


def test_an_object_of_numbers_that_is_mostly_background_is_a_warning(tmp_path: Path) -> None:
    classes = numbers(0, 1)
    classes[FIRST][:3] = 1
    root = mask_png(tmp_path, {"a.png": numbers(1, 2)}, label="bolt\nnut")
    save(root / "classes/a.png", classes)
    conversion = read_mask_png(root)
    assert objects(conversion) == {"a.jpg": [("bolt", 200), ("bolt", 375)]}
    assert codes(conversion) == ["object_mostly_unlabelled"]
    without = int((classes[FIRST] == 0).sum())
    message = MOSTLY_UNLABELLED.format(mask="masks/a.png", without=without)
    assert conversion.findings[0].message == message


def test_one_white_mask_of_two_objects_is_a_warning(tmp_path: Path) -> None:
    conversion = read_mask_png(CASES / "K02-semantic-255")
    assert objects(conversion) == {f"p{number}.jpg": [("object", 1800)] for number in range(3)}
    assert codes(conversion) == ["mask_several_pieces", "classes_guessed"]
    assert "one value, 255, 2 pieces" in conversion.findings[0].message
    assert conversion.findings[0].severity == "warning"
    desk = check_dataset(
        copy_case("K02-semantic-255", tmp_path / "data"),
        tmp_path / "output",
        CheckDataset__convert__enable=True,
        CheckDataset__convert__src_dataset_type="MaskPNG",
    )
    assert desk.exit_code == 0
    assert "one value, 255, 2 pieces" in desk.messages("mask_several_pieces")[0]


def mask_png(root: Path, masks: dict[str, np.ndarray], label: str = "bolt") -> Path:
    save_image(root / "images/a.jpg", SIZE)
    for name, values in masks.items():
        save(root / "masks" / name, values)
    (root / "label.txt").write_text(f"{label}\n")
    return root


@pytest.mark.parametrize(
    ("masks", "warns"),
    [
        ({"a.png": numbers(1, 1)}, True),
        ({"a.png": numbers(1, 2)}, False),
        ({"a.png": numbers(1, 0)}, False),
        ({"a/bolt.png": numbers(255, 255)}, True),
        ({"a/bolt_1.png": numbers(255, 255)}, False),
        ({"a/bolt_1.png": numbers(255, 0), "a/bolt_2.png": numbers(0, 255)}, False),
    ],
    ids=["value 1", "two numbers", "one piece", "file of a class", "numbered file in two parts", "two files"],
)
def test_several_pieces_are_a_warning_where_a_mask_looks_like_a_class(
    masks: dict[str, np.ndarray], warns: bool, tmp_path: Path
) -> None:
    conversion = read_mask_png(mask_png(tmp_path, masks))
    assert codes(conversion) == ["mask_several_pieces"] * warns
    assert sum(area for _, area in objects(conversion)["a.jpg"]) in (575, 200)


def test_numbers_that_mostly_cover_several_pieces_are_a_warning(tmp_path: Path) -> None:
    values = np.zeros(SIZE, np.uint8)
    for place, value in enumerate((1, 2, 1, 2)):
        values[5:15, 2 + 14 * place : 12 + 14 * place] = value
    conversion = read_mask_png(mask_png(tmp_path, {"a.png": values}))
    assert objects(conversion) == {"a.jpg": [("bolt", 200), ("bolt", 200)]}
    assert codes(conversion) == ["mask_several_pieces"]
    assert "2 of 2 object numbers" in conversion.findings[0].message


def test_specks_are_not_pieces(tmp_path: Path) -> None:
    values = numbers(255, 0)
    values[38, 58] = 255
    assert codes(read_mask_png(mask_png(tmp_path, {"a.png": values}))) == []


RESAMPLING = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS]


def two_of_each(first: int, second: int) -> np.ndarray:
    """Two objects with the one and two with the other number; one of each touches."""
    values = np.zeros((64, 96), np.uint8)
    values[5:20, 7:28], values[5:20, 28:45] = first, second
    values[32:51, 11:40], values[33:56, 61:90] = second, first
    return values


@pytest.mark.parametrize("size", [(149, 97), (191, 127), (301, 211), (67, 45), (43, 31)])
@pytest.mark.parametrize("numbers", [(10, 200), (9, 1), (60, 120)])
@pytest.mark.parametrize("resample", RESAMPLING)
def test_a_smoothed_mask_is_an_error_not_a_hundred_objects(
    numbers: tuple[int, int], size: tuple[int, int], resample: Image.Resampling, tmp_path: Path
) -> None:
    smoothed = np.asarray(Image.fromarray(two_of_each(*numbers)).resize(size, resample))
    root = mask_png(tmp_path, {"a.png": smoothed})
    save_image(root / "images/a.jpg", smoothed.shape)
    conversion = read_mask_png(root)
    assert objects(conversion) == {}
    assert codes(conversion) == ["mask_interpolated"]
    assert "along the edges" in conversion.findings[0].message


def test_a_smoothed_mask_of_many_numbers_is_noticed_though_no_value_is_new(tmp_path: Path) -> None:
    grid = np.pad(np.kron(np.arange(1, 51).reshape(5, 10), np.ones((7, 7), int)), 4).astype(np.uint8)
    sharp = Image.fromarray(grid)
    for filter, expected in (
        (Image.Resampling.NEAREST, []),
        (Image.Resampling.BILINEAR, ["mask_interpolated"]),
    ):
        root = mask_png(tmp_path / filter.name, {"a.png": np.asarray(sharp.resize((117, 64), filter))})
        save_image(root / "images/a.jpg", (64, 117))
        assert codes(read_mask_png(root)) == expected


def test_a_blurred_white_object_is_cut_at_half(tmp_path: Path) -> None:
    smoothed = Image.fromarray(numbers(255, 0)).resize((120, 80), Image.Resampling.BILINEAR)
    blurred = smoothed.filter(ImageFilter.GaussianBlur(1))
    for number, image in enumerate((smoothed, blurred)):
        root = mask_png(tmp_path / str(number), {"a.png": np.asarray(image)})
        save_image(root / "images/a.jpg", (80, 120))
        conversion = read_mask_png(root)
        [(label, area)] = objects(conversion)["a.jpg"]
        assert label == "bolt" and abs(area - 800) <= 8  # the corners
        assert codes(conversion) == ["mask_soft_edges"]


def test_two_blurred_white_objects_are_one_with_a_warning(tmp_path: Path) -> None:
    smoothed = Image.fromarray(numbers(255, 255)).resize((90, 60), Image.Resampling.BICUBIC)
    root = mask_png(tmp_path, {"a.png": np.asarray(smoothed)})
    save_image(root / "images/a.jpg", (60, 90))
    assert codes(read_mask_png(root)) == ["mask_several_pieces", "mask_soft_edges"]


def test_a_blurred_mask_with_something_gray_apart_is_an_error(tmp_path: Path) -> None:
    smoothed = np.array(Image.fromarray(numbers(255, 0)).resize((90, 60), Image.Resampling.BILINEAR))
    smoothed[50, 70:72] = 40
    root = mask_png(tmp_path, {"a.png": smoothed})
    save_image(root / "images/a.jpg", (60, 90))
    assert codes(read_mask_png(root)) == ["mask_interpolated"]


def test_a_mask_saved_as_jpeg_is_named(tmp_path: Path) -> None:
    root = mask_png(tmp_path, {"a.jpg": numbers(1, 2)})
    conversion = read_mask_png(root)
    assert codes(conversion) == ["mask_interpolated"]
    assert "masks/a.jpg: the mask was saved as JPEG" in conversion.findings[0].message
    (root / "masks/a.jpg").rename(root / "masks/a.png")
    assert codes(read_mask_png(root)) == ["mask_interpolated"]


def test_soft_edges_of_a_mask_of_one_object_are_cut_at_the_middle(tmp_path: Path) -> None:
    values = numbers(255, 0)
    values[15, 5:25], values[4, 5:25] = 100, 200
    conversion = read_mask_png(mask_png(tmp_path, {"a/bolt_1.png": values}))
    assert objects(conversion) == {"a.jpg": [("bolt", 220)]}
    assert codes(conversion) == ["mask_soft_edges"]


def test_many_small_objects_are_not_taken_for_smoothing(tmp_path: Path) -> None:
    values = np.zeros(SIZE, np.uint8)
    values[10:35, 10:50] = 1
    for place in range(20):
        values[2, 3 * place : 3 * place + 2] = place + 2
    conversion = read_mask_png(mask_png(tmp_path, {"a.png": values}))
    assert len(objects(conversion)["a.jpg"]) == 21 and conversion.findings == ()


def test_a_thin_object_with_borders_of_255_is_not_taken_for_smoothing(tmp_path: Path) -> None:
    ring = np.zeros(SIZE, np.uint8)
    ring[10:17, 10:17] = 1
    ring[12:15, 12:15] = 0
    cross = ndimage.generate_binary_structure(2, 1)
    border = ndimage.binary_dilation(ring, cross) & (ring == 0)
    ring[border] = 255
    root = cvat_export(tmp_path, "background:0,0,0::\nbolt:128,0,0::\n", ring, ring)
    for path in ("SegmentationClass/a.png", "SegmentationObject/a.png"):
        save(root / path, ring, voc_palette())
    conversion = read_voc(root)
    assert objects(conversion) == {"a.jpg": [("bolt", 40)]} and codes(conversion) == []


def test_sharp_masks_of_touching_objects_are_not_taken_for_smoothing(tmp_path: Path) -> None:
    places = np.random.default_rng(1).random((1200, 2)) * 120
    rows, columns = np.mgrid[:120, :120]
    nearest = cKDTree(places).query(np.stack([rows.ravel(), columns.ravel()], axis=1))[1]
    cells = (nearest + 1).reshape(120, 120).astype(np.uint16)
    in_order = np.kron(np.arange(1, 401).reshape(20, 20), np.ones((6, 6), int)).astype(np.uint16)
    pairs = np.kron(np.arange(1, 3601).reshape(60, 60), np.ones((2, 2), int)).astype(np.uint16)
    crack = np.zeros((120, 120), np.uint16)
    crack[10:80, 12:90], crack[10:80, 10:12] = 2, 1
    for number, values in enumerate((cells, in_order, pairs, crack)):
        root = mask_png(tmp_path / str(number), {"a.png": values})
        save_image(root / "images/a.jpg", (120, 120))
        conversion = read_mask_png(root)
        assert codes(conversion) == []
        assert len(objects(conversion)["a.jpg"]) == len(np.unique(values[values > 0]))


def test_colours_and_high_numbers_are_objects(tmp_path: Path) -> None:
    root = mask_png(tmp_path, {"a.png": coloured((1, 2, 3), (250, 0, 7))})
    conversion = read_mask_png(root)
    assert objects(conversion) == {"a.jpg": [("bolt", 200), ("bolt", 375)]}
    assert codes(conversion) == ["mask_colours"]
    save(root / "masks/a.png", numbers(60000, 300, np.uint16))
    conversion = read_mask_png(root)
    assert objects(conversion) == {"a.jpg": [("bolt", 375), ("bolt", 200)]} and conversion.findings == ()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((60, 40), "exchanged"), ((20, 30), "resized"), ((41, 60), "resized or replaced")],
    ids=["swapped", "half", "another"],
)
def test_a_mask_of_another_size_is_explained(shape: tuple[int, int], expected: str, tmp_path: Path) -> None:
    values = np.zeros(shape, np.uint8)
    values[2:9, 3:8] = 1
    conversion = read_mask_png(mask_png(tmp_path, {"a.png": values}))
    assert codes(conversion) == ["source_unreadable"]
    assert expected in conversion.findings[0].message


# ---- names of masks


def test_masks_with_a_suffix_are_recognised() -> None:
    conversion = read_mask_png(CASES / "K03-mask-suffix")
    assert objects(conversion) == {f"p{number}.jpg": [("bolt", 1200), ("bolt", 600)] for number in range(3)}
    assert codes(conversion) == ["mask_names_matched"]
    assert "p0_mask.png to p0.jpg" in conversion.findings[0].message


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "masks/{}_seg.png",
            "masks/{}-mask.png",
            "masks/{}.jpg.png",
            "masks/{}_label.png",
            "masks/{}_gt.png",
        ),
        *("masks/mask_{}.png", "masks/{}_GT_mask.PNG", "labels/{}.png", "mask/{}_instanceIds.png"),
        *("annotations/{}.png", "Masks/{}.tif", "masks/{}.bmp", "images/{}_mask.png"),
    ],
)
def test_other_names_of_masks_are_recognised(pattern: str, tmp_path: Path) -> None:
    root = copy_case("K03-mask-suffix", tmp_path / "data")
    for number in range(3):
        target = root / pattern.format(f"p{number}")
        target.parent.mkdir(exist_ok=True)
        Image.open(root / f"masks/p{number}_mask.png").save(target)
        (root / f"masks/p{number}_mask.png").unlink()
    conversion = read_mask_png(root)
    assert objects(conversion) == {f"p{number}.jpg": [("bolt", 1200), ("bolt", 600)] for number in range(3)}
    assert not {item.severity for item in conversion.findings} & {"error", "warning"}


def test_words_in_the_names_of_images_are_left_out_too(tmp_path: Path) -> None:
    root = mask_png(tmp_path, {"mask_001.png": numbers(), "mask_002.png": numbers()})
    (root / "images/a.jpg").unlink()
    for number in (1, 2):
        save_image(root / f"images/image_00{number}.jpg", SIZE)
    found = objects(read_mask_png(root))
    assert {name: len(items) for name, items in found.items()} == {"image_001.jpg": 2, "image_002.jpg": 2}


def test_a_mask_that_fits_two_images_is_not_given_to_one_of_them(tmp_path: Path) -> None:
    root = mask_png(tmp_path, {"a_mask.png": numbers()})
    save_image(root / "images/a_image.jpg", SIZE)
    conversion = read_mask_png(root)
    assert objects(conversion) == {"a.jpg": [], "a_image.jpg": []}
    assert codes(conversion) == ["image_missing", "image_without_labels"]
    assert "masks/a.png for images/a.jpg" in conversion.findings[0].hint


def test_masks_of_single_objects_beside_each_other(tmp_path: Path) -> None:
    root = mask_png(tmp_path, {"a_bolt_1.png": numbers(255, 0), "a_nut_1.png": numbers(0, 255)}, "bolt\nnut")
    conversion = read_mask_png(root)
    assert objects(conversion) == {"a.jpg": [("bolt", 200), ("nut", 375)]}
    assert codes(conversion) == ["mask_names_matched"]
    for name in ("bolt", "nut"):
        (root / f"masks/a_{name}_1.png").rename(root / f"masks/a_{len(name)}.png")
    (root / "label.txt").write_text("bolt\n")
    assert objects(read_mask_png(root)) == {"a.jpg": [("bolt", 375), ("bolt", 200)]}


@pytest.mark.parametrize(
    "second", ["masks/a.tif", "masks/a/bolt_1.png"], ids=["two files", "a file and a folder"]
)
def test_two_masks_of_one_image_are_a_finding(second: str, tmp_path: Path) -> None:
    root = mask_png(tmp_path, {"a.png": numbers()})
    save(root / second, numbers())
    conversion = read_mask_png(root)
    assert objects(conversion) == {}
    assert codes(conversion) == ["source_shared"]


def test_two_images_of_one_mask_are_a_finding(tmp_path: Path) -> None:
    root = mask_png(tmp_path, {"a.png": numbers()})
    save_image(root / "images/a.bmp", SIZE)
    conversion = read_mask_png(root)
    assert objects(conversion) == {}
    assert codes(conversion) == ["source_shared"]


def test_lists_of_paddleseg_name_image_and_mask(tmp_path: Path) -> None:
    root = mask_png(tmp_path, {"x 1.png": numbers()})
    save_image(root / "images/b c.jpg", SIZE)
    (root / "train.txt").write_bytes(b"images/a.jpg masks/x 1.png\r\n\r\nimages/gone.jpg masks/x 1.png\r\n")
    (root / "val.txt").write_text("images/b c.jpg masks/lost.png\n")
    conversion = read_mask_png(root)
    assert objects(conversion) == {"a.jpg": [("bolt", 200), ("bolt", 375)]}
    assert codes(conversion) == ["list_entry_missing", "list_entry_missing", "image_without_labels"]


def test_images_with_masks_in_no_list_are_counted(tmp_path: Path) -> None:
    root = mask_png(tmp_path, {"a.png": numbers(), "b.png": numbers()})
    save_image(root / "images/b.jpg", SIZE)
    (root / "train.txt").write_text("a.jpg\n")
    conversion = read_mask_png(root)
    assert sorted(objects(conversion)) == ["a.jpg"]
    assert codes(conversion) == ["source_unlisted"]


def test_pictures_of_eiseg_are_no_masks_and_its_gray_masks_show_classes(tmp_path: Path) -> None:
    root = mask_png(tmp_path, {})
    save(root / "label/a.png", numbers(1, 1))
    save(root / "label/a_pseudo.png", coloured((128, 0, 0), (0, 128, 0)))
    save(root / "label/a_cutout.png", coloured((9, 8, 7), (6, 5, 4)))
    conversion = read_mask_png(root)
    assert objects(conversion) == {"a.jpg": [("bolt", 575)]}
    assert codes(conversion) == ["mask_not_read", "mask_several_pieces"]


def test_polygons_of_eiseg_beside_its_gray_mask_are_the_objects(tmp_path: Path) -> None:
    root = mask_png(tmp_path, {}, "bolt\nnut")
    save(root / "label/a.png", numbers(1, 1))
    squares = [
        ("bolt", [[5, 5], [25, 5], [25, 15], [5, 15]]),
        ("nut", [[30, 20], [55, 20], [55, 35], [30, 35]]),
    ]
    entries = [
        {"name": name, "labelIdx": 1, "color": [1, 2, 3], "points": points} for name, points in squares
    ]
    (root / "label/a.json").write_text(json.dumps(entries))
    conversion = read_mask_png(root)
    assert objects(conversion) == {"a.jpg": [("bolt", 200), ("nut", 375)]}
    assert codes(conversion) == ["mask_not_read"]
    (root / "label/a.json").write_text('[{"points": 1}]')
    assert codes(read_mask_png(root)) == ["source_unreadable"]


def test_coco_panoptic_is_named(tmp_path: Path) -> None:
    root = mask_png(tmp_path, {"a.png": numbers()})
    (root / "annotations").mkdir()
    (root / "annotations/panoptic_train2017.json").write_text("{}")
    with pytest.raises(DatasetError, match="COCO panoptic"):
        read_mask_png(root)


# ---- Label Studio, Brush labels to PNG


def brush_export(root: Path, image: str = "/data/upload/1/0a1b2c3d-a.jpg") -> Path:
    save_image(root / "images/a.jpg", SIZE)
    for name, values in (
        ("tag-bolt-0", numbers(255, 0)),
        ("tag-bolt-1", numbers(0, 255)),
        ("tag-hex-nut-0", numbers(255, 255)),
    ):
        save(root / f"task-12-annotation-34-by-me@x.org-{name}.png", values)
    results = [
        {
            "from_name": "tag",
            "type": "brushlabels",
            "value": {"format": "rle", "rle": [], "brushlabels": labels},
        }
        for labels in (["bolt"], ["bolt"], ["hex-nut"])
    ]
    tasks = [{"id": 12, "data": {"image": image}, "annotations": [{"id": 34, "result": results}]}]
    (root / "project-1.json").write_text(json.dumps(tasks))
    return root


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/1/0a1b2c3d-a.jpg",
        "https://host/images/a.jpg?x=1",
        "/data/local-files/?d=mine/a.jpg",
        "a.jpg",
    ],
)
def test_brush_masks_of_label_studio_go_to_the_image_of_their_task(image: str, tmp_path: Path) -> None:
    conversion = read_mask_png(brush_export(tmp_path, image))
    assert objects(conversion) == {"a.jpg": [("bolt", 200), ("bolt", 375), ("hex-nut", 575)]}
    assert codes(conversion) == ["mask_several_pieces"]


def test_brush_masks_without_the_json_export_say_what_to_add(tmp_path: Path) -> None:
    root = brush_export(tmp_path)
    (root / "project-1.json").unlink()
    with pytest.raises(DatasetError, match="Export the same project from Label Studio as JSON too"):
        read_mask_png(root)


def test_a_missing_image_a_missing_brush_and_a_second_annotation_are_findings(tmp_path: Path) -> None:
    root = brush_export(tmp_path)
    (root / "task-12-annotation-34-by-me@x.org-tag-bolt-1.png").unlink()
    conversion = read_mask_png(root)
    assert "2 brush PNGs for task 12, but the JSON export has 3" in conversion.findings[0].message
    save(root / "task-12-annotation-35-by-2-tag-bolt-0.png", numbers(255, 0))
    conversion = read_mask_png(root)
    assert objects(conversion) == {} and codes(conversion) == ["source_shared"]
    (root / "images/a.jpg").rename(root / "images/b.jpg")
    conversion = read_mask_png(root)
    assert objects(conversion) == {} and codes(conversion) == ["image_missing"]


def test_the_short_json_export_of_label_studio_is_enough(tmp_path: Path) -> None:
    root = brush_export(tmp_path)
    task = {
        "id": 12,
        "image": "/data/upload/1/0a1b2c3d-a.jpg",
        "my-tag": [{"format": "rle", "rle": [], "brushlabels": ["hex-nut"]}],
    }
    (root / "project-1.json").write_text(json.dumps([task]))
    for path in root.glob("task-*.png"):
        path.unlink()
    save(root / "masks/task-12-annotation-34-by--my-tag-hex-nut-0.png", numbers(255, 0))
    conversion = read_mask_png(root)
    assert objects(conversion) == {"a.jpg": [("hex-nut", 200)]} and conversion.findings == ()


def test_a_mask_that_only_alpha_shows_is_read(tmp_path: Path) -> None:
    save_image(tmp_path / "images/p.jpg", (64, 96))
    pixels = np.zeros((64, 96, 4), np.uint8)
    pixels[10:40, 10:50, 3] = 255
    save(tmp_path / "masks/p.png", pixels)
    assert [len(coco.annotations) for coco in read_mask_png(tmp_path).splits.values()] == [1]


def test_a_brush_label_is_read_as_the_listed_one_of_another_case(tmp_path: Path) -> None:
    root = brush_export(tmp_path)
    (root / "label.txt").write_text("Bolt\n")
    conversion = read_mask_png(root)
    assert objects(conversion) == {"a.jpg": [("Bolt", 200), ("Bolt", 375)]}
    assert codes(conversion) == ["mask_several_pieces", "label_spelling", "label_unknown"]


@pytest.mark.parametrize("name", ["a/bolt_1.png", "a/bolt/1.png", "a_BOLT_1.png", "a_bolt_1.png"])
def test_a_label_of_a_mask_is_read_as_the_listed_one_of_another_case(name: str, tmp_path: Path) -> None:
    masks = {name: numbers(255, 0), name.replace("1", "2"): numbers(0, 255)}
    conversion = read_mask_png(mask_png(tmp_path, masks, label="Bolt"))
    assert objects(conversion) == {"a.jpg": [("Bolt", 200), ("Bolt", 375)]}
    assert [item.message for item in conversion.findings if item.code == "label_spelling"] == [
        f"2 masks have the label '{'BOLT' if 'BOLT' in name else 'bolt'}', which was read as 'Bolt'"
    ]
