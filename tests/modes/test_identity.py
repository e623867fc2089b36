"""Weights say what they are, through the command line: copies, exports, resumed and fine-tuned runs."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import paddle
import pytest
from command_line import Outcome, read_result, run_cli
from small_runs import (
    CATEGORIES,
    IMAGE_SIZE,
    MODEL,
    change_split,
    copy_dataset,
    run_slim,
    save_model,
    slim_model,
    train_options,
)

from paddlex_seg.checkpoints.info import read_info
from paddlex_seg.checkpoints.weights import DESCRIPTION
from paddlex_seg.data.coco.official_categories import COCO_CATEGORIES
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.inference.export_spec import read_inference_yml
from paddlex_seg.training import output as training_output


def best_of(output: Path) -> Path:
    return output / "best_model" / "best_model.pdparams"


def evaluate(dataset: Path, output: Path, **options: Any) -> Outcome:
    return run_slim("evaluate", output, Global__dataset_dir=dataset, Train__num_workers=0, **options)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def without_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_output, "export_model", lambda *args: None)


@pytest.fixture
def stripped(trained: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """The best weights, loaded and saved again by Paddle without their description."""
    state = paddle.load(str(best_of(trained[0])))
    del state[DESCRIPTION]
    paddle.save(state, str(tmp_path / "stripped.pdparams"))
    return tmp_path / "stripped.pdparams"


# Copies of weights


def test_a_copy_of_the_weight_file_alone_is_evaluated_as_the_original(
    trained: tuple[Path, Outcome], dataset: Path, tmp_path: Path
) -> None:
    original, copy = best_of(trained[0]), tmp_path / "模型 copy.pdparams"
    shutil.copy(original, copy)
    found = []
    for number, path in enumerate((original, copy)):
        outcome = evaluate(dataset, tmp_path / str(number), Evaluate__weight_path=path)
        assert outcome.code == 0, outcome.stderr
        found.append((tmp_path / str(number) / "segm.json").read_text())
        result = read_result(tmp_path / str(number), "evaluate")
        assert result["input_size"] == [64, 64]
        assert result["weights"] == {"path": str(path), "sha256": sha256(original)}
    assert found[0] == found[1] != "[]"


@pytest.mark.parametrize("mode", ["evaluate", "export"])
def test_weights_that_say_nothing_are_refused(
    stripped: Path, dataset: Path, tmp_path: Path, mode: str
) -> None:
    options = {f"{mode.title()}__weight_path": stripped, "Global__dataset_dir": dataset}
    outcome = run_slim(mode, tmp_path / "output", **options)
    assert outcome.code == 1
    assert f"{stripped} does not say what it is" in outcome.stderr and "Train.image_size" in outcome.stderr
    assert not (tmp_path / "output" / "inference.yml").exists()


def test_weights_that_say_nothing_are_what_the_user_says(
    stripped: Path, trained: tuple[Path, Outcome], dataset: Path, tmp_path: Path
) -> None:
    outcome = evaluate(dataset, tmp_path, Evaluate__weight_path=stripped, Train__image_size=64)
    assert outcome.code == 0, outcome.stderr
    assert "As set, it is taken as PP-YOLOE_seg-S at Train.image_size=64" in outcome.stdout
    evaluate(dataset, tmp_path / "original", Evaluate__weight_path=best_of(trained[0]))
    metrics, expected = (
        read_result(folder, "evaluate")["metrics"] for folder in (tmp_path, tmp_path / "original")
    )
    assert metrics == expected


def test_official_weights_in_a_local_file_have_the_classes_of_coco(tmp_path: Path) -> None:
    official = tmp_path / f"{MODEL}_pretrained.pdparams"
    paddle.save(slim_model(80).state_dict(), str(official))
    outcome = run_slim("export", tmp_path / "output", Export__weight_path=official, Train__image_size=64)
    assert outcome.code == 0, outcome.stderr
    labels = read_inference_yml(tmp_path / "output" / "inference.yml").labels
    assert labels == tuple(category.name for category in COCO_CATEGORIES)


def test_paddle_loads_the_weights_and_ignores_the_description(tmp_path: Path) -> None:
    network = slim_model(2)
    state = paddle.load(str(save_model(network, tmp_path / "checkpoint")))
    assert all(entry.shape is not None for entry in state.values())  # all are tensors
    missing, unexpected = slim_model(2).set_state_dict(state)
    assert (missing, unexpected) == ([], [DESCRIPTION])
    assert (bytes(state[DESCRIPTION].numpy()).decode()) != ""


# The run in the output folder


def test_evaluate_of_a_run_means_its_best_model(
    trained: tuple[Path, Outcome], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    decoy = best_of(tmp_path / "output")  # the default of Evaluate.weight_path
    decoy.parent.mkdir(parents=True)
    decoy.write_bytes(b"not this one")
    run_folder = tmp_path / "run"
    shutil.copytree(trained[0], run_folder)
    outcome = evaluate(dataset, run_folder)
    assert outcome.code == 0, outcome.stderr
    weights = read_result(run_folder, "evaluate")["weights"]
    assert weights == {"path": str(best_of(run_folder)), "sha256": sha256(best_of(trained[0]))}
    shutil.rmtree(run_folder / "best_model")
    outcome = evaluate(dataset, run_folder)
    assert outcome.code == 1
    assert f"{run_folder} holds a run without best_model" in outcome.stderr


def test_the_result_files_name_weights_data_input_size_and_versions(
    trained: tuple[Path, Outcome], dataset: Path, tmp_path: Path
) -> None:
    output, _ = trained
    assert run_cli("check_dataset", tmp_path, Global__dataset_dir=dataset).code == 0
    assert evaluate(dataset, tmp_path, Evaluate__weight_path=best_of(output)).code == 0
    results = {mode: read_result(tmp_path, mode) for mode in ("check_dataset", "evaluate")}
    results["train"] = read_result(output, "train")
    file = dataset / "annotations" / "instance_val.json"
    for mode, result in results.items():
        assert result["versions"]["paddlex_seg"]
        assert result["data"]["path"] == str(dataset), mode
        val = result["data"]["val"]
        assert (val["images"], val["sha256"]) == (4, sha256(file)), mode
    for result in (results["train"], results["evaluate"]):
        assert result["weights"] == {"path": str(best_of(output)), "sha256": sha256(best_of(output))}
        assert (result["model"], result["input_size"], result["recipe"]) == (MODEL, [64, 64], "scratch")
        assert result["versions"]["paddle"]
    assert results["train"]["initial_weights"] == "scratch"


# Resumed runs


@pytest.fixture
def own_copy(trained: tuple[Path, Outcome], tmp_path: Path) -> Path:
    shutil.copytree(trained[0], tmp_path / "own run")
    return tmp_path / "own run"


@pytest.mark.usefixtures("without_export")
def test_a_run_is_not_resumed_at_another_input_size(own_copy: Path, dataset: Path) -> None:
    before = {path: path.read_bytes() for path in own_copy.rglob("*.pd*")}
    options = {"Train__resume": "auto", "Train__epochs_iters": 3}
    for size in (96, None):
        changed = train_options(dataset, **options, Train__image_size=size)
        outcome = run_slim("train", own_copy, **changed)
        assert outcome.code == 2
        assert "was trained at [64, 64]" in outcome.stderr
        assert "Train.pretrain_weight_path=" in outcome.stderr
    assert {path: path.read_bytes() for path in own_copy.rglob("*.pd*")} == before


@pytest.mark.usefixtures("without_export")
def test_a_run_is_not_resumed_with_other_frozen_layers(own_copy: Path, dataset: Path) -> None:
    changes = {"Train__resume": "auto", "Train__epochs_iters": 3, "Train__freeze": "[backbone]"}
    outcome = run_slim("train", own_copy, **train_options(dataset, **changes))
    assert outcome.code == 2
    assert "Train.freeze: found ['backbone']" in outcome.stderr and "has []" in outcome.stderr


@pytest.mark.usefixtures("without_export")
def test_what_a_resumed_run_may_change_is_announced(own_copy: Path, dataset: Path, tmp_path: Path) -> None:
    other = copy_dataset(dataset, tmp_path / "other data")
    train = read_coco(dataset / "annotations" / "instance_train.json")
    images = train.images[:6]
    kept = tuple(one for one in train.annotations if one.image_id in {image.id for image in images})
    change_split(other, "train", images=images, annotations=kept)
    changes = {
        "Train__resume": "auto",
        "Train__epochs_iters": 3,
        "Train__learning_rate": 0.0005,
        "Train__lr_factors": "{neck: 0.5}",
    }
    outcome = run_slim("train", own_copy, **train_options(other, **changes))
    assert outcome.code == 0, outcome.stderr
    for line in (
        "Train.epochs_iters was 2, is 3.",
        "Train.learning_rate was 0.001, is 0.0005.",
        "Train.lr_factors was {}, is {'neck': 0.5}.",
        f"Global.dataset_dir was {dataset}, is {other}.",
        "the train annotations had 8 images",
    ):
        assert f"Changed since the checkpoint: {line}" in outcome.stdout
    assert outcome.stdout.count("Changed since the checkpoint") == 5, outcome.stdout


def test_the_best_model_is_exported_as_what_its_weights_are(
    own_copy: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the run is described otherwise, as by a version that let the input size change."""
    infos = []
    monkeypatch.setattr(training_output, "export_model", lambda *args: infos.append(args[2]))
    options = train_options(dataset, Train__resume="auto", Train__num_classes=2)
    expected = read_info(best_of(own_copy))
    assert run_slim("train", own_copy, **options).code == 0
    assert infos == [expected]


# Fine-tuning


@pytest.mark.usefixtures("without_export")
def test_own_weights_are_fine_tuned_with_the_recipe_that_trained_them(
    trained: tuple[Path, Outcome], dataset: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.pdparams"
    shutil.copy(best_of(trained[0]), alone)
    changes = {"Train__pretrain_weight_path": alone, "Train__epochs_iters": 1}
    outcome = run_slim("train", tmp_path / "tuned", **train_options(dataset, **changes))
    assert outcome.code == 0, outcome.stderr
    assert "Its recipe is used again: mask targets, loss and optimizer (adamw)" in outcome.stdout
    info = read_info(best_of(tmp_path / "tuned"))
    assert info is not None and info.recipe == "scratch"
    state = paddle.load(str(next((tmp_path / "tuned" / "checkpoints").glob("*/*.pdopt"))))
    assert any("moment2" in name for name in state)  # of AdamW
    # A resumed fine-tuning keeps the recipe, also when the initial weights are gone.
    alone.unlink()
    changes |= {"Train__resume": "auto", "Train__epochs_iters": 2}
    outcome = run_slim("train", tmp_path / "tuned", **train_options(dataset, **changes))
    assert outcome.code == 0, outcome.stderr
    info = read_info(best_of(tmp_path / "tuned"))
    assert info is not None and info.recipe == "scratch"


def test_the_network_of_fine_tuned_own_weights_has_their_loss(
    trained: tuple[Path, Outcome], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paddlex_seg.models.pp_yoloe_seg import model as pp_yoloe

    seen = []
    losses = pp_yoloe.pp_yoloe_seg_losses

    def noted(*args: Any, **options: Any) -> Any:
        seen.append(options["from_scratch"])
        return losses(*args, **options)

    monkeypatch.setattr(pp_yoloe, "pp_yoloe_seg_losses", noted)
    monkeypatch.setattr(training_output, "export_model", lambda *args: None)
    bare = tmp_path / "bare.pdparams"
    paddle.save(slim_model(2).state_dict(), str(bare))
    for weights, expected in ((best_of(trained[0]), True), (bare, False)):
        changes = {"Train__pretrain_weight_path": weights, "Train__epochs_iters": 1}
        outcome = run_slim("train", tmp_path / str(expected), **train_options(dataset, **changes))
        assert outcome.code == 0, outcome.stderr
        assert set(seen) == {expected}
        seen.clear()


def test_descriptions_hold_no_paths(tmp_path: Path) -> None:
    """Weights are given away; folder names of the machine that trained them stay there."""
    path = save_model(slim_model(2), tmp_path / "checkpoint")
    description = json.loads(path.with_suffix(".info.json").read_text())
    assert str(tmp_path) not in json.dumps(description)
    assert [item["name"] for item in description["categories"]] == [item.name for item in CATEGORIES]
    assert description["image_size"] == list(IMAGE_SIZE)


def test_predict_in_a_run_uses_the_best_model_of_the_run(
    exported: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_folder = tmp_path / "run"
    shutil.copytree(exported, run_folder / "best_model" / "inference")
    image = sorted((dataset / "images").iterdir())[0]
    outcome = run_cli("predict", run_folder, Predict__input=image)
    assert outcome.code == 0, outcome.stderr
    (run_folder / "checkpoints").mkdir()
    shutil.rmtree(run_folder / "best_model")
    outcome = run_cli("predict", run_folder, Predict__input=image)
    assert outcome.code == 1
    assert "holds a run without best_model/inference" in outcome.stderr


def test_an_exported_model_and_its_predictions_name_the_weights(
    trained: tuple[Path, Outcome], dataset: Path, tmp_path: Path
) -> None:
    best, exported_to = best_of(trained[0]), tmp_path / "exported"
    assert run_slim("export", exported_to, Export__weight_path=best).code == 0
    spec = read_inference_yml(exported_to / "inference.yml")
    assert spec.exported_from["weights_sha256"] == sha256(best)
    assert spec.exported_from["recipe"] == "scratch"
    assert "/" not in spec.exported_from["weights"]
    image = sorted((dataset / "images").iterdir())[0]
    options = {"Predict__model_dir": exported_to, "Predict__input": image}
    assert run_cli("predict", tmp_path / "predicted", **options).code == 0
    result = read_result(tmp_path / "predicted", "predict")
    parameters = exported_to / "inference.pdiparams"
    assert result["weights"] == {"path": str(parameters), "sha256": sha256(parameters)}
    assert result["exported_from"]["weights_sha256"] == sha256(best)
    assert (result["model"], result["input_size"]) == (MODEL, [64, 64])
    assert result["versions"]["paddlex_seg"]
