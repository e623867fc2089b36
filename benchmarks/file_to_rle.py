"""From an image file to RLE masks: PaddleX 3.7.2, this toolkit, and optionally Ultralytics, in one run.

    python benchmarks/file_to_rle.py [--python PADDLEX_PYTHON] [--models NAME...] [--exports FOLDER]
        [--image FILE] [--rounds 5] [--ultralytics PYTHON] [--figures FILE.json]

Models are exported with weights that are made by the rule of tests/reference, and converted to ONNX, into
``--exports`` (what is there is used again). Each side is a process of its own, and the sides take turns, so
that other work on the machine hits all of them; the table has medians. PaddleX uses as many threads as there
are cores. Ours are OpenVINO and ONNX Runtime in float32, and OpenVINO in bfloat16.

All sides use the threshold that leaves about ``--objects`` objects of ours, 20 by default. Sides with
other scores (bfloat16, PaddleX, Ultralytics) have one of their own for as many. ``--objects 0`` uses 0.5
everywhere, as users get it.

Without ``--image``, one image of 576 x 768 pixels is drawn. PaddleX needs an environment of its own, see
official_paddlex.py. ``--ultralytics`` names the Python of another one, with PyTorch for the CPU, ultralytics,
openvino and pycocotools. Its YOLO11s-seg has random weights and is asked for as many objects; it is under the
AGPL and only measured here.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sides import NUM_CORES, PROJECT, machine_and_date, peak_memory_mb

MODELS = ("PP-YOLOE_seg-S", "Mask-RT-DETR-S", "Mask-RT-DETR-L", "MaskRCNN-ResNet50-FPN", "SOLOv2")
OURS = (("openvino", "f32"), ("onnxruntime", "f32"), ("openvino", "bf16"))
DEFAULT_THRESHOLD = 0.5
ULTRALYTICS, ULTRALYTICS_SIDE = "yolo11s-seg", 640
AGAINST_ULTRALYTICS = "PP-YOLOE_seg-S"


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.exports or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        image = options.image or drawn_photograph(work)
        print(machine_and_date(), flush=True)
        rows: list[dict[str, Any]] = []
        for name in options.models:
            model_dir = exported(name, work)
            with ExitStack() as sides_of_model:
                rows.append(compare(name, model_dir, image, options, sides_of_model, work))
            print("\n".join(lines_of(rows[-1])), flush=True)
    print(table(rows))
    if options.figures:
        options.figures.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


class Side:
    """A process that runs once for each line."""

    def __init__(self, name: str, command: Sequence[str], environment: dict[str, str], quiet: bool) -> None:
        self.name = name
        self.seconds: list[float] = []
        self.answers: list[dict[str, Any]] = []
        self.problem: str | None = None
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            text=True,
            errors="replace",
            env=environment,
        )

    def start(self) -> None:
        """Wait until it has loaded its model."""
        self._read()

    def run(self, threshold: float) -> dict[str, Any] | None:
        """Run once; the answer, or None once it has failed."""
        if self.problem is None:
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(f"{threshold}\n")
                self._process.stdin.flush()
            except OSError as error:
                self.problem = str(error)
                return None
            line = self._read()
            return None if line is None else json.loads(line)
        return None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _read(self) -> str | None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == "ready\n" or line.startswith("{"):  # libraries may print, too
                return line
        self.problem = f"ended with exit code {self._process.wait()}; --verbose shows why"
        return None


def compare(
    name: str, model_dir: Path, image: Path, options: argparse.Namespace, stack: ExitStack, work: Path
) -> dict[str, Any]:
    """The medians of all sides for one model."""
    quiet = not options.verbose
    job = {"model": name, "model_dir": str(model_dir), "image": str(image), "threads": NUM_CORES}
    sides = [
        our_side(f"ours, {backend} {precision}", {**job, "backend": backend, "precision": precision}, quiet)
        for backend, precision in OURS
    ]
    sides.append(other_side("PaddleX", options.python, {**job, "side": "paddlex"}, quiet))
    if options.ultralytics and name == AGAINST_ULTRALYTICS:
        own = {"side": "ultralytics", "model": ULTRALYTICS, "side_length": ULTRALYTICS_SIDE}
        own_job = {**job, **own, "image": str(image.resolve()), "folder": str(work.resolve())}
        for title, precision in (("Ultralytics f32", "f32"), ("Ultralytics as it is", None)):
            own_job["precision"] = precision
            sides.append(other_side(title, options.ultralytics, own_job, quiet))
    for side in sides:
        stack.callback(side.close)
        side.start()  # one after the other
    thresholds = {side.name: DEFAULT_THRESHOLD for side in sides}
    if options.objects:
        ours = threshold_for(sides[0].run(0.0), options.objects)
        for side in sides:
            has_own_scores = not (side.name.startswith("ours") and side.name.endswith("f32"))
            thresholds[side.name] = threshold_for(side.run(1e-6), options.objects) if has_own_scores else ours
    for side in sides:  # the first run is slower than others
        side.run(thresholds[side.name])
    for _ in range(options.rounds):
        for side in sides:
            found = side.run(thresholds[side.name])
            if found is not None:
                side.seconds.append(found["seconds"])
                side.answers.append(found)
    return {
        "model": name,
        "threshold": thresholds[sides[0].name],
        "sides": {
            side.name: {
                "median": median(side.seconds) if side.seconds else None,
                "seconds": side.seconds,
                "objects": len(side.answers[-1]["scores"]) if side.answers else None,
                "parts": medians_of_parts(side.answers),
                "memory_mb": side.answers[-1].get("memory_mb") if side.answers else None,
                "problem": side.problem,
            }
            for side in sides
        },
    }


def medians_of_parts(answers: Sequence[dict[str, Any]]) -> dict[str, float]:
    parts = answers[0].get("parts", {}) if answers else {}
    return {part: median(one["parts"][part] for one in answers) for part in parts}


def threshold_for(found: dict[str, Any] | None, objects: int) -> float:
    """A threshold that leaves this many objects, in the widest gap between scores near there."""
    scores = np.sort(np.array(found["scores"] if found else []))[::-1]
    first, last = max(1, objects - 3), min(len(scores) - 1, objects + 3)
    if last < first:
        return 0.0
    gaps = scores[first - 1 : last] - scores[first : last + 1]
    best = first + int(np.argmax(gaps))
    return float((scores[best - 1] + scores[best]) / 2)


def our_side(name: str, job: dict[str, Any], quiet: bool) -> Side:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return Side(name, [sys.executable, __file__, "--side", json.dumps(job)], environment, quiet)


def other_side(name: str, python: Path, job: dict[str, Any], quiet: bool) -> Side:
    # In its environment, its packages are found first.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    script = Path(__file__).with_name("file_to_rle_side.py")
    return Side(name, [str(python), str(script), json.dumps(job)], environment, quiet)


def run_our_side(job: dict[str, Any]) -> None:
    """Our side in its process: one run for each line of standard input."""
    from paddlex_seg.inference.backends.open import load_backend
    from paddlex_seg.inference.speed import find_in_file

    backend = load_backend(Path(job["model_dir"]), job["backend"], precision=job["precision"])
    print("ready", flush=True)
    for line in sys.stdin:
        thresholds = np.full(len(backend.spec.labels), float(line), np.float32)
        parts, found = find_in_file(backend, Path(job["image"]), thresholds)
        answer = {"seconds": sum(parts.values()), "parts": parts, "scores": found.scores.tolist()}
        print(json.dumps({**answer, "memory_mb": peak_memory_mb()}), flush=True)


def exported(name: str, work: Path) -> Path:
    """The folder of a model with weights by rule, and with network.onnx."""
    folder = work / name
    if not (folder / "network.onnx").exists():
        environment = {**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests' / 'reference'}"}
        command = [sys.executable, __file__, "--export", name, str(folder)]
        subprocess.run(command, check=True, env=environment)
    return folder


def export(name: str, folder: Path) -> None:
    from official_paddlex import export_filled

    from paddlex_seg.inference.conversion import convert_network

    if not (folder / "network.json").exists():
        export_filled(name, folder)
    if not (folder / "network.onnx").exists():
        convert_network(folder, folder / "network.onnx")


def drawn_photograph(folder: Path) -> Path:
    import cv2

    sys.path.insert(0, str(PROJECT / "tests" / "reference"))
    from rule import drawn_image

    path = folder / "photograph.jpg"
    pixels = np.round(drawn_image(1, 576, 768).transpose(1, 2, 0) * 255).astype(np.uint8)
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return path


def best_f32(row: dict[str, Any]) -> str:
    """The fastest of our sides with float32."""
    sides = row["sides"]
    ours = [
        name for name in sides if name.startswith("ours") and name.endswith("f32") and sides[name]["median"]
    ]
    return min(ours, key=lambda name: sides[name]["median"])


def lines_of(row: dict[str, Any]) -> list[str]:
    lines = [f"\n{row['model']}, threshold {row['threshold']:.6f}"]
    for name, one in row["sides"].items():
        if one["median"] is None:
            lines.append(f"  {name}: {one['problem']}")
            continue
        parts = ", ".join(f"{part} {1000 * seconds:.1f}" for part, seconds in one["parts"].items())
        total = sum(one["parts"].values())
        rest = f", rest {1 - one['parts']['network'] / total:.0%}" if total else ""
        memory = f", {one['memory_mb']:.0f} MB" if one["memory_mb"] else ""
        lines.append(
            f"  {name}: {one['median']:.3f} s ({min(one['seconds']):.3f}..{max(one['seconds']):.3f}), "
            f"{one['objects']} objects{memory} {parts}{rest}"
        )
    return lines


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "",
        "| model | objects | PaddleX s | ours f32 s | times faster | backend | rest | bf16 s | times faster "
        "| Ultralytics f32 s | ours / Ultralytics |",
        "|---" * 11 + "|",
    ]
    for row in rows:
        sides, best = row["sides"], best_f32(row)
        ours, bf16 = sides[best], sides["ours, openvino bf16"]
        theirs, yolo = sides["PaddleX"]["median"], sides.get("Ultralytics f32", {}).get("median")
        rest = 1 - ours["parts"]["network"] / sum(ours["parts"].values())
        cells = [
            row["model"],
            str(ours["objects"]),
            _number(theirs),
            _number(ours["median"]),
            _ratio(theirs, ours["median"]),
            best.split()[1],
            f"{rest:.0%}",
            _number(bf16["median"]),
            _ratio(theirs, bf16["median"]),
            _number(yolo),
            _ratio(ours["median"], yolo),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3f}"


def _ratio(one: float | None, other: float | None) -> str:
    return "" if one is None or other is None else f"{one / other:.2f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare the time from an image file to RLE masks.")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--exports", type=Path, help="folder of the exported models")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--python", type=Path, default=PROJECT / ".venv-interop/bin/python")
    parser.add_argument("--ultralytics", type=Path, metavar="PYTHON")
    parser.add_argument("--verbose", action="store_true", help="show what the sides print")
    parser.add_argument("--figures", type=Path, help="file to write the figures to, as JSON")
    return parser


COMMANDS: dict[str, Callable[..., None]] = {
    "--side": lambda job: run_our_side(json.loads(job)),
    "--export": lambda name, folder: export(name, Path(folder)),
}

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        COMMANDS[sys.argv[1]](*sys.argv[2:])
        sys.exit(0)
    sys.exit(main())
