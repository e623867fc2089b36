from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from paddlex_seg.data.checks import CheckReport, check
from paddlex_seg.data.coco import write_coco
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord


def split(name: str, folder: Path, **changes: Any) -> None:
    """A split of one picture with one object, written to ``folder`` with some of its parts replaced."""
    parts: dict[str, Any] = {
        "images": (ImageRecord(1, f"{name}.png", width=12, height=8),),
        "annotations": (Annotation(1, 1, 1, [[1, 1, 6, 1, 6, 5]]),),
        "categories": (Category(1, "nut"), Category(2, "pin")),
    }
    path = folder / "annotations" / f"instance_{name}.json"
    write_coco(CocoFile(path, **{**parts, **changes}), path)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("train", "val"):
        Image.new("RGB", (12, 8)).save(tmp_path / "images" / f"{name}.png")
        split(name, tmp_path)
    return tmp_path


def codes(report: CheckReport) -> list[tuple[str, str]]:
    return [(finding.code, finding.severity) for finding in report.findings]


def test_a_sound_data_set_has_no_findings(dataset: Path) -> None:
    report = check(dataset)
    assert report.findings == ()
    assert report.train.images[0].file_name == "train.png"
    assert report.val.images[0].file_name == "val.png"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"images": (), "annotations": ()}, "split_has_pictures"),
        ({"images": (ImageRecord(1, "none.png", 12, 8),)}, "pictures_are_readable"),
        ({"images": (ImageRecord(1, "../secret.png", 12, 8),)}, "pictures_are_readable"),
        ({"images": (ImageRecord(1, "val.png", 8, 12),)}, "pictures_have_the_listed_size"),
        ({"categories": (Category(1, "pin"), Category(2, "nut"))}, "splits_share_categories"),
        (
            {"images": (ImageRecord(1, "val.png", 12, 8), ImageRecord(2, "val.png", 12, 8))},
            "file_names_are_unique",
        ),
    ],
    ids=["no pictures", "missing", "outside", "wrong size", "other categories", "listed twice"],
)
def test_an_unusable_split_is_an_error(dataset: Path, changes: dict[str, Any], code: str) -> None:
    split("val", dataset, **changes)
    (error,) = check(dataset).errors
    assert error.code == code
    assert error.file == "instance_val.json"
    assert error.message
    assert error.hint.endswith(".")


def test_a_split_without_annotations_is_an_error(dataset: Path) -> None:
    split("train", dataset, annotations=())
    assert codes(check(dataset)) == [("split_has_annotations", "error"), ("pictures_have_objects", "info")]


def test_a_picture_without_objects_is_only_mentioned(dataset: Path) -> None:
    Image.new("RGB", (12, 8)).save(dataset / "images" / "empty.png")
    images = (ImageRecord(1, "train.png", 12, 8), ImageRecord(2, "empty.png", 12, 8))
    split("train", dataset, images=images)
    report = check(dataset)
    assert codes(report) == [("pictures_have_objects", "info")]
    assert "1 of 2 pictures have no annotation (empty.png)" in report.findings[0].message
    assert report.errors == ()


def test_classes_of_one_name_are_an_error(dataset: Path) -> None:
    for name in ("train", "val"):
        split(name, dataset, categories=(Category(1, "nut"), Category(2, "nut")))
    assert codes(check(dataset)) == [("category_names_are_unique", "error")] * 2


def test_a_picture_that_is_no_picture_is_found_wherever_it_stands(dataset: Path) -> None:
    images = [ImageRecord(i, f"{i}.png", 12, 8) for i in range(1, 41)]
    for record in images:
        Image.new("RGB", (12, 8)).save(dataset / "images" / record.file_name)
    (dataset / "images" / "37.png").write_bytes(b"")
    annotations = tuple(Annotation(i, i, 1, [[1, 1, 6, 1, 6, 5]]) for i in range(1, 41))
    split("train", dataset, images=tuple(images), annotations=annotations)
    (finding,) = check(dataset).findings
    assert (finding.code, finding.image_id) == ("pictures_are_readable", 37)
    assert "37.png" in finding.message


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(8, 12, []), (12, 8, [("pictures_are_listed_upright", "warning")])],
    ids=["as shown", "as stored"],
)
def test_either_exif_frame_is_accepted(dataset: Path, width: int, height: int, expected: list[Any]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (12, 8)).save(dataset / "images" / "turned.jpg", exif=exif)
    split("train", dataset, images=(ImageRecord(1, "turned.jpg", width=width, height=height),))
    assert codes(check(dataset)) == expected


def test_structural_problems_of_both_files_are_in_one_message(dataset: Path) -> None:
    (dataset / "annotations" / "instance_train.json").write_text("{}")
    (dataset / "annotations" / "instance_val.json").unlink()
    with pytest.raises(DatasetError) as caught:
        check(dataset)
    assert "'images' is missing" in str(caught.value)
    assert "instance_val.json: the file does not exist" in str(caught.value)
