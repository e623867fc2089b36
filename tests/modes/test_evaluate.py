"""Mode evaluate, from a checkpoint to the COCO metrics."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import read_result, run_cli
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from small_runs import (
    CATEGORIES,
    IMAGE_SIZE,
    annotation_file,
    blind_model,
    change_split,
    copy_dataset,
    filled_model,
    save_model,
    with_new_categories,
)

from paddlex_seg import create_model
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.data.coco.instances import annotations_to_instances
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.write import write_coco
from paddlex_seg.modes import evaluate, model_detections
from paddlex_seg.structures import CocoFile, Instances

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def run_evaluate(dataset: Path, weight_path: Path, output: Path, **options: Any) -> dict[str, Any]:
    outcome = run_cli(
        "evaluate",
        output,
        Global__dataset_dir=dataset,
        Evaluate__weight_path=weight_path,
        Train__num_workers=0,
        **options,
    )
    assert outcome.code == 0, outcome.stderr
    return read_result(output, "evaluate")["metrics"]


def pycocotools_numbers(dataset: Path, predictions: Path, iou_type: str) -> dict[str, float | None]:
    truth = COCO(str(annotation_file(dataset, "val")))
    evaluation = COCOeval(truth, truth.loadRes(str(predictions)), iou_type)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {name: None if value == -1 else value for name, value in zip(NAMES, evaluation.stats, strict=True)}


def assert_as_pycocotools(metrics: Mapping[str, Any], dataset: Path, output: Path) -> None:
    for kind in ("segm", "bbox"):
        expected = pycocotools_numbers(dataset, output / f"{kind}.json", kind)
        assert metrics[kind] == expected


def noisy_truth(coco: CocoFile) -> dict[int, Instances]:
    """The annotated objects with random scores; some are shifted, of a wrong class or missing."""
    random = np.random.default_rng(1)
    found = {}
    for record in coco.images:
        own = [item for item in coco.annotations if item.image_id == record.id]
        kept = [replace(item, bbox_xywh=None) for item in own if random.random() < 0.8]
        truth = annotations_to_instances(kept, record, coco.categories)
        flipped = random.random(len(truth)) < 0.2
        found[record.id] = replace(
            truth,
            class_ids=np.where(flipped, 1 - truth.class_ids, truth.class_ids),
            scores=random.random(len(truth)).astype(np.float32),
            boxes_xyxy=truth.boxes_xyxy + random.normal(0, 3, (len(truth), 4)).astype(np.float32),
        )
    return found


def test_numbers_are_those_of_pycocotools_on_the_written_predictions(
    findable: Path, weights: Path, tmp_path: Path
) -> None:
    metrics = run_evaluate(findable, weights, tmp_path)
    assert 0.1 < metrics["AP"] < 0.9
    assert metrics["AP"] == metrics["segm"]["AP"]
    assert_as_pycocotools(metrics, findable, tmp_path)


def test_noisy_masks_of_the_annotated_objects_are_measured_as_by_pycocotools(
    dataset: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = copy_dataset(dataset, tmp_path / "own")
    val = with_new_categories(read_coco(annotation_file(own, "val")))
    write_coco(val, val.path)
    monkeypatch.setattr(model_detections, "predict_dataset", lambda *args, **options: noisy_truth(val))
    metrics = run_evaluate(own, weights, tmp_path)
    assert 0.1 < metrics["AP"] < 0.9
    assert_as_pycocotools(metrics, own, tmp_path)


def test_predictions_carry_the_category_ids_of_the_data_set(
    findable: Path, weights: Path, tmp_path: Path
) -> None:
    run_evaluate(findable, weights, tmp_path)
    rows = json.loads((tmp_path / "segm.json").read_text(encoding="utf-8"))
    assert {row["category_id"] for row in rows} == {category.id for category in CATEGORIES}
    assert set(rows[0]) == {"image_id", "category_id", "segmentation", "score"}
    images = {image.id: image for image in read_coco(annotation_file(findable, "val")).images}
    for row in rows:
        image = images[row["image_id"]]
        assert row["segmentation"]["size"] == [image.height, image.width]


def test_the_batch_size_does_not_change_the_predictions(
    findable: Path, weights: Path, tmp_path: Path
) -> None:
    one = run_evaluate(findable, weights, tmp_path / "1", Evaluate__batch_size=1)
    three = run_evaluate(findable, weights, tmp_path / "3", Evaluate__batch_size=3)
    for kind in ("segm", "bbox"):
        assert one[kind] == pytest.approx(three[kind], abs=1e-6)
    alone, together = (
        json.loads((tmp_path / size / "bbox.json").read_text(encoding="utf-8")) for size in ("1", "3")
    )
    assert len(alone) == len(together) > 100
    for left, right in zip(alone, together, strict=True):
        assert (left["image_id"], left["category_id"]) == (right["image_id"], right["category_id"])
        assert left["score"] == pytest.approx(right["score"], abs=1e-5)
        assert left["bbox"] == pytest.approx(right["bbox"], abs=1e-3)


def test_detections_are_there_when_their_analysis_fails(
    findable: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(evaluate, "explain", fail)
    options = {"Evaluate__weight_path": weights, "Train__num_workers": 0}
    assert run_cli("evaluate", tmp_path, Global__dataset_dir=findable, **options).code == 1
    assert len(json.loads((tmp_path / "segm.json").read_text(encoding="utf-8"))) > 50


def test_a_network_that_finds_nothing_has_an_ap_of_zero(dataset: Path, tmp_path: Path) -> None:
    categories = read_coco(annotation_file(dataset, "val")).categories
    info = ModelInfo("PP-YOLOE_seg-S", categories, IMAGE_SIZE)
    metrics = run_evaluate(dataset, save_model(blind_model(), tmp_path / "blind", info), tmp_path)
    assert metrics["AP"] == 0
    assert json.loads((tmp_path / "segm.json").read_text()) == []


@pytest.mark.parametrize("change", ["reversed", "renamed", "fewer"])
def test_val_categories_other_than_the_models_are_refused(
    findable: Path, weights: Path, tmp_path: Path, change: str
) -> None:
    own = copy_dataset(findable, tmp_path / "own")
    first, second = CATEGORIES
    changed = {
        "reversed": (second, first),
        "renamed": (first, replace(second, name="nut")),
        "fewer": (first,),
    }[change]
    kept = tuple(
        item
        for item in read_coco(annotation_file(own, "val")).annotations
        if item.category_id in {category.id for category in changed}
    )
    change_split(own, "val", categories=changed, annotations=kept)
    outcome = run_cli("evaluate", tmp_path / "output", Global__dataset_dir=own, Evaluate__weight_path=weights)
    assert outcome.code == 3
    assert weights.name in outcome.stderr and "instance_val.json" in outcome.stderr
    assert read_result(tmp_path / "output", "evaluate")["done_flag"] is False


def test_missing_weights_hint_at_the_best_model_of_the_output_folder(
    dataset: Path, weights: Path, tmp_path: Path
) -> None:
    best = save_model(filled_model(), tmp_path / "output" / "best_model")
    outcome = run_cli(
        "evaluate",
        tmp_path / "output",
        Global__dataset_dir=dataset,
        Evaluate__weight_path=tmp_path / "nowhere.pdparams",
    )
    assert outcome.code == 1
    assert "nowhere.pdparams" in outcome.stderr
    assert f"Evaluate.weight_path={best}" in outcome.stderr


def test_weights_of_another_model_are_refused(dataset: Path, tmp_path: Path) -> None:
    info = ModelInfo("Mask-RT-DETR-L", CATEGORIES, (640, 640))
    other = save_model(filled_model(), tmp_path / "other", info)
    outcome = run_cli(
        "evaluate", tmp_path / "output", Global__dataset_dir=dataset, Evaluate__weight_path=other
    )
    assert outcome.code == 1
    assert "Mask-RT-DETR-L" in outcome.stderr and "PP-YOLOE_seg-S" in outcome.stderr


def test_weights_without_a_description_are_for_the_classes_of_the_data_set(
    findable: Path, weights: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.pdparams"
    bare.symlink_to(weights)
    described = run_evaluate(findable, weights, tmp_path / "described")
    metrics = run_evaluate(findable, bare, tmp_path / "bare output", Train__image_size="[96, 64]")
    assert metrics == described


@pytest.mark.parametrize("backend", ["paddle", "onnxruntime", "openvino"])
def test_an_export_has_the_ap_of_its_network_with_any_backend(
    backend: str, exported: Path, findable: Path, weights: Path, tmp_path: Path
) -> None:
    if backend != "paddle":
        for name in ("paddle2onnx", backend):
            pytest.importorskip(name)
    expected = run_evaluate(findable, weights, tmp_path / "network")
    outcome = run_cli(
        "evaluate",
        tmp_path / backend,
        Global__dataset_dir=findable,
        Evaluate__backend=backend,
        Evaluate__model_dir=exported,
        Train__num_workers=0,
    )
    assert outcome.code == 0, outcome.stderr
    result = read_result(tmp_path / backend, "evaluate")
    assert 0.1 < expected["AP"] < 0.9
    assert result["metrics"]["segm"] == pytest.approx(expected["segm"], abs=1e-3)
    assert result["metrics"]["bbox"] == pytest.approx(expected["bbox"], abs=1e-3)
    assert result["backend"] == backend
    rows = json.loads((tmp_path / backend / "segm.json").read_text(encoding="utf-8"))
    assert {row["category_id"] for row in rows} <= {category.id for category in CATEGORIES}


def test_an_export_with_other_classes_than_the_data_is_refused(
    exported: Path, dataset: Path, tmp_path: Path
) -> None:
    outcome = run_cli(
        "evaluate",
        tmp_path,
        Global__dataset_dir=dataset,
        Evaluate__backend="paddle",
        Evaluate__model_dir=exported,
    )
    assert outcome.code == 3
    assert "both need the same list" in outcome.stderr


def test_the_best_thresholds_become_the_default_of_the_exported_model(
    exported: Path, findable: Path, tmp_path: Path
) -> None:
    model_dir = tmp_path / "exported"
    shutil.copytree(exported, model_dir)
    options = {"Evaluate__model_dir": model_dir, "Evaluate__backend": "paddle", "Train__num_workers": 0}
    options |= {"Global__dataset_dir": findable, "Evaluate__write_thresholds": True, "Evaluate__page": False}
    outcome = run_cli("evaluate", tmp_path / "out", **options)
    assert outcome.code == 0, outcome.stderr
    assert not (tmp_path / "out" / "evaluation.html").exists()
    analysis = read_result(tmp_path / "out", "evaluate")["analysis"]
    best = {
        one["name"]: of_class["threshold"]
        for one, of_class in zip(analysis["class_order"], analysis["best_thresholds"]["classes"], strict=True)
    }
    assert all(0 < threshold < 0.5 for threshold in best.values())  # the scores of this model are low
    with create_model(model_dir=str(model_dir), device="cpu", backend="paddle") as model:
        expected = [best[category.name] for category in CATEGORIES]
        assert list(model.thresholds) == pytest.approx(expected, abs=1e-4)


def test_thresholds_are_written_into_exported_models_only(
    weights: Path, dataset: Path, tmp_path: Path
) -> None:
    options = {"Evaluate__weight_path": weights, "Evaluate__write_thresholds": True}
    outcome = run_cli("evaluate", tmp_path, Global__dataset_dir=dataset, **options)
    assert outcome.code == 2
    assert "Evaluate.backend" in outcome.stderr


def test_an_exported_folder_needs_a_backend(exported: Path, dataset: Path, tmp_path: Path) -> None:
    outcome = run_cli("evaluate", tmp_path, Global__dataset_dir=dataset, Evaluate__model_dir=exported)
    assert outcome.code == 2
    assert "Set Evaluate.backend to paddle, onnxruntime, openvino or auto" in outcome.stderr
