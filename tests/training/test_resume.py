"""Runs that are stopped, killed or meet a full disk, and are resumed."""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import read_result
from disturbed import STEPS, assert_same_end, during_loss, train
from small_runs import last_checkpoint

from paddlex_seg.checkpoints.files import checkpoints, damage, step_of
from paddlex_seg.checkpoints.progress import Progress
from paddlex_seg.checkpoints.weights import read_weights
from paddlex_seg.models.pp_yoloe_seg.model import PpYoloeSeg
from paddlex_seg.modes import train as train_mode
from paddlex_seg.training import loop
from paddlex_seg.training.resume import at_batch_size

pytestmark = pytest.mark.usefixtures("no_export")


@pytest.fixture(scope="module")
def undisturbed(whole_run: Path) -> Path:
    """An uninterrupted run."""
    return whole_run


def give_scores(patch: pytest.MonkeyPatch, scores: Sequence[float]) -> None:
    """Let the evaluations of a run return these mask APs, one after the other."""
    evaluate, coming = loop.evaluate_coco, iter(scores)

    def scored(*args: Any) -> Any:
        metrics = evaluate(*args)
        return replace(metrics, segm=replace(metrics.segm, AP=next(coming)))

    patch.setattr(loop, "evaluate_coco", scored)


# Signals


@pytest.mark.parametrize(
    ("number", "call"),
    [
        *((signal.SIGINT, 1), (signal.SIGHUP, 1), (signal.SIGTERM, 3), (signal.SIGHUP, 3)),
        *((signal.SIGINT, 4), (signal.SIGUSR1, 4), (signal.SIGTERM, 6), (signal.SIGUSR1, 6)),
    ],
)
def test_a_signal_within_a_step_saves_and_the_resumed_run_ends_as_if_nothing_had_been(
    dataset: Path, tmp_path: Path, undisturbed: Path, number: int, call: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        during_loss(patch, call, lambda: os.kill(os.getpid(), number))
        start = time.monotonic()
        outcome = train(dataset, tmp_path)
    assert outcome.code == 1
    assert time.monotonic() - start < 10
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if call == 1:
        assert "there is nothing to save" in outcome.stderr
        assert not checkpoints(tmp_path)
    else:
        assert f"interrupted after step {call - 1}; a checkpoint is saved" in outcome.stderr
        assert step_of(checkpoints(tmp_path)[0]) == call - 1
        assert read_result(tmp_path, "train")["done_flag"] is False
    outcome = train(dataset, tmp_path, Train__resume="auto")
    assert outcome.code == 0, outcome.stderr
    assert_same_end(tmp_path, undisturbed)


def test_a_signal_during_the_evaluation_loses_no_step_and_no_evaluation(
    dataset: Path, tmp_path: Path, undisturbed: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        forward, calls = PpYoloeSeg.forward, []

        def wrapped(self: PpYoloeSeg, *inputs: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return forward(self, *inputs)

        patch.setattr(PpYoloeSeg, "forward", wrapped)
        outcome = train(dataset, tmp_path)
    assert outcome.code == 1 and len(calls) == 2
    assert "interrupted after step 4;" in outcome.stderr
    assert read_result(tmp_path, "train")["history"] == []
    outcome = train(dataset, tmp_path, Train__resume="auto")
    assert outcome.code == 0, outcome.stderr
    assert_same_end(tmp_path, undisturbed)


# Kills, damage, full disks


def test_killed_trainings_end_as_one_that_nothing_happened_to(tmp_path: Path) -> None:
    """A short version of the script that runs at night; see the script's docstring."""
    folder = tmp_path / "größe 1"
    folder.mkdir()
    script = Path(__file__).parents[1] / "helpers" / "kill_trainings.py"
    search = os.pathsep.join([str(script.parent), str(script.parents[2])])
    outcome = subprocess.run(
        [sys.executable, script, folder, "3", "3", "1", "0", "3"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": search},
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    done = json.loads(outcome.stdout.splitlines()[-1])
    assert (done["kill"], done["write"], done["damage"]) == (3, 3, 1)
    assert done["trainings"] >= 2


@pytest.mark.parametrize("how", ["cut", "flip", "remove", "no checksums"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    dataset: Path, tmp_path: Path, undisturbed: Path, how: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        during_loss(patch, 7, lambda: os.kill(os.getpid(), signal.SIGINT))
        train(dataset, tmp_path, Train__save_interval=1)
    newest, before, *_ = checkpoints(tmp_path)  # and the best one
    path = newest / ("checksums.json" if how == "no checksums" else f"{newest.name}.pdopt")
    content = path.read_bytes()
    path.unlink()
    if how == "cut":
        path.write_bytes(content[:-1])
    elif how == "flip":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    outcome = train(dataset, tmp_path, Train__resume="auto", Train__save_interval=1)
    assert outcome.code == 0, outcome.stderr
    (warning,) = [line for line in outcome.stdout.splitlines() if "is damaged and is not used" in line]
    assert str(newest) in warning and path.name in warning
    assert f"Continuing at step {step_of(before) + 1}" in outcome.stdout
    assert_same_end(tmp_path, undisturbed)


def test_a_damaged_checkpoint_that_is_asked_for_is_refused(
    dataset: Path, tmp_path: Path, undisturbed: Path
) -> None:
    output = tmp_path / "output"
    assert train(dataset, output, Train__epochs_iters=1).code == 0
    path = last_checkpoint(output)
    path.write_bytes(path.read_bytes()[:-5])
    for wanted in (path, path.parent):
        outcome = train(dataset, tmp_path / "resumed", Train__resume=wanted)
        assert outcome.code == 1
        assert f"{path.parent} is damaged: {path.name}" in outcome.stderr
    outcome = train(dataset, output, Train__resume="auto")
    assert outcome.code == 1
    assert "all checkpoints in" in outcome.stderr and "are damaged" in outcome.stderr
    assert path.is_file()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks /proc which file a handle is of")
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 7, 9, 11, 13, 15, 17])
def test_a_full_disk_leaves_the_last_good_checkpoint_and_says_what_to_do(
    dataset: Path, tmp_path: Path, undisturbed: Path, number: int
) -> None:
    """The disk is full at one of the calls that flush the second checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        fsync, calls = os.fsync, itertools.count(1)

        def full(handle: int) -> None:
            is_of_checkpoint = f"{tmp_path}/checkpoints" in os.readlink(f"/proc/self/fd/{handle}")
            if is_of_checkpoint and checkpoints(tmp_path) and next(calls) == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(handle)

        patch.setattr(os, "fsync", full)
        outcome = train(
            dataset, tmp_path, Train__save_interval=4, Train__epochs_iters=2, Train__eval_interval=5
        )
    assert outcome.code == 1, outcome.stdout
    (good,) = [path for path in checkpoints(tmp_path) if damage(path) is None]
    assert "No space left on device" in outcome.stderr and str(good) in outcome.stderr
    assert "Train.resume=" in outcome.stderr and "Traceback" not in outcome.stderr
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_checkpoints_that_are_too_old_are_deleted_and_the_best_is_kept(dataset: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        give_scores(patch, [0.1, 0.7, 0.3, 0.2, 0.5])
        outcome = train(dataset, tmp_path, Train__epochs_iters=5, Train__batch_size=8, Train__keep_last=2)
    assert outcome.code == 0, outcome.stderr
    assert [step_of(path) for path in checkpoints(tmp_path)] == [5, 4, 2]
    result = read_result(tmp_path, "train")
    assert result["best_epoch"] == 2 and result["models"]["best"]["score"] == 0.7
    best = read_weights(tmp_path / "best_model" / "best_model.pdparams")
    kept = read_weights(checkpoints(tmp_path)[2] / "step_00000002.pdparams")
    assert all((best[name] == kept[name]).all() for name in kept)
    assert damage(tmp_path / "best_model") is None


def test_a_kill_between_two_names_of_the_best_model_is_mended_by_resuming(
    dataset: Path, tmp_path: Path, undisturbed: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        move = os.replace

        def interrupted(source: Path, target: Path) -> None:
            if Path(target).name == "best_model" and len(checkpoints(tmp_path)) == 2:
                raise KeyboardInterrupt
            move(source, target)

        patch.setattr(os, "replace", interrupted)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(train_mode, "save_before_leaving", lambda *args: "gone")
            train(dataset, tmp_path)
    assert not (tmp_path / "best_model").exists()
    outcome = train(dataset, tmp_path, Train__resume="auto")
    assert outcome.code == 0, outcome.stderr
    assert damage(tmp_path / "best_model") is None
    assert_same_end(tmp_path, undisturbed)


# What is asked for


@pytest.mark.parametrize("key", ["resume", "resume_path"])
def test_a_run_is_resumed_by_its_folder_its_checkpoint_or_its_file(
    dataset: Path, tmp_path: Path, undisturbed: Path, key: str
) -> None:
    first = tmp_path / "first"
    with pytest.MonkeyPatch.context() as patch:
        during_loss(patch, 6, lambda: os.kill(os.getpid(), signal.SIGINT))
        train(dataset, first)
    file = last_checkpoint(first)
    for number, wanted in enumerate((first, file.parent, file)):
        output = tmp_path / str(number)
        outcome = train(dataset, output, **{f"Train__{key}": wanted})
        assert outcome.code == 0, outcome.stderr
        assert "Continuing at step 6" in outcome.stdout
        assert_same_end(output, undisturbed)


def test_a_run_that_goes_on_in_the_folder_of_another_keeps_that_one_aside(
    dataset: Path, tmp_path: Path, undisturbed: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        during_loss(patch, 6, lambda: os.kill(os.getpid(), signal.SIGINT))
        train(dataset, tmp_path / "first")
    assert train(dataset, tmp_path / "other", Train__seed=3, Train__epochs_iters=1).code == 0
    others = last_checkpoint(tmp_path / "other").read_bytes()
    outcome = train(dataset, tmp_path / "other", Train__resume=tmp_path / "first")
    assert outcome.code == 0, outcome.stderr
    assert_same_end(tmp_path / "other", undisturbed)
    (kept,) = (tmp_path / "other" / "checkpoints.bak").iterdir()
    assert damage(kept) is None
    assert (kept / f"{kept.name}.pdparams").read_bytes() == others


def test_resuming_what_is_not_there_says_what_is_expected(dataset: Path, tmp_path: Path) -> None:
    outcome = train(dataset, tmp_path / "output", Train__resume=tmp_path / "nothing")
    assert outcome.code == 1
    assert "Train.resume: found" in outcome.stderr and "the output folder of a run" in outcome.stderr


def test_both_names_of_the_setting_at_once_are_refused(dataset: Path, tmp_path: Path) -> None:
    outcome = train(dataset, tmp_path, Train__resume="auto", Train__resume_path="x.pdparams")
    assert outcome.code == 2
    assert "resume and resume_path mean the same" in outcome.stderr


def test_auto_begins_a_new_run_where_there_is_none(dataset: Path, tmp_path: Path) -> None:
    outcome = train(dataset, tmp_path, Train__resume="auto", Train__epochs_iters=1)
    assert outcome.code == 0, outcome.stderr
    assert "has no checkpoint. A new run starts." in outcome.stdout


def test_a_run_goes_on_at_the_same_image_with_another_batch_size(dataset: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        during_loss(patch, 7, lambda: os.kill(os.getpid(), signal.SIGINT))
        train(dataset, tmp_path, Train__log_interval=1)
    outcome = train(dataset, tmp_path, Train__resume="auto", Train__batch_size=4, Train__log_interval=1)
    assert outcome.code == 0, outcome.stderr
    assert "Batch size changed from 2 to 4." in outcome.stdout
    history = read_result(tmp_path, "train")["history"]
    assert [(row["epoch"], row["step"]) for row in history] == [(1, 4), (2, 7)]  # two of 2 and one of 4
    records = map(json.loads, (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    losses = [row["loss"] for row in records if row["kind"] == "step" and row["epoch"] == 2]
    assert len(losses) == 3 and min(losses) < history[1]["loss"] < max(losses)  # their mean


def test_a_run_goes_on_with_its_steps_made_of_smaller_batches(
    dataset: Path, tmp_path: Path, undisturbed: Path
) -> None:
    sizes: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        during_loss(patch, 7, lambda: os.kill(os.getpid(), signal.SIGINT))
        train(dataset, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        loss = PpYoloeSeg.loss

        def noted(self: PpYoloeSeg, batch: Any) -> Any:
            sizes.append(len(batch.targets))
            return loss(self, batch)

        patch.setattr(PpYoloeSeg, "loss", noted)
        options = {"Train__batch_size": 1, "Train__accumulate_steps": 2}
        outcome = train(dataset, tmp_path, Train__resume="auto", **options)
    assert outcome.code == 0, outcome.stderr
    assert sizes == [1] * 8  # two steps of two images, each with a forward pass for the normalisers
    assert step_of(checkpoints(tmp_path)[0]) == STEPS
    found, expected = (read_result(folder, "train")["history"] for folder in (tmp_path, undisturbed))
    assert found[0] == expected[0]
    # Batch norm sees one image instead of two.
    assert found[1]["loss"] == pytest.approx(expected[1]["loss"], rel=0.1)


@pytest.mark.parametrize(
    ("done", "batch_size", "steps_per_epoch", "expected"),
    [(3, 4, 25, 3), (3, 8, 12, 1), (3, 2, 50, 6), (25, 8, 12, 12), (25, 3, 33, 33), (0, 8, 12, 0)],
)
def test_the_place_in_an_epoch_is_counted_in_images(
    done: int, batch_size: int, steps_per_epoch: int, expected: int
) -> None:
    progress = Progress(epoch=2, epoch_step=done, step=50 + done, batch_size=4, run_epochs=7)
    found = at_batch_size(progress, batch_size, steps_per_epoch)
    assert (found.epoch, found.epoch_step, found.batch_size) == (2, expected, batch_size)
    assert found.run_epochs == 7  # as planned from a time budget


# The length of a run


def test_a_run_that_no_longer_gets_better_stops_early(dataset: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        give_scores(patch, [0.1, 0.3, 0.2, 0.2, 0.1, 0.1])
        options = {"Train__epochs_iters": 9, "Train__batch_size": 8, "Train__early_stop": 2}
        outcome = train(dataset, tmp_path, **options)
        assert outcome.code == 0, outcome.stderr
        result = read_result(tmp_path, "train")
        assert [row["epoch"] for row in result["history"]] == [1, 2, 3, 4]
        assert result["best_epoch"] == 2 and result["done_flag"] is True
        # Early stopping survives resuming: a resumed run trains no further epoch.
        outcome = train(dataset, tmp_path, Train__resume="auto", **options)
        assert outcome.code == 0, outcome.stderr
        assert len(read_result(tmp_path, "train")["history"]) == 4


def test_a_time_budget_decides_on_the_number_of_epochs(dataset: Path, tmp_path: Path) -> None:
    outcome = train(dataset, tmp_path, Train__time_budget=0.1, Train__epochs_iters=500)
    assert outcome.code == 0, outcome.stderr
    history = read_result(tmp_path, "train")["history"]
    assert 2 <= len(history) < 100
    seconds = json.loads(last_checkpoint(tmp_path, "pdstates").read_text(encoding="utf-8"))["seconds"]
    assert 2 < seconds < 12
    assert "epochs fit in the time budget of 0.1 minutes" in outcome.stdout

    outcome = train(dataset, tmp_path, Train__time_budget=0.2, Train__resume="auto")
    assert outcome.code == 0, outcome.stderr
    assert len(read_result(tmp_path, "train")["history"]) > len(history) + 1
