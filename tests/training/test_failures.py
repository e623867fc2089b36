"""Trainings around which something fails: what is whole is saved, and the message says how to go on."""

import errno
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, read_result, run_argv
from disturbed import assert_same_end, during_loss, own_images, train
from small_runs import MODEL

from paddlex_seg.checkpoints.files import checkpoints, step_of
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.samples.loader import WorkerPool
from paddlex_seg.modes import train as train_mode
from paddlex_seg.training import loop
from paddlex_seg.training import output as training_output
from paddlex_seg.training.ema import Ema
from paddlex_seg.training.metrics_log import MetricsLog

GO_ON = "To continue, run the same command with -o Train.resume=auto"


def image_file(dataset: Path, split: str) -> Path:
    """The first image of a part of a data set."""
    return dataset / "images" / read_coco(dataset / f"annotations/instance_{split}.json").images[0].file_name


def assert_saved(outcome: Outcome, output: Path, step: int, *, code: int = 1) -> None:
    assert outcome.code == code, outcome.stderr
    assert f"A checkpoint of step {step} is saved. {GO_ON}" in outcome.stderr
    assert [step_of(path) for path in checkpoints(output)][0] == step
    result = read_result(output, "train")
    assert result["done_flag"] is False and GO_ON in result["err_msg"]
    assert result["models"]["last_1"]["pdparams"].endswith(f"step_{step:08}.pdparams")


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_a_val_image_that_fails_during_training_costs_no_step(
    dataset: Path, tmp_path: Path, whole_run: Path, how: str
) -> None:
    own, output = own_images(dataset, tmp_path / "own"), tmp_path / "output"
    path = image_file(own, "val")
    content = path.read_bytes()

    def spoil() -> None:
        path.unlink() if how == "gone" else path.write_bytes(content[: len(content) // 2])

    with pytest.MonkeyPatch.context() as patch:
        during_loss(patch, 4, spoil)  # in the last step of the first epoch
        outcome = train(own, output)
    assert_saved(outcome, output, 4, code=3)
    assert path.name in outcome.stderr and "Traceback" not in outcome.stderr
    assert read_result(output, "train")["history"] == []
    if how == "damaged":
        return
    path.write_bytes(content)
    outcome = train(own, output, Train__resume="auto")
    assert outcome.code == 0, outcome.stderr
    assert_same_end(output, whole_run)


@pytest.mark.usefixtures("no_export")
def test_too_many_bad_train_images_cost_no_step(dataset: Path, tmp_path: Path) -> None:
    own, output = own_images(dataset, tmp_path / "own"), tmp_path / "output"
    with pytest.MonkeyPatch.context() as patch:
        during_loss(patch, 2, lambda: shutil.move(own / "images", tmp_path / "away"))
        outcome = train(own, output, Train__max_bad_samples=0)
    assert_saved(outcome, output, 2, code=3)
    assert "Traceback" not in outcome.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills a process")
@pytest.mark.usefixtures("no_export")
def test_a_killed_data_worker_costs_no_step(dataset: Path, tmp_path: Path) -> None:
    pools: list[WorkerPool] = []

    class Noted(WorkerPool):
        def __init__(self, num_workers: int) -> None:
            super().__init__(num_workers)
            pools.append(self)

    def kill_worker() -> None:
        executor = pools[0]._executor
        assert executor is not None
        for worker in executor._processes.values():
            os.kill(worker.pid, signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_mode, "WorkerPool", Noted)
        during_loss(patch, 2, kill_worker)
        outcome = train(dataset, tmp_path, Train__num_workers=1, Train__epochs_iters=1)
    step = step_of(checkpoints(tmp_path)[0])
    assert step in (2, 3, 4)  # batches that were ready are still trained
    assert_saved(outcome, tmp_path, step)
    assert "data workers was killed" in outcome.stderr and "Traceback" not in outcome.stderr


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize(
    ("error", "is_expected"),
    [
        (MemoryError(), True),
        (OSError(errno.EIO, os.strerror(errno.EIO), "/data/images"), True),
        (KeyError("a mistake of ours"), False),
    ],
)
def test_whatever_an_evaluation_raises_costs_no_step(
    dataset: Path, tmp_path: Path, error: Exception, is_expected: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "evaluate_coco", raising(error))
        outcome = train(dataset, tmp_path)
    assert_saved(outcome, tmp_path, 4)
    assert type(error).__name__ in outcome.stderr and str(error) in outcome.stderr
    assert ("Traceback" in outcome.stderr) is not is_expected


def raising(error: Exception) -> Callable[..., None]:
    def function(*args: Any, **options: Any) -> None:
        raise error

    return function


@pytest.mark.usefixtures("no_export")
def test_a_step_that_fails_halfway_is_not_saved(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, calls = Ema.update, []

    def fails_at_last(self: Ema, model: Any) -> None:
        calls.append(1)
        if len(calls) == 6:
            raise MemoryError
        update(self, model)

    monkeypatch.setattr(Ema, "update", fails_at_last)
    outcome = train(dataset, tmp_path)
    assert outcome.code == 1
    assert "The state after step 5 is lost, because it is not whole" in outcome.stderr
    assert f"The last checkpoint is {checkpoints(tmp_path)[0]}. {GO_ON}" in outcome.stderr
    assert [step_of(path) for path in checkpoints(tmp_path)] == [4]


@pytest.mark.usefixtures("no_export")
def test_when_the_checkpoint_cannot_be_written_either_both_are_told(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(loop, "evaluate_coco", raising(MemoryError()))
    monkeypatch.setattr("paddlex_seg.checkpoints.weights.pickle.dump", raising(full))
    outcome = train(dataset, tmp_path)
    assert outcome.code == 1 and "Traceback" not in outcome.stderr
    assert "Error: MemoryError" in outcome.stderr
    assert "could not be saved" in outcome.stderr and "No space left on device" in outcome.stderr
    assert checkpoints(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.usefixtures("no_export")
def test_a_full_disk_of_the_metrics_is_told_once_and_training_goes_on(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = MetricsLog.__init__

    def on_a_full_disk(self: MetricsLog, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        self._file = open("/dev/full", "a", encoding="utf-8")

    monkeypatch.setattr(MetricsLog, "__init__", on_a_full_disk)
    outcome = train(dataset, tmp_path, Train__log_interval=1)
    assert outcome.code == 0, outcome.stderr
    (warning,) = [line for line in outcome.stdout.splitlines() if "cannot be written" in line]
    assert "metrics.jsonl" in warning and "No space left on device" in warning
    assert outcome.stderr == ""


# The export


def test_a_failed_export_leaves_a_complete_training_and_the_command_for_the_export(
    dataset: Path, tmp_path: Path
) -> None:
    output = tmp_path / "größe = 1, 2"
    with pytest.MonkeyPatch.context() as patch:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output))
        patch.setattr(training_output, "export_model", raising(full))
        outcome = train(dataset, output, Train__epochs_iters=1)
    assert outcome.code == 1 and "Traceback" not in outcome.stderr
    assert "No space left on device" in outcome.stderr and "Training is complete" in outcome.stderr
    result = read_result(output, "train")
    assert result["done_flag"] is False
    assert "Only its export is missing" in result["err_msg"]
    assert (output / result["models"]["best"]["pdparams"]).is_file()

    command = outcome.stderr.partition("run the same command with ")[2].strip().rstrip(".")
    exported: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("paddlex_seg.modes.export.export_model", lambda *args: exported.append(args[3]))
        patch.setattr("paddlex_seg.modes.export.load_model", lambda *args, **options: None)
        patch.setattr("paddlex_seg.catalog.ModelSpec.limit_detections", lambda *args: None)
        assert run_argv(["-c", MODEL, "-o", "Global.device=cpu", *shlex.split(command)]).code == 0
        patch.setattr(training_output, "export_model", lambda *args: exported.append(args[3]))
        outcome = train(dataset, output, Train__epochs_iters=1, Train__resume="auto")
    assert outcome.code == 0, outcome.stderr
    assert exported == [output / "best_model" / "inference"] * 2
    assert "nothing is left to train" in outcome.stdout and "Epoch:" not in outcome.stdout
    result = read_result(output, "train")
    assert result["done_flag"] is True and "err_msg" not in result


def test_a_signal_during_the_export_says_that_training_is_complete(dataset: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_output, "export_model", lambda *args: os.kill(os.getpid(), signal.SIGTERM))
        outcome = train(dataset, tmp_path, Train__epochs_iters=1)
    assert outcome.code == 1
    assert "interrupted. Training is complete" in outcome.stderr
    assert "-o Global.mode=export" in outcome.stderr
    assert read_result(tmp_path, "train")["done_flag"] is False


def test_a_training_is_not_called_done_while_its_export_runs(dataset: Path, tmp_path: Path) -> None:
    """A kill during the export leaves the file as it is then."""
    flags: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            training_output,
            "export_model",
            lambda *args: flags.append(read_result(tmp_path, "train")["done_flag"]),
        )
        assert train(dataset, tmp_path, Train__epochs_iters=1).code == 0
    assert flags == [False]
    assert read_result(tmp_path, "train")["done_flag"] is True
