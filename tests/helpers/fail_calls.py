"""Lets calls of the operating system fail: ``python fail_calls.py FOLDER POINTS SEED [MODE ...]``.

Each mode of the command line runs alone on small prepared input, in a forked process that strace watches. At
each of POINTS points one call of the main thread fails once: writing, opening to write, renaming, linking,
removing or flushing a file, making a folder, or (in mode check_dataset) starting a thread. Paddle does not
survive the latter: its own thread pools then wait for ever. Files are those in the output folder, in the home
folder and in the folder for temporary files. Calls are drawn from those of an undisturbed run. Then

- there is a message without a traceback, or the results are those of an undisturbed run;
- no file under a final name is incomplete, and no failed run has a result file that tells of a success;
- the inputs have not changed;
- the same command, run again, ends well with the results of an undisturbed run.

FOLDER keeps ``log.jsonl``: points that are in it are not run again. Prints a table of outcomes, and what was
not as it should be; the exit code is then 1.
"""

import atexit
import faulthandler
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import yaml
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "reference"))

from small_runs import MODEL, MODELS, slim_model

from paddlex_seg import cli
from paddlex_seg.checkpoints.files import CHECKSUMS, damage
from paddlex_seg.checkpoints.weights import read_weights
from paddlex_seg.data.demo import COCO_FOLDER, write_demo_dataset

MODES = ("check_dataset", "train", "evaluate", "export", "predict")
ERRORS = {
    "write": ("ENOSPC", "EIO", "EDQUOT"),
    "openat": ("ENOSPC", "EACCES", "EROFS", "EMFILE"),
    "mkdir": ("ENOSPC", "EACCES", "EROFS"),
    "rename": ("EIO", "EACCES", "ENOSPC"),
    "link": ("EIO", "EMLINK", "EPERM"),
    "unlink": ("EIO", "EACCES", "EROFS"),
    "fsync": ("EIO", "ENOSPC"),
    "start": ("EAGAIN", "ENOMEM"),
}
LONGEST_SECONDS = 120
CALLS = {
    **{"write": "write", "pwrite64": "write", "writev": "write", "sendfile": "write"},
    **{"copy_file_range": "write", "ftruncate": "write", "openat": "openat", "mkdir": "mkdir"},
    **{"rename": "rename", "link": "link", "linkat": "link", "unlink": "unlink", "rmdir": "unlink"},
    **{"fsync": "fsync", "clone": "start", "clone3": "start", "vfork": "start", "fork": "start"},
}


@dataclass(frozen=True)
class Call:
    """One call of the main thread. number: its place among the calls of this name, from 1."""

    name: str
    number: int
    text: str


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str
    traced: list[str]


class Place:
    """The folders of one mode: prepared inputs, and what a run writes."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.mode = mode
        self.inputs = folder / "inputs"
        self.home = folder / "home"  # stays, so that Matplotlib lists the fonts only once
        self.work = folder / mode
        self.output, self.tmp, self.log = self.work / "output", self.work / "tmp", self.work / "trace.txt"
        self.streams = self.work / "stdout.txt", self.work / "stderr.txt"

    def command(self) -> list[str]:
        """The options of the mode."""
        inputs = self.inputs
        options = {
            "Global.mode": self.mode,
            "Global.output": self.output,
            "Global.device": "cpu",
            "Global.dataset_dir": inputs / COCO_FOLDER,
            "Train.pretrain_weight_path": "scratch",
            "Train.image_size": 64,
            "Train.batch_size": 3,
            "Train.epochs_iters": 1,
            "Train.num_workers": 0,
            "Train.self_check": False,
            "Train.resume": "auto",
            "Evaluate.weight_path": inputs / "run" / "best_model" / "best_model.pdparams",
            "Export.weight_path": inputs / "run" / "best_model" / "best_model.pdparams",
            "Predict.model_dir": inputs / "run" / "best_model" / "inference",
            "Predict.input": inputs / COCO_FOLDER / "images",
        }
        return ["-c", "PP-YOLOE_seg-S", *(f"-o{key}={value}" for key, value in options.items())]

    def run(
        self, *, fault: tuple[Call, str] | None = None, trace: bool = False, again: bool = False
    ) -> Ended:
        """Run the command, from an empty output folder unless ``again``."""
        if not again:
            shutil.rmtree(self.work, ignore_errors=True)
        for path in (self.home, self.tmp):
            path.mkdir(parents=True, exist_ok=True)
        child = os.fork()
        if child == 0:
            self._become_the_command()
        os.waitpid(child, os.WUNTRACED)  # it has stopped itself
        tracer = self._trace(child, fault) if trace or fault is not None else None
        os.kill(child, signal.SIGCONT)
        watch = threading.Timer(LONGEST_SECONDS, lambda: _end_hanging(child))
        watch.start()
        _, status = os.waitpid(child, 0)
        watch.cancel()
        lines = []
        if tracer is not None:
            tracer.wait()
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            self.log.unlink()
        stdout, stderr = (path.read_text(encoding="utf-8", errors="replace") for path in self.streams)
        return Ended(os.waitstatus_to_exitcode(status), stdout, stderr, lines)

    def _become_the_command(self) -> NoReturn:
        """Run the command in this forked process, which has everything imported."""
        try:
            for number, path in enumerate(self.streams, start=1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.environ |= {"HOME": str(self.home), "TMPDIR": str(self.tmp)}
            tempfile.tempdir = None
            faulthandler.register(signal.SIGUSR2)
            os.kill(os.getpid(), signal.SIGSTOP)
            code = cli.main(self.command())
            atexit._run_exitfuncs()
            sys.stdout.flush()
            os._exit(code)
        except BaseException:
            traceback.print_exc()
            os._exit(99)

    def _trace(self, child: int, fault: tuple[Call, str] | None) -> subprocess.Popen:
        """strace, attached to a process."""
        names = CALLS if fault is None else [fault[0].name]
        command = ["strace", "-f", "-y", "-qq", "-o", str(self.log), "-p", str(child), "-e", "signal=none"]
        command += ["-e", f"trace={','.join(names)}"]
        if fault is not None:
            command += ["-e", f"inject={fault[0].name}:error={fault[1]}:when={fault[0].number}"]
        tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        status = Path(f"/proc/{child}/status")
        while re.search(r"TracerPid:\s+0\b", status.read_text(encoding="utf-8")):
            assert tracer.poll() is None, "strace ended"
            time.sleep(0.01)
        return tracer

    def owns(self, text: str) -> bool:
        """Whether a call concerns a folder that the run writes to."""
        return any(str(place) in text for place in (self.output, self.tmp, self.home))

    def calls(self, lines: list[str]) -> Iterator[Call]:
        """The calls of the main thread that may fail: those that change folders of this mode."""
        counts: Counter[str] = Counter()
        main = lines[0].split()[0]
        begun = False
        for line in lines:
            found = re.match(rf"{main} +(\w+)\((.*)", line)
            if found is None:
                continue
            name, text = found[1], found[2]
            counts[name] += 1
            ours = self.owns(text) and (name != "openat" or re.search("O_WRONLY|O_RDWR", text) is not None)
            begun = begun or ours
            starts = begun and CALLS.get(name) == "start" and self.mode == "check_dataset"
            if ours or starts:
                yield Call(name, counts[name], text)


def _end_hanging(child: int) -> None:
    os.kill(child, signal.SIGUSR2)  # says where it is
    time.sleep(1)
    os.kill(child, signal.SIGKILL)


def prepare(folder: Path) -> None:
    """Write the inputs: images, and a trained network."""
    place = Place(folder, "train")
    if place.inputs.is_dir():
        return
    new = folder / "inputs.new"
    shutil.rmtree(new, ignore_errors=True)
    write_demo_dataset(new, num_train=6, num_val=2)
    new.rename(place.inputs)
    ended = place.run()
    assert ended.code == 0, ended.stderr
    shutil.copytree(place.output, place.inputs / "run")


def state(folder: Path) -> dict[str, str]:
    """Every file with a hash of its content, except hidden ones."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def incomplete(folder: Path) -> Iterator[str]:
    """Files under a final name that do not read to their end."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            _read(path)
        except Exception as error:
            yield f"{path.name} is damaged ({type(error).__name__}: {error})"


def _read(path: Path) -> None:
    if path.name == CHECKSUMS:
        problem = damage(path.parent)
        assert problem is None, problem
    if path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".jsonl":
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:  # a log, whose last line may be cut
            json.loads(line)
    elif path.suffix in (".yml", ".yaml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8")) is not None
    elif path.suffix in (".png", ".jpg"):
        with Image.open(path) as image:
            image.load()
        assert path.suffix != ".png" or path.read_bytes().endswith(b"IEND\xaeB`\x82")
        assert path.suffix != ".jpg" or path.read_bytes().endswith(b"\xff\xd9")
    elif path.suffix in (".pdparams", ".pdema", ".pdopt"):
        read_weights(path)
    elif path.suffix == ".html":
        assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")


def problems_of(place: Place, ended: Ended, clean: dict[str, str], inputs: dict[str, str]) -> list[str]:
    """What is wrong after a run that a fault hit. clean: the files that every undisturbed run writes."""
    result_file = place.output / f"{place.mode}_result.json"
    found = list(incomplete(place.output)) if place.output.exists() else []
    if "Traceback" in ended.stderr:
        found.append("a traceback")
    if ended.code == 0:
        now = state(place.output)
        told, skipped = ended.stdout + ended.stderr, _skipped(result_file)
        if skipped:  # a prediction lists the images without a result
            clean = {name: value for name, value in clean.items() if name != result_file.name}
        for name in clean.keys() - now.keys():
            if Path(name).name not in told and Path(name).stem.removesuffix("_res") not in skipped:
                found.append(f"exit 0 without {name}")
        found += [
            f"exit 0 with another {name}" for name in clean if clean[name] != now.get(name, clean[name]) != ""
        ]
        if not (
            result_file.is_file() and json.loads(result_file.read_text(encoding="utf-8"))["done_flag"] is True
        ):
            found.append("exit 0 without a result file that says so")
    else:
        if not re.search(r"^(Error|interrupted)", ended.stderr, re.MULTILINE):
            found.append(f"exit {ended.code} without a message")
        result = json.loads(result_file.read_text(encoding="utf-8")) if result_file.is_file() else {}
        if result_file.is_file() and result["done_flag"] is not False:
            found.append(f"exit {ended.code} with a result file that tells of a success")
    if state(place.inputs) != inputs:
        found.append("the inputs have changed")
    return found


def _skipped(result_file: Path) -> set[str]:
    """The names, without ending, of the inputs that a prediction lists as skipped."""
    result = json.loads(result_file.read_text(encoding="utf-8")) if result_file.is_file() else {}
    return {Path(row["input"]).stem for row in result.get("skipped", [])}


def recovery_problems(place: Place, clean: dict[str, str]) -> list[str]:
    """What is wrong after the same command has run again."""
    ended = place.run(again=True)
    if ended.code != 0:
        return [f"the next run ends with {ended.code}: {ended.stderr[-600:]}"]
    now = state(place.output)
    found = [f"the next run: {problem}" for problem in incomplete(place.output)]
    return found + [f"the next run has another {name}" for name in clean if clean[name] != now.get(name)]


def undisturbed(place: Place) -> tuple[list[Call], dict[str, str]]:
    """The calls of a run that nothing happens to, and the files that two such runs write alike."""
    traced = place.run(trace=True)
    assert traced.code == 0, traced.stderr
    first = state(place.output)
    calls = list(place.calls(traced.traced))
    shutil.rmtree(place.output)
    ended = place.run(again=True)
    assert ended.code == 0, ended.stderr
    second = state(place.output)
    assert first.keys() == second.keys(), first.keys() ^ second.keys()
    return calls, {name: value for name, value in first.items() if second[name] == value}


def try_point(
    place: Place, call: Call, error: str, clean: dict[str, str], inputs: dict[str, str]
) -> dict[str, Any]:
    """Run with a fault and then without."""
    ended = place.run(fault=(call, error))
    hit = [line for line in ended.traced if "(INJECTED)" in line]
    begun = f"{call.name} {error} {call.text}"
    # Calls are counted per thread, so that one of another thread may have failed as well.
    if len(hit) != 1 or not (place.owns(hit[0]) or CALLS[call.name] == "start"):
        return {"outcome": "missed", "call": begun, "problems": []}
    problems = problems_of(place, ended, clean, inputs)
    problems += recovery_problems(place, clean)
    return {
        "outcome": "went on" if ended.code == 0 else "told",
        "call": f"{call.name} {error} {hit[0][:300]}",
        "code": ended.code,
        "stderr": ended.stderr[-1500:],
        "problems": problems,
    }


def run_points(folder: Path, mode: str, points: int, seed: int) -> list[dict[str, Any]]:
    """The outcomes of the points of a mode; those in the log are not run again."""
    log = folder / "log.jsonl"
    done = (
        [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []
    )
    outcomes = {row["point"]: row for row in done if (row["mode"], row["seed"]) == (mode, seed)}
    if all(point in outcomes for point in range(points)):
        return [outcomes[point] for point in range(points)]
    place = Place(folder, mode)
    calls, clean = undisturbed(place)
    inputs = state(place.inputs)
    for point in range(points):
        if point in outcomes:
            continue
        rng = np.random.default_rng([seed, MODES.index(mode), point])
        row: dict[str, Any] = {"outcome": "missed"}
        while row["outcome"] == "missed":  # the calls of two runs are not exactly the same
            kinds = sorted({CALLS[call.name] for call in calls})
            kind = kinds[rng.integers(len(kinds))]
            elsewhere = rng.random() < 0.2  # caches have more calls than results, and matter less
            of_kind = [call for call in calls if CALLS[call.name] == kind]
            of_place = [call for call in of_kind if (str(place.output) not in call.text) == elsewhere]
            call = (of_place or of_kind)[rng.integers(len(of_place or of_kind))]
            error = str(rng.choice(ERRORS[kind]))
            row = {"mode": mode, "seed": seed, "point": point, **try_point(place, call, error, clean, inputs)}
        outcomes[point] = row
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{mode} {point}: {row['outcome']}, {row['call'][:200]} {row['problems'] or ''}", flush=True)
    shutil.rmtree(place.work, ignore_errors=True)
    return [outcomes[point] for point in range(points)]


def main(folder: Path, points: int, seed: int, modes: list[str]) -> int:
    """Run the points of all modes and print what came of them. Returns the number of points that failed."""
    for mode in MODES:  # imported once, before processes are forked
        import_module(f"paddlex_seg.modes.{mode}")
    MODELS[MODEL] = replace(MODELS[MODEL], build=slim_model)
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder)
    rows = [row for mode in modes or MODES for row in run_points(folder, mode, points, seed)]
    print(
        "\n| mode | points | failed with a message | went on | not as it should be |\n|---|---|---|---|---|"
    )
    for mode in modes or MODES:
        own = [row for row in rows if row["mode"] == mode]
        counts = Counter(row["outcome"] for row in own)
        bad = sum(bool(row["problems"]) for row in own)
        print(f"| {mode} | {len(own)} | {counts['told']} | {counts['went on']} | {bad} |")
    bad_rows = [row for row in rows if row["problems"]]
    for row in bad_rows:
        print(f"\n{row['mode']} {row['point']}, exit {row['code']}: {row['call']}\n  {row['problems']}")
        print(row["stderr"])
    return len(bad_rows)


if __name__ == "__main__":
    sys.exit(min(1, main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])))
