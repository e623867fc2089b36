"""Mode evaluate with a file of detections."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, read_result, run_cli
from small_runs import annotation_file, copy_dataset

from paddlex_seg.files.checksum import sha256_of

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def run(output: Path, predictions: Path, **options: Any) -> Outcome:
    return run_cli("evaluate", output, Evaluate__predictions=predictions, **options)


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_figures_of_cocos_example_are_those_of_pycocotools(
    shared_dir: Path, tmp_path: Path, kind: str
) -> None:
    folder = shared_dir / "data" / "coco_eval"
    predictions = folder / f"instances_val2014_fake{kind}100_results.json"
    outcome = run(tmp_path, predictions, Evaluate__annotations=folder / "instances_val2014_100.json")
    assert outcome.code == 0, outcome.stderr
    result = read_result(tmp_path, "evaluate")
    expected = json.loads((folder / "expected_pycocotools.json").read_text(encoding="utf-8"))[kind]
    assert [result["metrics"][kind][name] for name in NAMES] == expected["stats"]
    per_class = {str(one["category_id"]): one[kind]["AP"] for one in result["metrics"]["classes"]}
    assert {id: ap for id, ap in per_class.items() if ap is not None} == expected["per_category_AP"]
    assert result["predictions"] == {
        "path": str(predictions),
        "sha256": sha256_of(predictions),
        "detections": 734,
    }
    if kind == "bbox":
        assert result["metrics"]["AP"] is None
        assert "boxes only" in result["notes"][0] and "boxes only" in outcome.stdout


def results_of(annotations: Path, to: Path, **changes: Any) -> Path:
    """The annotated objects of a file as detections with the score 1."""
    entries = json.loads(annotations.read_text(encoding="utf-8"))["annotations"]
    keys = ("image_id", "category_id", "segmentation")
    rows = [{**{key: entry[key] for key in keys}, "score": 1, **changes} for entry in entries]
    to.write_text(json.dumps(rows), encoding="utf-8")
    return to


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_part_of_a_data_set_can_be_evaluated(dataset: Path, tmp_path: Path, split: str) -> None:
    own = copy_dataset(dataset, tmp_path / "own")
    if split == "test":
        annotation_file(own, "val").rename(annotation_file(own, "test"))
        annotation_file(own, "val").write_text("[]")
    predictions = results_of(annotation_file(own, split), tmp_path / "results.json")
    outcome = run(tmp_path / "out", predictions, Global__dataset_dir=own, Evaluate__split=split)
    assert outcome.code == 0, outcome.stderr
    result = read_result(tmp_path / "out", "evaluate")
    assert result["metrics"]["AP"] == 1
    assert set(result["data"]) == {"path", split}


def test_detections_of_another_part_are_told(dataset: Path, tmp_path: Path) -> None:
    predictions = results_of(annotation_file(dataset, "val"), tmp_path / "results.json", image_id="other")
    outcome = run(tmp_path, predictions, Global__dataset_dir=dataset)
    assert outcome.code == 3
    assert "image_id 'other'; instance_val.json lists" in outcome.stderr
    assert read_result(tmp_path, "evaluate")["done_flag"] is False


def test_a_users_file_in_the_output_folder_is_not_replaced(dataset: Path, tmp_path: Path) -> None:
    predictions = results_of(annotation_file(dataset, "val"), tmp_path / "segm.json")
    before = predictions.read_bytes()
    assert run(tmp_path, predictions, Global__dataset_dir=dataset).code == 0
    assert predictions.read_bytes() == before
    assert not (tmp_path / "segm.json.bak").exists()


CONTRADICTIONS = {
    "weights": {"Evaluate__weight_path": "a.pdparams"},
    "backend": {"Evaluate__backend": "paddle"},
    "model": {"Evaluate__model_dir": "exported"},
}


@pytest.mark.parametrize("options", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_model_beside_a_file_is_refused(tmp_path: Path, options: dict[str, str]) -> None:
    outcome = run(tmp_path, Path("results.json"), **options)
    assert outcome.code == 2
    assert "a file of detections needs no model" in outcome.stderr


def test_a_part_beside_an_annotation_file_is_refused(tmp_path: Path) -> None:
    options = {"Evaluate__annotations": "truth.json", "Evaluate__split": "test"}
    outcome = run(tmp_path, Path("results.json"), **options)
    assert outcome.code == 2
    assert "Remove one of them" in outcome.stderr


def test_a_file_needs_neither_paddle_nor_images_nor_processes(dataset: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.json"
    shutil.copy(annotation_file(dataset, "val"), truth)
    predictions = results_of(truth, tmp_path / "results.json")
    options = {
        "Global.mode": "evaluate",
        "Global.output": tmp_path / "out",
        "Global.device": "cpu",
        "Evaluate.predictions": predictions,
        "Evaluate.annotations": truth,
        "Train.num_processes": 2,
    }
    argv = ["-c", "PP-YOLOE_seg-S", *(f"-o{key}={value}" for key, value in options.items())]
    code = (
        "import sys; sys.modules['paddle'] = None; from paddlex_seg.cli import main; "
        f"sys.exit(main({argv!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert read_result(tmp_path / "out", "evaluate")["metrics"]["AP"] == 1


def test_a_model_without_images_is_told(dataset: Path, weights: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.json"
    shutil.copy(annotation_file(dataset, "val"), truth)
    outcome = run_cli(
        "evaluate", tmp_path, Evaluate__annotations=truth, Evaluate__weight_path=weights, Train__num_workers=0
    )
    assert outcome.code == 3
    assert "A model needs them" in outcome.stderr


def test_a_model_is_evaluated_with_an_annotation_file(findable: Path, weights: Path, tmp_path: Path) -> None:
    options = {"Evaluate__weight_path": weights, "Train__num_workers": 0}
    one = run_cli("evaluate", tmp_path / "1", Global__dataset_dir=findable, **options)
    other = run_cli(
        "evaluate", tmp_path / "2", Evaluate__annotations=annotation_file(findable, "val"), **options
    )
    assert (one.code, other.code) == (0, 0), other.stderr
    metrics = [read_result(tmp_path / name, "evaluate")["metrics"] for name in "12"]
    assert metrics[0] == metrics[1]
    assert metrics[0]["AP"] > 0.1
