"""Errors of counts and areas against counting in the rows."""

import json
from collections import Counter
from dataclasses import asdict

import pytest
from eval_problems import make_problem
from eval_tables import overlaps_of
from pycocotools import mask as coco_mask

from paddlex_seg.metrics.counts import count_errors, count_per_image
from paddlex_seg.metrics.matching import match

LIMITS = (0.4, 0.2, 0.7)


@pytest.mark.parametrize("seed", range(4))
def test_errors_are_counted_one_by_one(seed: int) -> None:
    document, rows = make_problem(seed, num_images=9)
    overlaps = overlaps_of(document, rows)
    found = count_errors(overlaps, match(overlaps), LIMITS)
    shown = [row for row in rows if row["score"] > LIMITS[row["category_id"] - 1]]
    assert 0 < len(shown) < len(rows)
    differences, areas = Counter(), Counter()
    for sign, ones in ((1, shown), (-1, document["annotations"])):
        for one in ones:
            differences[one["image_id"], one["category_id"]] += sign
            areas[one["image_id"], one["category_id"]] += sign * int(coco_mask.area(one["segmentation"]))
    for k, one in enumerate(found.classes, start=1):
        own = [differences[image, k] for image in range(1, 10)]
        assert one.mean_error == pytest.approx(sum(own) / 9)
        assert one.mean_absolute_error == pytest.approx(sum(map(abs, own)) / 9)
        assert one.part_of_images_right == pytest.approx(own.count(0) / 9)
        assert one.mean_absolute_area_error == pytest.approx(
            sum(abs(areas[image, k]) for image in range(1, 10)) / 9
        )
        total = sum(areas[image, k] for image in range(1, 10))
        assert one.found_area - one.object_area == pytest.approx(total)
        assert one.area_error == (pytest.approx(total / one.object_area) if one.object_area else None)
    assert found.all.mean_absolute_error == pytest.approx(sum(map(abs, differences.values())) / 9)
    right = [all(not differences[image, k] for k in (1, 2, 3)) for image in range(1, 10)]
    assert found.all.part_of_images_right == pytest.approx(sum(right) / 9)
    worst = max(range(1, 10), key=lambda image: sum(abs(differences[image, k]) for k in (1, 2, 3)))
    assert found.worst_by_count[0].image_id == worst
    errors = [one.absolute_error for one in found.worst_by_count]
    assert errors == sorted(errors, reverse=True)
    assert all(errors)
    assert found.worst_by_area[0].absolute_area_error == max(
        sum(abs(areas[image, k]) for k in (1, 2, 3)) for image in range(1, 10)
    )
    json.dumps(asdict(found))


def test_areas_of_right_detections_are_compared_with_those_of_their_objects() -> None:
    document, rows = make_problem(1, num_images=9)
    overlaps = overlaps_of(document, rows)
    matching = match(overlaps)
    found = count_errors(overlaps, matching, LIMITS)
    errors: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for d, g in enumerate(matching.object_of[0].tolist()):
        k = overlaps.found.class_index[d]
        if g >= 0 and overlaps.found.score[d] > LIMITS[k]:
            errors[k].append(overlaps.found.area[d] / overlaps.objects.area[g] - 1)
    for k, one in enumerate(found.classes):
        assert one.right_area_error == (pytest.approx(sum(errors[k]) / len(errors[k])) if errors[k] else None)
    everything = sum(errors.values(), [])
    assert len(everything) > 5
    assert found.all.right_area_error == pytest.approx(sum(everything) / len(everything))
    absolute = sum(map(abs, everything)) / len(everything)
    assert found.all.right_absolute_area_error == pytest.approx(absolute)


def test_crowds_are_not_counted() -> None:
    document, rows = make_problem(2, num_images=9, crowds=True)
    crowds = sum(one["iscrowd"] for one in document["annotations"])
    assert crowds
    overlaps = overlaps_of(document, rows)
    matching = match(overlaps)
    table = count_per_image(overlaps, matching, (0.0,) * 3)
    assert table.num_objects.sum() == len(document["annotations"]) - crowds
    assert table.num_found.sum() == len(rows) - matching.is_ignored[0].sum()
    assert matching.is_ignored[0].any()


def test_without_images() -> None:
    overlaps = overlaps_of({"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}, [])
    found = count_errors(overlaps, match(overlaps), (0.5,))
    assert found.all.mean_absolute_error == found.all.part_of_images_right == 0
    assert found.all.area_error is None
    assert found.worst_by_count == found.worst_by_area == ()
