"""Distributed runs: what is started, what ranks tell each other, and how a run of several processes ends.

The runs are those of the real command line with two processes on the CPU; most do a scenario of
``rank_scenarios.py`` instead of training.
"""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import read_result, run_cli
from distributed_commands import END_SECONDS, started
from small_runs import MODEL

from paddlex_seg.config.read import load_config
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.samples.loader import evaluation_plan
from paddlex_seg.errors import BackendError, ConfigError, DatasetError
from paddlex_seg.evaluation.predict import images_of_rank
from paddlex_seg.recipes import MASK_RCNN
from paddlex_seg.runtime import supervisor as distributed
from paddlex_seg.runtime.environment import Launched, launcher_environment, worker_environment
from paddlex_seg.runtime.rank_guard import unexplained_end
from paddlex_seg.runtime.rank_notes import (
    Failure,
    clear_notes,
    forget_worker,
    note_failure,
    note_worker,
    read_failures,
    read_workers,
)
from paddlex_seg.runtime.ranks import ONE_RANK, Ranks, join_ranks
from paddlex_seg.runtime.supervisor import LaunchPlan, Supervision, launch_command, launch_plan, log_folder
from paddlex_seg.structures import CocoFile, ImageRecord

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked up in /proc")


# What is started


def plan_of(*options: str, mode: str = "train") -> LaunchPlan | None:
    return launch_plan(load_config(MODEL, [f"Global.mode={mode}", *options]))


@pytest.mark.parametrize(
    ("options", "plan"),
    [
        (["Global.device=cpu"], None),
        (["Global.device=gpu:1"], None),
        (["Train.dist_ips=10.0.0.1"], None),
        (["Global.device=gpu:0,2"], LaunchPlan("gpu", (0, 2), 2, 1, None)),
        (["Global.device=cpu", "Train.num_processes=3"], LaunchPlan("cpu", (), 3, 1, None)),
        (
            ["Global.device=npu:0,1", "Train.nnodes=2", "Train.master=10.0.0.1:7000"],
            LaunchPlan("npu", (0, 1), 2, 2, "10.0.0.1:7000"),
        ),
        (
            ["Global.device=gpu", "Train.dist_ips=10.0.0.1, 10.0.0.2"],
            LaunchPlan("gpu", (0,), 1, 2, "10.0.0.1:6070"),
        ),
        (
            ["Global.device=cpu", "Train.dist_ips=[10.0.0.1, 10.0.0.2]", "Train.nnodes=2"],
            LaunchPlan("cpu", (), 1, 2, "10.0.0.1:6070"),
        ),
    ],
)
def test_what_a_configuration_starts(options: list[str], plan: LaunchPlan | None) -> None:
    assert plan_of(*options) == plan_of(*options, mode="evaluate") == plan


@pytest.mark.parametrize("mode", ["check_dataset", "export", "predict"])
def test_other_modes_start_nothing(mode: str) -> None:
    assert plan_of("Global.device=gpu:0,1", mode=mode) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["Global.device=gpu:0,1", "Train.num_processes=2"], "list one device per process"),
        (["Global.device=auto", "Train.num_processes=2"], "Global.device=cpu"),
        (["Global.device=gpu:1,1"], "name each device once"),
        (["Global.device=gpu:0", "Train.nnodes=2"], "Train.master is None"),
        (["Global.device=gpu:0", "Train.master=10.0.0.1:70"], "Train.nnodes is 1"),
        (["Global.device=cpu", "Train.dist_ips=a,b", "Train.nnodes=3"], "lists 2 machines"),
        (["Global.device=cpu", "Train.dist_ips=a,b", "Train.master=a:70"], "both set"),
        (["Global.device=cpu", "Train.dist_ips=a,a"], "lists a machine twice"),
        (["Global.device=auto", "Train.dist_ips=a,b"], "name the devices"),
        (["Train.master=10.0.0.1"], "Train.master"),
        (["Train.dist_ips=7"], "addresses of the machines"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(*options)


def test_devices_are_counted_among_those_that_the_environment_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher needs the labels of the environment variable; ``gpu:0`` is the first visible device."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,2")
    plan = LaunchPlan("gpu", (0, 2), 2, 1, None)
    command = launch_command(plan, ["program"], Path("logs"))
    assert command[command.index("--devices") + 1] == "4,2"
    with pytest.raises(ConfigError, match=r"names gpu:3.*only 3 device\(s\) visible"):
        launch_command(replace(plan, devices=(0, 3)), ["program"], Path("logs"))


def test_machines_are_passed_on_to_the_launcher() -> None:
    command = launch_command(LaunchPlan("cpu", (), 2, 3, "10.0.0.1:7000"), ["program", "-x"], Path("logs"))
    text = " ".join(command)
    assert "--nproc_per_node 2" in text and "--nnodes 3 --master 10.0.0.1:7000" in text
    assert command[-2:] == ["program", "-x"]


def test_what_the_environment_says_does_not_overrule_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDLE_LOG_DIR", "elsewhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    environment = launcher_environment("cpu", 2)
    assert "PADDLE_LOG_DIR" not in environment
    assert environment["PADDLE_DISTRI_BACKEND"] == "gloo"
    assert environment["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert launcher_environment("mlu", 2)["PADDLE_XCCL_BACKEND"] == "mlu"


def test_ranks_keep_the_proxy_that_the_launcher_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    environment = launcher_environment("gpu", 2)
    monkeypatch.delenv("https_proxy")
    for name, value in environment.items():
        if name != "https_proxy":
            monkeypatch.setenv(name, value)
    assert worker_environment()["https_proxy"] == "http://proxy:3128"


def test_each_machine_has_its_own_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed.socket, "gethostname", lambda: "machine-7")
    options = ["Global.mode=train", f"Global.output={tmp_path}", "Global.device=cpu"]
    assert log_folder(load_config(MODEL, options)) == tmp_path / "distributed_train_logs"
    several = log_folder(load_config(MODEL, [*options, "Train.dist_ips=a,b"]))
    assert several == tmp_path / "distributed_train_logs" / "machine-7"


def test_a_machine_that_others_cannot_find_by_its_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = {"master": "10.0.0.1", "own-name": "127.0.1.1"}
    monkeypatch.setattr(distributed.socket, "gethostname", lambda: "own-name")
    monkeypatch.setattr(distributed.socket, "getfqdn", lambda name: name)
    monkeypatch.setattr(distributed.socket, "gethostbyname", lambda name: addresses.get(name, name))
    with pytest.raises(BackendError, match=r"own-name, resolves to 127\.0\.1\.1"):
        distributed.reachable_master("master:6070")
    addresses["own-name"] = "10.0.0.2"
    assert distributed.reachable_master("master:6070") == "10.0.0.1:6070"
    monkeypatch.setattr(distributed, "_is_here", lambda address: True)
    with pytest.raises(BackendError, match=r"with the master 10\.0\.0\.1"):
        distributed.reachable_master("master:6070")


# What processes leave for the command


def test_the_first_failure_comes_first_and_a_rank_has_one(tmp_path: Path) -> None:
    first, second = (Failure(name, "", "", 1, time) for name, time in (("first", 5.0), ("second", 6.0)))
    clear_notes(tmp_path / "logs")
    note_failure(tmp_path / "logs", 0, second)
    note_failure(tmp_path / "logs", 1, first)
    note_failure(tmp_path / "logs", 1, replace(first, message="afterwards", time=4.0))
    assert read_failures(tmp_path / "logs") == [first, second]
    note_worker(tmp_path / "logs", 1, 77)
    assert read_workers(tmp_path / "logs") == {1: 77}
    clear_notes(tmp_path / "logs")
    assert not list((tmp_path / "logs").iterdir())


def test_a_rank_that_was_told_to_end_does_not_hide_why(tmp_path: Path) -> None:
    place = Launched(0, 2, local_rank=0, local_size=2, log_dir=tmp_path)
    note_failure(tmp_path, 1, Failure.of(DatasetError("broken image"), "Error: broken image", 3))
    note_failure(tmp_path, 0, unexplained_end(place, pid=12, code=-signal.SIGTERM))
    assert read_failures(tmp_path)[0].exit_code == 3
    assert [note.ended_pid for note in read_failures(tmp_path)] == [None, None]


# How the command judges the end of ranks. Ranks and launcher are idle processes, and guards are threads here.


def idle() -> subprocess.Popen:
    return subprocess.Popen(["sleep", "60"])


def guard(
    process: subprocess.Popen, log_dir: Path, rank: int, *, late: float, own: Failure | None = None
) -> None:
    """Report the end of a rank as its guard does, but ``late``. ``own``: what the rank noted itself."""
    code = process.wait()
    if own is not None:
        note_failure(log_dir, rank, own)
    time.sleep(late)
    place = Launched(rank, 2, local_rank=rank, local_size=2, log_dir=log_dir)
    note_failure(log_dir, rank, unexplained_end(place, process.pid, code))
    forget_worker(log_dir, rank)


def supervise(supervision: Supervision) -> Failure | None:
    while supervision.launcher.poll() is None:
        supervision.look()
        time.sleep(0.01)
    supervision.end_all()
    return supervision.outcome()


def killed_rank(log_dir: Path, number: int, *, guard_late: float, error_late: float) -> tuple[str, int]:
    """Kill rank 1 of 2. Rank 0 then reports a lost connection. Returns the message and the pid of rank 1."""
    clear_notes(log_dir)
    ranks = [idle(), idle()]
    for rank, process in enumerate(ranks):
        note_worker(log_dir, rank, process.pid)
    supervision = Supervision(idle(), LaunchPlan("cpu", (), 2, 1, None), log_dir, received=[])
    supervision.look()
    lost = Failure.of(RuntimeError("connection closed by peer"), "Error: connection closed", 1)

    def lose_connection() -> None:
        time.sleep(error_late)
        note_failure(log_dir, 0, lost)
        ranks[0].terminate()

    ranks[1].send_signal(number)
    with ThreadPoolExecutor(3) as threads:
        threads.submit(lose_connection)
        threads.submit(guard, ranks[0], log_dir, 0, late=0.0)
        threads.submit(guard, ranks[1], log_dir, 1, late=guard_late)
        failure = supervise(supervision)
    assert failure is not None
    return failure.message, ranks[1].pid


@linux
def test_a_killed_rank_is_named_whoever_reports_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 runs at the same time: its guard and the other rank report up to two seconds late, in any order."""
    monkeypatch.setattr(distributed, "FAILURE_SECONDS", 0.5)  # the other rank is killed before or after
    rng = np.random.default_rng(5)
    delays = [(late, 0.0) for late in (0.0, 1.2, 2.0)] + [(0.0, late) for late in (0.5, 2.0)]
    delays += [tuple(pair) for pair in rng.uniform(0, 2, (35, 2)).tolist()]
    with ThreadPoolExecutor(len(delays)) as threads:
        runs = []
        for index, (guard_late, error_late) in enumerate(delays):
            number = (signal.SIGKILL, signal.SIGSEGV)[index % 2]
            options = {"guard_late": guard_late, "error_late": error_late}
            run = threads.submit(killed_rank, tmp_path / str(index), number, **options)
            runs.append((run, number))
        for run, number in runs:
            message, pid = run.result()
            assert message.startswith(f"Error: rank 1 (pid {pid}) was ended by signal {number}"), message


@linux
def test_a_rank_that_the_command_kills_is_not_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "FAILURE_SECONDS", 0.2)
    clear_notes(tmp_path)
    ranks = [idle(), idle()]
    for rank, process in enumerate(ranks):
        note_worker(tmp_path, rank, process.pid)
    supervision = Supervision(idle(), LaunchPlan("cpu", (), 2, 1, None), tmp_path, received=[])
    supervision.look()
    ranks[0].terminate()
    broken = Failure.of(DatasetError("broken image"), "Error: broken image", 3)
    with ThreadPoolExecutor(2) as threads:
        threads.submit(guard, ranks[0], tmp_path, 0, late=0.0, own=broken)
        threads.submit(guard, ranks[1], tmp_path, 1, late=0.3)
        failure = supervise(supervision)
    assert failure == broken
    assert read_failures(tmp_path)[1].ended_pid == ranks[1].pid  # it was noted, and judged


# One process


def test_a_process_alone_is_rank_0_of_1() -> None:
    with join_ranks("cpu") as ranks:
        assert ranks == ONE_RANK and ranks.is_main and ranks.world_size == 1
        assert ranks.gather("all") == ["all"]
        assert ranks.any_of(True) and not ranks.any_of(False)
        ranks.barrier()


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_ranks_have_the_batches_of_a_single_one(world_size: int) -> None:
    sizes = [(40, 60), (60, 40), (40, 60), (40, 60), (61, 40), (40, 60), (60, 40), (40, 60), (60, 40)]
    records = tuple(ImageRecord(50 - i, f"{i}.png", width=w, height=h) for i, (h, w) in enumerate(sizes))
    coco = CocoFile(Path("val.json"), images=records, annotations=(), categories=())
    spec = MASK_RCNN.preprocess((64, 107))

    def batches(part: CocoFile) -> set[tuple[int, ...]]:
        return {tuple(part.images[i].id for i in batch) for batch in evaluation_plan(part, spec, 2)}

    parts = [images_of_rank(coco, spec, 2, Ranks(rank, world_size)) for rank in range(world_size)]
    counts = [len(batches(part)) for part in parts]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == len(batches(coco))
    assert set().union(*map(batches, parts)) == batches(coco)


# Whole runs


@linux
def test_ranks_talk_and_rank_0_reports(tmp_path: Path) -> None:
    output = tmp_path / "größe = 1, 2"
    with started("talk", output) as run:
        assert run.wait() == 0, run.text()
        run.assert_all_end(1)
    result = read_result(output, "train")
    assert result == {
        "done_flag": True,
        "ranks": [0, 1],
        "sizes": [5_000_000, 5_000_001],
        "any": [False, True, True],
        "main": [True, False],
        "devices": ["cpu", "cpu"],
        "versions": result["versions"],
    }
    first, second, *rest = run.text().splitlines()
    assert "Starting 2 process(es)" in first and "distributed_train_logs" in first
    assert "rank 0 of 2 works" in second
    assert not rest
    log = (output / "distributed_train_logs" / "workerlog.1").read_text(encoding="utf-8")
    assert "rank 1 warns" in log and "rank 1 says" not in log


@linux
def test_an_error_of_a_rank_ends_the_run_and_is_told_once(tmp_path: Path) -> None:
    with started("fail", tmp_path / "output") as run:
        assert run.wait() == 3
        run.assert_all_end(1)
    assert run.text().count("image 7 is broken") == 1
    assert "Traceback" not in run.text() and "RuntimeError" not in run.text()
    result = read_result(run.output, "train")
    assert result["done_flag"] is False
    assert result["err_type"] == "<class 'paddlex_seg.errors.DatasetError'>"
    assert result["err_msg"] == "image 7 is broken"


@linux
@pytest.mark.parametrize(
    ("rank", "number", "cause"),
    [
        (1, signal.SIGKILL, "signal 9 (often: out of memory)"),
        pytest.param(0, signal.SIGSEGV, "signal 11", marks=pytest.mark.slow),
    ],
)
def test_a_killed_rank_ends_the_run_and_is_named(tmp_path: Path, rank: int, number: int, cause: str) -> None:
    with started("work", tmp_path / "output") as run:
        run.wait_for("all ranks listen")
        pid = run.workers()[rank]
        os.kill(pid, number)
        killed = time.monotonic()
        assert run.wait(END_SECONDS) == 1
        run.assert_all_end(END_SECONDS - (time.monotonic() - killed))
    *_, last = run.text().splitlines()
    assert last.startswith(f"Error: rank {rank} (pid {pid}) was ended by {cause}.")
    assert run.text().count("Error") == 1
    assert read_result(run.output, "train")["err_msg"] == last.removeprefix("Error: ")


@linux
def test_the_ranks_are_told_once_to_stop_and_may_finish(tmp_path: Path) -> None:
    with started("work", tmp_path / "output") as run:
        run.wait_for("all ranks listen")
        run.process.send_signal(signal.SIGTERM)
        assert run.wait(END_SECONDS) == 0, run.text()
        run.assert_all_end(1)
    assert read_result(run.output, "train")["received"] == [[signal.SIGTERM]] * 2


@linux
def test_nothing_is_left_of_a_killed_command(tmp_path: Path) -> None:
    with started("sleep", tmp_path / "output") as run:
        run.wait_for("all ranks listen")
        assert len(run.processes()) >= 6  # the command, the launcher, two guards, two ranks
        run.process.kill()
        run.process.wait()
        run.assert_all_end(END_SECONDS)


@linux
def test_sharded_evaluation_gives_the_numbers_of_one_process(
    findable: Path, weights: Path, tmp_path: Path
) -> None:
    settings = {
        "Global__dataset_dir": findable,
        "Evaluate__weight_path": weights,
        "Evaluate__batch_size": 3,
        "Train__num_workers": 0,
    }
    outcome = run_cli("evaluate", tmp_path / "1", **settings)
    assert outcome.code == 0, outcome.stderr
    with started("talk", tmp_path / "2", Global__mode="evaluate", **settings) as run:
        assert run.wait() == 0, run.text()
        run.assert_all_end(1)
    assert run.text().count("segm") == 1
    one, two = (read_result(tmp_path / count, "evaluate")["metrics"] for count in ("1", "2"))
    assert 0.1 < one["AP"] < 0.9
    for kind in ("segm", "bbox"):
        assert two[kind] == pytest.approx(one[kind], abs=1e-9)
    alone, together = (
        [
            (row["image_id"], row["category_id"])
            for row in json.loads((tmp_path / n / "segm.json").read_text())
        ]
        for n in ("1", "2")
    )
    assert alone == together
    val = read_coco(findable / "annotations" / "instance_val.json")
    assert {image_id for image_id, _ in together} == {record.id for record in val.images}


@linux
@pytest.mark.slow
def test_a_rank_that_leaves_without_a_word_is_named(tmp_path: Path) -> None:
    with started("leave", tmp_path / "output") as run:
        assert run.wait() == 1
        run.assert_all_end(1)
    assert "rank 1" in run.text() and "ended with exit code 9 and without an error message" in run.text()


@linux
@pytest.mark.slow
def test_ranks_that_do_not_stop_are_killed(tmp_path: Path) -> None:
    with started("sleep", tmp_path / "output") as run:
        run.wait_for("all ranks listen")
        run.process.send_signal(signal.SIGTERM)
        assert run.wait(25) == 1
        run.assert_all_end(1)
    assert run.text().splitlines()[-1] == "interrupted"
    assert read_result(run.output, "train")["done_flag"] is False


@linux
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["launcher", "guard"])
def test_a_killed_process_between_command_and_ranks_ends_all(tmp_path: Path, victim: str) -> None:
    with started("sleep", tmp_path / "output") as run:
        run.wait_for("all ranks listen")
        guard = _parent(run.workers()[1])
        os.kill(guard if victim == "guard" else _parent(guard), signal.SIGKILL)
        assert run.wait(END_SECONDS) == 1
        run.assert_all_end(END_SECONDS)
    assert "The launcher of the processes ended with exit code" in run.text()


@linux
@pytest.mark.slow
def test_a_barrier_waits_longer_than_a_collective(tmp_path: Path) -> None:
    with started("come late", tmp_path / "output") as run:
        assert run.wait() == 0, run.text()
    assert read_result(run.output, "train")["any"] is True


def _parent(pid: int) -> int:
    status = Path(f"/proc/{pid}/stat").read_text()
    return int(status.rpartition(")")[2].split()[1])
