"""Stops conversions, splits and repairs at random: ``python kill_preparations.py FOLDER KILLS SEED``.

Each run is a command line in a forked process. After a random part of the time of an undisturbed run it gets
SIGKILL or, half of the time, a signal that asks to stop. Every time, what a reader then finds must be the
data as it was, or as it is to be; a source that is converted to a new place never changes. A run that was
asked to stop ends with exit code 1 and a message. Then the same command, run again, must end well. Prints a
line of JSON: how many runs were stopped, and how often each of the two was found. A difference ends it with
an AssertionError.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from command_line import run_cli

from paddlex_seg.data.demo import COCO_FOLDER, LABELME_FOLDER, write_demo_dataset
from paddlex_seg.files.publish import recover
from paddlex_seg.modes import check_dataset

State = dict[str, bytes]


@dataclass(frozen=True)
class Job:
    """A command. source: the folder it works on; data: what it is pointed at, below the copy of it."""

    source: str
    options: Mapping[str, Any]
    data: str = "."


CONVERT = {"CheckDataset__convert__enable": True, "CheckDataset__convert__src_dataset_type": "auto"}
EXPORT = {"CheckDataset__convert__enable": True, "CheckDataset__convert__dst_dataset_type": "YOLO"}
SPLIT = {
    "CheckDataset__split__enable": True,
    "CheckDataset__split__train_percent": 60,
    "CheckDataset__split__val_percent": 30,
    "CheckDataset__split__test_percent": 10,
}
DUPLICATES = {"CheckDataset__split__group_by": "duplicates"}
ZIPPED = "zipped"
ELSEWHERE = "elsewhere"  # LabelMe files and images in one folder, which are not converted in place
JOBS = {
    "convert": Job(LABELME_FOLDER, {**CONVERT, **SPLIT}),
    "split": Job(COCO_FOLDER, SPLIT),
    "fix": Job(COCO_FOLDER, {"CheckDataset__fix__enable": True}),
    "convert to a new place": Job(ELSEWHERE, CONVERT),
    "convert and group": Job(ELSEWHERE, {**CONVERT, **SPLIT, **DUPLICATES}),
    "convert an archive": Job(ZIPPED, CONVERT, "data.zip"),
    "export": Job(COCO_FOLDER, EXPORT),
}


IN_PLACE = ("convert", "split", "fix")


def write_sources(folder: Path) -> None:
    """The data of all jobs."""
    write_demo_dataset(folder, num_train=30, num_val=10)
    (folder / ELSEWHERE).mkdir()
    for path in (folder / LABELME_FOLDER).glob("*/*"):
        shutil.copy(path, folder / ELSEWHERE)
    (folder / ZIPPED).mkdir()
    shutil.make_archive(str(folder / ZIPPED / "data"), "zip", folder / ELSEWHERE)


def state(folder: Path) -> State:
    """The files of all data sets, except backups, and temporary files that the next run removes.

    A new place without annotations is none: to find images alike, a conversion writes them first.
    """
    results = folder / "output"
    found: State = {}
    for root in (
        folder / "data",
        folder / "data_fixed",
        results / "dataset",
        results / "check_dataset" / "YOLO",
    ):
        if root.exists():
            recover(root)
        if root.name == "dataset" and not [*root.glob("annotations/*.json")]:
            continue
        found |= {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file() and not (".bak" in path.name or path.name.startswith("."))
        }
    return found


def run(
    job: Job, folder: Path, *, seconds: float | None = None, by: signal.Signals = signal.SIGKILL
) -> float:
    """Run it in a separate process that gets a signal after that time. Returns the time it took."""
    start = time.monotonic()
    log = folder / "log.txt"
    log.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        code = 99
        try:
            outcome = run_cli(
                "check_dataset",
                folder / "output",
                Global__dataset_dir=folder / "data" / job.data,
                **job.options,
            )
            log.write_text(outcome.stderr, encoding="utf-8")
            code = outcome.code
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, by)
    took = time.monotonic() - start
    _, status = os.waitpid(child, 0)
    code, text = os.waitstatus_to_exitcode(status), log.read_text(encoding="utf-8") if log.exists() else ""
    stopped = seconds is not None and (code == -by or (code == 1 and text.startswith("stopped by ")))
    assert code == 0 or stopped, f"exit code {code}: {text}"
    return time.monotonic() - start if seconds is None else took


def renew(job: Job, folder: Path) -> None:
    """The data as it was, and no results."""
    for name in ("data", "data_fixed", "output"):
        shutil.rmtree(folder / name, ignore_errors=True)
    shutil.copytree(folder / "sources" / job.source, folder / "data")


def main(folder: Path, kills: int, seed: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # also in a new process, until its command catches it
    check_dataset.check_and_draw = lambda *args, **options: {}  # what follows takes most of the time
    rng = np.random.default_rng(seed)
    write_sources(folder / "sources")
    found: Counter[str] = Counter()
    new: dict[str, State] = {}
    seconds: dict[str, float] = {}
    for number in range(kills):
        name = list(JOBS)[number % len(JOBS)]
        job = JOBS[name]
        if name not in new:
            renew(job, folder)
            seconds[name] = run(job, folder)
            new[name] = state(folder)
            assert any("output" in path for path in new[name]) == (name not in IN_PLACE)
        renew(job, folder)
        old = state(folder)
        by = rng.choice(STOPS)
        run(job, folder, seconds=float(rng.uniform(0, 1.2 * seconds[name])), by=signal.Signals(by))
        after = state(folder)
        assert after in (old, new[name]), f"{name}: {sorted(set(after) ^ set(old))}"
        found["old" if after == old else "new"] += 1
        took = run(job, folder)  # the files of the stopped run must not be an obstacle
        if after == old:
            seconds[name] = took  # follows the load of the machine
        assert state(folder) == new[name]
        assert not [path for path in folder.rglob(".*") if ".new" in path.name]
    print(json.dumps({"kills": kills, **found}))


STOPS = [*[signal.SIGKILL] * 3, signal.SIGINT, signal.SIGTERM, signal.SIGHUP]

if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
