"""Time and memory of checking and converting a data set, compared with PaddleX.

``--paddlex PYTHON`` names an interpreter with PaddleX 3.7.2 (``pip install paddlex==3.7.2 paddlepaddle==3.2.2
pycocotools matplotlib opencv-contrib-python-headless``). Each measurement runs in a process of its own.
Imports do not count:

    python benchmarks/check_dataset.py --paddlex PYTHON     # 3,000 images: check and LabelMe; some minutes
    python benchmarks/check_dataset.py --large              # 118,000 images, 860,000 masks; ten minutes
    python benchmarks/check_dataset.py --missing-names 118000    # every file_name lacks its file

Check: 640 x 480 JPEGs with three polygons each. Ours checks every image and annotation, searches for
near-duplicates, draws samples and writes the report. PaddleX checks twenty images. LabelMe: conversion of the
same data from 3,000 files. Both sides run ``--pairs`` times in turn, and the ratio of each pair is computed.
The large data set has the size of COCO train2017, with images of a few kilobytes. Its second check uses the
cache.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
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
import json, logging, sys, time
from pathlib import Path
import paddlex_seg.modes.check_dataset as mode
from paddlex_seg.data.preparation.prepare import prepare
from paddlex_seg.data.preparation.settings import ConvertSettings, SplitSettings
from paddlex_seg.errors import DatasetError
what, root, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
start = time.perf_counter()
if what == "check":
    try:
        result = mode.check_and_draw(root, output)
    except DatasetError:  # the result file has the findings
        result = json.loads((output / "check_dataset_result.json").read_text())
    print("findings", result["finding_counts"], file=sys.stderr)
else:
    labelme = ConvertSettings(enable=True, src_dataset_type="LabelMe")
    assert prepare(root, output, labelme, SplitSettings()) == []
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


def measure(python: str, script: str, what: str, root: Path, output: Path) -> tuple[float, float]:
    """Seconds as the script measures them, and peak memory of the process in GiB."""
    command = [python, "-c", script, what, str(root), str(output)]
    # RUSAGE_CHILDREN is the peak over all children so far, so each child needs a parent process of its own.
    code = (
        "import resource, subprocess, sys; r = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE);"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20;"
        "print(r.stdout.decode().split()[-1] if r.returncode == 0 else 'failed', peak)"
    )
    outcome = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
    seconds, peak = outcome.stdout.split()
    if seconds == "failed":
        raise SystemExit(f"{what} failed:\n{outcome.stderr}")
    return float(seconds), float(peak)


def compare(what: str, source: Path, work: Path, paddlex: str | None, pairs: int) -> None:
    """Measure ours and PaddleX in turn, each on a new copy of the data set."""
    ratios = []
    for number in range(pairs):
        times = []
        for name, python, script in (("ours", sys.executable, OURS), ("PaddleX", paddlex, PADDLEX)):
            if python is None:
                continue
            root = work / f"{what} {name} {number}"
            shutil.copytree(source, root)
            seconds, peak = measure(python, script, what, root, work / f"output {what} {name} {number}")
            times.append(seconds)
            print(f"{what}: {name} {seconds:.2f} s, peak {peak:.2f} GiB", flush=True)
            shutil.rmtree(root)
        if len(times) == 2:
            ratios.append(times[0] / times[1])
    if ratios:
        print(f"{what}: median ratio to PaddleX {statistics.median(ratios):.2f}")


def large(work: Path, num_images: int, num_masks: int) -> None:
    """Check a data set of the size of COCO train2017 twice."""
    start = time.perf_counter()
    write_dataset(work / "large", num_images, num_masks, size_wh=(160, 120), points=(12, 40))
    files = list((work / "large" / "annotations").iterdir())
    size = sum(path.stat().st_size for path in files) / 1e6
    images = sum(path.stat().st_size for path in (work / "large" / "images").iterdir()) / num_images / 1e3
    print(
        f"{num_images} images of {images:.1f} kB, {num_masks} masks, {size:.0f} MB of JSON, "
        f"generated in {time.perf_counter() - start:.0f} s"
    )
    for name in ("first", "second"):
        seconds, peak = measure(sys.executable, OURS, "check", work / "large", work / "large output")
        print(f"large, {name} check: {seconds:.1f} s, peak {peak:.2f} GiB", flush=True)


def missing_names(work: Path, count: int) -> None:
    """Check a data set whose image files have other names than the annotation files say."""
    for kind, listed in (("in the wrong case", "PART_{:06d}.JPG"), ("that do not exist", "other_{:06d}.jpg")):
        root = work / kind
        (root / "images").mkdir(parents=True)
        (root / "annotations").mkdir()
        draw_image(work / "image.jpg", seed=0, width=96, height=64)
        content = (work / "image.jpg").read_bytes()
        for number in range(count):
            (root / "images" / f"part_{number:06d}.jpg").write_bytes(content)
        for split, numbers in (("train", range(1, count)), ("val", range(1))):
            images = [
                {"id": number, "file_name": listed.format(number), "width": 96, "height": 64}
                for number in numbers
            ]
            square = {"category_id": 1, "segmentation": [[9, 9, 50, 9, 50, 50, 9, 50]], "iscrowd": 0}
            document = {
                "images": images,
                "categories": [{"id": 1, "name": "part", "supercategory": ""}],
                "annotations": [{**square, "id": n, "image_id": n, "bbox": [9, 9, 41, 41]} for n in numbers],
            }
            (root / "annotations" / f"instance_{split}.json").write_text(json.dumps(document))
        seconds, peak = measure(sys.executable, OURS, "check", root, work / f"output {kind}")
        print(f"{count:,} names {kind}: {seconds:.1f} s, peak {peak:.2f} GiB", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--paddlex", help="Python of an environment with PaddleX")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--large-images", type=int, default=118_000)
    parser.add_argument("--missing-names", type=int, help="only check so many names without an image file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if options.missing_names:
            missing_names(work, options.missing_names)
            return
        if options.large:
            large(work, options.large_images, options.large_images * 860 // 118)
            return
        source, labelme = work / "source", work / "labelme source"
        write_dataset(source, options.images, 3 * options.images, size_wh=(640, 480), points=(8, 24))
        write_labelme(source, labelme)
        compare("check", source, work, options.paddlex, options.pairs)
        compare("convert", labelme, work, options.paddlex, options.pairs)


if __name__ == "__main__":
    main()
