"""Mask-RT-DETR through all modes, with a network of its structure that takes seconds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from command_line import Outcome, read_result, run_argv
from slim_mask_rt_detr import slim_model
from small_runs import annotation_file, last_checkpoint, train_options

from paddlex_seg.catalog import MODELS
from paddlex_seg.checkpoints.weights import read_weights, write_weights
from paddlex_seg.data.coco.read import read_coco

MODEL = "Mask-RT-DETR-S"


def run_slim(mode: str, output: Path, **options: Any) -> Outcome:
    settings = {"Global.mode": mode, "Global.output": output, "Global.device": "cpu"}
    settings |= {name.replace("__", "."): value for name, value in options.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, MODEL, replace(MODELS[MODEL], build=slim_model))
        return run_argv(["-c", MODEL, *(f"-o{key}={value}" for key, value in settings.items())])


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file like the official ones, with another number of classes."""
    paddle.seed(1)
    path = tmp_path_factory.mktemp("weights") / "official.pdparams"
    write_weights(slim_model(80).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def fine_tuned(
    dataset: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """Two epochs of the official recipe, with batches of many input sizes."""
    output = tmp_path_factory.mktemp("out") / "fine tuned"
    options = train_options(dataset, Train__pretrain_weight_path=pretrained, Train__learning_rate=0.001)
    return output, run_slim("train", output, **options)


def test_fine_tuning_says_what_was_not_loaded_and_leaves_a_model(fine_tuned: tuple[Path, Outcome]) -> None:
    output, outcome = fine_tuned
    assert outcome.code == 0, outcome.stderr
    assert "transformer 3" in outcome.stdout  # class embedding, score weights and biases
    assert "file has [80, 32], model needs [2, 32]" in outcome.stdout
    result = read_result(output, "train")
    assert len(result["history"]) == 2
    assert {"loss_class", "loss_mask_aux", "loss_dice_dn", "loss_bbox_aux_dn"} < set(result["history"][0])


def test_frozen_weights_stay_as_they_were(fine_tuned: tuple[Path, Outcome], pretrained: Path) -> None:
    before = read_weights(pretrained)
    after = read_weights(last_checkpoint(fine_tuned[0], "pdema"))
    stem = [name for name in after if name.startswith("backbone.stem.")]
    norms = [name for name in after if name.startswith("backbone.") and ".bn." in name]
    for name in {*stem, *norms}:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    moved = "backbone.stages.1.blocks.0.layers.0.conv.weight"
    assert not np.array_equal(after[moved], before[moved])


def test_evaluate_export_and_predict_agree(
    dataset: Path, fine_tuned: tuple[Path, Outcome], tmp_path: Path
) -> None:
    weight_path = fine_tuned[0] / "best_model" / "best_model.pdparams"
    common = {"Global__dataset_dir": dataset, "Evaluate__weight_path": weight_path}
    for batch_size in (1, 3):
        output = tmp_path / f"evaluate{batch_size}"
        outcome = run_slim("evaluate", output, **common, Evaluate__batch_size=batch_size)
        assert outcome.code == 0, outcome.stderr
    results = [read_result(tmp_path / f"evaluate{size}", "evaluate") for size in (1, 3)]
    assert results[0]["metrics"] == results[1]["metrics"]
    outcome = run_slim("export", tmp_path / "exported", Export__weight_path=weight_path)
    assert outcome.code == 0, outcome.stderr
    assert "arch: DETR" in (tmp_path / "exported" / "inference.yml").read_text()
    images = read_coco(annotation_file(dataset, "val")).images
    for threshold, count in ((0.0, 15), (1.0, 0)):
        outcome = run_slim(
            "predict",
            tmp_path / "predict",
            Predict__model_dir=tmp_path / "exported",
            Predict__input=dataset / "images" / images[0].file_name,
            Predict__threshold=threshold,
        )
        assert outcome.code == 0, outcome.stderr
        stem = Path(images[0].file_name).stem
        found = json.loads((tmp_path / "predict" / f"{stem}_res.json").read_text(encoding="utf-8"))
        assert len(found["boxes"]) == count


def test_training_from_scratch(dataset: Path, tmp_path: Path) -> None:
    outcome = run_slim("train", tmp_path, **train_options(dataset, Train__epochs_iters=1))
    assert outcome.code == 0, outcome.stderr
