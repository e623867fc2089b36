"""Mode train with two processes on the CPU: same result as one process with the same total batch, signals,
resuming.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import read_result
from distributed_commands import END_SECONDS, started
from small_runs import last_checkpoint, run_slim, train_options

from paddlex_seg.checkpoints.files import checkpoints, step_of
from paddlex_seg.checkpoints.weights import read_weights
from paddlex_seg.reports.metrics_file import read_metrics
from paddlex_seg.training import output as training_output

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ranks are looked up in /proc")


def options_of(dataset: Path, **changes: Any) -> dict[str, Any]:
    """Two processes with two images each have the same total batch as one process with four."""
    return train_options(dataset, **{"Train__batch_size": 2, "Train__log_interval": 1, **changes})


def losses(output: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(output / "metrics.jsonl") if row["kind"] == "step"]


def test_two_processes_train_as_one_with_the_joined_batch(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, sums in another order drift apart over time; tests/ops has the exact comparison."""
    with started("train", tmp_path / "two", **options_of(dataset)) as run:
        assert run.wait() == 0, run.text()
        run.assert_all_end(1)
    monkeypatch.setattr(training_output, "export_model", lambda *args: None)
    outcome = run_slim("train", tmp_path / "one", **options_of(dataset, Train__batch_size=4))
    assert outcome.code == 0, outcome.stderr
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=2e-3)
    assert len(losses(tmp_path / "two")) == 4
    two, one = (read_result(tmp_path / name, "train") for name in ("two", "one"))
    assert [row["step"] for row in two["history"]] == [row["step"] for row in one["history"]] == [2, 4]
    assert two["done_flag"] is True


def test_without_shared_norms_two_processes_evaluate_what_the_checkpoint_has(
    dataset: Path, tmp_path: Path
) -> None:
    """Each process has its own running statistics; those of rank 0 are used."""
    options = options_of(dataset, Train__sync_bn=False, Train__augment__mosaic=0)
    with started("train and note statistics", tmp_path / "output", **options) as run:
        assert run.wait() == 0, run.text()
        run.assert_all_end(1)
    saved = read_weights(last_checkpoint(run.output))
    noted = [np.load(run.output / f"statistics_{rank}.npz") for rank in (0, 1)]
    names = [name for name in saved if name.endswith(("._mean", "._variance"))]
    for name in names:
        np.testing.assert_array_equal(noted[0][f"evaluated {name}"], saved[name])
        np.testing.assert_array_equal(noted[1][f"evaluated {name}"], saved[name])
    assert any((noted[0][name] != noted[1][name]).any() for name in names)


def test_a_stopped_run_of_two_processes_is_saved_and_goes_on_with_one(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = options_of(dataset, Train__epochs_iters=30)
    with started("train slowly", tmp_path / "output", **options) as run:
        run.wait_for("Epoch: [0] [1/2]")
        run.process.send_signal(signal.SIGUSR1)
        stopped = time.monotonic()
        assert run.wait(END_SECONDS) == 1, run.text()
        run.assert_all_end(END_SECONDS - (time.monotonic() - stopped))
    text = run.text()
    assert text.count("To continue, run the same command with -o Train.resume=auto") == 1, text
    assert "Traceback" not in text
    saved = step_of(checkpoints(run.output)[0])
    monkeypatch.setattr(training_output, "export_model", lambda *args: None)
    outcome = run_slim(
        "train", run.output, **options_of(dataset, Train__resume="auto", Train__epochs_iters=2)
    )
    assert outcome.code == 0, outcome.stderr
    assert "Batch size changed from 4 to 2." in outcome.stdout
    assert saved < step_of(checkpoints(run.output)[0]) <= saved + 8
    assert read_result(run.output, "train")["done_flag"] is True


def test_a_killed_process_ends_the_training_in_time(dataset: Path, tmp_path: Path) -> None:
    with started("train slowly", tmp_path / "output", **options_of(dataset, Train__epochs_iters=30)) as run:
        run.wait_for("Epoch: [0] [2/2]")
        os.kill(run.workers()[1], signal.SIGKILL)
        killed = time.monotonic()
        assert run.wait(END_SECONDS) == 1, run.text()
        run.assert_all_end(END_SECONDS - (time.monotonic() - killed))
    assert run.text().count("Error") == 1
    result = read_result(run.output, "train")
    assert result["done_flag"] is False and "signal 9" in result["err_msg"]


@pytest.mark.slow
def test_two_processes_resume_to_the_same_bits(dataset: Path, tmp_path: Path) -> None:
    options = options_of(dataset, Train__epochs_iters=4)
    with started("train", tmp_path / "whole", **options) as run:
        assert run.wait() == 0, run.text()
    with started("train slowly", tmp_path / "parts", **options) as run:
        run.wait_for("Epoch: [1] [1/2]")
        run.process.send_signal(signal.SIGINT)
        assert run.wait(END_SECONDS) == 1, run.text()
    states = json.loads(last_checkpoint(tmp_path / "parts", "pdstates").read_text(encoding="utf-8"))
    assert 3 <= states["step"] < 8
    with started("train", tmp_path / "parts", **options, Train__resume="auto") as run:
        assert run.wait() == 0, run.text()
    for suffix in ("pdparams", "pdema", "pdopt"):
        whole, parts = (read_weights(last_checkpoint(tmp_path / n, suffix)) for n in ("whole", "parts"))
        assert all((whole[name] == parts[name]).all() for name in whole)
