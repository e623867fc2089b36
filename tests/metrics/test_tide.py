"""TIDE against hotcoco on random problems, and each kind of error alone."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eval_problems import make_problem
from eval_tables import overlaps_of
from made_instances import rectangle

from paddlex_seg.masks.rle import mask_to_rle, rle_to_json
from paddlex_seg.metrics.matching import average_precision, match
from paddlex_seg.metrics.tide import KINDS, Tide, classify_errors, decompose_errors

EXPECTED = json.loads((Path(__file__).parent / "expected" / "tide.json").read_text())
NAMES = {
    "Cls": "class",
    "Loc": "place",
    "Both": "both",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
}
OBJECT = (10, 10, 30, 30)  # of class 1
FAR, NEAR, SHIFTED = (50, 40, 70, 55), (10, 10, 30, 29), (20, 10, 40, 30)  # IoU 0, 0.95 and 0.33 with it


def tide_of(document: dict[str, Any], rows: list[dict[str, Any]]) -> Tide:
    overlaps = overlaps_of(document, rows)
    return decompose_errors(overlaps, match(overlaps))


def scene(
    objects: list[tuple[int, tuple[int, int, int, int]]],
    found: list[tuple[int, tuple[int, int, int, int], float]],
    is_crowd: bool = False,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One image with three classes; found: class, box and score."""

    def mask(box: tuple[int, int, int, int]) -> dict[str, Any]:
        return rle_to_json(mask_to_rle(rectangle(box)))

    document = {
        "images": [{"id": 1, "height": 60, "width": 80}],
        "categories": [{"id": id, "name": f"class {id}"} for id in (1, 2, 3)],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": k, "segmentation": mask(box), "iscrowd": is_crowd}
            for i, (k, box) in enumerate(objects)
        ],
    }
    rows = [
        {"image_id": 1, "category_id": k, "segmentation": mask(box), "score": score}
        for k, box, score in found
    ]
    return document, rows


@pytest.mark.parametrize("case", EXPECTED["problems"], ids=lambda case: str(case["options"]["seed"]))
def test_errors_cost_what_hotcoco_says(case: dict[str, Any]) -> None:
    tide = tide_of(*make_problem(**case["options"]))
    assert tide.ap == pytest.approx(case["ap_base"], abs=1e-9)
    for name, kind in NAMES.items():
        assert tide.kinds[kind].ap_lost == pytest.approx(case["delta_ap"][name], abs=1e-9), name
        assert tide.kinds[kind].count == case["counts"][name], name
    assert tide.false_positives.ap_lost == pytest.approx(case["delta_ap"]["FP"], abs=1e-9)
    assert tide.false_negatives.ap_lost == pytest.approx(case["delta_ap"]["FN"], abs=1e-9)


@pytest.mark.parametrize("case", EXPECTED["class_is_missed"], ids=lambda case: str(case["options"]["seed"]))
def test_a_class_that_is_missed_costs_its_whole_ap(case: dict[str, Any]) -> None:
    """dAP = AP_o - AP (section 2.3 of the paper). Of a class without objects AP_o is 1; hotcoco's is 0."""
    document, rows = make_problem(**case["options"])
    overlaps = overlaps_of(document, rows)
    found = overlaps.found.class_index[match(overlaps).is_right[0]]
    classes = set(overlaps.objects.class_index.tolist())
    assert len(classes - set(found.tolist())) == 1
    tide = decompose_errors(overlaps, match(overlaps))
    difference = tide.false_negatives.ap_lost - case["delta_ap"]["FN"]
    assert difference == pytest.approx(1 / len(classes), abs=1e-9)
    for name, kind in NAMES.items():
        assert tide.kinds[kind].ap_lost == pytest.approx(case["delta_ap"][name], abs=1e-9), name


def test_coco_results_cost_what_hotcoco_says(shared_dir: Path) -> None:
    """COCO's example, with crowds and 80 classes. Its missed classes cost more here, as above."""
    folder = shared_dir / "data" / "coco_eval"
    document = json.loads((folder / "instances_val2014_100.json").read_text())
    rows = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text())
    tide = tide_of(document, rows)
    expected = {  # hotcoco 1.3.0
        "class": (76, 0.137072161093196),
        "place": (82, 0.12596110748798303),
        "both": (7, 0.0035071058126220815),
        "duplicate": (0, 0.0),
        "background": (4, 0.0029661639633350896),
    }
    assert tide.ap == pytest.approx(0.5622883972521635, abs=1e-9)
    assert tide.false_positives.ap_lost == pytest.approx(0.09400580359649276, abs=1e-9)
    for kind, (count, cost) in expected.items():
        assert tide.kinds[kind].count == count, kind
        assert tide.kinds[kind].ap_lost == pytest.approx(cost, abs=1e-9), kind
    assert tide.kinds["missed"].count == 109
    assert tide.kinds["missed"].ap_lost > 0.07602614333560555


@pytest.mark.parametrize("case", EXPECTED["with_crowds"], ids=lambda case: str(case["options"]["seed"]))
def test_crowds_change_only_which_false_positives_are_background(case: dict[str, Any]) -> None:
    """hotcoco calls a detection that is partly in a crowd a place error.

    By section 2.2 of the paper a place error would be right if it were drawn better. This one would be
    ignored, so it is background here, or an error with another object.
    """
    tide = tide_of(*make_problem(**case["options"]))
    assert tide.ap == pytest.approx(case["ap_base"], abs=1e-9)
    for name in ("Cls", "Dupe", "Miss"):
        assert tide.kinds[NAMES[name]].count == case["counts"][name], name
        assert tide.kinds[NAMES[name]].ap_lost == pytest.approx(case["delta_ap"][name], abs=1e-9), name
    assert tide.kinds["place"].count <= case["counts"]["Loc"]
    assert tide.false_positives.count == sum(case["counts"].values()) - case["counts"]["Miss"]
    assert tide.false_positives.ap_lost == pytest.approx(case["delta_ap"]["FP"], abs=1e-9)
    assert tide.false_negatives.ap_lost == pytest.approx(case["delta_ap"]["FN"], abs=1e-9)


def test_some_problem_has_a_detection_partly_in_a_crowd() -> None:
    counts = [
        (tide_of(*make_problem(**case["options"])).kinds["place"].count, case["counts"]["Loc"])
        for case in EXPECTED["with_crowds"]
    ]
    assert any(own < other for own, other in counts)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("class", [(2, NEAR, 0.9)]),
        ("place", [(1, SHIFTED, 0.9)]),
        ("both", [(2, SHIFTED, 0.9)]),
        ("duplicate", [(1, OBJECT, 0.9), (1, NEAR, 0.8)]),
        ("background", [(1, FAR, 0.9)]),
        ("missed", []),
    ],
)
def test_each_kind_of_error_alone(kind: str, found: list[Any]) -> None:
    tide = tide_of(*scene([(1, OBJECT)], found))
    counts = {name: cost.count for name, cost in tide.kinds.items() if cost.count}
    # Nothing that is fixed by removing a detection finds the object.
    expected = {kind: 1} | ({"missed": 1} if kind in ("both", "background") else {})
    assert counts == expected
    if kind in ("class", "place"):
        assert tide.kinds[kind].ap_lost == pytest.approx(1)
    assert sum(tide.kinds[kind].count_of_classes) == 1


def test_one_object_is_won_by_one_error_only() -> None:
    """The better of a class and a place error gets it; fixing the other kind removes the detection."""
    tide = tide_of(*scene([(1, OBJECT)], [(2, NEAR, 0.9), (1, SHIFTED, 0.8)]))
    assert tide.kinds["class"].ap_lost == pytest.approx(1)
    assert tide.kinds["place"].ap_lost == 0
    assert tide.kinds["missed"].count == 0
    tide = tide_of(*scene([(1, OBJECT)], [(2, NEAR, 0.7), (1, SHIFTED, 0.8)]))
    assert tide.kinds["class"].ap_lost == 0
    assert tide.kinds["place"].ap_lost == pytest.approx(1)


def test_a_place_error_comes_before_a_class_error() -> None:
    document, rows = scene([(1, OBJECT), (2, SHIFTED)], [(1, SHIFTED, 0.9)])
    overlaps = overlaps_of(document, rows)
    errors = classify_errors(overlaps, match(overlaps))
    assert [KINDS[number] for number in errors.kind_of_found] == ["place"]
    assert errors.target_of_found.tolist() == [0]
    assert errors.is_unmatched.tolist() == [True, True]
    assert errors.is_missed.tolist() == [False, True]


def test_an_overlap_of_exactly_the_threshold_is_a_place_error() -> None:
    """An object that is taken, and a detection with an IoU of 0.5: both kinds fit, and place comes first."""
    tide = tide_of(*scene([(1, OBJECT)], [(1, OBJECT, 0.9), (1, (10, 10, 30, 20), 0.8)]))
    assert (tide.kinds["place"].count, tide.kinds["duplicate"].count) == (1, 0)


def test_a_detection_that_gets_another_class_comes_after_equal_scores_of_that_class() -> None:
    tide = tide_of(*scene([(1, OBJECT)], [(2, NEAR, 0.5), (1, FAR, 0.5)]))
    assert tide.kinds["class"].ap_lost == pytest.approx(0.5)


@pytest.mark.parametrize("edge", ["no truth", "no detection", "crowds only", "no image"])
def test_edges(edge: str) -> None:
    objects, found = [(1, OBJECT), (2, FAR)], [(1, NEAR, 0.9), (1, (0, 0, 60, 50), 0.5)]
    document, rows = scene(objects, found, is_crowd=edge == "crowds only")
    if edge in ("no truth", "no image"):
        document["annotations"] = []
    if edge == "no image":
        document["images"] = []
    tide = tide_of(document, [] if edge in ("no detection", "no image") else rows)
    if edge == "no detection":
        assert tide.ap == 0
        assert tide.kinds["missed"].count == 2
        assert tide.kinds["missed"].ap_lost == tide.false_negatives.ap_lost == 1
    else:
        assert tide.ap is None
        assert all(
            cost.ap_lost == 0 and set(cost.ap_lost_of_classes) == {None} for cost in tide.kinds.values()
        )
        assert tide.kinds["missed"].count == 0
    json.dumps(asdict(tide))


def test_only_counted_detections_are_errors() -> None:
    found = [(1, (x % 60, 40, x % 60 + 4, 44), 1 - x / 500) for x in range(130)]
    tide = tide_of(*scene([(1, OBJECT)], found))
    assert tide.false_positives.count == tide.kinds["background"].count == 100


def test_fixing_everything_gives_a_perfect_model() -> None:
    """Without false positives, and without the objects that no detection has, AP is 1."""
    document, rows = make_problem(11, num_images=10)
    overlaps = overlaps_of(document, rows)
    matching = match(overlaps, thresholds=np.array([0.5]))
    errors = classify_errors(overlaps, matching)
    matching.is_ignored[0, errors.kind_of_found >= 0] = True
    matching.object_is_ignored[errors.is_unmatched] = True
    precision = average_precision(overlaps, matching)
    assert precision[precision > -1].min() == pytest.approx(1)
