"""Sentences about made-up results: each kind of error, and the cases without one."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from eval_problems import make_problem
from eval_tables import overlaps_of
from made_instances import rectangle

from paddlex_seg.evaluation.slices import SliceResult
from paddlex_seg.evaluation.verdict import MOST_SENTENCES, Facts, verdict
from paddlex_seg.masks.rle import mask_to_rle, rle_to_json
from paddlex_seg.metrics.bootstrap import Interval
from paddlex_seg.metrics.curves import curves
from paddlex_seg.metrics.matching import match
from paddlex_seg.metrics.tide import classify_errors, decompose_errors

SIZE = (200, 200)
BOX = (20, 20, 80, 80)
NAMES = {1: "bolt", 2: "nut"}
Row = tuple[int, int, tuple[int, int, int, int], float]  # image, class, box, score


def facts_of(
    objects: list[tuple[int, int, Any]], found: list[Row], images: int = 20, names: Any = NAMES, **more: Any
) -> Facts:
    def mask(box: tuple[int, int, int, int]) -> dict[str, Any]:
        return rle_to_json(mask_to_rle(rectangle(box, SIZE)))

    document = {
        "images": [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in range(images)],
        "categories": [{"id": id, "name": name} for id, name in names.items()],
        "annotations": [
            {"id": n, "image_id": image, "category_id": k, "segmentation": mask(box)}
            for n, (image, k, box) in enumerate(objects)
        ],
    }
    rows = [
        {"image_id": image, "category_id": k, "segmentation": mask(box), "score": score}
        for image, k, box, score in found
    ]
    return facts_from(document, rows, names=names, **more)


def facts_from(document: dict[str, Any], rows: list[dict[str, Any]], **more: Any) -> Facts:
    overlaps = overlaps_of(document, rows)
    matching = match(overlaps)
    return Facts(
        overlaps=overlaps,
        matching=matching,
        errors=classify_errors(overlaps, matching),
        tide=decompose_errors(overlaps, matching),
        curves=curves(overlaps, matching),
        **more,
    )


OBJECTS = [(image, 1 + image % 2, BOX) for image in range(20)]
RIGHT: list[Row] = [(image, k, box, 0.9) for image, k, box in OBJECTS]
ELSEWHERE, SMALL = (120, 120, 180, 180), (150, 20, 165, 35)


def test_small_objects_that_are_missed() -> None:
    small = [(image, 1, SMALL) for image in range(20)]
    first, second, *_ = verdict(facts_of([*OBJECTS, *small], RIGHT))
    assert first.startswith("The model misses 50\u202f% of the objects (20): this costs 0.3")
    assert "Most of them (20) are small" in second
    assert "Train.image_size" in second


def test_objects_of_one_class_that_are_missed() -> None:
    facts = facts_of(OBJECTS, [row for row in RIGHT if row[1] == 1])
    first, second, *_ = verdict(facts)
    assert first.startswith("The model misses 50\u202f% of the objects (10)")
    assert second.startswith("Most of them (10) are 'nut', of which 100\u202f% are missed.")


def test_missed_objects_that_have_nothing_in_common_get_no_advice() -> None:
    _, second, *_ = verdict(facts_of(OBJECTS, RIGHT[:12]))
    assert second == "They are of all sizes and classes; the worst images show them."
    assert "image_size" not in second


def test_sizes_that_are_missed_alike_do_not_stand_out() -> None:
    """Most of the missed objects are small, because most objects are."""
    small = [(image, k, (x, 150, x + 15, 165)) for image, k, _ in OBJECTS for x in (20, 60, 100)]
    found: list[Row] = [*RIGHT[:10], *((image, k, box, 0.8) for image, k, box in small if image < 10)]
    _, second, *_ = verdict(facts_of([*OBJECTS, *small], found))
    assert second == "They are of all sizes and classes; the worst images show them."


def test_confused_classes() -> None:
    found: list[Row] = [*RIGHT[:14], *((image, 1, box, 0.8) for image, _, box in OBJECTS[14:])]
    first, second, *_ = verdict(facts_of(OBJECTS, found))
    assert first.startswith("3 detections have the wrong class: this costs 0.")
    assert second.startswith("Most often 'nut' is found as 'bolt' (3 times).")


def test_confusions_that_are_spread_over_the_classes_name_none() -> None:
    names = {number: f"class {number}" for number in range(1, 9)}
    objects = [(image, 1 + image % 8, BOX) for image in range(20)]
    found: list[Row] = [(image, 1 + (k + image // 8) % 8, box, 0.9) for image, k, box in objects[8:]]
    found += [(image, k, box, 0.9) for image, k, box in objects[:8]]
    first, second, *_ = verdict(facts_of(objects, found, names=names))
    assert first.startswith("12 detections have the wrong class")
    assert second == "No two classes stand out: see the confusion matrix."


def test_detections_without_masks_have_boxes_that_fit_badly() -> None:
    found: list[Row] = [*RIGHT[:12], *((image, k, (60, 20, 120, 80), 0.8) for image, k, _ in OBJECTS[12:])]
    facts = facts_of(OBJECTS, found)
    first, *_ = verdict(replace(facts, overlaps=replace(facts.overlaps, kind="bbox")))
    assert first.startswith("8 detections have a box that fits the object badly: this costs 0.")


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((20, 20, 44, 80), "cover at most 40\u202f% of the area"),
        ((20, 20, 180, 80), "at least 2.7 times as large"),
        ((60, 20, 120, 80), "about as large"),
    ],
)
def test_masks_that_fit_badly(box: tuple[int, int, int, int], words: str) -> None:
    found: list[Row] = [*RIGHT[:12], *((image, k, box, 0.8) for image, k, _ in OBJECTS[12:])]
    first, second, *_ = verdict(facts_of(OBJECTS, found))
    assert first.startswith("8 detections have a mask that fits the object badly: this costs 0.")
    assert words in second


def test_false_detections_that_a_threshold_removes() -> None:
    noise: list[Row] = [(image, 1, ELSEWHERE, 0.3) for image in range(20)]
    low = [(image, k, box, 0.2) for image, k, box, _ in RIGHT[:2]]
    first, second, *_ = verdict(facts_of(OBJECTS, [*RIGHT[2:], *low, *noise]))
    assert first.startswith("The model sees 20 objects where there is none: this costs 0.")
    assert second.endswith("0 of 20 are left: use these thresholds (Evaluate.write_thresholds).")


def test_false_detections_with_high_scores() -> None:
    noise: list[Row] = [(image, 1, ELSEWHERE, 0.95) for image in range(8)]
    first, second, *_ = verdict(facts_of(OBJECTS, [*RIGHT, *noise]))
    assert first.startswith("The model sees 8 objects where there is none")
    assert "8 of 8 are left. Look at those with the highest scores first" in second


def test_duplicates() -> None:
    again: list[Row] = [(image, k, (20, 20, 80, 78), 0.89) for image, k, _ in OBJECTS]
    facts = facts_of(OBJECTS, [(i, k, box, 0.9 - i / 100) for i, k, box, _ in RIGHT] + again)
    first, second, *_ = verdict(facts)
    assert "repeat another one of the same object: this costs 0." in first
    assert "At the score thresholds with the best F1" in second


def test_the_second_error_is_named_if_it_costs_as_much() -> None:
    noise: list[Row] = [(image, k, ELSEWHERE, 0.95) for image, k, _ in OBJECTS[:6]]
    sentences = verdict(facts_of(OBJECTS, [*RIGHT[:12], *noise]))
    assert any(one.startswith("Next: detections where no object is, which cost 0.") for one in sentences)


def test_a_perfect_model() -> None:
    assert verdict(facts_of(OBJECTS, RIGHT)) == ("No kind of error costs 0.005 AP50 or more: AP50 is 1.000.",)


def test_loose_outlines_only() -> None:
    loose: list[Row] = [(image, k, (20, 20, 80, 60), 0.9) for image, k, _ in OBJECTS]
    first, second = verdict(facts_of(OBJECTS, loose))
    assert first.endswith("AP50 is 1.000.")
    assert "what is left are the outlines" in second


@pytest.mark.parametrize(
    ("objects", "found", "words"),
    [
        ([], RIGHT, ("There is no annotated object in 20 images", "The model has 20 detections.")),
        ([], [], ("There is no annotated object in 20 images", "The model has 0 detections.")),
        (OBJECTS, [], ("The model finds nothing in 20 images with 20 objects.", "Check that the weights")),
        (
            OBJECTS,
            [(image, k, ELSEWHERE, 0.9) for image, k, _ in OBJECTS],
            ("None of the 20 detections is right", "Most are detections where no object is (20)."),
        ),
    ],
    ids=["no truth", "nothing", "no detection", "none right"],
)
def test_without_figures(objects: Any, found: Any, words: tuple[str, str]) -> None:
    sentences = verdict(facts_of(objects, found))
    for sentence, start in zip(sentences, words, strict=False):
        assert sentence.startswith(start)


def test_the_worst_class_and_slice_and_a_wide_interval() -> None:
    found = [row for row in RIGHT if row[1] == 1] + [row for row in RIGHT if row[1] == 2][:2]
    slices = [
        SliceResult("brightness", "dark", 4, 9, 0.2, Interval(0.1, 0.3)),
        SliceResult("camera", "B", 3, 5, 0.1, Interval(0.0, 0.9)),  # not sure
        SliceResult("camera", "C", 3, 5, None, None),
    ]
    sentences = verdict(facts_of(OBJECTS, found, interval=Interval(0.4, 0.7), slices=slices))
    assert "The worst class is 'nut' with AP 0.2" in sentences[2]
    assert sentences[3] == "brightness: dark has AP 0.20 instead of 0.60 (9 objects)."
    assert sentences[4] == (
        "With 20 images, AP is only known to be between 0.40 and 0.70: differences of less than 0.15 mean "
        "nothing."
    )
    assert len(sentences) == MOST_SENTENCES
    narrow = verdict(facts_of(OBJECTS, found, interval=Interval(0.59, 0.6)))
    assert not any("only known" in one for one in narrow)


def test_a_class_with_few_objects_is_not_called_the_worst() -> None:
    objects = [*OBJECTS, *((image, 2, ELSEWHERE) for image in range(3))]
    few = [(image, k, box) for image, k, box in objects if k == 1 or image < 8]
    found = [row for row in RIGHT if row[1] == 1]
    assert sum(k == 2 for _, k, _ in few) < 10
    assert not any("worst class" in one for one in verdict(facts_of(few, found)))


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a\nb", "\ud800", "x" * 500, "'"])
def test_names_stay_short_and_on_one_line(name: str) -> None:
    found: list[Row] = [row for row in RIGHT if row[1] == 1]
    for sentence in verdict(facts_of(OBJECTS, found, names={1: "bolt", 2: name})):
        assert "\n" not in sentence
        assert len(sentence) < 300
        sentence.encode("utf-8")


@pytest.mark.parametrize("seed", range(12))
def test_any_problem_has_one_to_five_sentences(seed: int) -> None:
    document, rows = make_problem(seed, num_images=6 + seed, crowds=seed % 3 == 0, ties=seed % 2 == 0)
    rng = np.random.default_rng(seed)
    kept = [row for row in rows if rng.random() < seed / 11]
    sentences = verdict(facts_from(document, kept, names={}, interval=Interval(0.1, 0.5)))
    assert 1 <= len(sentences) <= MOST_SENTENCES
    assert all(one.endswith(".") and "nan" not in one for one in sentences)
