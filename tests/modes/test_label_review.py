"""Mode label_review: the folder for LabelMe, and corrections read back into the annotation file."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from command_line import Outcome, read_result, run_cli

SIZE = 64
NUM_IMAGES = 12
Shapes = list[dict[str, Any]]

# Annotation 2 i is the bolt of image i, 2 i + 1 its washer. What is wrong with them:
MISSED, SWAPPED, LOOSE, DOUBLE, INVENTED = 3, 5, 7, 100, 101


def square(left: float, top: float, side: float = 20) -> list[list[float]]:
    return [[left, top, left + side, top, left + side, top + side, left, top + side]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set with one label error of each kind, and detections of a good model."""
    return make_data(tmp_path / "Daten ß", lambda number: number)


def make_data(folder: Path, name: Callable[[int], Any], names: tuple[str, str] = ("bolt", "washer")) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    annotations, rows = [], []
    for image in range(NUM_IMAGES):
        cv2.imwrite(str(folder / f"images/{image}.png"), np.full((SIZE, SIZE, 3), 10 * image, np.uint8))
        places = [square(4 + image % 3, 6), square(36, 36 - image % 5)]
        for kind, polygons in enumerate(places):
            annotations.append(entry(name(2 * image + kind), name(image), kind + 1, polygons))
            rows.append({**entry(0, name(image), kind + 1, polygons), "score": 0.8 + 0.01 * image})
    del annotations[MISSED]
    by_id = {one["id"]: one for one in annotations}
    by_id[name(SWAPPED)]["category_id"] = 1
    by_id[name(LOOSE)]["segmentation"] = square(42, 30)
    annotations.append(entry(name(DOUBLE), name(4), 1, square(5.5, 6)))
    annotations.append(entry(name(INVENTED), name(9), 2, square(4, 42, 12)))
    document = {
        "info": {"von": "ß"},
        "images": [
            {"id": name(image), "file_name": f"{image}.png", "width": SIZE, "height": SIZE}
            for image in range(NUM_IMAGES)
        ],
        "annotations": annotations,
        "categories": [{"id": id, "name": one} for id, one in enumerate(names, start=1)],
    }
    text = json.dumps(document, indent=1, ensure_ascii=False).replace('"note": 1', '"note": 1.50e0')
    for part in ("train", "val"):
        (folder / f"annotations/instance_{part}.json").write_text(text, encoding="utf-8")
    (folder / "found.json").write_text(json.dumps(rows))
    return folder


def entry(id: Any, image_id: Any, category_id: int, polygons: list[list[float]]) -> dict[str, Any]:
    left, top, right, _, _, bottom, *_ = polygons[0]
    return {
        "id": id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": polygons,
        "bbox": [left, top, right - left, bottom - top],
        "area": (right - left) * (bottom - top),
        "iscrowd": 0,
        "note": 1,
    }


def run(data: Path, **options: Any) -> Outcome:
    return run_cli(
        "label_review",
        data / "out",
        Global__dataset_dir=data,
        LabelReview__predictions=data / "found.json",
        **options,
    )


def review(data: Path, **options: Any) -> list[dict[str, Any]]:
    """Run the review; returns the list of suspects."""
    outcome = run(data, **options)
    assert outcome.code == 0, outcome.stderr
    return list(json.loads((data / "out/label_review/review.json").read_text(encoding="utf-8"))["suspects"])


def apply(data: Path) -> dict[str, Any]:
    outcome = run(data, LabelReview__apply=True)
    assert outcome.code == 0, outcome.stderr
    return read_result(data / "out", "label_review")


def truth(data: Path) -> Path:
    return data / "annotations/instance_val.json"


def records(data: Path) -> dict[Any, str]:
    """The text of each annotation by id, as it stands in the file."""
    text = truth(data).read_text(encoding="utf-8")
    inside = text[text.index('"annotations": [') : text.index('"categories"')]
    found = re.findall(r"\{.*?\}", inside, re.DOTALL)
    return {json.loads(one)["id"]: one for one in found}


def edit(data: Path, image: Any, change: Callable[[Shapes], Any]) -> None:
    """Change the shapes of an image, and save as LabelMe does: with a line per value."""
    rows = json.loads((data / "out/label_review/review.json").read_text(encoding="utf-8"))["images"]
    path = data / "out/label_review" / next(row["file"] for row in rows if row["image_id"] == image)
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document["shapes"])
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")


def accept(shapes: Shapes) -> None:
    for shape in shapes:
        shape["label"] = shape["label"].lstrip("?")


def remove(id: Any) -> Callable[[Shapes], None]:
    def change(shapes: Shapes) -> None:
        shapes[:] = [shape for shape in shapes if shape.get("annotation_id") != id]

    return change


def test_each_planted_error_is_in_the_folder_with_image_and_proposal(data: Path) -> None:
    suspects = review(data)
    found = {(one["kind"], one["annotation_id"]) for one in suspects[:5]}
    assert found == {
        ("missed", None),
        ("wrong_class", SWAPPED),
        ("loose_mask", LOOSE),
        ("duplicate", DOUBLE),
        ("spurious", INVENTED),
    }
    assert [one["rank"] for one in suspects] == list(range(1, len(suspects) + 1))
    folder = data / "out/label_review"
    for one in suspects:
        path = folder / one["file"]
        document = json.loads(path.read_text(encoding="utf-8"))
        assert (path.parent / document["imagePath"]).read_bytes() == (
            data / "images" / one["file_name"]
        ).read_bytes()
        # LabelMe pairs them by name when it opens the folder.
        assert Path(document["imagePath"]).stem == path.stem
        notes = [shape["description"] for shape in document["shapes"]]
        assert any(note.startswith(f"{one['rank']}. ") and one["reason"] in note for note in notes)
        proposals = [shape for shape in document["shapes"] if shape.get("proposal") == one["rank"]]
        assert bool(proposals) == (one["kind"] in ("missed", "wrong_class", "loose_mask"))
        for shape in proposals:
            assert shape["label"] == f"?{one['proposal']}" and shape["flags"] == {"proposal": True}
    images = {one["file_name"] for one in suspects}
    assert len(list(folder.glob("*.png"))) == len(images) < NUM_IMAGES


def test_fewer_suspects_on_request(data: Path) -> None:
    assert len(review(data, LabelReview__max_suspects=2)) == 2
    assert read_result(data / "out", "label_review")["suspects_left_out"] >= 3


def test_nothing_changes_unless_a_person_changes_something(data: Path) -> None:
    review(data)
    before = truth(data).read_bytes()
    assert apply(data)["files_changed"] == 0
    edit(data, 1, lambda shapes: None)  # only saved
    result = apply(data)
    assert (result["files_changed"], result["annotations_changed"]) == (1, 0)
    assert truth(data).read_bytes() == before
    assert not list((data / "annotations").glob("*.bak*"))


def corrected(data: Path, name: Callable[[int], Any]) -> None:
    """Correct all five."""
    for image in (1, 2, 3):
        edit(data, name(image), accept)
    edit(data, name(4), remove(name(DOUBLE)))
    edit(data, name(9), remove(name(INVENTED)))


@pytest.mark.parametrize(
    "name",
    [lambda number: number, lambda number: 2**70 + number, lambda number: f"<{number}>"],
    ids=["numbers", "beyond 64 bits", "text"],
)
def test_accepted_proposals_and_removed_labels_end_in_the_annotation_file(
    tmp_path: Path, name: Callable[[int], Any]
) -> None:
    data = make_data(tmp_path / "data", name)
    review(data)
    before, content = records(data), truth(data).read_bytes()
    other = (data / "annotations/instance_train.json").read_bytes()
    corrected(data, name)
    result = apply(data)
    counts = [result[f"annotations_{what}"] for what in ("changed", "removed", "added")]
    assert counts == [2, 2, 1]
    after = records(data)
    touched = {name(id) for id in (SWAPPED, LOOSE, DOUBLE, INVENTED)}
    assert {id: text for id, text in before.items() if id not in touched} == {
        id: text for id, text in after.items() if id in before and id not in touched
    }
    assert "1.50e0" in after[name(0)]  # the spelling of a number
    assert before.keys() - after.keys() == {name(DOUBLE), name(INVENTED)}
    swapped, loose = json.loads(after[name(SWAPPED)]), json.loads(after[name(LOOSE)])
    assert swapped == {**json.loads(before[name(SWAPPED)]), "category_id": 2}
    assert loose["bbox"] == [36, 33, 20, 20] and loose["area"] == 400
    assert loose["note"] == 1.5 and loose["category_id"] == 2
    (new,) = after.keys() - before.keys()
    assert type(new) is type(name(0))
    added = json.loads(after[new])
    assert (added["image_id"], added["category_id"], added["bbox"]) == (name(1), 2, [36, 35, 20, 20])
    assert truth(data).with_name("instance_val.json.bak").read_bytes() == content
    assert (data / "annotations/instance_train.json").read_bytes() == other

    once = truth(data).read_bytes()
    again = apply(data)
    assert [again[f"annotations_{what}"] for what in ("changed", "removed", "added")] == [0, 0, 0]
    assert truth(data).read_bytes() == once


def test_a_proposal_that_was_added_can_be_taken_back(data: Path) -> None:
    review(data)
    edit(data, 1, accept)
    apply(data)
    added = records(data)
    edit(data, 1, lambda shapes: shapes.pop())
    assert apply(data)["annotations_removed"] == 1
    assert len(records(data)) == len(added) - 1


def test_a_moved_corner_and_a_new_shape_are_read(data: Path) -> None:
    def change(shapes: Shapes) -> None:
        first = next(shape for shape in shapes if shape.get("annotation_id") == 2)
        first["points"][0] = [1.5, 2]
        shapes.append({"label": "washer", "points": [[2, 50], [12, 60]], "shape_type": "rectangle"})

    review(data)
    edit(data, 1, change)
    apply(data)
    after = records(data)
    assert json.loads(after[2])["segmentation"][0][:2] == [1.5, 2]
    assert json.loads(after[INVENTED + 1])["bbox"] == [2, 50, 10, 10]
    once = truth(data).read_bytes()
    apply(data)
    assert truth(data).read_bytes() == once


def test_a_copied_shape_is_a_new_object(data: Path) -> None:
    def change(shapes: Shapes) -> None:
        first = next(shape for shape in shapes if shape.get("annotation_id") == 2)
        shapes.insert(0, {**first, "points": [[x + 3, y] for x, y in first["points"]]})

    review(data)
    before = records(data)
    edit(data, 1, change)
    result = apply(data)
    assert (result["annotations_added"], result["annotations_changed"]) == (1, 0)
    assert records(data)[2] == before[2]


def test_a_tool_that_drops_unknown_keys_changes_nothing(data: Path) -> None:
    def change(shapes: Shapes) -> None:
        for shape in shapes:
            for key in ("annotation_id", "proposal", "description"):
                shape.pop(key, None)

    review(data)
    before = truth(data).read_bytes()
    for image in (1, 2, 3, 4, 9):
        edit(data, image, change)
    apply(data)
    assert truth(data).read_bytes() == before


def test_files_that_a_person_removes_leave_their_images_as_they_are(data: Path) -> None:
    review(data)
    before = truth(data).read_bytes()
    for path in (data / "out/label_review").glob("0*.json"):
        path.unlink()
    assert apply(data)["files_removed"] > 0
    assert truth(data).read_bytes() == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda shapes: shapes[0].update(label="blot"), "'blot'; instance_val.json lists bolt, washer. Did"),
        (lambda shapes: shapes[0].update(points=[[1, 2]]), "polygon needs 3"),
        (lambda shapes: shapes.append(7), "has no label"),
        (lambda shapes: shapes[0].update(points=[[90, 90], [99, 90], [99, 99]]), "covers no pixel"),
    ],
    ids=["unknown class", "two points short", "no shape", "outside"],
)
def test_what_cannot_be_read_is_told_and_nothing_is_written(data: Path, change: Any, told: str) -> None:
    review(data)
    before, listed = truth(data).read_bytes(), (data / "out/label_review/review.json").read_bytes()
    edit(data, 2, accept)  # this one is fine
    edit(data, 1, change)
    outcome = run(data, LabelReview__apply=True)
    assert outcome.code == 3
    assert told in outcome.stderr and "nothing was changed" in outcome.stderr
    assert truth(data).read_bytes() == before
    assert (data / "out/label_review/review.json").read_bytes() == listed


def test_an_annotation_file_that_changed_since_is_not_edited(data: Path) -> None:
    review(data)
    edit(data, 1, accept)
    truth(data).write_text(truth(data).read_text(encoding="utf-8") + " ", encoding="utf-8")
    before = truth(data).read_bytes()
    outcome = run(data, LabelReview__apply=True)
    assert outcome.code == 3 and "is not the one that was reviewed" in outcome.stderr
    assert truth(data).read_bytes() == before


def test_without_a_review_there_is_nothing_to_apply(data: Path) -> None:
    outcome = run(data, LabelReview__apply=True)
    assert outcome.code == 3 and "no review to apply" in outcome.stderr


def test_without_predictions_the_message_says_what_makes_them(data: Path) -> None:
    outcome = run_cli("label_review", data / "out", Global__dataset_dir=data)
    assert outcome.code == 2 and "folds (segm_val.json)" in outcome.stderr


def test_predictions_of_folds_come_first(data: Path) -> None:
    (data / "out").mkdir()
    (data / "out/segm.json").write_text("[]")
    (data / "found.json").rename(data / "out/segm_val.json")
    outcome = run_cli("label_review", data / "out", Global__dataset_dir=data)
    assert outcome.code == 0, outcome.stderr
    assert read_result(data / "out", "label_review")["predictions"]["detections"] == 2 * NUM_IMAGES


def test_without_detections_only_duplicates_are_suspects(data: Path) -> None:
    (data / "found.json").write_text("[]")
    assert {one["kind"] for one in review(data)} == {"duplicate"}


def test_without_suspects_the_folder_has_only_the_list(data: Path) -> None:
    document = json.loads(truth(data).read_text(encoding="utf-8"))
    truth(data).write_text(json.dumps({**document, "annotations": []}), encoding="utf-8")
    (data / "found.json").write_text("[]")
    assert review(data) == []
    assert [path.name for path in (data / "out/label_review").iterdir()] == ["review.json"]
    assert apply(data)["annotations_added"] == 0


def test_a_missing_image_is_named_and_its_labels_are_there(data: Path) -> None:
    (data / "images/1.png").unlink()
    suspects = review(data)
    assert read_result(data / "out", "label_review")["missing_images"] == ["1.png"]
    missed = next(one for one in suspects if one["file_name"] == "1.png")
    assert (data / "out/label_review" / missed["file"]).is_file()
    edit(data, 1, accept)
    assert apply(data)["annotations_added"] >= 1


def test_hostile_class_names_survive(tmp_path: Path) -> None:
    names = ("?bolt <script>", ' wash"er\n')
    data = make_data(tmp_path / "data", lambda number: number, names)
    review(data)
    edit(data, 4, lambda shapes: None)
    before = truth(data).read_bytes()
    apply(data)
    assert truth(data).read_bytes() == before  # "?bolt" is a class here, and no proposal

    def accept_marked(shapes: Shapes) -> None:
        for shape in shapes:
            shape["label"] = shape["label"].removeprefix("??")

    edit(data, 1, accept_marked)
    assert apply(data)["annotations_added"] == 1


def test_the_folder_of_an_earlier_review_is_kept(data: Path) -> None:
    review(data)
    edit(data, 1, accept)
    review(data)
    assert (data / "out/label_review.bak/review.json").is_file()
    assert apply(data)["files_changed"] == 0


def test_holes_masks_and_parts_stay_as_they_are(data: Path) -> None:
    """RLEs in both forms, several polygons and a crowd come back as they were."""
    document = json.loads(truth(data).read_text(encoding="utf-8"))
    by_id = {one["id"]: one for one in document["annotations"]}
    by_id[8]["segmentation"] = [square(4.25, 6, 9)[0], square(14, 6, 12)[0]]
    by_id[9]["segmentation"] = {"size": [SIZE, SIZE], "counts": [2000, 30, 10, 30, 2026]}
    crowd = {**by_id[9], "id": 500, "iscrowd": 1}
    document["annotations"].append(crowd)
    truth(data).write_text(json.dumps(document), encoding="utf-8")
    review(data)
    before = truth(data).read_bytes()
    edit(data, 4, lambda shapes: None)
    assert apply(data)["files_changed"] == 1
    assert truth(data).read_bytes() == before
