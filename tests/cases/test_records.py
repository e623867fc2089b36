"""What a record has besides COCO's own keys, names of categories, and the encoding of the file."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from cases import check_dataset, copy_case

EXTRA: dict[str, dict[str, Any]] = {
    "images": {"license": 1, "date_captured": "2024-01-01", "capture_site": "A"},
    "annotations": {"attributes": {"occluded": True}, "score": 0.9, "keypoints": [1, 2, 2]},
    "categories": {"color": "#ff0000", "keypoints": ["a"]},
}


def documents(root: Path) -> list[dict[str, Any]]:
    """All annotation files of a data set and its folds."""
    paths = sorted(root.rglob("annotations/instance_*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def edit(root: Path, **values: dict[str, Any]) -> None:
    """Add values to all records of a list, and to the top level under the key ``top``."""
    for path in (root / "annotations").iterdir():
        document = json.loads(path.read_text())
        for kind, added in values.items():
            for entry in document[kind] if kind != "top" else [document]:
                entry |= added
        path.write_text(json.dumps(document))


SPLIT = {"CheckDataset__split__enable": True, "CheckDataset__split__train_percent": 60}
WAYS: dict[str, dict[str, Any]] = {
    "split": {**SPLIT, "CheckDataset__split__val_percent": 40},
    "folds": {"CheckDataset__split__enable": True, "CheckDataset__split__folds": 2},
    "repair": {"CheckDataset__fix__enable": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_other_keys_of_records_are_kept(tmp_path: Path, way: str) -> None:
    root = copy_case("S01-split-extra-keys", tmp_path / "data")
    before = documents(root)
    check_dataset(root, tmp_path / "output", **WAYS[way])
    places = {"folds": root / "folds", "repair": tmp_path / "data_fixed"}
    after = documents(places.get(way, root))
    assert len(after) == (4 if way == "folds" else 2)
    for document in after:
        assert document["info"] == {"contributor": "me"}
        assert document["licenses"] == [{"id": 1, "name": "CC"}]
        for kind, extra in EXTRA.items():
            originals = {entry["id"]: entry for old in before for entry in old[kind]}
            for entry in document[kind]:
                assert extra.items() <= entry.items()
                assert entry == originals[entry["id"]]


@pytest.mark.parametrize(
    "added",
    [
        {"annotations": {"track": {"id": 7, "frames": [1, [2, {"x": None}]]}}},
        {"images": {"coco_url": "http://x/图.jpg", "timestamp": 1.7e12}},
        {"categories": {"isthing": 1}},
        {"top": {"videos": [{"id": 1}], "type": "instances"}},
        {"annotations": {"note": "\ud800"}},
    ],
    ids=lambda added: next(iter(added)),
)
def test_a_split_keeps_unknown_keys_at_every_level(tmp_path: Path, added: dict[str, Any]) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    edit(root, **added)
    check_dataset(root, tmp_path / "output", **WAYS["split"])
    for document in documents(root):
        for kind, values in added.items():
            for entry in document[kind] if kind != "top" else [document]:
                assert values.items() <= entry.items()


def test_a_split_joins_lists_of_both_files(tmp_path: Path) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    for path in (root / "annotations").iterdir():
        document = json.loads(path.read_text())
        document["licenses"] = [{"id": 1, "name": "CC"}, {"id": path.name, "name": "own"}]
        path.write_text(json.dumps(document))
    check_dataset(root, tmp_path / "output", **WAYS["split"])
    for document in documents(root):
        assert [license["id"] for license in document["licenses"]] == [
            1,
            "instance_train.json",
            "instance_val.json",
        ]


def test_a_score_that_is_not_a_number_is_null_after_a_split(tmp_path: Path) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    edit(root, annotations={"score": float("nan")})
    check_dataset(root, tmp_path / "output", **WAYS["split"])
    scores = [item["score"] for document in documents(root) for item in document["annotations"]]
    assert scores == [None, None, None]


def test_names_that_differ_by_blanks_or_case_are_a_warning(tmp_path: Path) -> None:
    desk = check_dataset(copy_case("R05-category-names", tmp_path / "data"), tmp_path / "output")
    assert desk.exit_code == 0
    assert (
        desk.messages("category_names_alike")
        == ["'bolt', 'Bolt ' and 'bolt ' differ only in blanks, case or the form of characters"] * 2
    )


def with_names(root: Path, *names: str) -> Path:
    for path in (root / "annotations").iterdir():
        document = json.loads(path.read_text())
        document["categories"] = [{"id": id, "name": name} for id, name in enumerate(names, start=1)]
        path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (("bolt", "ｂｏｌｔ"), 2),
        (("é", unicodedata.normalize("NFD", "é")), 2),
        (("hot dog", "hot\u00a0dog"), 2),
        (("hot dog", "hotdog"), 2),
        (("bolt", "\u200bbolt"), 2),
        (("straße", "STRASSE", "nut", "NUT"), 4),
        (("bolt", "bolts"), 0),
        (("a b", "a c"), 0),
        (("螺丝", "螺母"), 0),
    ],
    ids=str,
)
def test_names_are_alike_if_people_cannot_tell_them_apart(
    tmp_path: Path, names: tuple[str, ...], count: int
) -> None:
    root = with_names(copy_case("00-sound", tmp_path / "data"), *names)
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 0
    assert desk.codes.get("category_names_alike", 0) == count


def test_an_unused_background_is_a_warning_and_its_class_is_removed(tmp_path: Path) -> None:
    root = copy_case("C18-xanylabeling-background", tmp_path / "data")
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 0
    assert desk.codes == {"category_background": 1}
    fixed = check_dataset(root, tmp_path / "fixed", CheckDataset__fix__enable=True)
    assert (fixed.exit_code, fixed.codes) == (0, {})
    for document in documents(tmp_path / "data_fixed"):
        assert [entry["name"] for entry in document["categories"]] == ["bolt"]
        assert {item["category_id"] for item in document["annotations"]} == {1}


@pytest.mark.parametrize("names", [("bolt", "__background__"), ("bolt", "nut", "BACKGROUND")], ids=str)
def test_a_background_of_any_spelling_and_place_is_removed(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = with_names(copy_case("00-sound", tmp_path / "data"), *names)
    assert check_dataset(root, tmp_path / "output").codes["category_background"] == 1
    check_dataset(root, tmp_path / "fixed", CheckDataset__fix__enable=True)
    for document in documents(tmp_path / "data_fixed"):
        assert [entry["name"] for entry in document["categories"]] == list(names[:-1])


@pytest.mark.parametrize("name", ["_background_", "Background"])
def test_a_background_with_annotations_stays(tmp_path: Path, name: str) -> None:
    root = with_names(copy_case("00-sound", tmp_path / "data"), name, "bolt")
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 0
    assert "category_background" not in desk.codes
    assert desk.messages("category_background_used") == [f"class {name!r} has annotations"]
    check_dataset(root, tmp_path / "fixed", CheckDataset__fix__enable=True)
    for document in documents(tmp_path / "data_fixed"):
        assert [entry["name"] for entry in document["categories"]] == [name, "bolt"]


def test_a_file_in_gbk_is_read(tmp_path: Path) -> None:
    root = copy_case("C19a-gbk", tmp_path / "data")
    with pytest.raises(UnicodeDecodeError):
        (root / "annotations" / "instance_train.json").read_bytes().decode("utf-8")
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 0
    assert desk.codes["json_encoding_guessed"] >= 1
    content = (root / "annotations" / "instance_train.json").read_bytes()
    names = [entry["name"] for entry in json.loads(content.decode("gbk"))["categories"]]
    message = desk.messages("json_encoding_guessed")[0]
    assert message.startswith("the file is not UTF-8, and was read as GBK (GB 18030); a sample of it: ")
    assert repr(names[0]) in message
    assert [row["name"] for row in desk.result["attributes"]["class_counts"]] == names
    fixed = check_dataset(root, tmp_path / "fixed", CheckDataset__fix__enable=True)
    assert fixed.codes["json_encoding_guessed"] >= 1  # the copy has what was read
    assert check_dataset(tmp_path / "data_fixed", tmp_path / "again").codes == {}
    assert [entry["name"] for entry in documents(tmp_path / "data_fixed")[0]["categories"]] == names


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "gb18030", "utf-8-sig"]
)
def test_a_file_in_any_encoding_of_windows_tools_is_read(tmp_path: Path, encoding: str) -> None:
    root = with_names(copy_case("00-sound", tmp_path / "data"), "螺丝")
    for path in (root / "annotations").iterdir():
        path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 0
    assert [row["name"] for row in desk.result["attributes"]["class_counts"]] == ["螺丝"]
    code = "json_encoding_guessed" if encoding == "gb18030" else "json_encoding"
    assert desk.codes == ({} if encoding == "utf-8-sig" else {code: 2})


@pytest.mark.parametrize(("encoding", "name"), [("big5", "螺絲"), ("shift-jis", "ねじ")])
def test_text_that_may_be_read_wrongly_is_shown(tmp_path: Path, encoding: str, name: str) -> None:
    root = with_names(copy_case("00-sound", tmp_path / "data"), name)
    for path in (root / "annotations").iterdir():
        path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    desk = check_dataset(root, tmp_path / "output")
    shown = name.encode(encoding).decode("gb18030")
    assert desk.codes["json_encoding_guessed"] == 2
    assert all(repr(shown) in message for message in desk.messages("json_encoding_guessed"))
    assert [item["severity"] for item in desk.result["findings"]][:1] == ["warning"]


RESULT = {"image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]], "score": 0.9}
OTHER_CONTENT: dict[str, tuple[Any, str]] = {
    "results": ([RESULT, RESULT], "a list of results of a model"),
    "boxes of results": ([{"image_id": 1, "bbox": [1, 1, 5, 5], "score": 1}], "a list of results of a model"),
    "annotations alone": ([{"id": 1, "segmentation": []}], "a list of annotations alone"),
    "nothing": ([], "a list"),
    "panoptic": ({"file_name": "t1.png", "segments_info": [{"id": 7}]}, "a panoptic file"),
    "captions": ({"id": 1, "caption": "two bolts"}, "a file of captions"),
    "key points": ({"id": 1, "category_id": 1, "keypoints": [9, 9, 2]}, "a file of key points"),
    "LabelMe": ({"shapes": [], "imagePath": "t1.jpg"}, "a LabelMe file"),
    "something else": ({"rows": []}, "an object with the keys ['rows']"),
}


@pytest.mark.parametrize("kind", OTHER_CONTENT)
def test_a_file_of_another_kind_is_named_once(tmp_path: Path, kind: str) -> None:
    content, words = OTHER_CONTENT[kind]
    root = copy_case("00-sound", tmp_path / "data")
    path = root / "annotations" / "instance_train.json"
    if kind in ("panoptic", "captions", "key points"):
        entries = [{"image_id": 1 + number % 2, **content} for number in range(5)]
        content = {**json.loads(path.read_text()), "annotations": entries}
    path.write_text(json.dumps(content))
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 3
    errors = [item for item in desk.result["findings"] if item["severity"] == "error"]
    assert [item["code"] for item in errors if item["file"] == path.name] == ["json_top_level"]
    assert f"the file is {words}" in errors[0]["message"]
    fixed = check_dataset(root, tmp_path / "fixed", CheckDataset__fix__enable=True)
    assert fixed.exit_code == 3
    assert json.loads((tmp_path / "data_fixed" / "annotations" / path.name).read_text()) == content


def test_a_class_whose_name_is_a_number_is_read_as_its_text(tmp_path: Path) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    for path in (root / "annotations").iterdir():
        document = json.loads(path.read_text())
        document["categories"][0]["name"] = 1
        path.write_text(json.dumps(document))
    desk = check_dataset(root, tmp_path / "output")
    assert (desk.exit_code, desk.codes) == (0, {"category_name_number": 2})
    assert desk.result["attributes"]["class_counts"][0]["name"] == "1"
    fixed = check_dataset(root, tmp_path / "fixed", CheckDataset__fix__enable=True)
    assert (fixed.exit_code, fixed.codes) == (0, {})
    assert documents(tmp_path / "data_fixed")[0]["categories"][0]["name"] == "1"


@pytest.mark.parametrize("content", [b"\xff\xff\xff", b'{"images": [\xe9"]}', b"9" * 5000], ids=str)
def test_what_is_no_text_or_no_json_is_told(tmp_path: Path, content: bytes) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    (root / "annotations" / "instance_val.json").write_bytes(content)
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 3
    assert desk.codes["json_unreadable"] == 1
