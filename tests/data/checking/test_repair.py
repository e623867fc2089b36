import json
import os
from pathlib import Path

import numpy as np
import pytest
from planted import PLANTS, Planted, write_sound_dataset
from pycocotools import mask as mask_tools

from paddlex_seg.data.checking.check import check
from paddlex_seg.data.checking.repair.__main__ import main
from paddlex_seg.data.checking.repair.repaired_copy import repair_dataset
from paddlex_seg.data.checking.repair.undo import undo_repair
from paddlex_seg.data.coco.read import load_document, read_coco
from paddlex_seg.data.findings import KINDS
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import annotation_to_rle

REPAIRED = [code for code, kind in KINDS.items() if kind.repair and code in PLANTS]
LEFT = [code for code, kind in KINDS.items() if not kind.repair and code in PLANTS]
UNREADABLE = {"json_missing", "json_unreadable", "json_top_level", "key_missing"}
# The copy has only listed images and used files, is never nested, and is UTF-8.
REWRITTEN = {
    "image_unreferenced",
    "annotation_file_twin",
    "dataset_nested",
    "json_encoding",
    "json_encoding_guessed",
}

# Variants that only a person can repair.
UNDECIDABLE = {
    ("image_entry_invalid", 2),  # no file name
    ("annotation_entry_invalid", 0),
    ("annotation_entry_invalid", 1),
    ("annotation_entry_invalid", 2),
    ("category_id_duplicate", 0),  # one id, two names
    ("category_id_duplicate", 1),
    ("category_id_duplicate", 2),
    *(("image_id_duplicate", variant) for variant in range(3)),  # one id, two images
    *(("image_id_dangling", variant) for variant in range(3)),  # a number of no record, not a name
    *(("category_id_dangling", variant) for variant in range(3)),
    ("image_missing", 0),  # there is no file
    ("image_missing", 1),
    ("file_name_outside", 0),  # the image file is outside the data set
    ("file_name_outside", 1),
    ("file_name_outside", 2),
    ("polygon_odd", 1),  # box and area do not prove that the last number is too much
    ("polygon_odd", 2),
    ("rle_size_mismatch", 1),  # no reading of the counts fits the image
    ("rle_size_mismatch", 2),
    ("rle_damaged", 0),  # more than the last run is missing
    ("rle_damaged", 2),
}


def planted_at(folder: Path, code: str, variant: int) -> Planted:
    planted = write_sound_dataset(folder)
    PLANTS[code][variant](planted)
    planted.save()
    return planted


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("at", [".", "images/.."])
def test_the_copy_is_beside_a_data_set_that_is_named_by_dots(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_sound_dataset(tmp_path / "data").root
    monkeypatch.chdir(root / Path(at).parent)
    repair = repair_dataset(Path(Path(at).name or "."))
    assert repair.root == tmp_path / "data_fixed"
    assert contents(repair.root / "images")


@pytest.mark.parametrize("variant", range(3))
@pytest.mark.parametrize("code", REPAIRED)
def test_a_repair_removes_its_defect_and_can_be_undone(tmp_path: Path, code: str, variant: int) -> None:
    planted = planted_at(tmp_path / "data", code, variant)
    before = contents(planted.root)
    repair = repair_dataset(planted.root)
    assert repair.root == tmp_path / "data_fixed"
    assert contents(planted.root) == before
    report = check(repair.root)
    if (code, variant) in UNDECIDABLE:
        assert report.counts[code]
    else:
        assert repair.counts[code]
        assert code not in report.counts
        assert not report.errors
    for name, document in undo_repair(repair.root).items():
        original = load_document(planted.root / "annotations" / name)
        assert json.dumps(document) == json.dumps(original)


@pytest.mark.parametrize("code", sorted(set(LEFT) - UNREADABLE))
def test_a_defect_without_a_safe_repair_is_kept_and_still_reported(tmp_path: Path, code: str) -> None:
    planted = planted_at(tmp_path / "data", code, 0)
    repair = repair_dataset(planted.root)
    assert code not in repair.counts
    if code not in REWRITTEN:
        assert check(repair.root).counts[code] == check(planted.root).counts[code]


@pytest.mark.parametrize("code", REPAIRED)
def test_a_second_repair_changes_nothing(tmp_path: Path, code: str) -> None:
    planted = planted_at(tmp_path / "data", code, 0)
    first = repair_dataset(planted.root)
    before = contents(first.root)
    again = repair_dataset(planted.root)
    assert (first.written, again.written) == (True, False)
    of_copy = repair_dataset(first.root, tmp_path / "copy of copy")
    assert not of_copy.counts
    assert contents(first.root) == before
    for name in ("instance_train.json", "instance_val.json"):
        copies = [load_document(repair.root / "annotations" / name) for repair in (first, of_copy)]
        assert copies[0] == copies[1]


def test_a_valid_data_set_is_copied_unchanged(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path / "data")
    repair = repair_dataset(planted.root)
    assert repair.counts == {}
    for split, document in planted.documents.items():
        assert load_document(repair.root / "annotations" / f"instance_{split}.json") == document
    images = {path.name for path in (planted.root / "images").iterdir()}
    assert {path.name for path in (repair.root / "images").iterdir()} == images


def test_every_defect_at_once_is_repaired_as_far_as_possible(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path / "data")
    planted.annotation("train", 0)["segmentation"] = planted.annotation("train", 0)["segmentation"][0]
    planted.annotation("train", 2)["bbox"] = [1, 2, -3, 4]
    planted.annotation("val", 1)["area"] = 1
    planted.annotation("val", 2)["segmentation"] = [[7, 6, 9, 6]]
    planted.annotation("val", 2)["bbox"] = [7, 6, 2, 0]
    planted.documents["val"]["categories"].reverse()
    os.truncate(planted.image_file("train", 3), 100)
    planted.save()
    repair = repair_dataset(planted.root)
    assert [item.code for item in check(repair.root).errors] == ["image_truncated"]
    assert "image_truncated" not in repair.counts
    assert set(repair.counts) >= {
        "polygon_flat_list",
        "bbox_negative",
        "area_mismatch",
        "polygon_is_box",
        "categories_differ_order",
    }
    for name, document in undo_repair(repair.root).items():
        assert json.dumps(document) == json.dumps(load_document(planted.root / "annotations" / name))


def test_classes_keep_their_objects_when_lists_are_joined(tmp_path: Path) -> None:
    planted = planted_at(tmp_path / "data", "categories_differ_names", 0)
    before = classes_of(planted.root)
    assert classes_of(repair_dataset(planted.root).root) == before


def classes_of(root: Path) -> dict[tuple[str, int], str]:
    found = {}
    for split in ("train", "val"):
        coco = read_coco(root / "annotations" / f"instance_{split}.json")
        names = {category.id: category.name for category in coco.categories}
        found |= {(split, item.id): names[item.category_id] for item in coco.annotations}
    return found


@pytest.mark.parametrize("variant", range(3))
def test_a_polygon_cut_at_the_image_border_covers_the_same_pixels(tmp_path: Path, variant: int) -> None:
    planted = planted_at(tmp_path / "data", "polygon_outside", variant)
    repaired = repair_dataset(planted.root).root
    for split in ("train", "val"):
        files = [
            read_coco(root / "annotations" / f"instance_{split}.json") for root in (planted.root, repaired)
        ]
        for old, new in zip(files[0].annotations, files[1].annotations, strict=True):
            first, second = (mask_tools.decode(annotation_to_rle(item, 72, 96)) for item in (old, new))
            union, common = (first | second).sum(), (first & second).sum()
            assert common / union > 0.99
            assert np.isclose(new.area, second.sum())


def test_a_self_intersecting_polygon_beyond_the_image_becomes_its_rasterised_mask(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path / "data")
    bow = [60.0, 20, 120, 60, 120, 20, 60, 60]
    planted.annotation("train", 0)["segmentation"] = [bow]
    planted.save()
    repaired = repair_dataset(planted.root).root
    old, new = (
        read_coco(root / "annotations" / "instance_train.json").annotations[0]
        for root in (planted.root, repaired)
    )
    masks = [mask_tools.decode(annotation_to_rle(item, 72, 96)) for item in (old, new)]
    assert (masks[0] == masks[1]).all()
    assert masks[0].sum() > 100


def test_a_file_name_outside_becomes_relative_if_its_file_is_inside(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path / "data")
    names = [planted.image(split)["file_name"] for split in ("train", "val")]
    planted.image("train")["file_name"] = str(planted.image_file("train").resolve())
    planted.image("val")["file_name"] = f"../images/{names[1]}"
    planted.save()
    assert check(planted.root).counts["file_name_outside"] == 2
    repaired = repair_dataset(planted.root).root
    found = [
        read_coco(repaired / "annotations" / f"instance_{split}.json").images[0].file_name
        for split in ("train", "val")
    ]
    assert found == names


def test_an_older_copy_is_kept(tmp_path: Path) -> None:
    planted = planted_at(tmp_path / "data", "area_mismatch", 0)
    target = tmp_path / "mine"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    repair = repair_dataset(planted.root, target)
    assert repair.root == target
    assert (tmp_path / "mine.bak" / "notes.txt").read_text() == "mine"


def test_the_copy_cannot_replace_the_data_set(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path / "data")
    with pytest.raises(DatasetError, match="cannot replace the data set"):
        repair_dataset(planted.root, tmp_path / "data")


@pytest.mark.parametrize("target", ["..", "images", "annotations/fixed"])
def test_the_copy_cannot_be_inside_the_data_set_or_contain_it(tmp_path: Path, target: str) -> None:
    planted = write_sound_dataset(tmp_path / "data")
    before = contents(tmp_path)
    with pytest.raises(DatasetError, match="cannot replace the data set"):
        repair_dataset(planted.root, planted.root / target)
    assert contents(tmp_path) == before


def test_null_records_are_kept_by_a_repair(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path / "data")
    planted.documents["train"]["annotations"].insert(1, None)
    empty = {"segmentation": [[7, 6, 9, 6, 12, 6]], "bbox": None, "area": None}
    planted.annotation("train", 0).update(empty)  # this annotation is removed
    planted.annotation("train", 3)["bbox"] = [0, 0, -1, 4]
    planted.save()
    repair = repair_dataset(planted.root)
    assert repair.counts == {"polygon_zero_area": 1, "bbox_negative": 1}
    assert undo_repair(repair.root)["instance_train.json"] == planted.documents["train"]


def test_a_missing_size_is_not_repaired_if_exif_swaps_width_and_height(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path / "data")
    PLANTS["image_exif_frame"][0](planted)
    planted.image("train")["width"] = None
    planted.save()
    assert "image_entry_invalid" not in repair_dataset(planted.root).counts


def test_a_thin_polygon_cut_at_the_border_keeps_its_rasterised_pixels(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path / "data")
    planted.annotation("train", 0)["segmentation"] = [[-40, 10, 0.6, 10, 0.6, 40, -40, 40]]
    planted.save()
    root = repair_dataset(planted.root).root
    masks = [
        annotation_to_rle(read_coco(place / "annotations" / "instance_train.json").annotations[0], 72, 96)
        for place in (planted.root, root)
    ]
    assert mask_tools.area(masks[0]) == mask_tools.area(masks[1]) > 0
    assert not check(root).errors and "segmentation_empty" not in check(root).counts


def test_a_file_that_is_no_json_cannot_be_repaired(tmp_path: Path) -> None:
    planted = planted_at(tmp_path / "data", "json_unreadable", 0)
    with pytest.raises(DatasetError, match=r"instance_val\.json"):
        repair_dataset(planted.root)
    assert not (tmp_path / "data_fixed").exists()


def test_without_annotations_there_is_nothing_to_repair(tmp_path: Path) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    with pytest.raises(DatasetError, match="no data set was recognised"):
        repair_dataset(tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_undo_writes_the_original_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = planted_at(tmp_path / "data", "area_mismatch", 0)
    repair_dataset(planted.root)
    main([str(tmp_path / "data_fixed"), "--into", str(tmp_path / "original")])
    assert "instance_train.json" in capsys.readouterr().out
    assert load_document(tmp_path / "original" / "instance_train.json") == planted.documents["train"]
    with pytest.raises(DatasetError, match="repair_log.json"):
        undo_repair(tmp_path / "original")


def test_invalid_values_that_cannot_be_repaired_are_kept(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path / "data")
    planted.annotation("train", 0)["category_id"] = [1]
    planted.annotation("train", 1)["image_id"] = {"id": 3}
    planted.annotation("train", 2)["id"] = "seven"
    planted.image("train", 3)["id"] = [4]
    planted.documents["train"]["annotations"][4] = "no record"
    planted.documents["train"]["annotations"][5] = None
    planted.save()
    repair = repair_dataset(planted.root)
    assert repair.counts == {}
    assert load_document(repair.root / "annotations" / "instance_train.json") == planted.documents["train"]


def test_different_supercategories_are_not_a_difference(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path / "data")
    planted.documents["val"]["categories"][0]["supercategory"] = "metal"
    planted.save()
    assert not check(planted.root).counts
    assert repair_dataset(planted.root).counts == {}


def test_an_annotation_without_id_gets_a_new_id(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path / "data")
    del planted.annotation("train", 2)["id"]
    planted.save()
    assert check(planted.root).counts == {"annotation_entry_invalid": 1}
    repair = repair_dataset(planted.root)
    assert repair.counts == {"annotation_entry_invalid": 1}
    assert not check(repair.root).counts
