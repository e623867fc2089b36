"""Time and memory of checking and converting a data set, compared with PaddleX or with another checkout.

``--paddlex PYTHON`` names an interpreter with PaddleX 3.7.2 (``pip install paddlex==3.7.2 paddlepaddle==3.2.2
pycocotools matplotlib opencv-contrib-python-headless``). ``--against FOLDER`` names another checkout of this
project, such as the release before. Each measurement runs in a process of its own. Imports do not count:

    python benchmarks/check_dataset.py --paddlex PYTHON     # 3,000 images: check and LabelMe; some minutes
    python benchmarks/check_dataset.py --large              # 118,000 images, 860,000 masks; ten minutes
    python benchmarks/check_dataset.py --missing-names 6000 118000 --against FOLDER    # half an hour

Check: 640 x 480 JPEGs with three polygons each. Ours checks every image and annotation, searches for near-
duplicates, draws samples and writes the report. PaddleX checks twenty images. LabelMe: conversion of the
same data from 3,000 files. All sides run ``--pairs`` times in turn on the same data, and the ratio of each
pair is computed. The large data set has the size of COCO train2017, with images of a few kilobytes. Its
second check uses the cache. Missing names: all names in the annotation files are in the wrong case, or lead
nowhere; check and repair. What takes longer than ``--limit`` seconds is stopped and has no ratio.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CLASSES = [f"class {i}" for i in range(80)]


def draw_image(path: Path, seed: int, width: int, height: int) -> None:
    """Draw smooth blobs with noise. The file is as large as a photograph of this size."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 12, 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = rng.integers(0, 24, (height // 2, width // 2, 3), np.uint8)
    cv2.imwrite(str(path), cv2.add(image, cv2.resize(noise, (width, height))), [cv2.IMWRITE_JPEG_QUALITY, 80])


def draw_images(folder: Path, first: int, count: int, width: int, height: int) -> None:
    """Draw ``count`` images, numbered from ``first``."""
    for number in range(first, first + count):
        draw_image(folder / f"{number:06d}.jpg", number, width, height)


def blob(rng: np.random.Generator, width: int, height: int, points: int) -> list[float]:
    """A star-shaped polygon inside the image."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, points))
    radius = min(width, height) * rng.uniform(0.05, 0.2)
    radii = radius * rng.uniform(0.7, 1.0, points)
    x = rng.uniform(0.22, 0.78) * width + radii * np.cos(angles)
    y = rng.uniform(0.22, 0.78) * height + radii * np.sin(angles)
    return np.round(np.stack([x, y], axis=1), 2).reshape(-1).tolist()


def write_dataset(
    root: Path, num_images: int, num_masks: int, size_wh: tuple[int, int], points: tuple[int, int]
) -> None:
    """Write a COCO data set; a twentieth of it is val."""
    width, height = size_wh
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    with ProcessPoolExecutor() as pool:
        step = 500
        jobs = [
            pool.submit(draw_images, root / "images", first, min(step, num_images - first), width, height)
            for first in range(0, num_images, step)
        ]
        for job in jobs:
            job.result()
    rng = np.random.default_rng(0)
    num_val = num_images // 20
    bounds = {"train": (0, num_images - num_val), "val": (num_images - num_val, num_images)}
    owners = np.sort(rng.integers(0, num_images, num_masks))
    categories = [{"id": i + 1, "name": name, "supercategory": ""} for i, name in enumerate(CLASSES)]
    for split, (first, last) in bounds.items():
        with (root / "annotations" / f"instance_{split}.json").open("w") as file:
            images = [
                {"id": i, "file_name": f"{i:06d}.jpg", "width": width, "height": height}
                for i in range(first, last)
            ]
            file.write(f'{{"images": {json.dumps(images)}, "categories": {json.dumps(categories)}, ')
            file.write('"annotations": [')
            wanted = np.flatnonzero((owners >= first) & (owners < last))
            for row in wanted.tolist():
                polygon = blob(rng, width, height, int(rng.integers(*points)))
                x, y = np.array(polygon).reshape(-1, 2).T
                box = [float(x.min()), float(y.min()), float(np.ptp(x)), float(np.ptp(y))]
                area = abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
                entry = {
                    "id": row + 1,
                    "image_id": int(owners[row]),
                    "category_id": row % len(CLASSES) + 1,
                    "segmentation": [polygon],
                    "bbox": box,
                    "area": area,
                    "iscrowd": 0,
                }
                file.write(("" if row == wanted[0] else ", ") + json.dumps(entry))
            file.write("]}")


def write_labelme(source: Path, root: Path) -> None:
    """Write the same data set with one LabelMe file per image."""
    (root / "annotations").mkdir(parents=True)
    shutil.copytree(source / "images", root / "images")
    for split in ("train", "val"):
        document = json.loads((source / "annotations" / f"instance_{split}.json").read_text())
        shapes: dict[int, list[Any]] = {image["id"]: [] for image in document["images"]}
        for item in document["annotations"]:
            shapes[item["image_id"]].append(
                {
                    "label": CLASSES[item["category_id"] - 1].replace(" ", "_"),
                    "points": np.reshape(item["segmentation"][0], (-1, 2)).tolist(),
                    "group_id": None,
                    "shape_type": "polygon",
                    "flags": {},
                }
            )
        names = []
        for image in document["images"]:
            name = f"annotations/{Path(image['file_name']).stem}.json"
            labelme = {
                "version": "5.5.0",
                "flags": {},
                "shapes": shapes[image["id"]],
                "imagePath": f"../images/{image['file_name']}",
                "imageData": None,
                "imageHeight": image["height"],
                "imageWidth": image["width"],
            }
            (root / name).write_text(json.dumps(labelme))
            names.append(name)
        (root / f"{split}_anno_list.txt").write_text("\n".join(names) + "\n")


OURS = """
import logging, sys, time
from pathlib import Path
import paddlex_seg.modes.check_dataset as mode
from paddlex_seg.data.checking.repair.repaired_copy import repair_dataset
from paddlex_seg.data.preparation.prepare import prepare
from paddlex_seg.data.preparation.settings import ConvertSettings, SplitSettings
from paddlex_seg.errors import DatasetError
what, root, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
print(mode.__file__, file=sys.stderr)
start = time.perf_counter()
if what == "check":
    result = mode.check_and_draw(root, output)
    print("findings", result["finding_counts"], file=sys.stderr)
elif what == "check that fails":
    try:
        mode.check_and_draw(root, output)
    except DatasetError as error:
        print(error, file=sys.stderr)
elif what == "repair":
    print("repaired", repair_dataset(root, output / "repaired").counts, file=sys.stderr)
else:
    labelme = ConvertSettings(enable=True, src_dataset_type="LabelMe")
    prepared = prepare(root, output, labelme, SplitSettings())
    assert not getattr(prepared, "findings", prepared)
print(time.perf_counter() - start)
"""

PADDLEX = """
import os, sys, time
from pathlib import Path
import matplotlib
# Without this, PaddleX would download its font.
os.environ["PADDLE_PDX_LOCAL_FONT_FILE_PATH"] = matplotlib.get_data_path() + "/fonts/ttf/DejaVuSans.ttf"
from paddlex.modules.instance_segmentation.dataset_checker.dataset_src import check, convert, deep_analyse
what, root, output = sys.argv[1], sys.argv[2], sys.argv[3]
Path(output).mkdir(parents=True, exist_ok=True)
start = time.perf_counter()
if what == "check":
    check(root, output)
    deep_analyse(root, output)
else:
    convert("LabelMe", root)
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Side:
    """One side of a comparison."""

    name: str
    python: str
    script: str
    checkout: Path | None = None  # the folder whose code runs; None: what is installed


def sides_of(options: argparse.Namespace) -> list[Side]:
    """Ours first, then what it is compared with."""
    sides = [Side("ours", sys.executable, OURS, Path(__file__).resolve().parents[1])]
    if options.against is not None:
        sides.append(Side("the other checkout", sys.executable, OURS, options.against.resolve()))
    return sides


def measure(side: Side, what: str, root: Path, output: Path, limit: float) -> tuple[float, float] | None:
    """Seconds as the script measures them, and peak memory of the process in GiB. None after ``limit``."""
    command = [side.python, "-c", side.script, what, str(root), str(output)]
    # RUSAGE_CHILDREN is the peak over all children so far, so each child needs a parent process of its own.
    code = (
        "import resource, subprocess, sys\n"
        "try:\n"
        "    r = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, timeout=float(sys.argv[1]))\n"
        "except subprocess.TimeoutExpired:\n"
        "    raise SystemExit(print('late 0'))\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20\n"
        "print(r.stdout.decode().split()[-1] if r.returncode == 0 else 'failed', peak)"
    )
    environment = dict(os.environ)
    if side.checkout is not None:
        environment["PYTHONPATH"] = str(side.checkout)
    outcome = subprocess.run(
        [sys.executable, "-c", code, str(limit), *command],
        capture_output=True,
        text=True,
        env=environment,
        cwd=side.checkout,
    )
    seconds, peak = outcome.stdout.split()
    if seconds == "failed" or (side.checkout is not None and f"{side.checkout}/" not in outcome.stderr):
        raise SystemExit(f"{what} failed:\n{outcome.stderr}")
    return None if seconds == "late" else (float(seconds), float(peak))


def compare(
    what: str,
    sides: Sequence[Side],
    source: Path,
    work: Path,
    options: argparse.Namespace,
    *,
    title: str = "",
    own_copy: bool = False,
) -> None:
    """Measure all sides in turn. With ``own_copy``, each gets a new copy of the data set to write into."""
    title = title or what
    times: dict[str, list[float | None]] = {side.name: [] for side in sides}
    for number in range(options.pairs):
        for side in sides:
            root, output = source, work / f"output {side.name} {number}"
            if own_copy:
                root = work / f"copy {side.name} {number}"
                shutil.copytree(source, root)
            found = measure(side, what, root, output, options.limit)
            times[side.name].append(None if found is None else found[0])
            text = (
                f"more than {options.limit:g} s"
                if found is None
                else f"{found[0]:.2f} s, peak {found[1]:.2f} GiB"
            )
            print(f"{title}: {side.name} {text}", flush=True)
            for folder in {root, output} - {source}:
                shutil.rmtree(folder, ignore_errors=True)
    for side in sides[1:]:
        pairs = zip(times[sides[0].name], times[side.name], strict=True)
        ratios = [ours / other for ours, other in pairs if ours is not None and other is not None]
        if ratios:
            print(f"{title}: median ratio to {side.name} {statistics.median(ratios):.2f}", flush=True)


def write_large(root: Path, num_images: int) -> None:
    """Write a data set like COCO train2017, and say what it holds."""
    start = time.perf_counter()
    num_masks = num_images * 860 // 118
    write_dataset(root, num_images, num_masks, size_wh=(160, 120), points=(12, 40))
    size = sum(path.stat().st_size for path in (root / "annotations").iterdir()) / 1e6
    images = sum(path.stat().st_size for path in (root / "images").iterdir()) / num_images / 1e3
    print(
        f"{num_images} images of {images:.1f} kB, {num_masks} masks, {size:.0f} MB of JSON, "
        f"generated in {time.perf_counter() - start:.0f} s",
        flush=True,
    )


def large(work: Path, sides: Sequence[Side], options: argparse.Namespace) -> None:
    """Check a data set of the size of COCO train2017: once for each side and pair, then from the cache."""
    write_large(work / "large", options.large_images)
    compare("check", sides, work / "large", work, options, title="large, first check")
    for name in ("first", "second"):
        found = measure(sides[0], "check", work / "large", work / "large output", options.limit)
        if found is not None and name == "second":
            print(f"large, second check: {found[0]:.1f} s, peak {found[1]:.2f} GiB", flush=True)


def missing_names(work: Path, sides: Sequence[Side], num_images: int, options: argparse.Namespace) -> None:
    """Check and repair a data set with small images and none of their names right."""
    source = work / f"names {num_images}"
    write_dataset(source, num_images, num_images, size_wh=(64, 48), points=(4, 12))
    for kind, change in (
        ("in the wrong case", lambda name: name.upper()),
        ("of no file", lambda name: f"lost_{name}"),
    ):
        root = work / f"names {num_images} {kind}"
        (root / "annotations").mkdir(parents=True)
        shutil.copytree(source / "images", root / "images", copy_function=os.link)
        for path in (source / "annotations").iterdir():
            document = json.loads(path.read_text())
            for record in document["images"]:
                record["file_name"] = change(record["file_name"])
            (root / "annotations" / path.name).write_text(json.dumps(document))
        for what in ("check that fails", "repair"):
            title = f"{num_images} names {kind}, {what.split()[0]}"
            compare(what, sides, root, work, options, title=title)
        shutil.rmtree(root)
    shutil.rmtree(source)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--paddlex", help="Python of an environment with PaddleX")
    parser.add_argument("--against", type=Path, help="another checkout of this project")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--limit", type=float, default=1800, help="seconds that a measurement may take")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--large-images", type=int, default=118_000)
    parser.add_argument("--missing-names", type=int, nargs="+", metavar="N", help="numbers of images")
    options = parser.parse_args(arguments)
    sides = sides_of(options)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for num_images in options.missing_names or ():
            missing_names(work, sides, num_images, options)
        if options.large:
            large(work, sides, options)
        if options.large or options.missing_names:
            return
        if options.paddlex is not None:
            sides.append(Side("PaddleX", options.paddlex, PADDLEX))
        source, labelme = work / "source", work / "labelme source"
        write_dataset(source, options.images, 3 * options.images, size_wh=(640, 480), points=(8, 24))
        write_labelme(source, labelme)
        compare("check", sides, source, work, options, own_copy=True)
        compare("convert", sides, labelme, work, options, own_copy=True)


if __name__ == "__main__":
    main()
