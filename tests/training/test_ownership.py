"""Who may train into an output folder: one training at a time, and a run that is resumed from itself."""

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, read_result, run_cli
from disturbed import assert_same_end, train, train_until
from small_runs import run_slim

from paddlex_seg.checkpoints.files import checkpoints, damage, step_of
from paddlex_seg.files.lock import LOCK_FILE, held
from paddlex_seg.reports.metrics_file import read_metrics
from paddlex_seg.training import loop
from paddlex_seg.training import output as training_output

pytestmark = pytest.mark.usefixtures("no_export")


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder, by their names."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The lock


@pytest.mark.parametrize(
    "changes",
    [{}, {"Train__resume": "auto"}, {"Train__epoch_iters": 3}, {"Train__num_processes": 2}],
    ids=["new", "resumed", "with a wrong key", "distributed"],
)
def test_a_second_training_is_refused_and_changes_nothing(
    dataset: Path, tmp_path: Path, whole_run: Path, changes: dict[str, Any]
) -> None:
    output = tmp_path / "output"
    shutil.copytree(whole_run, output)
    with held(output):
        before = contents(output)
        outcome = train(dataset, output, **changes)
        assert contents(output) == before
    assert outcome.code == 2
    assert f"process {os.getpid()} on {socket.gethostname()}" in outcome.stderr
    assert "another Global.output" in outcome.stderr and "Traceback" not in outcome.stderr


def test_a_training_that_was_refused_can_begin_when_the_first_was_killed(
    dataset: Path, tmp_path: Path, whole_run: Path
) -> None:
    output = tmp_path / "output"
    train_until(dataset, output, 5)
    code = (
        "import os, sys; from pathlib import Path; from paddlex_seg.files.lock import held\n"
        "with held(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(output)], check=False)
    assert (output / LOCK_FILE).is_file()
    outcome = train(dataset, output, Train__resume="auto")
    assert outcome.code == 0, outcome.stderr
    assert not (output / LOCK_FILE).exists()
    assert LOCK_FILE not in outcome.stdout
    assert_same_end(output, whole_run)


def test_evaluating_beside_a_training_is_allowed(dataset: Path, tmp_path: Path, whole_run: Path) -> None:
    with held(whole_run):
        outcome = run_slim(
            "evaluate",
            whole_run,
            Global__dataset_dir=dataset,
            Evaluate__weight_path=whole_run / "best_model" / "best_model.pdparams",
            Train__num_workers=0,
        )
    assert outcome.code == 0, outcome.stderr
    (whole_run / "evaluate_result.json").unlink()


def test_on_several_machines_a_command_is_refused_as_well(dataset: Path, tmp_path: Path) -> None:
    with held(tmp_path):
        outcome = run_cli(
            "train", tmp_path, Global__dataset_dir=dataset, Train__nnodes=2, Train__master="127.0.0.1:6071"
        )
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]
    assert outcome.code == 2 and "is in use by process" in outcome.stderr


# Resuming from oneself


def give_scores(patch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Let the evaluations of a run return these mask APs, one after the other."""
    evaluate, coming = loop.evaluate_coco, iter(scores)

    def scored(*args: Any) -> Any:
        metrics = evaluate(*args)
        return replace(metrics, segm=replace(metrics.segm, AP=next(coming)))

    patch.setattr(loop, "evaluate_coco", scored)


@pytest.fixture(scope="module")
def scored_run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs of four steps whose best model is that of the second."""
    output = tmp_path_factory.mktemp("scored") / "output"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_output, "export_model", lambda *args: None)
        give_scores(patch, [0.1, 0.7, 0.3])
        outcome = train(dataset, output, Train__epochs_iters=3)
    assert outcome.code == 0, outcome.stderr
    assert [step_of(path) for path in checkpoints(output)] == [12, 8]
    return output


@pytest.fixture
def of_three_scores(scored_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `scored_run`. The next evaluation gives 0.2."""
    give_scores(monkeypatch, [0.2])
    return Path(shutil.copytree(scored_run, tmp_path / "output"))


def assert_goes_on_after_the_best(outcome: Outcome, output: Path) -> None:
    assert outcome.code == 0, outcome.stderr
    assert "Continuing at step 9" in outcome.stdout
    assert "Tracking of the best model starts anew" not in outcome.stdout
    result = read_result(output, "train")
    assert [(row["epoch"], row["mask_ap"]) for row in result["history"]] == [(1, 0.1), (2, 0.7), (3, 0.2)]
    assert result["best_epoch"] == 2 and result["models"]["best"]["score"] == 0.7
    assert damage(output / "best_model") is None
    evaluations = [row for row in read_metrics(output / "metrics.jsonl") if row["kind"] == "evaluation"]
    assert [row["step"] for row in evaluations] == [4, 8, 12]


@pytest.mark.parametrize("how", ["folder", "link to the file", "relative"])
def test_a_run_goes_on_from_its_own_best_model_in_place(
    dataset: Path, of_three_scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    output, best = of_three_scores, of_three_scores / "best_model"
    later = (output / "checkpoints" / "step_00000012" / "step_00000012.pdparams").read_bytes()
    (tmp_path / "to file.pdparams").symlink_to(best / "best_model.pdparams")
    monkeypatch.chdir(tmp_path)
    wanted = {
        "folder": best,
        "link to the file": tmp_path / "to file.pdparams",
        "relative": "output/best_model",
    }[how]
    outcome = train(dataset, output, Train__epochs_iters=3, Train__resume=wanted)
    assert_goes_on_after_the_best(outcome, output)
    assert not (output / "best_model.bak").exists()
    kept = output / "checkpoints.bak" / "step_00000012"
    assert damage(kept) is None and (kept / "step_00000012.pdparams").read_bytes() == later
    assert str(output / "checkpoints.bak") in outcome.stdout


def test_killed_before_its_next_checkpoint_the_run_still_finds_everything(
    dataset: Path, of_three_scores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As a kill: nothing of the program reacts to it."""

    def die(*args: Any, **options: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", die)
        best = of_three_scores / "best_model"
        with pytest.raises(Killed):
            train(dataset, of_three_scores, Train__epochs_iters=3, Train__resume=best)
    outcome = train(dataset, of_three_scores, Train__epochs_iters=3, Train__resume="auto")
    assert_goes_on_after_the_best(outcome, of_three_scores)


def test_going_on_from_an_earlier_checkpoint_keeps_a_later_best_model(dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    outcome = train(dataset, output, Train__keep_last=3)
    assert outcome.code == 0, outcome.stderr
    best = (output / "best_model" / "best_model.pdparams").read_bytes()  # all scores are equal: the last
    earlier = output / "checkpoints" / "step_00000004"
    outcome = train_until(dataset, output, 1, Train__resume=earlier)
    assert outcome.code == 1
    assert (output / "best_model.bak" / "best_model.pdparams").read_bytes() == best
    assert damage(output / "checkpoints.bak" / "step_00000008") is None
    assert [step_of(path) for path in checkpoints(output)] == [5, 4]
    # And back again, from what was kept.
    outcome = train(dataset, output, Train__resume=output / "checkpoints.bak")
    assert outcome.code == 0, outcome.stderr
    assert "All 2 epochs are done; nothing is left to train" in outcome.stdout
    assert (output / "best_model" / "best_model.pdparams").read_bytes() == best
    assert [step_of(path) for path in checkpoints(output)] == [8]
    assert {path.name for path in (output / "checkpoints.bak.1").iterdir()} == {
        "step_00000005",
        "step_00000004",
    }


@pytest.mark.parametrize("place", ["best_model", "copy"])
def test_the_best_model_of_another_folder_brings_its_score_along(
    dataset: Path, of_three_scores: Path, tmp_path: Path, place: str
) -> None:
    best = of_three_scores / "best_model"
    if place == "copy":  # under another name, and without the rest of its run
        best = Path(shutil.copytree(best, tmp_path / "good one"))
    output = tmp_path / "other"
    outcome = train(dataset, output, Train__epochs_iters=3, Train__resume=best)
    assert outcome.code == 0, outcome.stderr
    assert "Tracking of the best model starts anew" not in outcome.stdout
    assert read_result(output, "train")["models"]["best"]["score"] == 0.7
    assert [step_of(path) for path in checkpoints(of_three_scores)] == [12, 8]


def test_a_finished_run_says_that_nothing_is_left(dataset: Path, tmp_path: Path, whole_run: Path) -> None:
    output = tmp_path / "output"
    shutil.copytree(whole_run, output)
    (output / "best_model" / "inference").mkdir()
    (output / "best_model" / "inference" / "inference.yml").touch()
    outcome = train(dataset, output, Train__resume="auto")
    assert outcome.code == 0, outcome.stderr
    assert "All 2 epochs are done; nothing is left to train" in outcome.stdout
    assert "set Train.epochs_iters higher than 2" in outcome.stdout
    assert "Epoch:" not in outcome.stdout
    assert (output / "best_model" / "inference" / "inference.yml").is_file()
    assert_same_end(output, whole_run)
