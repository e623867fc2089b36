"""Ids: large ones, text, and references of another type than the id."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cases import check_dataset, copy_case
from perfect import evaluate_perfect, perfect_predictions

from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.preprocess import PreprocessSpec
from paddlex_seg.data.samples.epochs import image_weights
from paddlex_seg.data.samples.loader import WorkerPool, evaluation_batches, train_batches
from paddlex_seg.data.samples.tasks import TrainingSet
from paddlex_seg.data.samples.transforms import Resize
from paddlex_seg.metrics.coco_ap import results_to_coco_json

Rename = Callable[[Any], Any]

UUID = "3f2b8c1e-0000-4a6b-9d9e-{:012d}"
KINDS: dict[str, Rename] = {
    "128 bits": lambda id: (1 << 127) + id,
    "negative": lambda id: -(2**62) - id,
    "text": lambda id: UUID.format(id),
    "file name": lambda id: f"cam 1/图片 {id}.jpg",
    "leading zeros": lambda id: f"{id:08d}",
    "decimal": lambda id: float(id),
    "text and numbers": lambda id: f"id-{id}" if id % 2 else id,
}


def rename_ids(root: Path, rename: Rename) -> None:
    """Give new ids to all images, annotations and categories of a data set."""
    for path in (root / "annotations").iterdir():
        document = json.loads(path.read_text())
        for kind in ("images", "annotations", "categories"):
            for entry in document[kind]:
                for key in ("id", "image_id", "category_id"):
                    if key in entry:
                        entry[key] = rename(entry[key])
        path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def test_ids_near_2_to_the_62_are_kept_apart(tmp_path: Path) -> None:
    root = copy_case("E02-hash-ids", tmp_path / "data")
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 0
    assert [row["id"] for row in desk.result["attributes"]["class_counts"]] == [2**60, 2**60 + 1]
    metrics = evaluate_perfect(root)
    assert metrics.segm.AP == metrics.bbox.AP == pytest.approx(1)
    assert [(one.category_id, one.AP) for one in metrics.classes] == [(2**60, 1), (2**60 + 1, 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_any_kind_are_checked_evaluated_and_written_as_they_are(tmp_path: Path, kind: str) -> None:
    root = copy_case("E02-hash-ids", tmp_path / "data")
    rename_ids(root, lambda id: id % 1000)
    rename_ids(root, KINDS[kind])
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 0
    assert set(desk.codes) <= {"class_only_in_val"}  # its train split has no nut
    metrics = evaluate_perfect(root)
    assert metrics.segm.AP == metrics.bbox.AP == pytest.approx(1)

    coco = read_coco(root / "annotations" / "instance_val.json")
    rows = results_to_coco_json(perfect_predictions(coco), [category.id for category in coco.categories])
    wanted = [(item.image_id, item.category_id) for item in coco.annotations]
    found = [(row["image_id"], row["category_id"]) for row in json.loads(json.dumps(rows))]
    assert found == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_keeps_ids_of_any_kind(tmp_path: Path, kind: str) -> None:
    root = copy_case("E02-hash-ids", tmp_path / "data")
    rename_ids(root, lambda id: id % 1000)
    rename_ids(root, KINDS[kind])
    before = annotations_by_id(root)
    options = {"CheckDataset__split__enable": True, "CheckDataset__split__train_percent": 50}
    desk = check_dataset(root, tmp_path / "output", **options, CheckDataset__split__val_percent=50)
    assert desk.exit_code == 0
    assert annotations_by_id(root) == before


def annotations_by_id(root: Path) -> dict[tuple[str, Any], Any]:
    """All records of a data set by kind and id, whatever file they are in."""
    found: dict[tuple[str, Any], Any] = {}
    for path in (root / "annotations").glob("instance_*.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        for kind in ("images", "annotations"):
            found |= {(kind, entry["id"]): entry for entry in document[kind]}
    return found


def test_a_text_reference_to_a_number_is_read_with_a_warning_and_repaired(tmp_path: Path) -> None:
    root = copy_case("C08-string-image-id", tmp_path / "data")
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 0
    assert desk.codes == {"id_is_text": 3}
    assert desk.messages("id_is_text")[0] == "image_id is the text '1', not a number"
    assert desk.result["attributes"]["train_annotations"] == 2
    fixed = check_dataset(root, tmp_path / "fixed", CheckDataset__fix__enable=True)
    assert (fixed.exit_code, fixed.codes) == (0, {})
    written = json.loads((tmp_path / "data_fixed" / "annotations" / "instance_train.json").read_text())
    assert [entry["image_id"] for entry in written["annotations"]] == [1, 2]


@pytest.mark.parametrize("keys", [("id",), ("category_id",), ("id", "image_id", "category_id")], ids=str)
def test_numbers_as_text_refer_to_numbers_in_every_list(tmp_path: Path, keys: tuple[str, ...]) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    path = root / "annotations" / "instance_train.json"
    document = json.loads(path.read_text())
    for entry in (entry for kind in ("images", "annotations", "categories") for entry in document[kind]):
        entry |= {key: str(entry[key]) for key in keys if key in entry}
    path.write_text(json.dumps(document))
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 0
    assert set(desk.codes) == {"id_is_text"}
    fixed = check_dataset(root, tmp_path / "fixed", CheckDataset__fix__enable=True)
    assert (fixed.exit_code, fixed.codes) == (0, {})
    sound = copy_case("00-sound", tmp_path / "sound")
    for name in ("instance_train.json", "instance_val.json"):
        written = json.loads((tmp_path / "data_fixed" / "annotations" / name).read_text())
        assert written == json.loads((sound / "annotations" / name).read_text())


@pytest.mark.parametrize("value", [True, 1.5, "", " ", [1], None], ids=repr)
def test_what_is_no_id_is_an_error(tmp_path: Path, value: Any) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    path = root / "annotations" / "instance_val.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["category_id"] = value
    path.write_text(json.dumps(document))
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 3
    assert "annotation_entry_invalid" in desk.codes


def test_a_wrong_text_reference_is_named(tmp_path: Path) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    rename_ids(root, lambda id: f"id-{id}")
    path = root / "annotations" / "instance_val.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["image_id"] = "id-7"
    path.write_text(json.dumps(document))
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 3
    assert desk.messages("image_id_dangling") == ["no image has the id id-7"]


def test_a_category_that_is_not_listed_is_named(tmp_path: Path) -> None:
    desk = check_dataset(copy_case("N03-category-off", tmp_path / "data"), tmp_path / "output")
    assert desk.exit_code == 3
    assert desk.messages("category_id_dangling")[0] == "has category_id 1, but the file lists 0"


@pytest.mark.parametrize("kind", ["128 bits", "text"])
def test_training_and_evaluation_load_images_with_such_ids(tmp_path: Path, kind: str) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    rename_ids(root, KINDS[kind])
    coco, ids = read_coco(root / "annotations" / "instance_train.json"), [KINDS[kind](1), KINDS[kind](2)]
    spec = PreprocessSpec(size_hw=(64, 96))
    weights = image_weights(coco, repeat_threshold=0.5, negatives_ratio=1.0)
    samples = TrainingSet(coco, root / "images", (), (Resize((64, 96)),), spec, seed=0, weights=weights)
    with WorkerPool(2) as pool:
        (batch,) = train_batches(samples, epoch=0, batch_size=2, pool=pool)
        (evaluated,) = evaluation_batches(coco, root / "images", spec, batch_size=2, pool=pool)
    assert [target.class_ids.numpy().tolist() for target in batch.batch.targets] == [[0], [0]]
    assert [int(target.masks.numpy().sum()) for target in batch.batch.targets] == [1200, 1200]
    assert [record.id for record in evaluated.records] == ids


def _padded(entry: Any) -> str:
    return f"{entry['id']:06d}"


@pytest.mark.parametrize(
    ("kind", "key", "reference"),
    [
        ("images", "image_id", lambda entry: entry["file_name"]),
        ("images", "image_id", lambda entry: entry["file_name"][:-4]),
        ("images", "image_id", _padded),
        ("categories", "category_id", lambda entry: entry["name"]),
        ("categories", "category_id", _padded),
    ],
)
def test_a_reference_by_name_is_read_as_what_it_means(
    tmp_path: Path, kind: str, key: str, reference: Callable[[Any], Any]
) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    for path in (root / "annotations").iterdir():
        document = json.loads(path.read_text())
        names = {entry["id"]: reference(entry) for entry in document[kind]}
        for item in document["annotations"]:
            item[key] = names[item[key]]
        path.write_text(json.dumps(document))
    desk = check_dataset(root, tmp_path / "found")
    assert (desk.exit_code, desk.codes) == (3, {f"{key}_dangling": 3})
    assert desk.messages(f"{key}_dangling")[0].endswith(" 1 is meant")
    desk = check_dataset(root, tmp_path / "output", CheckDataset__fix__enable=True)
    assert (desk.exit_code, desk.codes) == (0, {})
    metrics = evaluate_perfect(tmp_path / "data_fixed")
    assert (metrics.segm.AP, metrics.bbox.AP) == pytest.approx((1, 1))  # COCO adds 2e-16 to each divisor


def test_a_reference_that_may_mean_two_images_stays(tmp_path: Path) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    path = root / "annotations" / "instance_train.json"
    document = json.loads(path.read_text())
    document["images"][1]["file_name"] = "other/t1.jpg"
    document["annotations"][0]["image_id"] = "t1"
    path.write_text(json.dumps(document))
    desk = check_dataset(root, tmp_path / "output", CheckDataset__fix__enable=True)
    assert desk.exit_code == 3
    assert desk.messages("image_id_dangling") == ["no image has the id t1"]


def test_an_image_record_that_is_there_twice_is_kept_once(tmp_path: Path) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    path = root / "annotations" / "instance_train.json"
    document = json.loads(path.read_text())
    document["images"] *= 2
    path.write_text(json.dumps(document))
    desk = check_dataset(root, tmp_path / "output", CheckDataset__fix__enable=True)
    assert (desk.exit_code, desk.codes) == (0, {})
    assert desk.result["fix"]["removed_images"] == 0
    assert desk.result["fix"]["removed_repetitions"]["images"] == 2


def test_an_id_of_two_images_names_both_and_both_are_listed(tmp_path: Path) -> None:
    root = copy_case("00-sound", tmp_path / "data")
    path = root / "annotations" / "instance_train.json"
    document = json.loads(path.read_text())
    document["images"][1]["id"] = document["annotations"][1]["image_id"] = 1
    path.write_text(json.dumps(document))
    desk = check_dataset(root, tmp_path / "output")
    assert desk.exit_code == 3
    assert "image_unreferenced" not in desk.codes
    assert desk.messages("image_id_duplicate") == ["the id is used more than once, by t1.jpg and t2.jpg"]
