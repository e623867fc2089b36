from pathlib import Path

import numpy as np
import pytest
from converted import labelled_masks, save_image
from PIL import Image

from paddlex_seg.data.formats.conversion import Conversion
from paddlex_seg.data.formats.labelme.read import read_labelme
from paddlex_seg.data.formats.voc import read_voc
from paddlex_seg.errors import DatasetError


def save_mask(path: Path, values: np.ndarray, mode: str = "P") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([7 * value % 256 for value in range(768)])
    image.save(path)


def make_image(root: Path, stem: str = "a", objects: dict[int, int] | None = None, mode: str = "P") -> None:
    """An image with one square per object number, each with the given class and a border of value 255."""
    save_image(root / f"JPEGImages/{stem}.jpg")
    numbers, classes = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    for place, (number, value) in enumerate((objects or {1: 1}).items()):
        outer, inner = (
            (slice(4, 16), slice(10 * place, 10 * place + 9)),
            np.s_[5:15, 10 * place + 1 : 10 * place + 8],
        )
        numbers[outer] = classes[outer] = 255
        numbers[inner], classes[inner] = number, value
    save_mask(root / f"SegmentationObject/{stem}.png", numbers, mode)
    save_mask(root / f"SegmentationClass/{stem}.png", classes, mode)


def name_the_classes(root: Path) -> None:
    (root / "class_names.txt").write_text("_background_\naeroplane\n")


def labels(conversion: Conversion, split: str = "all") -> dict[str, list[str]]:
    return {
        name: [label for label, _ in items]
        for name, items in labelled_masks(conversion.splits[split]).items()
    }


def test_real_objects_have_the_pixels_of_their_png_and_the_right_classes(shared_dir: Path) -> None:
    root = shared_dir / "data/voc_examples"
    conversion = read_voc(root)
    coco = conversion.splits["all"]
    assert conversion.findings == () and list(conversion.splits) == ["all"]
    assert (len(coco.categories), coco.categories[4].name, coco.categories[4].id) == (20, "bottle", 5)
    assert labels(conversion) == {
        "2011_000003.jpg": ["person", "person", "bottle"],
        "2011_000006.jpg": ["person", "person", "person", "chair", "person", "sofa"],
        "2011_000025.jpg": ["bus", "bus", "car"],
    }
    for name, items in labelled_masks(coco).items():
        numbers = np.asarray(Image.open(root / "SegmentationObject" / f"{Path(name).stem}.png"))
        present = [number for number in np.unique(numbers) if number not in (0, 255)]
        assert len(items) == len(present)
        for (_, mask), number in zip(items, present, strict=True):
            np.testing.assert_array_equal(mask, numbers == number)
    assert all(isinstance(item.segmentation["counts"], str) for item in coco.annotations)
    assert conversion.images["2011_000003.jpg"] == root / "JPEGImages/2011_000003.jpg"


def test_real_objects_lie_where_labelmes_polygons_of_the_same_images_lie(shared_dir: Path) -> None:
    """LabelMe's PNGs have outlines of one pixel, and later objects cover earlier ones: IoU is below 1."""
    drawn = labelled_masks(
        read_labelme(shared_dir / "data/labelme_examples/instance_segmentation").splits["all"]
    )
    polygons = {Path(name).name: items for name, items in drawn.items()}
    for name, items in labelled_masks(read_voc(shared_dir / "data/voc_examples").splits["all"]).items():
        for (label, mask), (other_label, other) in zip(items, polygons[name], strict=True):
            assert label == other_label
            assert (mask & other).sum() / (mask | other).sum() > 0.93


@pytest.mark.parametrize("mode", ["P", "L"], ids=["palette", "gray"])
def test_numbers_may_have_gaps_and_255_is_no_object(tmp_path: Path, mode: str) -> None:
    make_image(tmp_path, objects={7: 5, 2: 15, 200: 1}, mode=mode)
    conversion = read_voc(tmp_path)
    assert labels(conversion) == {"a.jpg": ["person", "bottle", "aeroplane"]}
    assert [item.area for item in conversion.splits["all"].annotations] == [70, 70, 70]
    assert [category.name for category in conversion.splits["all"].categories][-1] == "tvmonitor"


def test_class_is_the_commonest_inside_the_object(tmp_path: Path) -> None:
    make_image(tmp_path, objects={1: 5})
    path = tmp_path / "SegmentationClass/a.png"
    classes = np.asarray(Image.open(path)).copy()
    classes[5:7], classes[7:14] = 15, 255  # void is most frequent, then bottle
    classes[13:15, 1:8] = 5
    classes[5, 1:8] = 5
    save_mask(path, classes)
    assert labels(read_voc(tmp_path)) == {"a.jpg": ["bottle"]}


@pytest.mark.parametrize(
    "lines",
    [
        ["bolt", "washer"],
        ["_background_", "bolt", "washer"],
        ["__ignore__", "_background_", "bolt", "washer"],
    ],
    ids=["names alone", "with background", "with ignore"],
)
def test_list_of_classes_counts_from_the_background(tmp_path: Path, lines: list[str]) -> None:
    make_image(tmp_path, objects={1: 2, 2: 1})
    (tmp_path / "class_names.txt").write_text("\n".join(lines))
    conversion = read_voc(tmp_path)
    assert labels(conversion) == {"a.jpg": ["washer", "bolt"]}
    assert [item.name for item in conversion.splits["all"].categories] == ["bolt", "washer"]
    assert [item.category_id for item in conversion.splits["all"].annotations] == [2, 1]


def test_class_beyond_the_list_is_a_finding(tmp_path: Path) -> None:
    make_image(tmp_path, objects={1: 2, 2: 9})
    (tmp_path / "labels.txt").write_text("bolt\nwasher\n")
    conversion = read_voc(tmp_path)
    assert labels(conversion) == {"a.jpg": ["washer"]}
    assert [item.code for item in conversion.findings] == ["label_unknown"]
    assert "object 2 has the class 9; expected 1..2" in conversion.findings[0].message


def test_image_sets_give_the_splits(tmp_path: Path) -> None:
    for stem in ("a", "b 1", "c"):
        make_image(tmp_path, stem)
    name_the_classes(tmp_path)
    sets = tmp_path / "ImageSets/Segmentation"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("c\nb 1\nlost\n")
    (sets / "val.txt").write_text("a\n")
    conversion = read_voc(tmp_path)
    names = {split: [record.file_name for record in coco.images] for split, coco in conversion.splits.items()}
    assert names == {"train": ["c.jpg", "b 1.jpg"], "val": ["a.jpg"]}
    assert [(item.code, item.file) for item in conversion.findings] == [
        ("list_entry_missing", "ImageSets/Segmentation/train.txt")
    ]
    assert "1 of 3 entries" in conversion.findings[0].message and "'lost'" in conversion.findings[0].message


def test_boxes_without_masks_are_a_finding(tmp_path: Path) -> None:
    make_image(tmp_path)
    name_the_classes(tmp_path)
    save_image(tmp_path / "JPEGImages/b.jpg")
    save_image(tmp_path / "JPEGImages/c.jpg")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/b.xml").write_text(
        "<annotation><object>1</object><object>2</object></annotation>"
    )
    conversion = read_voc(tmp_path)
    assert labels(conversion) == {"a.jpg": ["aeroplane"]}
    assert [(item.code, item.file) for item in conversion.findings] == [
        ("image_unreferenced", "JPEGImages"),
        ("shape_without_area", "Annotations/b.xml"),
    ]
    assert (
        "2 boxes" in conversion.findings[1].message
        and "boxes are not masks" in conversion.findings[1].message
    )


def test_one_bad_mask_among_good_ones_is_a_finding(tmp_path: Path) -> None:
    for stem in ("a", "b", "c", "d", "e"):
        make_image(tmp_path, stem)
    name_the_classes(tmp_path)
    (tmp_path / "SegmentationObject/b.png").write_bytes(b"no png")
    (tmp_path / "SegmentationClass/c.png").unlink()
    save_mask(tmp_path / "SegmentationObject/d.png", np.zeros((40, 61), np.uint8))
    (tmp_path / "JPEGImages/e.jpg").unlink()
    conversion = read_voc(tmp_path)
    assert labels(conversion) == {"a.jpg": ["aeroplane"]}
    assert [(item.code, item.file) for item in conversion.findings] == [
        ("source_unreadable", "SegmentationObject/b.png"),
        ("source_unreadable", "SegmentationObject/c.png"),
        ("source_unreadable", "SegmentationObject/d.png"),
        ("image_missing", "SegmentationObject/e.png"),
    ]


def test_no_masks_at_all_is_an_error(tmp_path: Path) -> None:
    save_image(tmp_path / "JPEGImages/a.jpg")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/a.xml").write_text("<annotation/>")
    with pytest.raises(DatasetError, match="boxes in Annotations/ are not masks"):
        read_voc(tmp_path)
