"""Whether models differ by more than chance."""

import json
from dataclasses import replace

import numpy as np
import pytest
from eval_problems import make_problem

from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.results import read_results
from paddlex_seg.evaluation.compare import Comparison, Difference, Model, compare
from paddlex_seg.evaluation.slices import find_slices
from paddlex_seg.metrics.bootstrap import Interval
from paddlex_seg.metrics.coco_ap import evaluate_coco
from paddlex_seg.metrics.matching import match
from paddlex_seg.metrics.overlaps import measure_overlaps, truth_of
from paddlex_seg.structures import CocoFile, Id, Instances

Results = dict[Id, Instances]


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> CocoFile:
    folder = tmp_path_factory.mktemp("problem")
    document, rows = make_problem(5, num_images=40)
    for image in document["images"]:
        image["file_name"] = f"{image['id']}.png"
        image["camera"] = "left" if image["id"] % 2 else "right"
    for name, content in (("truth", document), ("results", rows)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return read_coco(folder / "truth.json")


@pytest.fixture(scope="module")
def results(coco: CocoFile) -> Results:
    return read_results(coco.path.with_name("results.json"), coco).instances


def ids_of(coco: CocoFile) -> list[Id]:
    return [category.id for category in coco.categories]


def without(results: Results, images: set[Id], share: float, seed: int = 0) -> Results:
    """The results less a share of the detections of some images."""
    random = np.random.default_rng(seed)
    return {
        id: one.take(np.flatnonzero(random.random(len(one)) >= share)) if id in images else one
        for id, one in results.items()
    }


def compared(coco: CocoFile, *all_results: Results, num_resamples: int = 200) -> Comparison:
    slices, _ = find_slices(coco, truth_of(coco))
    models = [Model(name, results, ids_of(coco)) for name, results in zip("ABCDE", all_results, strict=False)]
    return compare(coco, models, slices, num_resamples=num_resamples)


def test_figures_are_those_of_an_evaluation(coco: CocoFile, results: Results) -> None:
    other = without(results, {image.id for image in coco.images}, 0.5)
    found = compared(coco, results, other)
    figures = {row.name: row.values for row in found.figures}
    for place, own in enumerate((results, other)):
        expected = evaluate_coco(coco, own, ids_of(coco))
        assert figures["mask AP"][place] == expected.segm.AP
        assert figures["mask AP50"][place] == expected.segm.AP50
        assert figures["mask AP75"][place] == expected.segm.AP75
        assert figures["box AP"][place] == expected.bbox.AP
        assert [row.values[place] for row in found.classes] == [one.AP for one in expected.classes]
    row = found.figures[0]
    assert row.values[0] is not None and row.values[1] is not None
    assert row.differences[0].value == row.values[1] - row.values[0]


def test_a_model_does_not_differ_from_itself(coco: CocoFile, results: Results) -> None:
    found = compared(coco, results, dict(reversed(results.items())))
    rows = (*found.figures, *found.classes, *found.slices)
    differences = [one for row in rows for one in row.differences if one.value is not None]
    assert len(differences) > 20
    assert all(one.value == 0 for one in differences)
    assert {one.interval for one in differences} == {Interval(0, 0)}
    assert not any(one.is_sure for one in differences)
    assert (found.better, found.worse) == ((), ())
    assert found.verdict() == (f"B and A have the same mask AP, {found.figures[0].values[0]:.3f}.",)


def test_a_clear_loss_is_sure_in_its_slice(coco: CocoFile, results: Results) -> None:
    left = {image.id for image in coco.images if image.extra["camera"] == "left"}
    found = compared(coco, results, without(results, left, 0.9))
    assert found.figures[0].differences[0].is_sure
    slices = {(row.group, row.name): row.differences[0] for row in found.slices}
    assert slices["camera", "left"].is_sure and slices["camera", "left"].value < 0  # type: ignore[operator]
    assert slices["camera", "right"] == Difference(0.0, Interval(0, 0))
    verdict = " ".join(found.verdict())
    assert verdict.startswith("B is worse than A: mask AP")
    assert "camera: left" in verdict and "camera: right" not in verdict
    assert found.worse[0].image_id in left
    assert found.worse[0].after < found.worse[0].before


def test_chance_is_seldom_sure(coco: CocoFile, results: Results) -> None:
    """Models that each miss other detections at random differ by chance: one pair in twenty looks sure."""
    everywhere = {image.id for image in coco.images}
    num_sure = 0
    for seed in range(0, 20, 2):
        pair = [without(results, everywhere, 0.2, seed=seed + model) for model in (0, 1)]
        models = [Model(name, own, ids_of(coco)) for name, own in zip("AB", pair, strict=True)]
        found = compare(coco, models, num_resamples=100, num_drawn=0)
        difference = found.figures[0].differences[0]
        assert difference.value != 0
        num_sure += difference.is_sure
        if not difference.is_sure:
            assert "do not differ by more than chance" in found.verdict()[0]
    assert num_sure <= 2


def test_a_class_in_few_images_is_not_tested(coco: CocoFile, results: Results) -> None:
    rare = coco.annotations[0]
    annotations = (replace(rare, category_id=3), *coco.annotations[1:])  # the class without objects
    changed = replace(coco, annotations=annotations)
    found = compared(changed, results, without(results, {rare.image_id}, 1))
    rows = {row.name: row for row in found.classes}
    assert rows["class 3"].objects == 1 and rows["class 3"].values[0] is not None
    assert rows["class 3"].differences[0].interval is None
    assert rows["class 1"].differences[0].interval is not None


def test_without_resamples_nothing_is_sure(coco: CocoFile, results: Results) -> None:
    found = compared(coco, results, {}, num_resamples=0)
    rows = (*found.figures, *found.classes, *found.slices)
    assert not any(one.is_sure for row in rows for one in row.differences)
    assert found.intervals == (None, None)
    assert found.figures[0].values[1] == 0


def test_three_models_are_compared_with_the_first(coco: CocoFile, results: Results) -> None:
    fewer = without(results, {image.id for image in coco.images}, 0.9)
    found = compared(coco, results, fewer, results)
    first, second = found.figures[0].differences
    assert first.is_sure and second == Difference(0.0, Interval(0, 0))
    assert (found.better, found.worse) == ((), ())  # of the last one


def test_the_order_of_classes_may_differ(coco: CocoFile, results: Results) -> None:
    turned = {id: replace(one, class_ids=2 - one.class_ids) for id, one in results.items()}
    models = [Model("A", results, ids_of(coco)), Model("B", turned, ids_of(coco)[::-1])]
    found = compare(coco, models, num_resamples=20)
    assert found.figures[0].differences == (Difference(0.0, Interval(0, 0)),)


def test_thresholds_are_compared_by_f1(coco: CocoFile, results: Results) -> None:
    """AP counts detections of all scores, so a higher threshold cannot raise it."""
    scores = np.sort(np.concatenate([one.scores for one in results.values()]))
    models = [
        Model(
            f"{place}",
            {id: one.above(float(threshold)) for id, one in results.items()},
            ids_of(coco),
            score_threshold=float(threshold),
        )
        for place, threshold in enumerate(scores[[10, len(scores) // 2]])
    ]
    found = compare(coco, models, num_resamples=50)
    assert found.score_thresholds == tuple(model.score_threshold for model in models)
    row = found.figures[-1]
    kept = sum(len(one) for one in models[1].results.values())
    overlaps = measure_overlaps(coco, models[1].results, ids_of(coco))
    right = int(match(overlaps).is_right[0].sum())
    assert row.values[1] == pytest.approx(2 * right / (kept + len(coco.annotations)))
    assert "F1 (IoU 0.5)" in found.verdict()[0]
    interval = row.differences[0].interval
    assert interval is not None and interval.low < row.differences[0].value < interval.high  # type: ignore[operator]


def test_images_show_what_changed(coco: CocoFile, results: Results) -> None:
    lost = next(id for id, one in results.items() if len(one) > 3)
    found = compared(coco, results, {**results, lost: results[lost].take(np.zeros(0, int))})
    assert [image.image_id for image in found.worse] == [lost]
    drawn = found.drawn_worse[0]
    assert drawn.file_name == f"{lost}.png"
    assert len(drawn.found[0]) > 0 == len(drawn.found[1])
    assert drawn.scores[1] == 0
    assert found.drawn_better == ()


def test_boxes_only_are_compared_by_boxes(coco: CocoFile, results: Results) -> None:
    boxes = {id: replace(one, masks=()) for id, one in results.items()}
    models = [Model("A", results, ids_of(coco)), Model("B", boxes, ids_of(coco), has_masks=False)]
    found = compare(coco, models, num_resamples=20)
    assert found.kind == "bbox"
    assert [row.name for row in found.figures] == ["box AP", "box AP50", "box AP75", "F1 (IoU 0.5)"]
    assert found.figures[0].values[0] == evaluate_coco(coco, results, ids_of(coco)).bbox.AP
    assert found.figures[0].differences[0].value == 0
    assert found.drawn_worse == ()


def test_images_that_a_model_did_not_see_are_told(coco: CocoFile, results: Results) -> None:
    half = {id: one for place, (id, one) in enumerate(results.items()) if place % 2}
    note = compared(coco, results, half).notes[0]
    assert note.startswith(f"B has no detections in {len(results) - len(half)} of 40 images")


def test_without_objects_there_is_no_verdict(coco: CocoFile, results: Results) -> None:
    empty = replace(coco, annotations=())
    found = compared(empty, results, results)
    assert found.verdict() == ("There are no objects to compare B with A.",)
    assert found.figures[0].values == (None, None)
    json.dumps(found.to_json(), allow_nan=False)
    assert "mask AP" in found.table()


def test_the_result_is_plain(coco: CocoFile, results: Results) -> None:
    found = compared(coco, results, without(results, {image.id for image in coco.images}, 0.9))
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    difference = content["figures"][0]["differences"][0]
    assert difference["more_than_chance"] is True and difference["interval"]["high"] < 0
    assert content["images"]["num_worse"] == len(found.worse) > 0
    assert "more than chance" in found.table()
