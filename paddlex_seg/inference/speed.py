"""Measures how long an exported model takes from an image file to masks as RLE, and where the time goes.

Each backend is measured in a process of its own. So its peak memory is its own, and one that fails does not
end the measurement of others.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.cores import num_usable_cores
from paddlex_seg.data.images import load_image
from paddlex_seg.data.preprocess import collate, preprocess
from paddlex_seg.errors import BackendError, DatasetError, PaddlexSegError
from paddlex_seg.inference.backends.base import paste, select
from paddlex_seg.inference.backends.exported_files import ONNX, find_description
from paddlex_seg.inference.backends.onnx_operations import count_operations
from paddlex_seg.inference.backends.open import is_installed, open_backend
from paddlex_seg.inference.export_spec import read_inference_yml
from paddlex_seg.inference.sources import BadInput, Input, read_inputs
from paddlex_seg.inference.thresholds import Threshold, class_thresholds
from paddlex_seg.runtime.network import network
from paddlex_seg.structures import Backend, BackendName, Instances, Precision, RunMode

PARTS = ("decode", "preprocess", "network", "select", "paste")
WARM_UP = 2
LEAST_RUNS, MOST_RUNS, SECONDS = 5, 30, 20.0  # after SECONDS, the least number of runs is enough
TIMEOUT_SECONDS = 1800.0
# Paddle has one precision. bf16 and int8 are measured where a backend offers them.
CANDIDATES: tuple[tuple[BackendName, Precision], ...] = (
    ("paddle", "f32"),
    ("onnxruntime", "f32"),
    ("onnxruntime", "int8"),
    ("openvino", "f32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
# The process finds this package where the caller does, wherever that has its path from.
COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from paddlex_seg.inference import speed; speed.answer(*sys.argv[2:])"
)


@dataclass(frozen=True)
class Job:
    """What is measured. threshold: see `thresholds.Threshold`; None is that of the model."""

    model_dir: str
    images: Sequence[str]
    backend: BackendName
    precision: Precision
    run_mode: RunMode = "paddle"
    threshold: Any = None


@dataclass(frozen=True)
class Speed:
    """The times of one backend: seconds per image, or images per second."""

    backend: BackendName
    precision: Precision
    runs: int
    objects: float  # in an image, mean
    p50: float  # of the whole way
    p95: float
    images_per_second: float
    parts: Mapping[str, float]  # the median of each of `PARTS`
    load: float
    peak_memory_mb: float | None  # of the process, with the libraries; None where the system does not tell

    @property
    def rest(self) -> float:
        """The share of all parts but the network, 0..1."""
        return 1 - self.parts["network"] / sum(self.parts.values())


@dataclass(frozen=True)
class NotMeasured:
    """A backend that cannot run the model, and why."""

    backend: BackendName
    precision: Precision
    reason: str


@dataclass(frozen=True)
class Cost:
    """What the network computes for one image, and how fast this machine is at best."""

    network_gflop: float | None  # None where it cannot be counted
    peak_gflops: float  # float32, measured with a large matrix product on all cores

    @property
    def least_seconds(self) -> float | None:
        """What the network would take at that rate."""
        return None if self.network_gflop is None else self.network_gflop / self.peak_gflops


@dataclass(frozen=True)
class SpeedReport:
    """All that was measured of one model."""

    model: str
    measured: Sequence[Speed]
    missing: Sequence[NotMeasured]
    cost: Cost

    def table(self) -> str:
        """The report as text of Markdown. Times are milliseconds."""
        cost, least = self.cost, self.cost.least_seconds
        columns = ("backend", "precision", "p50", "p95", "images/s", "peak MB", *PARTS, "rest", "objects")
        lines = [
            f"{self.model}, {num_usable_cores()} core(s). Milliseconds per image, from the file to RLE.",
            "",
            f"| {' | '.join(columns)} |",
            "|---" * len(columns) + "|",
            *(f"| {' | '.join(_cells(one))} |" for one in self.measured),
            "",
            "rest: the share of all parts but the network.",
            f"A large float32 matrix product runs at {cost.peak_gflops:.0f} GFLOP/s on this machine.",
        ]
        if cost.network_gflop is not None and least is not None:
            lines[-1] += (
                f" At this rate the {cost.network_gflop:.1f} GFLOP of the network take {1000 * least:.0f} ms."
            )
            lines += [
                f"{one.backend} {one.precision}: the network takes "
                f"{one.parts['network'] / least:.2f} times as long."
                for one in self.measured
            ]
        lines += [f"{one.backend} {one.precision}: not measured. {one.reason}" for one in self.missing]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The report for a JSON file. Times are seconds."""
        return {
            "model": self.model,
            "cores": num_usable_cores(),
            "measured": [{**asdict(one), "rest": one.rest} for one in self.measured],
            "not_measured": [asdict(one) for one in self.missing],
            **asdict(self.cost),
            "network_seconds_at_peak": self.cost.least_seconds,
        }


def _cells(one: Speed) -> list[str]:
    memory = "" if one.peak_memory_mb is None else f"{one.peak_memory_mb:.0f}"
    times = (f"{1000 * one.p50:.1f}", f"{1000 * one.p95:.1f}", f"{one.images_per_second:.2f}", memory)
    parts = (f"{1000 * one.parts[part]:.1f}" for part in PARTS)
    return [one.backend, one.precision, *times, *parts, f"{one.rest:.0%}", f"{one.objects:.0f}"]


def candidates(
    backends: Sequence[str] = get_args(BackendName), precisions: Sequence[str] = get_args(Precision)
) -> list[tuple[BackendName, Precision]]:
    """The `CANDIDATES` of these backends and precisions."""
    return [one for one in CANDIDATES if one[0] in backends and one[1] in precisions]


def measure_all(
    model_dir: Path,
    images: Sequence[Path],
    chosen: Sequence[tuple[BackendName, Precision]],
    *,
    threshold: Threshold | None = None,
    run_mode: RunMode = "paddle",
    tell: Callable[[str], None] = lambda line: None,
) -> SpeedReport:
    """Measure these backends, one after the other. ``tell`` gets a line before each.

    Raises BackendError when the folder is no exported model, and PaddlexSegError when none can be measured.
    """
    model = read_inference_yml(find_description(model_dir)).model_name or model_dir.name
    measured: list[Speed] = []
    missing: list[NotMeasured] = []
    for backend, precision in chosen:
        tell(f"{backend} {precision} ...")
        files = [str(path) for path in images]
        found = measure_alone(Job(str(model_dir), files, backend, precision, run_mode, threshold))
        measured += [found] if isinstance(found, Speed) else []
        missing += [found] if isinstance(found, NotMeasured) else []
    if not measured:
        reasons = [f"{one.backend} {one.precision}: {one.reason}" for one in missing]
        raise PaddlexSegError("\n".join([f"{model_dir}: no backend could be measured.", *reasons]))
    tell("the machine ...")
    return SpeedReport(model, measured, missing, cost_of(model_dir, images[0]))


def image_files(inputs: Input, most: int = 100) -> list[Path]:
    """The first image files of what a user names. Raises DatasetError if there is none that can be read."""
    files: list[Path] = []
    problem = "There is no image file among the inputs. Name image files, a folder or a pattern."
    for image in read_inputs(inputs, network=network()):
        if isinstance(image, BadInput):
            problem = image.problem
        elif image.input_path is not None and Path(image.input_path).is_file() and image.page_index is None:
            files.append(Path(image.input_path))
        if len(files) == most:
            break
    if not files:
        raise DatasetError(problem)
    return files


def measure_alone(job: Job) -> Speed | NotMeasured:
    """Measure one backend in a process of its own."""
    found = _ask("measure", json.dumps(asdict(job)))
    if isinstance(found, str):
        return NotMeasured(job.backend, job.precision, found)
    return Speed(**found)


def cost_of(model_dir: Path, image: Path) -> Cost:
    """See `Cost`. The network is counted where the folder has network.onnx and ONNX Runtime is installed."""
    found = _ask("count", str(model_dir), str(image))
    return Cost(None if isinstance(found, str) else found, peak_gflops())


def answer(what: str, *arguments: str) -> None:
    """Print what a process was asked for, as JSON in the last line: a result or ``{"problem": text}``."""
    try:
        if what == "measure":
            result: Any = asdict(measure(Job(**json.loads(arguments[0]))))
        else:
            result = network_gflop(Path(arguments[0]), Path(arguments[1]))
    except PaddlexSegError as error:
        result = {"problem": str(error)}
    print(json.dumps(result))


def measure(job: Job) -> Speed:
    """Measure in this process. Raises the errors of `open_backend`, and DatasetError for an image."""
    start = time.perf_counter()
    backend = open_backend(Path(job.model_dir), job.backend, run_mode=job.run_mode, precision=job.precision)
    load = time.perf_counter() - start
    levels: tuple[Threshold | None, ...] = (job.threshold, *backend.spec.thresholds)
    thresholds = class_thresholds(levels, backend.spec.labels)
    times: list[dict[str, float]] = []
    objects: list[int] = []
    start = time.perf_counter()
    for number, path in enumerate(_rounds(job.images)):
        if number == WARM_UP:
            start = time.perf_counter()
        parts, found = find_in_file(backend, Path(path), thresholds)
        if number < WARM_UP:
            continue
        times.append(parts)
        objects.append(len(found))
        is_slow = len(times) >= LEAST_RUNS and time.perf_counter() - start > SECONDS
        if is_slow or len(times) >= max(MOST_RUNS, len(job.images)):
            break
    totals = np.array([sum(parts.values()) for parts in times])
    return Speed(
        backend=job.backend,
        precision=job.precision,
        runs=len(times),
        objects=float(np.mean(objects)),
        p50=float(np.percentile(totals, 50)),
        p95=float(np.percentile(totals, 95)),
        images_per_second=float(len(totals) / totals.sum()),
        parts={part: float(np.median([parts[part] for parts in times])) for part in PARTS},
        load=load,
        peak_memory_mb=peak_memory_mb(),
    )


def find_in_file(
    backend: Backend, path: Path, thresholds: NDArray[np.float32]
) -> tuple[dict[str, float], Instances]:
    """Seconds of each of `PARTS` for one image file, in the way of prediction, and what was found."""
    clock = [time.perf_counter()]
    image = load_image(path, bands=backend.preprocess.bands)
    clock.append(time.perf_counter())
    inputs = collate([preprocess(image, backend.preprocess)])
    clock.append(time.perf_counter())
    detections = backend(*inputs)
    clock.append(time.perf_counter())
    detections = select(detections, thresholds)
    clock.append(time.perf_counter())
    (found,) = paste(detections, backend.mask_frame, inputs, [(image.shape[0], image.shape[1])])
    clock.append(time.perf_counter())
    return dict(zip(PARTS, np.diff(clock).tolist(), strict=True)), found


def peak_gflops(side: int = 2048, runs: int = 5) -> float:
    """The rate of this machine in 10^9 float32 operations per second: the best of some matrix products."""
    matrix = np.ones((side, side), np.float32)
    out = np.empty_like(matrix)
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        np.matmul(matrix, matrix, out=out)
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds) / 1e9


def network_gflop(model_dir: Path, image: Path) -> float:
    """10^9 operations of the convolutions and matrix products of network.onnx for one image file.

    Raises BackendError when they cannot be counted.
    """
    file = model_dir / ONNX
    if not (file.is_file() and is_installed("onnxruntime")):
        raise BackendError(f"{file} is missing, or ONNX Runtime is not installed.")
    spec = read_inference_yml(find_description(model_dir)).preprocess
    inputs = collate([preprocess(load_image(image, bands=spec.bands), spec)])
    return count_operations(file, inputs._asdict()) / 1e9


def peak_memory_mb() -> float | None:
    """The peak memory of this process in 10^6 bytes; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # Linux counts in KiB


def _rounds(images: Sequence[str]) -> Iterator[str]:
    while True:
        yield from images


def _ask(what: str, *arguments: str) -> Any:
    """The result of `answer` in a process of its own; a text says why there is none."""
    command = [sys.executable, "-c", COMMAND, json.dumps(sys.path), what, *arguments]
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it took over {TIMEOUT_SECONDS:.0f} s"
    lines = ended.stdout.strip().splitlines()
    if ended.returncode == 0 and lines:
        result = json.loads(lines[-1])
        return result["problem"] if isinstance(result, dict) and "problem" in result else result
    if ended.returncode < 0:
        return f"its process was ended by signal {-ended.returncode}"
    problems = ended.stderr.strip().splitlines()
    return f"its process failed: {problems[-1] if problems else 'without a message'}"
