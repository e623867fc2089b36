"""Mode train through the command line: results, repeatability, resuming, and what can go wrong."""

import json
import re
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest
from command_line import Outcome, read_result, run_argv, run_cli
from small_runs import (
    CATEGORIES,
    MODEL,
    annotation_file,
    change_split,
    copy_dataset,
    last_checkpoint,
    run_slim,
    slim_model,
    train_options,
    with_new_categories,
)

from paddlex_seg.catalog import MODELS, find_model
from paddlex_seg.checkpoints.files import checkpoints, damage, write_checksums
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.checkpoints.progress import Progress
from paddlex_seg.checkpoints.weights import read_weights
from paddlex_seg.config.read import load_config
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.write import write_coco
from paddlex_seg.data.samples.epochs import Draw
from paddlex_seg.data.samples.loader import resize_plan
from paddlex_seg.files.written import REGISTER
from paddlex_seg.models.pp_yoloe_seg.model import PpYoloeSeg
from paddlex_seg.modes import train as train_mode
from paddlex_seg.recipes import MASK_RCNN, MASK_RT_DETR, EmaRecipe
from paddlex_seg.reports.training import TrainingPage
from paddlex_seg.runtime.log import format_seconds
from paddlex_seg.runtime.ranks import Ranks
from paddlex_seg.runtime.stop_signals import StopSignals
from paddlex_seg.structures import Batch, CocoFile
from paddlex_seg.training import loop
from paddlex_seg.training import output as training_output
from paddlex_seg.training.run import Clock, Run
from paddlex_seg.training.setup import prepare, require_fitting_rate, start_training
from paddlex_seg.training.step import StepResult, TrainState, seed_step

KEYS = ["model_name", "label_dict", "visualdl_log", "train_log", "config", "models"]
CHECKPOINT = ("pdparams", "pdema", "pdopt", "pdstates", "info.json")


@pytest.fixture
def without_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the export, which takes longer than everything else here. The run of `trained` tests it."""
    monkeypatch.setattr(training_output, "export_model", lambda *args: None)


@pytest.fixture(scope="module")
def interrupted(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The run of `trained`, ended by Ctrl-C at the first step of the second epoch."""
    output = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, 3, raise_interrupt)
        outcome = run_slim("train", output, **train_options(dataset))
    return output, outcome


def before_step(patch: pytest.MonkeyPatch, number: int, action: Callable[[], None]) -> None:
    """Call a function just before step ``number`` of a training run, counted from 1."""
    step = loop.train_step

    def wrapped(state: TrainState, *args: Any, **options: Any) -> StepResult:
        if state.progress.step + 1 == number:
            action()
        return step(state, *args, **options)

    patch.setattr(loop, "train_step", wrapped)


@pytest.fixture
def calls_of_loss(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, tuple[int, int]]]:
    """The random number that each call of the loss drew, and its input size; grows during training."""
    loss, calls = PpYoloeSeg.loss, []

    def random_loss(self: PpYoloeSeg, batch: Batch) -> dict[str, paddle.Tensor]:
        factor = paddle.rand([])
        height, width = batch.image.shape[2:]
        calls.append((float(factor), (height, width)))
        losses = loss(self, batch)
        return {**losses, "loss": losses["loss"] * factor}

    monkeypatch.setattr(PpYoloeSeg, "loss", random_loss)
    return calls


def raise_interrupt() -> None:
    raise KeyboardInterrupt


def assert_same_weights(one: Path, other: Path) -> None:
    left, right = read_weights(one), read_weights(other)
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], err_msg=name)


def one_class(dataset: Path) -> None:
    """All objects of a data set become one class."""
    for split in ("train", "val"):
        coco = read_coco(annotation_file(dataset, split))
        annotations = tuple(replace(item, category_id=1) for item in coco.annotations)
        change_split(dataset, split, annotations=annotations, categories=coco.categories[:1])


# What a training leaves


def test_the_files_are_those_of_the_documentation(trained: tuple[Path, Outcome]) -> None:
    output = trained[0]
    assert {path.name for path in output.iterdir()} == {
        "best_model",
        "checkpoints",
        "curves.png",
        "metrics.jsonl",
        "schedule.json",
        "training.html",
        "train_result.json",
        "train.log",
        "config.yaml",
        REGISTER,
    }
    for folder in (output / "best_model", *checkpoints(output)):
        files = {f"{folder.name}.{suffix}" for suffix in CHECKPOINT} | {"config.yaml", "checksums.json"}
        inference = {"inference"} if folder.name == "best_model" else set()
        assert {path.name for path in folder.iterdir()} == files | inference
        assert damage(folder) is None


def test_the_result_has_the_keys_of_paddlex_and_its_paths_exist(trained: tuple[Path, Outcome]) -> None:
    output = trained[0]
    result = read_result(output, "train")
    assert [key for key in result if key in KEYS] == KEYS
    assert result["done_flag"] is True
    assert list(result["models"]) == ["last_1", "last_2", "last_3", "last_4", "last_5", "best"]
    assert all(result["models"][f"last_{number}"] == {} for number in range(3, 6))
    inference = {"inference_config", "pdmodel", "pdiparams"}
    weights = {"pdparams", "pdema", "pdopt", "pdstates"}
    assert set(result["models"]["best"]) == {"score"} | weights | inference
    assert set(result["models"]["last_1"]) == {"score"} | weights
    for model in (result["models"]["best"], result["models"]["last_1"]):
        for key in set(model) - {"score"}:
            assert (output / model[key]).is_file(), model[key]
    assert (output / result["train_log"]).is_file() and (output / result["config"]).is_file()


def test_the_history_has_a_row_for_each_evaluation(trained: tuple[Path, Outcome]) -> None:
    history = read_result(trained[0], "train")["history"]
    assert [(row["epoch"], row["step"]) for row in history] == [(1, 2), (2, 4)]
    assert {"loss", "loss_cls", "loss_mask", "mask_ap", "box_ap"} <= set(history[0])
    assert all(np.isfinite(row["loss"]) and row["loss"] > 0 for row in history)


def test_the_log_file_says_what_the_terminal_said(trained: tuple[Path, Outcome]) -> None:
    output, outcome = trained
    log = (output / "train.log").read_text(encoding="utf-8")
    assert log == outcome.stdout
    assert "random weights" in log
    assert log.count("Epoch: [0] [1/2]") == log.count("Epoch: [1] [2/2]") == 1
    assert "Best test mask ap is" in log


def test_the_learning_rate_warms_up_and_then_falls_as_a_cosine(trained: tuple[Path, Outcome]) -> None:
    rates = [float(rate) for rate in re.findall(r"learning_rate: ([\d.]+)", trained[1].stdout)]
    assert rates == pytest.approx([0, 1e-3, 0.75e-3, 0.25e-3], abs=1e-6)  # four steps, one of them warm-up


def test_the_effective_configuration_reads_back(trained: tuple[Path, Outcome], dataset: Path) -> None:
    for path in (trained[0] / "config.yaml", trained[0] / "best_model" / "config.yaml"):
        cfg = load_config(str(path))
        assert cfg.Train.epochs_iters == 2 and cfg.Train.image_size == 64
        assert cfg.Train.pretrain_weight_path == "scratch"
        assert Path(cfg.Global.dataset_dir) == dataset and Path(cfg.Global.output) == trained[0]


def test_a_checkpoint_says_what_it_is(trained: tuple[Path, Outcome], dataset: Path) -> None:
    info = json.loads((trained[0] / "best_model" / "best_model.info.json").read_text(encoding="utf-8"))
    assert info["model_name"] == MODEL
    assert info["image_size"] == [64, 64]
    categories = read_coco(annotation_file(dataset, "train")).categories
    assert info["categories"] == [{"id": category.id, "name": category.name} for category in categories]


def test_the_averaged_weights_differ_from_the_raw_ones(trained: tuple[Path, Outcome]) -> None:
    averaged, raw = (read_weights(last_checkpoint(trained[0], suffix)) for suffix in ("pdparams", "pdema"))
    assert averaged.keys() == raw.keys()
    assert not all((averaged[name] == raw[name]).all() for name in raw)


def test_evaluating_the_best_model_gives_the_score_of_the_training(
    findable: Path, weights: Path, tmp_path: Path, without_export: None
) -> None:
    options = train_options(
        findable,
        Train__pretrain_weight_path=weights,
        Train__learning_rate=1e-7,
        Train__image_size="[96, 64]",
        Train__epochs_iters=1,
    )
    outcome = run_cli("train", tmp_path, **options)
    assert outcome.code == 0, outcome.stderr
    (row,) = read_result(tmp_path, "train")["history"]
    best = tmp_path / "best_model" / "best_model.pdparams"
    outcome = run_cli(
        "evaluate",
        tmp_path,
        Global__dataset_dir=findable,
        Evaluate__weight_path=best,
        Train__num_workers=0,
    )
    assert outcome.code == 0, outcome.stderr
    metrics = read_result(tmp_path, "evaluate")["metrics"]
    assert row["mask_ap"] > 0
    assert metrics["AP"] == pytest.approx(row["mask_ap"], abs=1e-9)
    assert metrics["bbox"]["AP"] == pytest.approx(row["box_ap"], abs=1e-9)
    assert read_result(tmp_path, "train")["models"]["best"]["score"] == row["mask_ap"]


def test_a_run_has_the_sizes_and_rates_of_its_recipe(
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    without_export: None,
    calls_of_loss: list[tuple[float, tuple[int, int]]],
) -> None:
    monkeypatch.setitem(MODELS, MODEL, replace(MODELS[MODEL], scratch_recipe=MASK_RT_DETR))
    options = train_options(
        dataset,
        Train__image_size="[128, 256]",
        Train__batch_size=2,
        Train__eval_interval=2,
        Train__learning_rate=2e-3,
        Train__log_interval=1,
    )
    outcome = run_slim("train", tmp_path, **options)
    assert outcome.code == 0, outcome.stderr
    resizes = MASK_RT_DETR.resizes((128, 256))
    drawn = [resize for epoch in (0, 1) for resize in resize_plan(resizes, 4, seed=0, epoch=epoch)]
    assert [size for _, size in calls_of_loss] == [resize.size_hw for resize in drawn]
    assert len({size for _, size in calls_of_loss}) > 1
    rates = [float(rate) for rate in re.findall(r"learning_rate: ([\d.]+)", outcome.stdout)]
    # Eight steps, of which two are warm-up.
    assert rates == pytest.approx([2e-6, 1.001e-3, *[2e-3] * 6], abs=6e-7)


def test_a_run_whose_images_keep_their_shape(
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    without_export: None,
    calls_of_loss: list[tuple[float, tuple[int, int]]],
) -> None:
    changed = replace(MODELS[MODEL], recipe=MASK_RCNN, scratch_recipe=MASK_RCNN)
    monkeypatch.setitem(MODELS, MODEL, changed)
    options = train_options(
        dataset,
        Train__image_size=100,
        Train__batch_size=2,
        Train__eval_interval=2,
        Train__learning_rate=2e-3,
        Train__log_interval=1,
    )
    outcome = run_slim("train", tmp_path, **options)
    assert outcome.code == 0, outcome.stderr
    sizes = {size for _, size in calls_of_loss}
    assert len(sizes) > 1  # portraits and landscapes, padded to the larger of two
    assert all(96 <= side <= 192 and side % 32 == 0 for size in sizes for side in size)
    rates = [float(rate) for rate in re.findall(r"learning_rate: ([\d.]+)", outcome.stdout)]
    # Eight steps: two of warm-up, three at the full rate, two at a tenth of it, one at a hundredth.
    assert rates == pytest.approx([2e-6, 1.001e-3, *[2e-3] * 3, *[2e-4] * 2, 2e-5], abs=6e-7)
    info = json.loads(last_checkpoint(tmp_path, "info.json").read_text(encoding="utf-8"))
    assert info["image_size"] == [100, 167]


def test_an_input_size_that_does_not_fit_the_model_ends_the_run_at_once(
    dataset: Path, tmp_path: Path
) -> None:
    outcome = run_cli("train", tmp_path, **train_options(dataset, Train__image_size=100))
    assert outcome.code == 2
    assert "Train.image_size: found 100" in outcome.stderr and "multiples of 32" in outcome.stderr


def test_evaluations_come_at_their_interval_and_after_the_last_epoch(
    dataset: Path, tmp_path: Path, without_export: None
) -> None:
    options = train_options(dataset, Train__epochs_iters=3, Train__eval_interval=2, Train__batch_size=8)
    assert run_slim("train", tmp_path, **options).code == 0
    assert [row["epoch"] for row in read_result(tmp_path, "train")["history"]] == [2, 3]


@pytest.mark.parametrize(("seconds", "epochs"), [(0.1, 1), (1.5, 1), (1.6, 2), (15.0, 10)])
def test_evaluations_take_at_most_a_fixed_share_of_the_time(seconds: float, epochs: int) -> None:
    clock = Clock(counted=5, step_seconds=1.0, evaluation_seconds=seconds)
    run: Any = SimpleNamespace(steps_per_epoch=10)
    assert clock.fitting_interval(run, Progress())[0] == epochs


def test_costly_evaluations_come_less_often_unless_the_interval_is_set(
    dataset: Path, tmp_path: Path, without_export: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clock, "fitting_interval", lambda clock, run, progress: (3, 9.0, 0.4))
    options = train_options(dataset, Train__epochs_iters=6, Train__eval_interval=None, Train__batch_size=8)
    outcome = run_slim("train", tmp_path / "costly", **options)
    assert outcome.code == 0
    assert [row["epoch"] for row in read_result(tmp_path / "costly", "train")["history"]] == [1, 4, 6]
    assert outcome.stdout.count("An evaluation takes 9.0 s, 40 % of an epoch.") == 1
    options |= {"Train__epochs_iters": 2, "Train__eval_interval": 1}
    assert run_slim("train", tmp_path / "set", **options).code == 0
    assert [row["epoch"] for row in read_result(tmp_path / "set", "train")["history"]] == [1, 2]


# Repeatability


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_same_seed_gives_the_same_losses_and_weights(
    trained: tuple[Path, Outcome], dataset: Path, tmp_path: Path, without_export: None, num_workers: int
) -> None:
    outcome = run_slim("train", tmp_path, **train_options(dataset, Train__num_workers=num_workers))
    assert outcome.code == 0, outcome.stderr
    expected, found = (read_result(output, "train") for output in (trained[0], tmp_path))
    assert found["history"] == expected["history"]
    for suffix in ("pdparams", "pdema", "pdopt"):
        assert_same_weights(last_checkpoint(trained[0], suffix), last_checkpoint(tmp_path, suffix))


def test_another_seed_gives_other_images_to_the_same_weights(
    trained: tuple[Path, Outcome], dataset: Path, tmp_path: Path, without_export: None
) -> None:
    source = trained[0] / "best_model" / "best_model.pdparams"
    losses = []
    for seed in (0, 1):
        options = train_options(
            dataset, Train__pretrain_weight_path=source, Train__seed=seed, Train__epochs_iters=1
        )
        assert run_slim("train", tmp_path / str(seed), **options).code == 0
        losses.append(read_result(tmp_path / str(seed), "train")["history"][0]["loss"])
    assert losses[0] != losses[1]


def test_random_first_weights_depend_on_the_seed_alone(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, paddle.Tensor] = {}

    def stop(run: Run, state: TrainState, *rest: object) -> None:
        found.update(state.model.state_dict())
        raise KeyboardInterrupt

    monkeypatch.setattr(train_mode, "train_one_epoch", stop)
    run_slim("train", tmp_path, **train_options(dataset, Train__seed=5))
    paddle.seed(5)
    expected = slim_model(num_classes=2, from_scratch=True).state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name].numpy(), tensor.numpy(), err_msg=name)


def test_a_page_that_cannot_be_written_does_not_end_the_training(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def write(self: TrainingPage) -> None:
        calls.append(self)
        if len(calls) > 1:
            raise OSError(28, "No space left on device", "training.html")

    monkeypatch.setattr(TrainingPage, "write", write)
    outcome = run_slim("train", tmp_path, **train_options(dataset))
    assert outcome.code == 0, outcome.stderr
    assert len(calls) == 4  # at the beginning, after each of two epochs, and at the end
    assert "The training page could not be written" in outcome.stdout


def test_every_seed_step_and_process_has_random_numbers_of_its_own() -> None:
    def drawn(seed: int, step: int, rank: int) -> tuple[float, ...]:
        seed_step(seed, step, rank)
        return tuple(paddle.rand([4]).tolist())

    places = list(product(range(3), repeat=3))
    assert len({drawn(*place) for place in places}) == len(places)
    assert drawn(1, 2, 0) == drawn(1, 2, 0)


# Ctrl-C and resuming


def test_an_interrupted_run_leaves_its_last_checkpoint_and_says_how_to_go_on(
    interrupted: tuple[Path, Outcome],
) -> None:
    output, outcome = interrupted
    assert outcome.code == 1
    assert "Traceback" not in outcome.stderr
    result = read_result(output, "train")
    assert result["done_flag"] is False
    assert result["err_type"] == "<class 'builtins.KeyboardInterrupt'>"
    assert [row["epoch"] for row in result["history"]] == [1]
    last = output / result["models"]["last_1"]["pdparams"]
    assert last.is_file()
    assert "interrupted after step 2;" in outcome.stderr and "Train.resume=auto" in outcome.stderr
    described = json.loads(last_checkpoint(output, "info.json").read_text(encoding="utf-8"))
    assert (
        described["metric"] is not None
    )  # the score of the last evaluation; saving the checkpoint again would lose it


def test_a_resumed_run_ends_as_one_that_was_never_interrupted(
    interrupted: tuple[Path, Outcome],
    trained: tuple[Path, Outcome],
    dataset: Path,
    tmp_path: Path,
    without_export: None,
) -> None:
    output = tmp_path / "resumed"
    shutil.copytree(interrupted[0], output)
    outcome = run_slim("train", output, **train_options(dataset, Train__resume="auto"))
    assert outcome.code == 0, outcome.stderr
    assert "Epoch: [0]" not in outcome.stdout
    found, expected = (read_result(folder, "train") for folder in (output, trained[0]))
    assert found["history"] == expected["history"]
    assert found["done_flag"] is True
    for suffix in ("pdparams", "pdema", "pdopt"):
        assert_same_weights(last_checkpoint(trained[0], suffix), last_checkpoint(output, suffix))
        best = f"best_model/best_model.{suffix}"
        assert_same_weights(trained[0] / best, output / best)


def test_a_resumed_run_draws_the_random_numbers_of_one_that_was_never_interrupted(
    dataset: Path,
    tmp_path: Path,
    without_export: None,
    calls_of_loss: list[tuple[float, tuple[int, int]]],
) -> None:
    assert run_slim("train", tmp_path / "whole", **train_options(dataset)).code == 0
    whole = calls_of_loss.copy()
    assert len(set(whole)) == 4  # two steps in each of two epochs
    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, 3, raise_interrupt)
        run_slim("train", tmp_path / "parts", **train_options(dataset))
    calls_of_loss.clear()
    last = last_checkpoint(tmp_path / "parts")
    outcome = run_slim("train", tmp_path / "parts", **train_options(dataset, Train__resume_path=last))
    assert outcome.code == 0, outcome.stderr
    assert calls_of_loss == whole[2:]
    for suffix in ("pdparams", "pdema", "pdopt"):
        whole_file, parts_file = (last_checkpoint(tmp_path / name, suffix) for name in ("whole", "parts"))
        assert_same_weights(whole_file, parts_file)


def resume_with_best_score(interrupted: Path, dataset: Path, folder: Path, output: Path) -> Outcome:
    """Resume a copy of an interrupted run whose first epoch had an AP of 0.9."""
    shutil.copytree(interrupted, folder)
    states = last_checkpoint(folder, "pdstates")
    states.write_text(json.dumps(json.loads(states.read_text()) | {"best_score": 0.9}), encoding="utf-8")
    write_checksums(states.parent)
    last = last_checkpoint(folder)
    return run_slim("train", output, **train_options(dataset, Train__resume_path=last))


def test_resuming_keeps_the_best_score(
    interrupted: tuple[Path, Outcome], dataset: Path, tmp_path: Path, without_export: None
) -> None:
    output = tmp_path / "resumed"
    outcome = resume_with_best_score(interrupted[0], dataset, output, output)
    assert outcome.code == 0, outcome.stderr
    result = read_result(output, "train")
    assert result["models"]["best"]["score"] == 0.9
    assert result["best_epoch"] == 1
    best = "best_model/best_model.pdparams"
    assert_same_weights(output / best, interrupted[0] / best)


def test_a_run_resumed_into_another_folder_brings_its_best_model_along(
    interrupted: tuple[Path, Outcome], dataset: Path, tmp_path: Path, without_export: None
) -> None:
    outcome = resume_with_best_score(interrupted[0], dataset, tmp_path / "first", tmp_path / "second")
    assert outcome.code == 0, outcome.stderr
    best = "best_model/best_model.pdparams"
    assert_same_weights(tmp_path / "second" / best, interrupted[0] / best)
    result = read_result(tmp_path / "second", "train")
    assert result["models"]["best"]["score"] == 0.9


def test_a_last_model_that_was_moved_alone_begins_anew_with_the_best(
    interrupted: tuple[Path, Outcome], dataset: Path, tmp_path: Path, without_export: None
) -> None:
    folder = tmp_path / "moved"
    name = last_checkpoint(interrupted[0]).parent.name
    shutil.copytree(interrupted[0] / "checkpoints" / name, folder / "moved" / name)
    states = folder / "moved" / name / f"{name}.pdstates"
    states.write_text(json.dumps(json.loads(states.read_text()) | {"best_step": 1}), encoding="utf-8")
    write_checksums(states.parent)
    last = folder / "moved" / name / f"{name}.pdparams"
    outcome = run_slim(
        "train", tmp_path / "output", **train_options(dataset, Train__resume_path=last, Train__early_stop=1)
    )
    assert outcome.code == 0, outcome.stderr
    result = read_result(tmp_path / "output", "train")
    assert result["best_epoch"] == 2
    assert [row["epoch"] for row in result["history"]] == [1, 2]
    assert (tmp_path / "output" / result["models"]["best"]["pdparams"]).is_file()


def test_resuming_with_other_classes_is_refused(
    interrupted: tuple[Path, Outcome], dataset: Path, tmp_path: Path
) -> None:
    own = copy_dataset(dataset, tmp_path / "own")
    for split in ("train", "val"):
        renamed = with_new_categories(read_coco(annotation_file(own, split)))
        write_coco(renamed, renamed.path)
    last = last_checkpoint(interrupted[0])
    outcome = run_slim("train", tmp_path / "output", **train_options(own, Train__resume_path=last))
    assert outcome.code == 3
    assert last.name in outcome.stderr and CATEGORIES[1].name in outcome.stderr


def test_resuming_with_fewer_classes_is_refused(
    interrupted: tuple[Path, Outcome], dataset: Path, tmp_path: Path
) -> None:
    own = copy_dataset(dataset, tmp_path / "own")
    one_class(own)
    last = last_checkpoint(interrupted[0])
    outcome = run_slim("train", tmp_path / "output", **train_options(own, Train__resume_path=last))
    assert outcome.code == 3
    assert last.name in outcome.stderr and "washer" in outcome.stderr


def test_resuming_a_run_from_scratch_asks_for_the_same_beginning(
    interrupted: tuple[Path, Outcome], weights: Path, dataset: Path, tmp_path: Path
) -> None:
    """The two runs have different optimizers."""
    last = last_checkpoint(interrupted[0])
    options = train_options(dataset, Train__resume_path=last, Train__pretrain_weight_path=weights)
    outcome = run_slim("train", tmp_path / "output", **options)
    assert outcome.code == 2
    assert "Train.pretrain_weight_path=scratch" in outcome.stderr


def test_a_finished_run_is_not_trained_further(
    trained: tuple[Path, Outcome], dataset: Path, tmp_path: Path, without_export: None
) -> None:
    last = last_checkpoint(trained[0])
    outcome = run_slim("train", tmp_path, **train_options(dataset, Train__resume_path=last))
    assert outcome.code == 0, outcome.stderr
    result = read_result(tmp_path, "train")
    assert result["done_flag"] is True
    assert result["history"] == read_result(trained[0], "train")["history"]
    assert (tmp_path / "best_model" / "best_model.pdparams").is_file()


def test_resuming_without_the_optimizers_state_names_the_file(
    interrupted: tuple[Path, Outcome], dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(last_checkpoint(interrupted[0]).parent, tmp_path / "moved")
    (last,) = (tmp_path / "moved").glob("*.pdparams")
    last.with_suffix(".pdopt").unlink()
    outcome = run_slim("train", tmp_path / "output", **train_options(dataset, Train__resume_path=last))
    assert outcome.code == 1
    assert f"{last.stem}.pdopt" in outcome.stderr and "Traceback" not in outcome.stderr


def test_resuming_from_weights_alone_points_to_the_right_setting(
    weights: Path, dataset: Path, tmp_path: Path
) -> None:
    shutil.copy(weights, tmp_path / "bare.pdparams")
    bare = tmp_path / "bare.pdparams"
    outcome = run_slim("train", tmp_path / "output", **train_options(dataset, Train__resume_path=bare))
    assert outcome.code == 1
    assert "Train.pretrain_weight_path" in outcome.stderr


# The moving average


@pytest.mark.parametrize("skip_frozen", [False, True])
def test_the_moving_average_is_that_of_the_recipe(skip_frozen: bool) -> None:
    ema = EmaRecipe(decay=0.9, kind="normal", skip=("neck",), skip_frozen=skip_frozen)
    spec = find_model(MODEL)
    spec = replace(spec, build=slim_model, scratch_recipe=replace(spec.scratch_recipe, ema=ema))
    cfg = load_config(f"{MODEL}.yaml", ["Train.pretrain_weight_path=scratch"])
    info = ModelInfo(MODEL, CATEGORIES, (64, 64))
    coco = CocoFile(Path(), images=(), annotations=(), categories=CATEGORIES)
    dataset: Any = SimpleNamespace(coco=coco)
    run = Run(
        *(cfg, spec, spec.scratch_recipe, info), *(dataset, coco, Path(), Path()), Ranks(), StopSignals()
    )
    run, state = start_training(run, None)
    assert state.ema is not None
    assert (state.ema.decay, state.ema.kind) == (0.9, "normal")
    averaged = state.ema.state_dict().keys()
    assert ("yolo_head.proj_conv.weight" in averaged) is not skip_frozen
    assert {"yolo_head.stem_cls.0.fc.weight", "yolo_head.stem_cls.0.conv.bn._mean"} <= averaged
    assert not any(name.startswith("neck") for name in averaged)


# The course of a run


@pytest.mark.parametrize(
    ("epoch", "sizes", "is_mixed"),
    [(0, {96}, True), (4, {96, 128}, True), (7, {128}, True), (8, {128}, False), (9, {128}, False)],
)
def test_inputs_grow_and_mosaics_end_at_their_share_of_the_run(
    dataset: Path, tmp_path: Path, epoch: int, sizes: set[int], is_mixed: bool
) -> None:
    options = ["Train.pretrain_weight_path=scratch", f"Global.dataset_dir={dataset}", "Train.image_size=128"]
    options += ["Train.epochs_iters=10", "Train.augment.mosaic=1.0", f"Global.output={tmp_path}"]
    run, _ = prepare(load_config(f"{MODEL}.yaml", options), Ranks(), StopSignals())
    # A time budget overrides the configured number of epochs.
    for progress in (Progress(epoch=epoch), Progress(epoch=2 * epoch, run_epochs=20)):
        samples = run.training_set(progress)
        assert {resize.size_hw[0] for resize in samples.resizes} == sizes
        task = samples.task(epoch, Draw(0), samples.resizes[0])
        assert len(task.images) == (4 if is_mixed else 1)


def test_the_time_left_counts_on_inputs_that_grow_and_on_evaluations(dataset: Path) -> None:
    options = ["Train.pretrain_weight_path=scratch", f"Global.dataset_dir={dataset}"]
    options += ["Train.epochs_iters=10", "Train.eval_interval=5"]
    run, _ = prepare(load_config(f"{MODEL}.yaml", options), Ranks(), StopSignals())
    small, medium = (0.7**2 + 0.8**2) / 2, (0.8**2 + 0.9**2) / 2
    of_whole_inputs = 50.0 * run.steps_per_epoch
    clock = Clock(step_seconds=50.0 * small, evaluation_seconds=300.0)
    expected = (3 * small + 4 * medium + 3) * of_whole_inputs + 2 * 300
    assert clock.eta(run, Progress()) == format_seconds(expected)
    clock = Clock(step_seconds=50.0)
    half = Progress(epoch=9, epoch_step=run.steps_per_epoch // 2)
    left = run.steps_per_epoch - run.steps_per_epoch // 2
    assert clock.eta(run, half) == ">" + format_seconds(50.0 * left)


def test_mosaics_may_be_declined(dataset: Path) -> None:
    options = ["Train.pretrain_weight_path=scratch", f"Global.dataset_dir={dataset}"]
    sizes = {}
    for more in ([], ["Train.augment.mosaic=0"]):
        run, _ = prepare(load_config(f"{MODEL}.yaml", [*options, *more]), Ranks(), StopSignals())
        samples = run.training_set(Progress())
        tasks = [samples.task(epoch, Draw(0), samples.resizes[0]) for epoch in range(20)]
        sizes[len(more)] = {len(task.images) for task in tasks}
    assert sizes == {0: {1, 4}, 1: {1}}


# First weights


def test_weights_of_another_class_count_are_loaded_as_far_as_they_fit(
    trained: tuple[Path, Outcome], dataset: Path, tmp_path: Path, without_export: None
) -> None:
    """Also: a data set of one class."""
    own = copy_dataset(dataset, tmp_path / "own")
    one_class(own)
    source = trained[0] / "best_model" / "best_model.pdparams"
    options = train_options(own, Train__pretrain_weight_path=source, Train__epochs_iters=1)
    outcome = run_slim("train", tmp_path / "output", **options)
    assert outcome.code == 0, outcome.stderr
    assert str(source) in outcome.stdout
    assert "1 of 1 classes were matched by name (bolt)" in outcome.stdout
    written = read_weights(last_checkpoint(tmp_path / "output"))
    assert written["yolo_head.pred_cls.0.bias"].shape == (1,)


def test_the_run_starts_from_the_given_weights(
    trained: tuple[Path, Outcome], dataset: Path, tmp_path: Path, without_export: None
) -> None:
    source = trained[0] / "best_model" / "best_model.pdparams"
    options = train_options(
        dataset, Train__pretrain_weight_path=source, Train__learning_rate=1e-12, Train__epochs_iters=1
    )
    outcome = run_slim("train", tmp_path, **options)
    assert outcome.code == 0, outcome.stderr
    assert "tensors were loaded" in outcome.stdout
    given, written = read_weights(source), read_weights(last_checkpoint(tmp_path, "pdema"))
    for name in given:
        if not name.endswith(("_mean", "_variance")):
            np.testing.assert_allclose(written[name], given[name], atol=1e-6, err_msg=name)


def test_without_a_network_the_error_names_the_address_and_the_key(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with socket.socket() as listener:  # bound, but not listening: nobody answers
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/weights.pdparams"
        outcome = run_slim(
            "train", tmp_path / "output", **train_options(dataset, Train__pretrain_weight_path=url)
        )
    assert outcome.code == 1
    assert url in outcome.stderr and "Train.pretrain_weight_path" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert read_result(tmp_path / "output", "train")["done_flag"] is False


# The data


def test_a_wrong_number_of_classes_is_answered_with_the_right_one(dataset: Path, tmp_path: Path) -> None:
    outcome = run_slim("train", tmp_path, **train_options(dataset, Train__num_classes=80))
    assert outcome.code == 2
    assert "Set it to 2" in outcome.stderr and "bolt, washer" in outcome.stderr
    result = read_result(tmp_path, "train")
    assert result["done_flag"] is False
    assert result["err_type"] == "<class 'paddlex_seg.errors.ConfigError'>"
    assert result["err_msg"] in outcome.stderr
    assert not (tmp_path / "checkpoints").exists()


def test_fewer_images_than_a_batch_make_one_smaller_batch(
    dataset: Path, tmp_path: Path, without_export: None
) -> None:
    outcome = run_slim("train", tmp_path, **train_options(dataset, Train__batch_size=50))
    assert outcome.code == 0, outcome.stderr
    assert [row["step"] for row in read_result(tmp_path, "train")["history"]] == [1, 2]


def test_batches_of_images_without_objects_are_trained_on(
    dataset: Path, tmp_path: Path, without_export: None
) -> None:
    own = copy_dataset(dataset, tmp_path / "own")
    first = read_coco(annotation_file(own, "train")).annotations[0]
    change_split(own, "train", annotations=(first,))
    outcome = run_slim(
        "train", tmp_path / "output", **train_options(own, Train__batch_size=1, Train__epochs_iters=1)
    )
    assert outcome.code == 0, outcome.stderr
    (row,) = read_result(tmp_path / "output", "train")["history"]
    assert row["step"] == 8 and np.isfinite(row["loss"])


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_of_crowds_alone_is_refused_with_the_remedy(
    dataset: Path, tmp_path: Path, split: str
) -> None:
    own = copy_dataset(dataset, tmp_path / "own")
    crowds = (replace(item, iscrowd=True) for item in read_coco(annotation_file(own, split)).annotations)
    change_split(own, split, annotations=tuple(crowds))
    outcome = run_slim("train", tmp_path / "output", **train_options(own))
    assert outcome.code == 3
    assert f"instance_{split}.json" in outcome.stderr
    assert "iscrowd 0" in outcome.stderr


def test_a_train_file_without_objects_is_refused(dataset: Path, tmp_path: Path) -> None:
    own = copy_dataset(dataset, tmp_path / "own")
    change_split(own, "train", annotations=())
    outcome = run_slim("train", tmp_path / "output", **train_options(own))
    assert outcome.code == 3
    assert "instance_train.json" in outcome.stderr


def with_an_image_to_cut(dataset: Path, folder: Path, patch: pytest.MonkeyPatch) -> str:
    """A copy of the data set, and the image file that is truncated after all checks have passed."""
    shutil.copytree(dataset, folder)
    name = read_coco(annotation_file(folder, "train")).images[5].file_name
    image = folder / "images" / name
    content = image.read_bytes()
    train_one_epoch = train_mode.train_one_epoch

    def cut_first(*args: Any) -> None:
        image.write_bytes(content[:2000])
        try:
            train_one_epoch(*args)
        finally:
            image.write_bytes(content)

    patch.setattr(train_mode, "train_one_epoch", cut_first)
    return name


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_image_that_cannot_be_read_ends_the_run_by_its_name_when_none_may(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    name = with_an_image_to_cut(dataset, tmp_path / "own", monkeypatch)
    options = train_options(tmp_path / "own", Train__num_workers=num_workers, Train__max_bad_samples=0)
    outcome = run_slim("train", tmp_path / "output", **options)
    assert outcome.code == 3
    assert name in outcome.stderr and "Traceback" not in outcome.stderr


def test_an_image_that_cannot_be_read_is_left_out_and_listed(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_export: None
) -> None:
    name = with_an_image_to_cut(dataset, tmp_path / "own", monkeypatch)
    outputs = [tmp_path / "without workers", tmp_path / "with"]
    for num_workers, output in zip((0, 2), outputs, strict=True):
        outcome = run_slim("train", output, **train_options(tmp_path / "own", Train__num_workers=num_workers))
        assert outcome.code == 0, outcome.stderr
        (warning,) = [line for line in outcome.stdout.splitlines() if "WARNING" in line]
        assert name in warning and "1 of at most 10" in warning
        (listed,) = json.loads((output / "bad_samples.json").read_text(encoding="utf-8"))["bad_samples"]
        assert listed["file_name"] == name
    assert_same_weights(*(last_checkpoint(output, "pdema") for output in outputs))


# An output folder with an earlier run


def test_a_new_run_keeps_an_earlier_one_aside_and_does_not_pass_it_off_as_its_own(
    interrupted: tuple[Path, Outcome], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "output"
    shutil.copytree(interrupted[0], output)
    before_step(monkeypatch, 1, raise_interrupt)
    outcome = run_slim("train", output, **train_options(dataset, Train__seed=7))
    assert outcome.code == 1
    assert "interrupted before the first step" in outcome.stderr
    result = read_result(output, "train")
    assert result["models"]["best"] == {} and result["models"]["last_1"] == {}
    assert result["history"] == []
    assert "checkpoints.bak" in outcome.stdout and "Train.resume=auto" in outcome.stdout
    for name in ("checkpoints", "best_model"):
        kept = [path.relative_to(output / f"{name}.bak") for path in (output / f"{name}.bak").rglob("*")]
        assert kept and all((interrupted[0] / name / path).exists() for path in kept)


def test_a_run_that_ends_before_its_first_step_leaves_an_earlier_one_where_it_is(
    interrupted: tuple[Path, Outcome], dataset: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    shutil.copytree(interrupted[0], output)
    outcome = run_slim("train", output, **train_options(dataset, Train__num_classes=80))
    assert outcome.code == 2
    assert damage(checkpoints(output)[0]) is None
    assert not list(output.glob("*.bak"))


def test_a_learning_rate_for_sgd_is_refused_where_the_recipe_from_random_weights_has_adamw(
    dataset: Path, tmp_path: Path
) -> None:
    argv = ["-c", "MaskRCNN-ResNet50-FPN", "-oGlobal.mode=train", f"-oGlobal.dataset_dir={dataset}"]
    outcome = run_argv([*argv, f"-oGlobal.output={tmp_path}", "-oTrain.pretrain_weight_path=scratch"])
    assert outcome.code == 2
    assert "Train.learning_rate: found 0.01" in outcome.stderr
    assert "Set -o Train.learning_rate=0.0003" in outcome.stderr
    official = load_config("MaskRCNN-ResNet50-FPN.yaml")
    require_fitting_rate(official, MASK_RCNN)
