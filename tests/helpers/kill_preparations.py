"""Kills conversions, splits and repairs at random: ``python kill_preparations.py FOLDER KILLS SEED``.

Each run is a forked process that gets SIGKILL after a random part of the time of an undisturbed run. Every
time, what a reader then finds must be the data set as it was, or as it is to be. Prints a line of JSON: how
many runs were killed, and how often each of the two was found. A difference ends it with an AssertionError.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from paddlex_seg.data.checking.repair.repaired_copy import repair_dataset
from paddlex_seg.data.demo import COCO_FOLDER, LABELME_FOLDER, write_demo_dataset
from paddlex_seg.data.preparation.prepare import prepare
from paddlex_seg.data.preparation.settings import ConvertSettings, SplitSettings
from paddlex_seg.files.publish import recover

State = dict[str, bytes]


def convert(root: Path) -> None:
    labelme = ConvertSettings(enable=True, src_dataset_type="LabelMe")
    prepare(root, root.parent / "output", labelme, SPLIT)


def split(root: Path) -> None:
    prepare(root, root.parent / "output", ConvertSettings(), SPLIT)


def fix(root: Path) -> None:
    repair_dataset(root)


SPLIT = SplitSettings(enable=True, train_percent=60, val_percent=30, test_percent=10)
JOBS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "convert": (LABELME_FOLDER, convert),
    "split": (COCO_FOLDER, split),
    "fix": (COCO_FOLDER, fix),
}


def state(root: Path) -> State:
    """All files except backups and temporary files of stopped runs, which the next run removes."""
    recover(root)
    folders = [folder for folder in (root, root.with_name(f"{root.name}_fixed")) if folder.exists()]
    return {
        str(path.relative_to(root.parent)): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not (".bak" in path.name or path.name.startswith("."))
    }


def run_killed(job: Callable[[Path], None], root: Path, seconds: float | None) -> float:
    """Run it in a separate process that is killed after that time. Returns the time it took."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        job(root)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert seconds is not None or status == 0
    return time.monotonic() - start


def main(folder: Path, kills: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    write_demo_dataset(folder / "source", num_train=30, num_val=10)
    found: Counter[str] = Counter()
    for number in range(kills):
        name = list(JOBS)[number % len(JOBS)]
        source, job = JOBS[name]
        root = folder / "data"
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(folder / "data_fixed", ignore_errors=True)
        shutil.copytree(folder / "source" / source, root)
        old = state(root)
        if (name, "new") not in STATES:
            SECONDS[name] = run_killed(job, root, None)
            STATES[name, "new"] = state(root)
            shutil.rmtree(root)
            shutil.rmtree(folder / "data_fixed", ignore_errors=True)
            shutil.copytree(folder / "source" / source, root)
        run_killed(job, root, float(rng.uniform(0, 1.3 * SECONDS[name])))
        after = state(root)
        assert after in (old, STATES[name, "new"]), f"{name}: {sorted(set(after) ^ set(old))}"
        found["old" if after == old else "new"] += 1
        start = time.monotonic()
        job(root)  # the files of the killed run must not be an obstacle
        if after == old:
            SECONDS[name] = time.monotonic() - start  # follows the load of the machine
        assert state(root) == STATES[name, "new"]
        assert not [path for path in folder.rglob("*") if path.name.endswith(".new")]
    print(json.dumps({"kills": kills, **found}))


STATES: dict[tuple[str, str], State] = {}
SECONDS: dict[str, float] = {}

if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
