"""Mask AP over minutes of training from random weights: ours compared with Ultralytics YOLO11n-seg.

    python -m venv /tmp/ultra-venv
    /tmp/ultra-venv/bin/pip install torch torchvision ultralytics pycocotools matplotlib

    python benchmarks/against_ultralytics.py convert
    python benchmarks/against_ultralytics.py train-ultralytics --python /tmp/ultra-venv/bin/python
    python benchmarks/against_ultralytics.py train-ours [Train.key=value ...]
    python benchmarks/against_ultralytics.py evaluate --python /tmp/ultra-venv/bin/python

Ultralytics is under the AGPL. It has an environment of its own; ``--python`` names the Python of that
environment. The functions named ``other_...`` in this file run there and call it. The images are those of
``data/microcontrollers`` in the folder that the environment variable PADDLEX_SEG_SHARED names. Both sides
train at 320 pixels on all cores, one after the other, for ``--minutes``. Ours uses the recipe for random
weights, and the given settings, if any. pycocotools evaluates the predictions of both for the val images:
masks in pixels of the original image, the best 100 per image. ``evaluate`` writes ``curve.csv`` and
``curve.svg`` to ``--output``, and prints a table.

No other program should run during the trainings. If others must run: when
/proc/sys/kernel/sched_autogroup_enabled is 1, the priority of a process (``nice``) only counts within its
session, and ``echo -20 > /proc/self/autogroup`` sets the priority of the session.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sides import NUM_CORES, PROJECT

IMAGE_SIZE = 320
MODEL = "PP-YOLOE_seg-S"


def dataset_dir() -> Path:
    """The folder of the photographs, the same for both sides."""
    folder = Path(os.environ.get("PADDLEX_SEG_SHARED", "../shared")) / "data" / "microcontrollers"
    if not folder.is_dir():
        sys.exit(f"{folder} does not exist. Set PADDLEX_SEG_SHARED to the folder that has data/.")
    return folder.resolve()


def convert(output: Path) -> None:
    """Write the data set for Ultralytics to ``output/yolo``. Ends with an error if a mask becomes inexact."""
    from paddlex_seg.data.coco.read import read_coco
    from paddlex_seg.data.formats.yolo import write_yolo

    source, target = dataset_dir(), output / "yolo"
    splits = {
        split: read_coco(source / "annotations" / f"instance_{split}.json") for split in ("train", "val")
    }
    findings = write_yolo(splits, source / "images", target)
    if findings:
        sys.exit("\n".join(finding.message for finding in findings))
    settings = (target / "data.yaml").read_text(encoding="utf-8")
    (target / "data.yaml").write_text(f"path: {target}\n{settings}", encoding="utf-8")


# ---- training


def other_train(output: Path, minutes: float) -> None:
    """Train Ultralytics with its settings for training from scratch, without those that need a download."""
    import torch
    from ultralytics import YOLO

    model = YOLO("yolo11n-seg.yaml")
    # Its default is all cores but one.
    model.add_callback("on_train_start", lambda _: torch.set_num_threads(NUM_CORES))
    model.train(
        data=str(output / "yolo" / "data.yaml"),
        imgsz=IMAGE_SIZE,
        time=minutes / 60,  # hours; it adapts the number of epochs and its schedule
        pretrained=False,
        amp=False,  # only for a GPU, and its check would download a model
        plots=False,
        device="cpu",
        workers=NUM_CORES,
        cache="ram",
        save_period=5,
        project=str(output),
        name="ultralytics",
    )


def train_ours(output: Path, minutes: float, further: Sequence[str]) -> None:
    """Train ours with the recipe for training from scratch, for the same minutes as Ultralytics."""
    options = (
        *("Global.mode=train", f"Global.dataset_dir={dataset_dir()}", f"Global.output={output / 'ours'}"),
        *("Train.pretrain_weight_path=scratch", f"Train.image_size={IMAGE_SIZE}"),
        *("Global.device=cpu", f"Train.num_processes={NUM_CORES}", "Train.sync_bn=False"),
        *("Train.batch_size=3", "Train.learning_rate=0.002", "Train.num_workers=1"),
        *("Train.eval_interval=5", "Evaluate.batch_size=5", f"Train.time_budget={minutes}", *further),
    )
    run_ours(options)


def run_ours(options: Sequence[str]) -> None:
    """Run the command line of this project."""
    from paddlex_seg.cli import main as run_cli

    if code := run_cli(["-c", MODEL, *(part for option in options for part in ("-o", option))]):
        sys.exit(code)


# ---- predictions


def other_predict(output: Path) -> None:
    """Write predictions for the val images, for each saved checkpoint, to ``ultralytics-<state>.json``.

    Thresholds are those that Ultralytics uses for AP. Masks have the size of the original image.
    """
    import numpy as np
    from pycocotools import mask as mask_tools
    from ultralytics import YOLO

    images = sorted((output / "yolo" / "images" / "val").iterdir())
    for weights in sorted((output / "ultralytics" / "weights").glob("*.pt")):
        model, rows = YOLO(weights), []
        for image in images:
            (result,) = model.predict(
                image,
                imgsz=IMAGE_SIZE,
                conf=0.001,
                iou=0.7,
                max_det=300,
                retina_masks=True,
                device="cpu",
                verbose=False,
            )
            if result.masks is None:
                continue
            masks = result.masks.data.numpy().astype(np.uint8)  # [n, height, width]
            for mask, score, kind in zip(masks, result.boxes.conf, result.boxes.cls, strict=True):
                rle = mask_tools.encode(np.asfortranarray(mask))
                rows.append(
                    {
                        "file_name": image.name,
                        "category": result.names[int(kind)],
                        "score": float(score),
                        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                    }
                )
        path = output / "predictions" / f"ultralytics-{weights.stem}.json"
        path.write_text(json.dumps(rows), encoding="utf-8")


def our_predictions(output: Path) -> None:
    """Write our predictions of the last and the best checkpoint, in COCO's result format."""
    models = json.loads((output / "ours" / "train_result.json").read_text(encoding="utf-8"))["models"]
    for state, key in (("last", "last_1"), ("best", "best")):
        folder = output / "evaluate-ours" / state
        weights = output / "ours" / models[key]["pdparams"]
        run_ours(
            (
                "Global.mode=evaluate",
                f"Global.dataset_dir={dataset_dir()}",
                f"Global.output={folder}",
                f"Evaluate.weight_path={weights}",
            )
        )
        (output / "predictions" / f"ours-{state}.json").write_bytes((folder / "segm.json").read_bytes())


# ---- metrics


def mask_ap(predictions: Path) -> tuple[float, float]:
    """Mask AP and AP50 of a file of predictions."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    content = json.loads((dataset_dir() / "annotations" / "instance_val.json").read_text(encoding="utf-8"))
    for number, annotation in enumerate(content["annotations"], start=1):
        annotation["id"] = number  # 0 would stand for "not matched"
    truth.dataset = content
    truth.createIndex()
    image_of_name = {image["file_name"]: image["id"] for image in content["images"]}
    category_of_name = {category["name"]: category["id"] for category in content["categories"]}
    rows = json.loads(predictions.read_text(encoding="utf-8"))
    for row in rows:
        if "file_name" in row:
            row["image_id"] = image_of_name[row.pop("file_name")]
            row["category_id"] = category_of_name[row.pop("category")]
    if not rows:
        return 0.0, 0.0
    evaluation = COCOeval(truth, truth.loadRes(rows), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def other_curve(output: Path) -> Iterator[dict[str, Any]]:
    """A row for each saved epoch of Ultralytics, with its minutes since the start of the first epoch."""
    with (output / "ultralytics" / "results.csv").open(encoding="utf-8") as file:
        minutes = {int(row["epoch"]): float(row["time"]) / 60 for row in csv.DictReader(file)}
    for path in (output / "predictions").glob("ultralytics-*.json"):
        state = path.stem.removeprefix("ultralytics-")
        # File epoch<N> belongs to epoch N + 1 of the table.
        epoch = max(minutes) if state == "last" else int(state[5:]) + 1 if state != "best" else None
        if epoch is not None:
            ap, ap50 = mask_ap(path)
            yield {
                "side": "YOLO11n-seg",
                "epoch": epoch,
                "minutes": minutes[epoch],
                "mask_ap": ap,
                "mask_ap50": ap50,
            }


def our_curve(output: Path) -> Iterator[dict[str, Any]]:
    """A row for each evaluation of our training. Its metrics equal those of pycocotools."""
    from training_curve import minutes_of_epochs

    minutes = minutes_of_epochs(output / "ours" / "train.log")
    result = json.loads((output / "ours" / "train_result.json").read_text(encoding="utf-8"))
    for row in result["history"]:
        yield {
            "side": MODEL,
            "epoch": row["epoch"],
            "minutes": minutes[row["epoch"]],
            "mask_ap": row["mask_ap"],
            "mask_ap50": None,
        }


def other_plot(output: Path) -> None:
    """Draw ``curve.svg`` from ``curve.csv``."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    points: dict[str, list[tuple[float, float]]] = {}
    with (output / "curve.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            points.setdefault(row["side"], []).append((float(row["minutes"]), float(row["mask_ap"])))
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for side, values in points.items():
        axes.plot(*zip(*sorted(values), strict=True), marker="o", markersize=3, label=side)
    axes.set(xlabel="minutes of training", ylabel="mask AP on 15 val images", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(output / "curve.svg")


def evaluate(output: Path, python: str) -> None:
    """Write predictions of both sides and the curves; print a table of the last and the best checkpoint."""
    (output / "predictions").mkdir(exist_ok=True)
    call_other(python, "other-predict", output)
    our_predictions(output)
    rows = sorted([*other_curve(output), *our_curve(output)], key=lambda row: (row["side"], row["minutes"]))
    with (output / "curve.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    call_other(python, "other-plot", output)
    judged = {
        f"{side}-{state}": mask_ap(output / "predictions" / f"{side}-{state}.json")
        for side in ("ultralytics", "ours")
        for state in ("last", "best")
    }
    print("\n| state | mask AP | mask AP50 |\n|---|---|---|")
    for name, (ap, ap50) in judged.items():
        print(f"| {name} | {ap:.3f} | {ap50:.3f} |")


def call_other(python: str, part: str, output: Path, minutes: float = 0.0) -> None:
    """Run a part of this script in the environment of Ultralytics."""
    environment = {**os.environ, "YOLO_OFFLINE": "true"}  # no search for updates and fonts
    arguments = [part, "--output", str(output), "--minutes", str(minutes)]
    subprocess.run([python, __file__, *arguments], check=True, env=environment, cwd=PROJECT)


def main() -> None:
    """Run the part that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", help="convert, train-ultralytics, train-ours or evaluate")
    parser.add_argument("further", nargs="*", help="more settings of our training, written as for -o")
    parser.add_argument("--output", type=Path, default=Path("output/against-ultralytics"))
    parser.add_argument("--python", default=sys.executable, help="a Python that can import ultralytics")
    parser.add_argument("--minutes", type=float, default=25.0, help="minutes of each training")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    parts = {
        "convert": lambda: convert(output),
        "train-ultralytics": lambda: call_other(arguments.python, "other-train", output, arguments.minutes),
        "train-ours": lambda: train_ours(output, arguments.minutes, arguments.further),
        "evaluate": lambda: evaluate(output, arguments.python),
        "other-train": lambda: other_train(output, arguments.minutes),
        "other-predict": lambda: other_predict(output),
        "other-plot": lambda: other_plot(output),
    }
    if arguments.part not in parts:
        sys.exit(
            f"{arguments.part}: unknown part. Expected convert, train-ultralytics, train-ours or evaluate."
        )
    parts[arguments.part]()


if __name__ == "__main__":
    main()
