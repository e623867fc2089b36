"""The confusion matrix: its sums against the counts of the curves, and single cases."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from eval_problems import make_problem
from eval_tables import overlaps_of
from made_instances import rectangle

from paddlex_seg.masks.rle import mask_to_rle, rle_to_json
from paddlex_seg.metrics.confusion import Confusion, confusion
from paddlex_seg.metrics.curves import curves
from paddlex_seg.metrics.matching import match

A, B = (10, 10, 30, 30), (45, 10, 65, 30)


def matrix_of(
    objects: list[tuple[int, Any]], found: list[tuple[int, Any, float]], threshold: float = 0.0
) -> list[list[int]]:
    def mask(box: Any) -> dict[str, Any]:
        return rle_to_json(mask_to_rle(rectangle(box)))

    document = {
        "images": [{"id": 1, "height": 60, "width": 80}],
        "categories": [{"id": id, "name": f"class {id}"} for id in (1, 2)],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": k, "segmentation": mask(box)}
            for i, (k, box) in enumerate(objects)
        ],
    }
    rows = [
        {"image_id": 1, "category_id": k, "segmentation": mask(box), "score": score}
        for k, box, score in found
    ]
    overlaps = overlaps_of(document, rows)
    return [list(row) for row in confusion(overlaps, match(overlaps), (threshold, threshold)).matrix]


@pytest.mark.parametrize("seed", range(8))
def test_the_sums_are_the_objects_and_the_detections(seed: int) -> None:
    document, rows = make_problem(seed, num_images=12, crowds=True, ties=seed % 2 == 0)
    overlaps = overlaps_of(document, rows)
    matching = match(overlaps)
    found = curves(overlaps, matching)
    result = confusion(overlaps, matching, found.thresholds())
    matrix = np.array(result.matrix)
    assert matrix[:-1].sum(axis=1).tolist() == [one.num_objects for one in found.classes]
    for k, curve in enumerate(found.classes):
        if curve.best is not None:
            assert matrix[k, k] == curve.best.num_right
            assert matrix[:, k].sum() == curve.best.num_right + curve.best.num_wrong
    assert matrix[-1, -1] == 0
    json.dumps(asdict(result))


def test_some_problem_confuses_classes() -> None:
    overlaps = overlaps_of(*make_problem(1, num_images=12))
    square = np.array(confusion(overlaps, match(overlaps), (0.1,) * 3).matrix)[:-1, :-1]
    assert square.sum() > square.trace()


def test_a_right_detection_comes_before_a_better_overlap_of_another_class() -> None:
    assert matrix_of([(1, A)], [(2, A, 0.9), (1, (10, 10, 30, 26), 0.3)]) == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_an_object_is_found_once() -> None:
    assert matrix_of([(1, A)], [(2, A, 0.9), (2, A, 0.8)]) == [[0, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_the_better_overlap_gets_the_object_of_another_class() -> None:
    """The second detection overlaps both objects, the first one only one of them."""
    middle, other = (10, 10, 30, 23), (10, 10, 30, 38)
    assert matrix_of([(1, A), (1, other)], [(2, A, 0.3), (2, middle, 0.9)]) == [
        [0, 1, 1],
        [0, 0, 0],
        [0, 1, 0],
    ]


def test_several_objects_of_an_image_are_confused() -> None:
    assert matrix_of([(1, A), (1, B)], [(2, A, 0.9), (2, B, 0.8)]) == [[0, 2, 0], [0, 0, 0], [0, 0, 0]]


def test_a_detection_has_one_object() -> None:
    objects, other = [(1, A), (1, (10, 10, 30, 38))], (10, 20, 30, 38)
    assert matrix_of(objects, [(2, A, 0.9)]) == [[0, 1, 1], [0, 0, 0], [0, 0, 0]]
    # The first one overlaps the second object more than the second one does, but has one already.
    assert matrix_of(objects, [(2, A, 0.9), (2, other, 0.8)]) == [[0, 2, 0], [0, 0, 0], [0, 0, 0]]


def test_missed_spurious_and_below_the_threshold() -> None:
    assert matrix_of([(1, A), (2, B)], [(1, A, 0.4), (2, (0, 40, 9, 50), 0.8)], threshold=0.5) == [
        [0, 0, 1],
        [0, 0, 1],
        [0, 1, 0],
    ]


def test_without_classes_or_images() -> None:
    overlaps = overlaps_of({"images": [], "annotations": [], "categories": []}, [])
    assert confusion(overlaps, match(overlaps), ()) == Confusion((), 0.5, (), ((0,),))
