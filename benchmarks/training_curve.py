"""Mask AP during a training from random weights: figures of docs/results.md.

    python benchmarks/training_curve.py CASE [--output FOLDER]

demo                     the generated demo set, trained as in `make demo`
demo-mosaics             demo with the mosaics of the recipe
demo-official            demo with the official recipe: ends with a loss that is not finite
demo-official-slow       demo-official with a quarter of the learning rate
overfit                  14 photographs of fruits and nuts; trains and evaluates on the same images
overfit-mask-rt-detr-s   two of these photographs, with Mask-RT-DETR-S
overfit-mask-rcnn        two of these photographs, with MaskRCNN-ResNet50-FPN
overfit-solov2           two of these photographs, with SOLOv2

Cases without a model in their name use PP-YOLOE_seg-S. Photographs are read from data/fruits_nuts in the
folder that the environment variable PADDLEX_SEG_SHARED names. Prints a table of epochs with minutes since the
start. All other results of the run are in --output.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import paddlex_seg.catalog as catalog
from paddlex_seg.cli import main as run_cli
from paddlex_seg.data.demo import COCO_FOLDER, write_demo_dataset


@dataclass(frozen=True)
class Case:
    """A data set and the options to train on it."""

    dataset: str  # a folder below PADDLEX_SEG_SHARED, or "demo"
    options: Sequence[str]
    model: str = "PP-YOLOE_seg-S"
    official_recipe: bool = False
    max_images: int | None = None  # of the photographs; train and val are the same images


DEMO = (
    *("Train.image_size=224", "Train.batch_size=4", "Train.epochs_iters=36", "Train.eval_interval=6"),
    *("Train.learning_rate=0.002", "Train.warmup_steps=60", "Train.augment.mosaic=0"),
)
CASES = {
    "demo": Case("demo", DEMO),
    "demo-mosaics": Case("demo", (*DEMO, "Train.augment.mosaic=0.6")),
    "demo-official": Case("demo", DEMO, official_recipe=True),
    "demo-official-slow": Case("demo", (*DEMO, "Train.learning_rate=0.0005"), official_recipe=True),
    "overfit": Case(
        "data/fruits_nuts",
        (
            *(
                "Train.image_size=320",
                "Train.batch_size=2",
                "Train.epochs_iters=90",
                "Train.eval_interval=10",
            ),
            "Train.learning_rate=0.002",
        ),
    ),
    "overfit-mask-rt-detr-s": Case(
        "data/fruits_nuts",
        (
            *(
                "Train.image_size=256",
                "Train.batch_size=2",
                "Train.epochs_iters=300",
                "Train.eval_interval=50",
            ),
            *("Train.learning_rate=0.0005", "Train.warmup_steps=30"),
        ),
        model="Mask-RT-DETR-S",
        max_images=2,
    ),
    "overfit-mask-rcnn": Case(
        "data/fruits_nuts",
        (
            *(
                "Train.image_size=224",
                "Train.batch_size=2",
                "Train.epochs_iters=200",
                "Train.eval_interval=25",
            ),
            *("Train.learning_rate=0.0003", "Train.warmup_steps=20"),
        ),
        model="MaskRCNN-ResNet50-FPN",
        max_images=2,
    ),
    "overfit-solov2": Case(
        "data/fruits_nuts",
        (
            *(
                "Train.image_size=192",
                "Train.batch_size=2",
                "Train.epochs_iters=200",
                "Train.eval_interval=25",
            ),
            *("Train.learning_rate=0.0003", "Train.warmup_steps=10"),
        ),
        model="SOLOv2",
        max_images=2,
    ),
}


def prepare_dataset(case: Case, folder: Path) -> Path:
    """Write the data set of a case; returns its folder. Photographs are linked, not copied."""
    if case.dataset == "demo":
        write_demo_dataset(folder)
        return folder / COCO_FOLDER
    source = (Path(os.environ.get("PADDLEX_SEG_SHARED", "../shared")) / case.dataset).resolve()
    if not source.is_dir():
        sys.exit(f"{source} does not exist. Set PADDLEX_SEG_SHARED to the folder that has data/.")
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").symlink_to(source / "images")
    content = json.loads((source / "annotations" / "instance_train.json").read_text(encoding="utf-8"))
    content["images"] = content["images"][: case.max_images]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    for name in ("instance_train.json", "instance_val.json"):
        (folder / "annotations" / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def train(case: Case, dataset: Path, output: Path) -> dict[str, Any]:
    """Run the training; returns the content of its result file."""
    if case.official_recipe:
        spec = catalog.MODELS[case.model]
        catalog.MODELS[case.model] = replace(
            spec,
            build=lambda **kw: spec.build(num_classes=kw["num_classes"]),
            scratch_recipe=spec.recipe,
        )
    settings = ("Global.mode=train", f"Global.dataset_dir={dataset}", f"Global.output={output}")
    options = (*settings, "Train.pretrain_weight_path=scratch", *case.options)
    code = run_cli(["-c", case.model, *(part for option in options for part in ("-o", option))])
    if code:
        sys.exit(code)
    return json.loads((output / "train_result.json").read_text(encoding="utf-8"))


def minutes_of_epochs(log: Path) -> dict[int, float]:
    """Minutes from the first log line to the end of each evaluation, by epoch."""
    times = {}
    start = None
    for line in log.read_text(encoding="utf-8").splitlines():
        stamp = re.match(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\]", line)
        if stamp is None:
            continue
        moment = datetime.fromisoformat(stamp.group(1))
        start = start or moment
        if found := re.search(r"Epoch (\d+): mask AP", line):
            times[int(found.group(1))] = (moment - start).total_seconds() / 60
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--output", type=Path, help="new folder for the run; default: output/curve-<case>")
    arguments = parser.parse_args()
    output = arguments.output or Path("output") / f"curve-{arguments.case}"
    if output.exists():
        sys.exit(f"{output} exists already. Name another folder with --output.")
    case = CASES[arguments.case]
    dataset = prepare_dataset(case, output / "dataset")
    begin = time.monotonic()
    result = train(case, dataset, output)
    minutes = minutes_of_epochs(output / "train.log")
    print(f"\n{arguments.case}: {' '.join(case.options)}")
    print("\n| epoch | step | minutes | loss | mask AP | box AP |\n|---|---|---|---|---|---|")
    for row in result["history"]:
        when = minutes.get(row["epoch"], float("nan"))
        print(
            f"| {row['epoch']} | {row['step']} | {when:.1f} | {row['loss']:.2f} | {row['mask_ap']:.3f} | "
            f"{row['box_ap']:.3f} |"
        )
    print(
        f"\nwhole run {(time.monotonic() - begin) / 60:.1f} minutes, best mask AP in epoch "
        f"{result['best_epoch']}"
    )


if __name__ == "__main__":
    main()
