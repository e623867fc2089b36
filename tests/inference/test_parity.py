"""What counts as the same result, and what does not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_instances import disc, instances_of, rectangle

from paddlex_seg.inference.parity import Comparison, Finding, Limits, compare, limits_for
from paddlex_seg.structures import Instances

LABELS = ("leaf", "stem")


def many() -> Finding:
    """Sixty objects in two images, with masks that overlap."""
    images = {
        name: instances_of(
            [disc((10 + 2 * i, 15 + i), 9) for i in range(30)],
            class_ids=[i % 2 for i in range(30)],
            scores=[0.9 - 0.025 * i for i in range(30)],
        )
        for name in ("a", "b")
    }
    return Finding(LABELS, images)


def changed(finding: Finding, change: Callable[[Instances], Instances], only: str | None = None) -> Finding:
    images = {
        name: change(found) if only in (None, name) else found for name, found in finding.images.items()
    }
    return replace(finding, images=images)


def compared(change: Callable[[Instances], Instances], only: str | None = None, **limits: Any) -> Comparison:
    return compare(many(), changed(many(), change, only), replace(Limits(), **limits))


def scores_plus(number: float) -> Callable[[Instances], Instances]:
    return lambda found: replace(found, scores=found.scores + np.float32(number))


def masks_moved(found: Instances) -> Instances:
    masks = [np.roll(disc((10 + 2 * i, 15 + i), 9), 2, axis=1) for i in range(30)]
    return replace(found, masks=instances_of(masks).masks)


def test_equal_results_pass() -> None:
    result = compare(many(), many(), Limits())
    assert (result.verdict, result.problems) == ("passed", ())
    assert result.figures == {
        "detections": {"reference": 60, "candidate": 60, "pairs": 60},
        "matched": {"reference": 1.0, "candidate": 1.0},
        "mask_iou": {"mean": 1.0, "least": 1.0, "good_share": 1.0},
        "score_difference": 0.0,
        "ap": {"candidate_against_reference": 1.0, "reference_against_candidate": 1.0},
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (scores_plus(0.0015), "scores of a pair differ by 0.0015; expected at most 0.001"),
        (masks_moved, "the mean mask IoU of pairs is"),
        (lambda found: found.take(np.arange(29)), "96.67% of the 60 detections of the reference"),
        (
            lambda found: replace(found, class_ids=1 - found.class_ids),
            "the mean mask IoU of pairs is",  # neighbours overlap
        ),
        (lambda found: found.take(np.arange(0)), "0.00% of the 60 detections of the reference"),
    ],
    ids=["scores", "shifted by 2 pixels", "one is missing", "classes", "nothing"],
)
def test_other_results_fail_with_a_sentence(change: Callable[[Instances], Instances], sentence: str) -> None:
    result = compared(change)
    assert result.verdict == "failed"
    assert any(sentence in problem for problem in result.problems), result.problems


def test_a_difference_in_one_image_fails() -> None:
    assert compared(masks_moved, only="b").verdict == "failed"


def test_additional_detections_fail() -> None:
    result = compare(changed(many(), lambda found: found.take(np.arange(29))), many(), Limits())
    assert "96.67% of the 60 detections of the candidate" in result.problems[0]


def test_one_bad_pair_among_many_fails() -> None:
    masks = [rectangle((10 * i, 0, 10 * i + 10, 10)) for i in range(8)]
    other = [*masks[:7], rectangle((70, 0, 80, 8))]
    sides = [Finding(LABELS, {"a": instances_of(one)}) for one in (masks, other)]
    loose = replace(Limits(), mean_iou=0.5, good_share=0.5, ap=0.0)
    assert compare(*sides, loose).problems == ("the least mask IoU of a pair is 0.8000; expected 0.9",)
    shares = replace(Limits(), mean_iou=0.5, worst_iou=0.5, ap=0.0)
    assert compare(*sides, shares).problems == ("87.50% of the pairs have a mask IoU of 0.98; expected 99%",)


def test_the_ap_of_each_against_the_other_is_a_limit() -> None:
    result = compared(lambda found: found.take(np.arange(29)), matched=0.5)
    (problem,) = result.problems
    assert "the mask AP of the candidate against reference is" in problem
    assert result.figures["ap"]["reference_against_candidate"] > 0.98


def test_equal_results_with_more_objects_than_ap_counts_have_ap_1() -> None:
    masks = [rectangle((i % 20 * 4, i // 20 * 4, i % 20 * 4 + 3, i // 20 * 4 + 3)) for i in range(150)]
    finding = Finding(LABELS, {"a": instances_of(masks)})
    assert compare(finding, finding, Limits()).figures["ap"]["candidate_against_reference"] == 1.0


@pytest.mark.parametrize("first", [0, 1])
def test_a_detection_just_above_the_score_limit_may_have_a_partner_just_below(first: int) -> None:
    sides = [
        Finding(LABELS, {"a": instances_of([disc((20, 20), 9)], scores=[score])})
        for score in (0.0504, 0.0496)
    ]
    result = compare(sides[first], sides[1 - first], Limits())
    assert (result.verdict, result.figures["detections"]["pairs"]) == ("passed", 1)


def test_detections_below_the_score_limit_are_not_compared() -> None:
    sides = [Finding(LABELS, {"a": instances_of([disc((x, 20), 9)], scores=[0.049])}) for x in (20, 60)]
    assert compare(*sides, Limits()).verdict == "proved nothing"


def test_no_detections_prove_nothing() -> None:
    nothing = changed(many(), lambda found: found.take(np.arange(0)))
    assert compare(nothing, nothing, Limits()).verdict == "proved nothing"


def test_classes_are_compared_by_name() -> None:
    swapped = changed(many(), lambda found: replace(found, class_ids=1 - found.class_ids))
    assert compare(many(), replace(swapped, labels=LABELS[::-1]), Limits()).verdict == "passed"
    assert compare(many(), replace(many(), labels=LABELS[::-1]), Limits()).verdict == "failed"
    assert compare(many(), replace(many(), labels=("leaf", "root")), Limits()).verdict == "failed"


def test_only_the_widest_models_have_wider_limits_with_a_reason() -> None:
    assert limits_for("Mask-RT-DETR-L") == Limits()
    for name in ("Mask-RT-DETR-X", "Mask-RT-DETR-H"):
        limits = limits_for(name)
        assert limits.score_difference == 5e-3
        assert "384 and 512 channels" in limits.to_json()["score_difference_reason"]
        assert replace(limits, score_difference=1e-3, score_difference_reason="") == Limits()


def test_classes_of_one_name_are_one_class() -> None:
    swapped = changed(many(), lambda found: replace(found, class_ids=1 - found.class_ids))
    sides = [replace(side, labels=("leaf", "leaf")) for side in (many(), swapped)]
    assert compare(*sides, Limits()).verdict == "passed"
