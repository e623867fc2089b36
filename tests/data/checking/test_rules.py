import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from planted import PLANTS, write_sound_dataset

from paddlex_seg.data.checking.check import CheckReport, check
from paddlex_seg.data.demo import COCO_FOLDER, write_demo_dataset
from paddlex_seg.data.finding_kinds.sources import SOURCES
from paddlex_seg.data.findings import KINDS
from paddlex_seg.data.image_facts import Decode
from paddlex_seg.errors import DatasetError

# Findings of converters. The tests of each format cover them.
OF_CONVERTERS = set(SOURCES)

# Findings about a repair. tests/cases/test_repair_keeps.py covers them.
OF_REPAIRS = {"repair_removed_much"}
# Need a setting. tests/cases/test_bands.py covers them.
OF_BANDS = {"image_bands_flat", "image_bands_missing"}

# Other errors that a planted error causes.
CONSEQUENCES = {
    "key_missing": {"category_id_dangling", "image_id_dangling"},
    "category_entry_invalid": {"categories_differ_ids", "category_id_dangling"},
    "image_id_duplicate": {"image_id_dangling"},
}


def codes(report: CheckReport) -> list[str]:
    return sorted(report.counts)


def test_a_valid_data_set_has_no_findings(tmp_path: Path) -> None:
    write_sound_dataset(tmp_path)
    report = check(tmp_path, "full")
    assert report.findings == ()
    assert (len(report.train.images), len(report.val.images)) == (5, 3)
    assert (len(report.train.annotations), len(report.val.annotations)) == (10, 6)


def test_every_kind_of_finding_is_planted_three_times() -> None:
    assert set(PLANTS) | OF_CONVERTERS | OF_REPAIRS | OF_BANDS == set(KINDS)
    assert len(PLANTS) >= 40
    assert all(len(variants) == 3 for variants in PLANTS.values())


@pytest.mark.parametrize("variant", range(3))
@pytest.mark.parametrize("code", PLANTS)
def test_a_planted_defect_is_found_at_its_record(tmp_path: Path, code: str, variant: int) -> None:
    planted = write_sound_dataset(tmp_path)
    expected = PLANTS[code][variant](planted)
    planted.save()
    report = check(tmp_path)
    found = [item for item in report.findings if item.code == code]
    places = [(item.code, item.file, item.image_id, item.annotation_id) for item in found]
    assert tuple(expected) in places
    assert report.counts[code] == len(found)
    other_errors = {item.code for item in report.errors} - {code} - CONSEQUENCES.get(code, set())
    assert not other_errors
    for item in found:
        assert item.severity == KINDS[code].severity
        assert item.message and not item.message.endswith(".")
        assert item.hint.endswith(".")
        assert str(item).startswith(item.file)


@pytest.mark.parametrize("name", ["coco_subset", "microcontrollers", "fruits_nuts"])
def test_real_data_sets_have_no_errors(shared_dir: Path, name: str) -> None:
    report = check(shared_dir / "data" / name, "full")
    assert report.errors == ()
    warnings = {code: count for code, count in report.counts.items() if KINDS[code].severity == "warning"}
    assert (
        warnings
        == {
            "coco_subset": {"polygon_self_intersecting": 5, "area_mismatch": 2, "class_only_in_val": 9},
            "microcontrollers": {"area_of_box": 2, "leak_near_duplicate": 1, "category_dummy": 1},
            "fruits_nuts": {},
        }[name]
    )


def test_the_demo_data_set_has_no_errors_and_no_warnings(tmp_path: Path) -> None:
    write_demo_dataset(tmp_path, num_train=12, num_val=4)
    report = check(tmp_path / COCO_FOLDER, "full")
    assert report.counts == {"image_without_objects": 1}


def test_a_corrupt_image_is_found_at_any_position(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path)
    document = planted.documents["train"]
    template = planted.image_file("train").read_bytes()
    for number in range(100, 340):
        name = f"more_{number}.jpg"
        (tmp_path / "images" / name).write_bytes(template if number != 333 else b"no image")
        document["images"].append({"id": number, "file_name": name, "width": 96, "height": 72})
    planted.save()
    report = check(tmp_path)
    assert [(item.code, item.image_id) for item in report.errors] == [("image_corrupt", 333)]
    assert "more_333.jpg" in report.errors[0].message


def test_findings_beyond_the_first_thousand_of_a_code_are_counted(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path)
    document = planted.documents["train"]
    document["annotations"] = [
        {"id": i, "image_id": 1, "category_id": 1, "segmentation": [[1, 2]]} for i in range(1500)
    ]
    planted.save()
    report = check(tmp_path)
    assert report.counts["polygon_too_few_points"] == 1500
    assert len([item for item in report.findings if item.code == "polygon_too_few_points"]) == 1000
    with pytest.raises(DatasetError, match="1500 problems") as caught:
        report.raise_for_errors()
    assert "... and 1480 more" in str(caught.value)


def test_normalised_mask_coordinates_are_an_error(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path)
    for item in planted.documents["train"]["annotations"]:
        item["segmentation"] = [[0.1, 0.2, 0.5, 0.2, 0.4, 0.9]]
    planted.save()
    report = check(tmp_path)
    assert {item.code for item in report.errors} == {"coordinates_normalised"}
    assert report.counts["coordinates_normalised"] == 10
    assert "coordinates look normalised" in report.errors[0].message


def test_a_test_split_is_checked_as_well(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path)
    planted.documents["test"] = planted.documents["val"]
    planted.save()
    report = check(tmp_path)
    assert Counter(report.counts) == {"leak_duplicate": 3}
    assert {item.file for item in report.findings} == {"instance_test.json"}


def test_a_second_check_reads_no_image_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sound_dataset(tmp_path / "data")
    cache = tmp_path / "cache" / "images.jsonl"
    first = check(tmp_path / "data", cache_file=cache)
    monkeypatch.setattr("paddlex_seg.data.checking.scan.inspect_image", _refuse)
    assert check(tmp_path / "data", cache_file=cache).counts == first.counts


def test_a_changed_image_is_read_again(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path / "data")
    cache = tmp_path / "cache" / "images.jsonl"
    assert not check(tmp_path / "data", cache_file=cache).counts
    planted.image_file("val").write_bytes(b"")
    assert check(tmp_path / "data", cache_file=cache).counts == {"image_empty_file": 1}


def test_a_damaged_cache_is_ignored(tmp_path: Path) -> None:
    write_sound_dataset(tmp_path / "data")
    cache = tmp_path / "images.jsonl"
    cache.write_text('[1, "thumbnail"]\n["a", 3', encoding="utf-8")
    assert not check(tmp_path / "data", cache_file=cache).counts


@pytest.mark.parametrize("decode", ["header", "thumbnail", "full"])
def test_data_after_the_end_of_an_image_is_allowed(tmp_path: Path, decode: Decode) -> None:
    planted = write_sound_dataset(tmp_path)
    path = planted.image_file("train")
    assert path.suffix == ".jpg"
    path.write_bytes(path.read_bytes() + bytes(200_000))
    assert not check(tmp_path, decode).counts


@pytest.mark.parametrize("decode", ["header", "thumbnail", "full"])
def test_a_truncated_image_is_found_with_every_decode_setting(tmp_path: Path, decode: Decode) -> None:
    planted = write_sound_dataset(tmp_path)
    for place in (0, 1):
        content = planted.image_file("train", place).read_bytes()
        planted.image_file("train", place).write_bytes(content[: len(content) // 2])
    assert check(tmp_path, decode).counts == {"image_truncated": 2}


def test_a_file_name_that_is_not_valid_unicode_is_an_error_of_its_record(tmp_path: Path) -> None:
    planted = write_sound_dataset(tmp_path)
    planted.image("train")["file_name"] = "half \ud83d.png"
    text = json.dumps(planted.documents["train"])  # writes it as an escape sequence
    planted.file("train").write_text(text, encoding="utf-8")
    (error,) = check(tmp_path).errors
    assert (error.code, error.image_id) == ("image_entry_invalid", 1)


def test_a_check_does_not_change_the_data_set(tmp_path: Path) -> None:
    write_sound_dataset(tmp_path)
    before = contents(tmp_path)
    check(tmp_path, "full")
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _refuse(*arguments: object) -> None:
    raise AssertionError("an image was read again")
