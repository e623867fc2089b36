"""Mode label_review: suspicious labels as LabelMe files, and what a person corrected read back."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from command_line import Outcome, read_result, run_cli

from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.masks.rle import annotation_to_rle, mask_to_rle, rle_area, rle_to_json, rle_to_mask

SIZE = 64
NUM_IMAGES = 12
Shapes = list[dict[str, Any]]

# Annotation 2 i is the bolt of image i, 2 i + 1 its washer. What is wrong with them:
MISSED, SWAPPED, LOOSE, DOUBLE, INVENTED = 3, 5, 7, 100, 101


def square(left: float, top: float, side: float = 20) -> list[float]:
    """Closed: the last corner repeats the first, as many tools write it and LabelMe does not."""
    return [left, top, left + side, top, left + side, top + side, left, top + side, left, top]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set with one label error of each kind, and detections of a good model."""
    return make_data(tmp_path / "Daten ß")


def make_data(
    folder: Path,
    id_of: Callable[[int], Any] = int,
    names: tuple[str, str] = ("bolt", "washer"),
    image_name: str = "{}.png",
) -> Path:
    """Record i has the id ``id_of(i)``. Each annotation has a number in a spelling of its own."""
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    annotations, rows = [], []
    for image in range(NUM_IMAGES):
        pixels = cv2.imencode(".png", np.full((SIZE, SIZE, 3), 10 * image, np.uint8))[1]
        (folder / "images" / image_name.format(image)).write_bytes(pixels.tobytes())
        for kind, polygon in enumerate([square(4 + image % 3, 6), square(36, 36 - image % 5)]):
            annotations.append(entry(id_of(2 * image + kind), id_of(image), kind + 1, polygon))
            rows.append({**entry(0, id_of(image), kind + 1, polygon), "score": 0.8 + 0.01 * image})
    del annotations[MISSED]
    by_id = {one["id"]: one for one in annotations}
    by_id[id_of(SWAPPED)]["category_id"] = 1
    by_id[id_of(LOOSE)]["segmentation"] = [square(42, 30)]
    annotations.append(entry(id_of(DOUBLE), id_of(4), 1, square(5.5, 6)))
    annotations.append(entry(id_of(INVENTED), id_of(9), 2, square(4, 42, 12)))
    document = {
        "info": {"annotations": [1], "von": 'ß ]} \\ "'},
        "images": [
            {"id": id_of(image), "file_name": image_name.format(image), "width": SIZE, "height": SIZE}
            for image in range(NUM_IMAGES)
        ],
        "annotations": annotations,
        "categories": [{"id": id, "name": one} for id, one in enumerate(names, start=1)],
    }
    text = json.dumps(document, indent=1).replace('"note": 1', '"note": 1.50e0')
    for part in ("train", "val"):
        (folder / f"annotations/instance_{part}.json").write_text(text, encoding="utf-8")
    (folder / "found.json").write_text(json.dumps(rows))
    return folder


def entry(id: Any, image_id: Any, category_id: int, polygon: list[float]) -> dict[str, Any]:
    left, top, right = polygon[:3]
    side = right - left
    return {
        "id": id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": [polygon],
        "bbox": [left, top, side, side],
        "area": side**2,
        "iscrowd": 0,
        "note": 1,
    }


def run(data: Path, **options: Any) -> Outcome:
    return run_cli("label_review", data / "out", Global__dataset_dir=data, **options)


def review(data: Path, **options: Any) -> dict[str, Any]:
    """Run the review. Returns its result."""
    settings = {"LabelReview__predictions": data / "found.json", **options}
    outcome = run(data, **settings)
    assert outcome.code == 0, outcome.stderr
    return read_result(data / "out", "label_review")


def apply(data: Path) -> dict[str, Any]:
    outcome = run(data, LabelReview__apply=folder(data))
    assert outcome.code == 0, outcome.stderr
    return read_result(data / "out", "label_review")


def refused(data: Path) -> str:
    """Apply with an error. Returns the message, after a look that nothing was written."""
    before = {path: path.read_bytes() for path in data.rglob("*.json") if "_result" not in path.name}
    outcome = run(data, LabelReview__apply=folder(data))
    assert outcome.code == 3
    assert {path: path.read_bytes() for path in before} == before
    return outcome.stderr


def folder(data: Path) -> Path:
    return data / "out" / "label_review"


def content(data: Path) -> dict[str, Any]:
    return dict(json.loads((folder(data) / "review.json").read_text(encoding="utf-8")))


def truth(data: Path) -> Path:
    return data / "annotations/instance_val.json"


def records(data: Path) -> dict[Any, str]:
    """The text of each annotation by id, as it stands in the file."""
    text = truth(data).read_text(encoding="utf-8")
    inside = text[text.rindex('"annotations": [') : text.index('"categories"')]
    found = re.findall(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}", inside)
    return {json.loads(one)["id"]: one for one in found}


def file_of(data: Path, image: Any) -> Path:
    return folder(data) / next(one["file"] for one in content(data)["images"] if one["image_id"] == image)


def edit(data: Path, image: Any, change: Callable[[Shapes], Any] = lambda shapes: None) -> None:
    """Change the shapes of an image and save as LabelMe 5.8 does.

    It leaves out corners that repeat the first one, and writes masks anew.
    """
    path = file_of(data, image)
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document["shapes"])
    for shape in document["shapes"]:
        first, *others = shape["points"]
        shape["points"] = [list(map(float, one)) for one in (first, *(one for one in others if one != first))]
    document["version"] = "5.8.3"
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")


def rename(before: str, after: str) -> Callable[[Shapes], None]:
    def change(shapes: Shapes) -> None:
        named = [shape for shape in shapes if shape["label"] == before]
        assert named, [shape["label"] for shape in shapes]
        for shape in named:
            shape["label"] = after

    return change


def delete(label: str) -> Callable[[Shapes], None]:
    def change(shapes: Shapes) -> None:
        kept = [shape for shape in shapes if shape["label"] != label]
        assert len(kept) < len(shapes)
        shapes[:] = kept

    return change


def correct_all(data: Path, id_of: Callable[[int], Any] = int) -> None:
    """Answer each question as it should be."""
    edit(data, id_of(1), rename("?washer", "washer"))
    edit(data, id_of(2), rename("bolt ?washer", "washer"))
    edit(data, id_of(3), rename("?washer", "washer"))
    edit(data, id_of(4), delete("bolt ?duplicate label"))
    edit(data, id_of(9), delete("washer ?label of nothing"))


# ---- the folder


def test_each_planted_error_is_a_question(data: Path) -> None:
    result = review(data)
    first = content(data)["suspects"][:5]
    assert {(one["kind"], one["annotation_id"], one["image_id"]) for one in first} == {
        ("missed", None, 1),
        ("wrong_class", SWAPPED, 2),
        ("loose_mask", LOOSE, 3),
        ("duplicate", DOUBLE, 4),
        ("spurious", INVENTED, 9),
    }
    assert result["suspects"] == len(content(data)["suspects"])
    assert result["kinds"]["spurious"] == 1
    labels = {
        image: [shape["label"] for shape in json.loads(file_of(data, image).read_text("utf-8"))["shapes"]]
        for image in (1, 2, 3, 4, 9)
    }
    assert labels == {
        1: ["bolt", "?washer"],
        2: ["bolt", "bolt ?washer"],
        3: ["bolt", "washer ?loose mask", "?washer"],
        4: ["bolt", "washer", "bolt ?duplicate label"],
        9: ["bolt", "washer", "washer ?label of nothing"],
    }


def test_a_labelme_file_names_the_original_image_and_says_why(data: Path) -> None:
    review(data)
    for one in content(data)["suspects"]:
        path = folder(data) / one["file"]
        document = json.loads(path.read_text(encoding="utf-8"))
        assert (path.parent / document["imagePath"]).resolve() == (data / "images" / one["image"]).resolve()
        assert path.with_suffix(".png").samefile(data / "images" / one["image"])  # to page through the folder
        asked = [shape for shape in document["shapes"] if "?" in shape["label"]]
        assert any(one["reason"] in shape["description"] for shape in asked)
        assert any(shape["flags"] == {one["kind"]: True} for shape in asked)


def test_the_list_is_a_table_of_the_suspects(data: Path) -> None:
    review(data)
    with (folder(data) / "review.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    suspects = content(data)["suspects"]
    assert [row["reason"] for row in rows] == [one["reason"] for one in suspects]
    assert [row["annotation_id"] for row in rows] == [
        "" if one["annotation_id"] is None else str(one["annotation_id"]) for one in suspects
    ]


def test_only_the_most_suspicious_labels_on_request(data: Path) -> None:
    everything = review(data)["suspects"]
    result = review(data, LabelReview__max_suspects=2)
    assert (result["suspects"], result["suspects_left_out"]) == (2, everything - 2)
    assert len(list(folder(data).glob("*.json"))) == 1 + result["images"]


def test_a_folder_of_an_earlier_review_is_kept(data: Path) -> None:
    review(data)
    edit(data, 1, rename("?washer", "washer"))
    edited = file_of(data, 1).read_bytes()
    name = file_of(data, 1).name
    review(data)
    assert (data / "out" / "label_review.bak" / name).read_bytes() == edited


# ---- the way back


@pytest.mark.parametrize(
    "id_of",
    [int, lambda number: 2**70 + number, lambda number: f"<{number}>\n"],
    ids=["numbers", "beyond 64 bits", "text"],
)
def test_corrections_end_in_the_annotation_file(tmp_path: Path, id_of: Callable[[int], Any]) -> None:
    data = make_data(tmp_path, id_of)
    before, old = records(data), truth(data).read_bytes()
    review(data)
    correct_all(data, id_of)
    result = apply(data)
    after = records(data)
    touched = {id_of(SWAPPED), id_of(LOOSE), id_of(DOUBLE), id_of(INVENTED)}
    assert {id: after[id] for id in before if id not in touched} == {
        id: before[id] for id in before if id not in touched
    }
    assert id_of(DOUBLE) not in after and id_of(INVENTED) not in after
    swapped = json.loads(after[id_of(SWAPPED)])
    assert swapped == {**json.loads(before[id_of(SWAPPED)]), "category_id": 2}
    loose = json.loads(after[id_of(LOOSE)])
    assert loose["bbox"] == [36, 33, 20, 20] and loose["area"] == 400 and loose["note"] == 1.5
    (new,) = after.keys() - before.keys()
    assert isinstance(new, str if isinstance(id_of(0), str) else int)
    added = json.loads(after[new])
    assert (added["image_id"], added["category_id"], added["bbox"]) == (id_of(1), 2, [36, 35, 20, 20])
    assert truth(data).with_name("instance_val.json.bak").read_bytes() == old
    expected = {"added": 1, "deleted": 2, "renamed": 1, "redrawn": 1, "proposals_accepted": 2}
    assert {key: result[key] for key in expected} == expected
    read_coco(truth(data))


def test_to_apply_twice_is_to_apply_once(data: Path) -> None:
    review(data)
    correct_all(data)
    apply(data)
    once = truth(data).read_bytes()
    result = apply(data)
    assert truth(data).read_bytes() == once
    assert result["images_changed"] == 0
    assert not truth(data).with_name("instance_val.json.bak.1").exists()


def test_a_run_that_was_killed_before_the_file_was_written_is_completed(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    review(data)
    correct_all(data)
    with monkeypatch.context() as patch:
        patch.setattr("paddlex_seg.modes.label_corrections.publish", lambda root, files: None)
        apply(data)
    assert apply(data)["images_changed"] == 5
    once = truth(data).read_bytes()
    assert apply(data)["images_changed"] == 0
    assert truth(data).read_bytes() == once


def test_corrections_can_be_taken_back(data: Path) -> None:
    before = records(data)
    review(data)
    originals = {image: file_of(data, image).read_bytes() for image in (1, 2, 3, 4, 9)}
    correct_all(data)
    apply(data)
    for image, text in originals.items():
        file_of(data, image).write_bytes(text)
    apply(data)
    assert records(data) == before


def test_an_image_that_is_edited_again_keeps_the_ids_of_its_new_objects(data: Path) -> None:
    review(data)
    edit(data, 1, rename("?washer", "washer"))
    apply(data)
    (new,) = (
        records(data).keys() - {id for one in content(data)["images"] for id in ids_in(one)} - set(range(102))
    )
    added = records(data)[new]
    edit(data, 1, delete("bolt"))
    result = apply(data)
    assert result["images_changed"] == 1
    assert records(data)[new] == added
    assert 2 not in records(data)


def ids_in(image: dict[str, Any]) -> set[Any]:
    return {json.loads(text)["id"] for text in image["annotations"]}


def test_nothing_changes_when_questions_are_left_alone(data: Path) -> None:
    old = truth(data).read_bytes()
    review(data)
    for one in content(data)["images"]:
        edit(data, one["image_id"])
    result = apply(data)
    assert truth(data).read_bytes() == old
    assert result["images_changed"] == 0


def test_a_tool_that_drops_unknown_keys_changes_nothing(data: Path) -> None:
    old = truth(data).read_bytes()
    review(data)

    def drop(shapes: Shapes) -> None:
        for shape in shapes:
            del shape["review_shape"]
        shapes.reverse()

    for one in content(data)["images"]:
        edit(data, one["image_id"], drop)
    apply(data)
    assert truth(data).read_bytes() == old


def test_the_question_may_be_taken_out_of_a_label(data: Path) -> None:
    old = truth(data).read_bytes()
    review(data)
    edit(data, 4, rename("bolt ?duplicate label", "bolt"))
    apply(data)
    assert truth(data).read_bytes() == old


def test_a_moved_corner_changes_one_mask(data: Path) -> None:
    before = records(data)
    review(data)

    def move(shapes: Shapes) -> None:
        shapes[0]["points"][2] = [40, 40]

    edit(data, 4, move)
    apply(data)
    after = records(data)
    assert [id for id in before if after[id] != before[id]] == [8]
    changed = json.loads(after[8])
    assert changed["segmentation"] == [[5, 6, 25, 6, 40, 40, 5, 26]]
    assert changed["area"] == rle_area(annotation_to_rle(read_coco(truth(data)).annotations[7], SIZE, SIZE))


def test_a_copied_and_a_drawn_shape_are_new_objects(data: Path) -> None:
    before = records(data)
    review(data)

    def draw(shapes: Shapes) -> None:
        copied = {**shapes[0], "points": [[x + 8, y + 8] for x, y in shapes[0]["points"]]}
        plain = {"label": "washer", "points": [[1, 1], [9, 9]], "shape_type": "rectangle", "group_id": None}
        shapes += [copied, plain]

    edit(data, 4, draw)
    apply(data)
    after = records(data)
    assert {id: after[id] for id in before} == before
    new = [json.loads(after[id]) for id in after.keys() - before.keys()]
    assert sorted((one["id"], one["category_id"], one["bbox"]) for one in new) == [
        (102, 1, [13, 14, 20, 20]),
        (103, 2, [1, 1, 8, 8]),
    ]
    order = list(after)
    assert order[order.index(DOUBLE) + 1 :][:2] == [102, 103]  # behind the other ones of their image


def test_removed_files_leave_their_images_alone(data: Path) -> None:
    old = truth(data).read_bytes()
    review(data)
    correct_all(data)
    for one in content(data)["images"]:
        (folder(data) / one["file"]).unlink()
    result = apply(data)
    assert truth(data).read_bytes() == old
    assert result["files_removed"] == len(content(data)["images"])


def test_other_images_may_change_between_review_and_apply(data: Path) -> None:
    review(data)
    correct_all(data)
    text = truth(data).read_text(encoding="utf-8")
    changed = text.replace(records(data)[0], records(data)[0].replace("1.50e0", "7.00"))
    assert changed != text
    truth(data).write_text(changed, encoding="utf-8")
    apply(data)
    assert "7.00" in records(data)[0]
    assert INVENTED not in records(data)


def test_an_image_that_changed_since_the_review_is_refused(data: Path) -> None:
    review(data)
    correct_all(data)
    text = truth(data).read_text(encoding="utf-8")
    own = records(data)[INVENTED]
    truth(data).write_text(text.replace(own, own.replace("1.50e0", "2")), encoding="utf-8")
    message = refused(data)
    assert "9.png" in message and "has other annotations now" in message and "1 problem" in message


def add_shape(**changes: Any) -> Callable[[Shapes], None]:
    def change(shapes: Shapes) -> None:
        shapes.append(
            {"label": "bolt", "points": [[1, 1], [9, 1], [9, 9]], "shape_type": "polygon", **changes}
        )

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename("bolt", "nut"), "label 'nut', which is no class"),
        (add_shape(label="?washer"), "To accept a proposal, rename it to 'washer'"),
        (add_shape(label=None), "has the label null"),
        (add_shape(points=[[1, 1], [2, 2]]), "an object 'bolt' has no mask"),
        (add_shape(points=[[900, 900], [901, 900], [901, 901]]), "covers no pixel"),
        (add_shape(shape_type="point", points=[[1, 1]]), "has no area"),
    ],
    ids=["unknown class", "proposal without key", "no label", "two corners", "outside", "point"],
)
def test_wrong_shapes_are_told_and_nothing_is_written(
    data: Path, change: Callable[[Shapes], None], message: str
) -> None:
    review(data)
    correct_all(data)
    edit(data, 4, change)
    told = refused(data)
    assert message in told and file_of(data, 4).name in told and "Nothing was written" in told


def test_all_problems_of_all_files_are_told(data: Path) -> None:
    review(data)
    correct_all(data)
    file_of(data, 1).write_text('{"shapes": [')
    file_of(data, 2).write_text('{"a": 1}')
    document = json.loads(file_of(data, 3).read_text(encoding="utf-8"))
    file_of(data, 3).write_text(json.dumps({**document, "imagePath": "../images/11.png"}))
    (folder(data) / "other.json").write_text("{}")
    told = refused(data)
    assert "4 problems" in told
    for part in ("not JSON", "no list 'shapes'", "imagePath is '../images/11.png'", "other.json"):
        assert part in told


def test_a_proposal_and_its_label_are_not_both_taken(data: Path) -> None:
    review(data)
    edit(
        data,
        3,
        lambda shapes: (rename("?washer", "washer")(shapes), rename("washer ?loose mask", "bolt")(shapes)),
    )
    assert "Keep one of the two" in refused(data)


def test_a_review_that_is_none_is_told(data: Path, tmp_path: Path) -> None:
    outcome = run(data, LabelReview__apply=tmp_path)
    assert outcome.code == 3 and "has no review.json" in outcome.stderr
    review(data)
    (folder(data) / "review.json").write_text('{"version": 1}')
    assert "not as mode label_review writes it" in refused(data)


# ---- masks that are no single polygon


@pytest.fixture
def odd(data: Path) -> tuple[Path, dict[int, Any]]:
    """Image 9 also has a ring as an RLE (201), two parts (202), a crowd (203) and an empty mask (204)."""
    ring = np.zeros((SIZE, SIZE), np.uint8)
    ring[2:16, 40:60] = 1
    ring[5:12, 45:52] = 0
    crowd = np.zeros((SIZE, SIZE), np.uint8)
    crowd[50:60, 40:60:2] = 1
    masks = {
        201: rle_to_json(mask_to_rle(ring)),
        202: [square(30, 2, 5), square(30, 10, 5)],
        203: rle_to_json(mask_to_rle(crowd)),
        204: rle_to_json(mask_to_rle(np.zeros((SIZE, SIZE), np.uint8))),
    }
    document = json.loads(truth(data).read_text(encoding="utf-8"))
    for id, mask in masks.items():
        one = {**entry(id, 9, 1, square(1, 1)), "segmentation": mask, "iscrowd": int(id == 203)}
        document["annotations"].append(one)
    truth(data).write_text(json.dumps(document, indent=1), encoding="utf-8")
    rows = json.loads((data / "found.json").read_text())
    for id in (201, 202):
        rows.append({"image_id": 9, "category_id": 1, "segmentation": masks[id], "score": 0.89})
    (data / "found.json").write_text(json.dumps(rows))
    return data, masks


def test_holes_parts_crowds_and_empty_masks_stay_as_they_are(odd: tuple[Path, dict[int, Any]]) -> None:
    data, masks = odd
    before = records(data)
    review(data)
    edit(data, 9, delete("washer ?label of nothing"))
    apply(data)
    after = records(data)
    assert before.keys() - after.keys() == {INVENTED}
    assert all(after[id] == before[id] for id in after)


def test_another_class_keeps_the_exact_mask(odd: tuple[Path, dict[int, Any]]) -> None:
    data, masks = odd
    review(data)
    edit(data, 9, rename("bolt", "washer"))
    apply(data)
    for id, mask in masks.items():
        if id == 204:
            continue
        one = json.loads(records(data)[id])
        assert (one["category_id"], one["segmentation"], one["iscrowd"]) == (2, mask, int(id == 203))


def test_parts_are_renamed_together(odd: tuple[Path, dict[int, Any]]) -> None:
    data, _ = odd
    review(data)

    def tear(shapes: Shapes) -> None:
        next(shape for shape in shapes if shape["group_id"] is not None)["label"] = "washer"

    edit(data, 9, tear)
    assert "Give all parts the same label" in refused(data)


def test_a_deleted_part_changes_its_object(odd: tuple[Path, dict[int, Any]]) -> None:
    data, masks = odd
    review(data)
    edit(data, 9, lambda shapes: shapes.remove(next(one for one in shapes if one["group_id"] is not None)))
    apply(data)
    assert json.loads(records(data)[202])["segmentation"] == [masks[202][1][:-2]]


def test_a_proposal_with_parts_and_holes_is_accepted_whole(odd: tuple[Path, dict[int, Any]]) -> None:
    """One of its parts is renamed. The hole is there, although LabelMe leaves out repeated corners."""
    data, masks = odd
    found = np.zeros((SIZE, SIZE), np.uint8)
    found[2:16, 40:60] = 1
    found[5:12, 45:52] = 0
    found[2:8, 2:8] = 1
    rows = json.loads((data / "found.json").read_text())
    rows.append(
        {"image_id": 10, "category_id": 1, "segmentation": rle_to_json(mask_to_rle(found)), "score": 0.9}
    )
    (data / "found.json").write_text(json.dumps(rows))
    review(data)
    before = records(data)

    def accept_part(shapes: Shapes) -> None:
        parts = [shape for shape in shapes if shape["label"] == "?bolt"]
        assert len(parts) == 2
        parts[1]["label"] = "bolt"

    edit(data, 10, accept_part)
    apply(data)
    (new,) = records(data).keys() - before.keys()
    (added,) = (one for one in read_coco(truth(data)).annotations if one.id == new)
    assert np.array_equal(rle_to_mask(annotation_to_rle(added, SIZE, SIZE)), found)


# ---- what may be missing or odd


def test_without_detections_only_duplicates_are_asked_about(data: Path) -> None:
    (data / "found.json").write_text("[]")
    review(data)
    assert {one["kind"] for one in content(data)["suspects"]} == {"duplicate"}


def test_without_suspects_there_is_nothing_to_correct(data: Path) -> None:
    (data / "found.json").write_text("[]")
    document = json.loads(truth(data).read_text(encoding="utf-8"))
    document["annotations"] = []
    truth(data).write_text(json.dumps(document))
    old = truth(data).read_bytes()
    assert review(data)["suspects"] == 0
    assert {path.name for path in folder(data).iterdir()} == {"review.json", "review.csv"}
    assert apply(data)["images_changed"] == 0
    assert truth(data).read_bytes() == old


def test_a_first_object_goes_into_an_empty_list(data: Path) -> None:
    document = json.loads(truth(data).read_text(encoding="utf-8"))
    document["annotations"] = [one for one in document["annotations"] if one["image_id"] != 1]
    truth(data).write_text(json.dumps(document))
    review(data)
    edit(data, 1, rename("?washer", "washer"))
    apply(data)
    assert [json.loads(one)["image_id"] for one in records(data).values()][-1] == 1


def test_missing_images_are_counted_and_listed(data: Path) -> None:
    (data / "images" / "9.png").unlink()
    outcome = run(data, LabelReview__predictions=data / "found.json")
    assert outcome.code == 0 and "1 images with suspects were not found" in outcome.stdout
    result = read_result(data / "out", "label_review")
    assert result["images_not_found"] == 1
    (listed,) = (one for one in content(data)["suspects"] if one["annotation_id"] == INVENTED)
    assert listed["file"] is None


def test_without_predictions_the_message_says_what_makes_them(data: Path) -> None:
    outcome = run(data)
    assert outcome.code == 2 and "Run mode folds or evaluate first" in outcome.stderr


def test_predictions_of_folds_come_before_those_of_evaluate(data: Path) -> None:
    (data / "out").mkdir()
    (data / "out" / "segm.json").write_text("[]")
    (data / "out" / "segm_val.json").write_bytes((data / "found.json").read_bytes())
    outcome = run(data)
    assert outcome.code == 0, outcome.stderr
    assert read_result(data / "out", "label_review")["kinds"]["missed"] == 1


def test_boxes_alone_are_refused(data: Path) -> None:
    rows = json.loads((data / "found.json").read_text())
    for row in rows:
        del row["segmentation"]
    (data / "found.json").write_text(json.dumps(rows))
    outcome = run(data, LabelReview__predictions=data / "found.json")
    assert outcome.code == 3 and "boxes only" in outcome.stderr


def test_hostile_names_survive(tmp_path: Path) -> None:
    names = ("?bolt", '=1+1"<script>\n')
    data = make_data(tmp_path / "größe", names=names, image_name="ä <b>'{}.png")
    review(data)
    shapes = json.loads(file_of(data, 1).read_text(encoding="utf-8"))["shapes"]
    assert [shape["label"] for shape in shapes] == ["?bolt", f"??{names[1]}"]
    edit(data, 1, rename(f"??{names[1]}", names[1]))
    edit(data, 2, rename(f"?bolt ??{names[1]}", names[1]))
    assert apply(data)["images_changed"] == 2
    assert json.loads(records(data)[SWAPPED])["category_id"] == 2
    with (folder(data) / "review.csv").open(encoding="utf-8-sig", newline="") as file:
        assert all(not cell.startswith("=") for row in csv.reader(file) for cell in row)


def test_an_annotation_file_with_a_mark_keeps_it(data: Path) -> None:
    truth(data).write_bytes(b"\xef\xbb\xbf" + truth(data).read_bytes())
    review(data)
    correct_all(data)
    apply(data)
    assert truth(data).read_bytes().startswith(b"\xef\xbb\xbf{")
    read_coco(truth(data))


def test_another_encoding_is_refused_before_anybody_works_on_it(data: Path) -> None:
    truth(data).write_bytes(truth(data).read_text(encoding="utf-8").encode("utf-16"))
    outcome = run(data, LabelReview__predictions=data / "found.json")
    assert outcome.code == 3 and "Only UTF-8 can be changed in place" in outcome.stderr


def test_an_annotation_file_that_was_moved_is_named(data: Path) -> None:
    review(data)
    truth(data).rename(data / "moved.json")
    assert "correct the path under 'annotations'" in refused(data)
