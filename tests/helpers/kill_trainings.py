"""Kills trainings and goes on with them.

    python kill_trainings.py FOLDER KILLS WRITES DAMAGES FULL_DISKS SEED

A tiny training with ``Train.resume=auto`` runs in forked processes. It gets SIGKILL at KILLS random times and
at WRITES random calls of the operating system while a checkpoint is written; DAMAGES times its newest
checkpoint is cut or a bit of it is flipped; FULL_DISKS times its disk (a small tmpfs, which takes root) is
full. After some of these it is left to end. Every time, all numbers of its last checkpoint must be, bit by
bit, those of a training that nothing happened to. Prints a line of JSON with what was done; a difference ends
it with an AssertionError.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle  # noqa: F401  once, before the processes are forked

sys.path.append(str(Path(__file__).parents[1] / "reference"))

from small_runs import run_slim, train_options

from paddlex_seg.checkpoints.files import checkpoints
from paddlex_seg.checkpoints.weights import read_weights
from paddlex_seg.data.demo import COCO_FOLDER, write_demo_dataset
from paddlex_seg.files.written import REGISTER
from paddlex_seg.training import output as training_output

PER_TRIAL = 5  # disasters per training run


def run_training(dataset: Path, output: Path) -> int:
    training_output.export_model = lambda *args: None  # type: ignore[assignment]  # slower than everything else here
    options = train_options(
        dataset,
        Train__epochs_iters=6,
        Train__batch_size=2,
        Train__save_interval=3,
        Train__resume="auto",
        Train__self_check=False,
    )
    outcome = run_slim("train", output, **options)
    with (output.parent / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"{outcome.stdout}\n{outcome.stderr}\nexit code {outcome.code}\n\n")
    return outcome.code


def forked(job: Callable[[], int], seconds: float | None = None) -> tuple[int, float]:
    """Exit code (negative: signal) and time of a job in a separate process, killed after ``seconds``."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            os._exit(job())
        finally:
            os._exit(99)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - start


def kill_at_call(number: int, counts: Counter[str] | None = None) -> None:
    """Kill this process just before or after call ``number`` of a function that renames or flushes.

    ``counts`` receives the number of ``calls``. With number 0 calls are only counted.
    """
    counts = Counter() if counts is None else counts

    def wrap(function: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object) -> None:
            counts["calls"] += 1
            if counts["calls"] == number and number % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            function(*args)
            if counts["calls"] == number:
                os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in ("replace", "fsync", "link"):
        setattr(os, name, wrap(getattr(os, name)))


def damage_newest(output: Path, rng: np.random.Generator) -> bool:
    """Truncate a file of the newest checkpoint or flip a bit in it, if there is an earlier checkpoint."""
    found = checkpoints(output)
    if len(found) < 2:
        return False
    files = sorted(path for path in found[0].iterdir() if path.stat().st_size > 0)
    path = files[rng.integers(len(files))]
    content = bytearray(path.read_bytes())
    place = int(rng.integers(len(content)))
    if rng.random() < 0.5:
        content = content[:place]
    else:
        content[place] ^= 1 << int(rng.integers(8))
    path.unlink()  # best_model links to the same file, which must not change
    path.write_bytes(content)
    return True


def numbers(output: Path) -> dict[str, np.ndarray]:
    last = checkpoints(output)[0]
    return {
        f"{suffix}: {name}": array
        for suffix in ("pdparams", "pdema", "pdopt")
        for name, array in read_weights(last / f"{last.name}.{suffix}").items()
    }


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    different = [name for name in expected if found[name].tobytes() != expected[name].tobytes()]
    assert not different, f"{len(different)} of {len(expected)} differ: {different[:5]}"


def fill_disk(dataset: Path, output: Path, rng: np.random.Generator) -> None:
    """Let the training run into a full disk, and then provide more space."""
    output.mkdir(parents=True, exist_ok=True)
    size = int(rng.integers(500_000, 4_000_000))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", output], check=True)
    code, _ = forked(lambda: run_training(dataset, output))
    assert code == 1, f"with {size} bytes of disk the exit code is {code}"
    subprocess.run(["mount", "-o", "remount,size=100000000", output], check=True)
    assert not [path for path in output.rglob(".*") if path.name.startswith(".step_")]


def count_calls(dataset: Path, output: Path) -> int:
    """Run an undisturbed training. Returns how often it calls a function that renames or flushes."""
    count = output.with_name("calls.txt")

    def job() -> int:
        counts: Counter[str] = Counter()
        kill_at_call(0, counts)
        code = run_training(dataset, output)
        count.write_text(str(counts["calls"]), encoding="utf-8")
        return code

    code, _ = forked(job)
    assert code == 0
    return int(count.read_text(encoding="utf-8"))


def disaster(
    what: str, dataset: Path, output: Path, seconds: float, num_calls: int, rng: np.random.Generator
) -> bool:
    """Disturb a training run. Returns whether this happened: the run may end earlier."""
    if what == "full disk":
        fill_disk(dataset, output, rng)
        return True
    if what == "kill":
        code, _ = forked(lambda: run_training(dataset, output), float(rng.uniform(0, seconds)))
        return code == -signal.SIGKILL
    number = int(rng.integers(1, num_calls))

    def job() -> int:
        kill_at_call(number)
        return run_training(dataset, output)

    code, _ = forked(job)
    return code == -signal.SIGKILL and (what == "write" or damage_newest(output, rng))


def main(folder: Path, kills: int, writes: int, damages: int, full_disks: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    write_demo_dataset(folder / "data", num_train=8, num_val=2)
    dataset, undisturbed, output = folder / "data" / COCO_FOLDER, folder / "undisturbed", folder / "output"
    start = time.monotonic()
    num_calls = count_calls(dataset, undisturbed)
    seconds = time.monotonic() - start
    expected = numbers(undisturbed)
    done: Counter[str] = Counter()
    todo = ["kill"] * kills + ["write"] * writes + ["damage"] * damages
    rng.shuffle(todo)
    # The full disk comes first, because the disk is used for the whole training run.
    for place in range(full_disks):
        todo.insert(place * (PER_TRIAL + 1), "full disk")
    while todo:
        happened = 0
        mounted = todo[0] == "full disk"
        while todo and happened < PER_TRIAL and not (happened and todo[0] == "full disk"):
            if not disaster(todo[0], dataset, output, seconds, num_calls, rng):
                break
            happened += 1
            done[todo.pop(0)] += 1
        code, _ = forked(lambda: run_training(dataset, output))
        assert code == 0, (folder / "log.txt").read_text(encoding="utf-8")[-3000:]
        assert_same(numbers(output), expected)
        hidden = {path.name for path in output.rglob(".*")}
        assert hidden <= {REGISTER}, "something half-written is left"
        done["trainings"] += 1
        if mounted:
            subprocess.run(["umount", output], check=True)
        shutil.rmtree(output, ignore_errors=True)
    print(json.dumps({"seconds of one training": round(seconds, 1), **done}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
