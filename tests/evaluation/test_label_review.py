"""Suspicious labels, ranked: each kind of error comes first in a data set where it is the only one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from paddlex_seg.evaluation.label_review import KINDS, Suspect, review_labels
from paddlex_seg.masks.rle import mask_to_rle, rle_box_xywh, rle_to_json
from paddlex_seg.metrics.overlaps import measure_overlaps
from paddlex_seg.structures import Annotation, Category, CocoFile, Id, ImageRecord, Instances

SIZE = 64
CATEGORIES = (Category(id=1, name="bolt"), Category(id=2, name="washer"))
NUM_IMAGES = 30

Box = tuple[int, int, int, int]  # left, top, right, bottom
Found = list[tuple[int, float, Box]]  # class index, score, mask
Change = Callable[[list[Annotation], dict[Id, Found]], None]


def mask_of(box: Box) -> NDArray[np.uint8]:
    left, top, right, bottom = box
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def label(id: Id, image_id: Id, category_id: Id, box: Box, iscrowd: bool = False) -> Annotation:
    segmentation = rle_to_json(mask_to_rle(mask_of(box)))
    return Annotation(
        id=id, image_id=image_id, category_id=category_id, segmentation=segmentation, iscrowd=iscrowd
    )


def boxes_of(image: int) -> tuple[Box, Box]:
    """A bolt and a washer, at places that differ from image to image."""
    x = image % 5
    return (4 + x, 6, 24 + x, 28), (34, 30 + x, 58, 52 + x)


def instances(found: Found) -> Instances:
    found = sorted(found, key=lambda one: -one[1])
    masks = tuple(mask_to_rle(mask_of(box)) for _, _, box in found)
    boxes = np.array([rle_box_xywh(mask) for mask in masks], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Instances(
        size_hw=(SIZE, SIZE),
        class_ids=np.array([k for k, _, _ in found], np.int64),
        scores=np.array([score for _, score, _ in found], np.float32),
        boxes_xyxy=boxes,
        masks=masks,
    )


def problem(
    change: Change | None = None,
    name: Callable[[int], Id] = lambda number: number,
    num_images: int = NUM_IMAGES,
) -> tuple[CocoFile, dict[Id, Instances]]:
    """Right labels and good detections, a pixel off and with wrong ones of low scores; then a change.

    Annotation 10 i is the bolt of image i, annotation 10 i + 1 its washer. name: what numbers become as ids.
    """
    labels: list[Annotation] = []
    found: dict[Id, Found] = {}
    for image in range(num_images):
        own = boxes_of(image)
        labels += [label(10 * image + k, image, k + 1, box) for k, box in enumerate(own)]
        moved = [(left, top + image % 2, right, bottom + image % 2) for left, top, right, bottom in own]
        found[image] = [(k, 0.7 + 0.24 * image / num_images, box) for k, box in enumerate(moved)]
        found[image] += [(image % 2, 0.1 + 0.03 * image / num_images, (2, 40, 20, 60))]
    if change is not None:
        change(labels, found)
    coco = CocoFile(
        path=Path("instance_val.json"),
        images=tuple(
            ImageRecord(id=name(image), file_name=f"{image}.png", width=SIZE, height=SIZE)
            for image in range(num_images)
        ),
        annotations=tuple(
            replace(one, id=name(int(one.id)), image_id=name(int(one.image_id))) for one in labels
        ),
        categories=CATEGORIES,
    )
    return coco, {name(int(image)): instances(rows) for image, rows in found.items()}


def review(coco: CocoFile, results: dict[Id, Instances]) -> list[Suspect]:
    return review_labels(coco, results, [1, 2])


def place(labels: list[Annotation], id: Id) -> int:
    return next(i for i, one in enumerate(labels) if one.id == id)


def miss(labels: list[Annotation], found: dict[Id, Found]) -> None:
    del labels[place(labels, 171)]


def swap(labels: list[Annotation], found: dict[Id, Found]) -> None:
    i = place(labels, 171)
    labels[i] = replace(labels[i], category_id=1)


def loosen(labels: list[Annotation], found: dict[Id, Found]) -> None:
    left, top, right, bottom = boxes_of(17)[1]
    labels[place(labels, 171)] = label(171, 17, 2, (left + 6, top - 3, right + 5, bottom - 4))


def double(labels: list[Annotation], found: dict[Id, Found]) -> None:
    left, top, right, bottom = boxes_of(17)[1]
    labels.append(label(999, 17, 2, (left + 1, top, right + 1, bottom)))


def double_as_another(labels: list[Annotation], found: dict[Id, Found]) -> None:
    left, top, right, bottom = boxes_of(17)[1]
    labels.append(label(999, 17, 1, (left + 1, top, right + 1, bottom)))


def invent(labels: list[Annotation], found: dict[Id, Found]) -> None:
    labels.append(label(999, 17, 2, (36, 2, 60, 24)))


CASES = {
    "missed": (miss, None, "and no label touches it"),
    "wrong_class": (swap, 171, "The label is “bolt”. The model finds “washer” with score"),
    "loose_mask": (loosen, 171, "Masks, boundaries and boxes of “washer” usually fit with"),
    "duplicate": (double, 999, "Annotation 171"),
    "spurious": (invent, 999, "The model finds nothing here, with any score"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_comes_first_with_its_kind_and_its_reason(kind: str) -> None:
    change, annotation_id, reason = CASES[kind]
    first = review(*problem(change))[0]
    assert (first.kind, first.image_id, first.annotation_id) == (kind, 17, annotation_id)
    assert reason in first.reason
    assert first.reason.endswith(".")
    assert 0.5 < first.score <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_other_labels_are_far_behind(kind: str) -> None:
    first, *others = review(*problem(CASES[kind][0]))
    assert all(one.score < 0.6 * first.score for one in others)


def test_all_errors_at_once_are_the_first_of_the_list() -> None:
    def change(labels: list[Annotation], found: dict[Id, Found]) -> None:
        del labels[place(labels, 31)]
        i = place(labels, 91)
        labels[i] = replace(labels[i], category_id=1)
        loosen(labels, found)
        labels.append(label(998, 21, 1, boxes_of(21)[0]))
        labels.append(label(999, 25, 2, (36, 2, 60, 24)))

    found = {(one.kind, one.image_id) for one in review(*problem(change))[:5]}
    assert found == {
        ("missed", 3),
        ("wrong_class", 9),
        ("loose_mask", 17),
        ("duplicate", 21),
        ("spurious", 25),
    }


def test_a_suspect_names_the_detection_and_the_other_annotation() -> None:
    coco, results = problem(miss)
    missed = review(coco, results)[0]
    assert (missed.label, missed.proposal, missed.other_id) == (None, "washer", None)
    assert missed.position is not None
    assert results[17].class_ids[missed.position] == 1
    swapped = review(*problem(swap))[0]
    assert (swapped.label, swapped.proposal) == ("bolt", "washer")
    doubled = review(*problem(double))[0]
    assert (doubled.other_id, doubled.position, doubled.label) == (171, None, "washer")


def test_two_labels_of_two_classes_for_one_object_are_a_duplicate() -> None:
    first = review(*problem(double_as_another))[0]
    assert (first.kind, first.annotation_id, first.other_id) == ("duplicate", 999, 171)
    assert "“washer”" in first.reason


def test_right_labels_give_no_suspect_with_a_high_score() -> None:
    assert all(one.score < 0.3 for one in review(*problem()))


def test_an_annotation_is_listed_once_and_the_best_score_comes_first() -> None:
    def change(labels: list[Annotation], found: dict[Id, Found]) -> None:
        swap(labels, found)
        double(labels, found)
        invent(labels, found)
        labels[-1] = replace(labels[-1], id=1000)
        found[5] = []

    suspects = review(*problem(change))
    scores = [one.score for one in suspects]
    assert scores == sorted(scores, reverse=True)
    ids = [one.annotation_id for one in suspects if one.annotation_id is not None]
    assert len(ids) == len(set(ids)) > 0


def test_the_best_of_several_detections_of_a_missed_object_is_the_suspect() -> None:
    def change(labels: list[Annotation], found: dict[Id, Found]) -> None:
        miss(labels, found)
        left, top, right, bottom = boxes_of(17)[1]
        found[17] += [(0, 0.8, (left, top, right, bottom)), (1, 0.79, (left + 2, top, right + 2, bottom))]

    here = [one for one in review(*problem(change)) if one.kind == "missed" and one.image_id == 17]
    assert [one.proposal for one in here if one.score > 0.3] == ["washer"]


def test_low_scores_of_a_model_count_if_they_are_right() -> None:
    def change(labels: list[Annotation], found: dict[Id, Found]) -> None:
        miss(labels, found)
        for image, rows in found.items():
            found[image] = [(k, 0.3 * score, box) for k, score, box in rows]

    first = review(*problem(change))[0]
    assert (first.kind, first.image_id) == ("missed", 17)
    assert first.score > 0.5


def test_a_detection_inside_a_crowd_misses_no_label_and_a_crowd_is_not_suspected() -> None:
    def change(labels: list[Annotation], found: dict[Id, Found]) -> None:
        miss(labels, found)
        labels.append(label(999, 17, 1, (30, 20, 64, 64), iscrowd=True))  # around the missing washer
        labels.append(label(1000, 18, 2, (30, 0, 64, 24), iscrowd=True))  # where the model finds nothing
        labels.append(label(1001, 18, 2, (30, 0, 64, 24), iscrowd=True))

    suspects = review(*problem(change))
    assert not [one for one in suspects if one.kind == "missed" and one.image_id == 17 and one.score > 0.3]
    assert not {999, 1000, 1001} & {one.annotation_id for one in suspects}


def test_a_weak_model_makes_no_label_spurious() -> None:
    def change(labels: list[Annotation], found: dict[Id, Found]) -> None:
        invent(labels, found)
        for image in range(0, NUM_IMAGES, 2):
            found[image] = []
        for image in range(1, NUM_IMAGES, 4):
            found[image] = found[image][:1]

    suspects = [one for one in review(*problem(change)) if one.kind == "spurious"]
    assert all(one.score < 0.35 for one in suspects)


def test_a_label_in_an_image_where_nothing_is_found_is_spurious() -> None:
    def change(labels: list[Annotation], found: dict[Id, Found]) -> None:
        labels[:] = [one for one in labels if one.id != 171]
        found[17] = []

    coco, results = problem(change)
    first = review(coco, results)[0]
    assert (first.kind, first.annotation_id) == ("spurious", 170)
    del results[17]  # not predicted: nothing is known
    assert not [one for one in review(coco, results) if one.annotation_id == 170]


def test_a_model_with_loose_masks_says_less_about_loose_labels() -> None:
    def change(labels: list[Annotation], found: dict[Id, Found]) -> None:
        loosen(labels, found)
        for image, rows in found.items():  # the lower quarter is missing in all masks
            found[image] = [(k, score, (x1, y1, x2, y2 - 5)) for k, score, (x1, y1, x2, y2) in rows]

    sharp, blunt = (
        next(one.score for one in review(*problem(case)) if one.annotation_id == 171)
        for case in (loosen, change)
    )
    assert blunt < 0.7 * sharp


@pytest.mark.filterwarnings("error")
def test_a_model_that_finds_other_things_makes_no_label_spurious() -> None:
    def change(labels: list[Annotation], found: dict[Id, Found]) -> None:
        for image in found:
            found[image] = [(0, 0.9, (2, 40, 20, 60))]

    assert [one for one in review(*problem(change)) if one.score > 0.1] == []


@pytest.mark.parametrize("is_found", [False, True])
def test_a_class_that_the_model_does_not_know_is_not_wrong(is_found: bool) -> None:
    def change(labels: list[Annotation], found: dict[Id, Found]) -> None:
        labels[:] = [one for one in labels if one.category_id == 1 or int(one.image_id) < 8]
        for image in range(8, 300):
            found[image] = [found[image][0]]
        for image in range(8):  # washers are taken for bolts, or not found
            rows = [(0, 0.8, box) for _, _, box in found[image][:2]]
            found[image] = rows if is_found else rows[:1]

    suspects = review(*problem(change, num_images=300))
    assert all(one.score < 0.4 for one in suspects)
    assert sum(one.label == "washer" for one in suspects) == 8


def test_scores_that_are_rarely_right_make_no_object_missed() -> None:
    def change(labels: list[Annotation], found: dict[Id, Found]) -> None:
        for image in range(NUM_IMAGES):  # confident, and wrong
            found[image] = [*found[image], (0, 0.95, (36, 2, 60, 24))]

    assert all(one.score < 0.2 for one in review(*problem(change)) if one.kind == "missed")


@pytest.mark.parametrize("is_empty", [False, True], ids=["no image is in the results", "empty results"])
def test_without_detections_only_duplicates_are_found(is_empty: bool) -> None:
    coco, _ = problem(double)
    results: dict[Id, Instances] = {image.id: instances([]) for image in coco.images} if is_empty else {}
    assert [(one.kind, one.annotation_id) for one in review(coco, results)] == [("duplicate", 999)]


def test_without_labels_nothing_is_known_about_detections() -> None:
    coco, results = problem()
    assert review(replace(coco, annotations=()), results) == []


def test_without_images_there_is_nothing() -> None:
    coco, _ = problem()
    assert review(replace(coco, images=(), annotations=()), {}) == []


def test_ids_may_be_text_or_huge() -> None:
    for name in (lambda number: f"no <{number}>", lambda number: 2**80 + number):
        for kind, (change, id, _) in CASES.items():
            first = review(*problem(change, name))[0]
            expected = None if id is None else name(id)
            assert (first.kind, first.image_id, first.annotation_id) == (kind, name(17), expected)


def test_a_long_class_name_is_shortened_in_the_reason() -> None:
    coco, results = problem(swap)
    names = tuple(replace(one, name=one.name + "<script>" * 50) for one in coco.categories)
    first = review(replace(coco, categories=names), results)[0]
    assert first.label == names[0].name
    assert len(first.reason) < 300


def test_a_table_that_is_there_already_gives_the_same_list() -> None:
    coco, results = problem(loosen)
    table = measure_overlaps(coco, results, [1, 2])
    assert review_labels(coco, results, [1, 2], overlaps=table) == review(coco, results)
