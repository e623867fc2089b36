"""Training images per second of one data worker: plain, mosaic, copy-paste, and both.

    python benchmarks/mixing.py path/to/dataset [--size 320] [--images 40]

Uses the augmentation of PP-YOLOE_seg-S for training from random weights. As in a data worker, images are
read, decoded and warped, and masks are drawn. The four kinds run in turn. The result is the lowest CPU time
of three rounds, because other programs disturb CPU time less than wall-clock time.
"""

import argparse
import time
from pathlib import Path

import cv2

from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.samples.mixing import Mixing
from paddlex_seg.data.samples.tasks import TrainingSet
from paddlex_seg.recipes import PP_YOLOE_SEG_SCRATCH

WAYS = {
    "plain": Mixing(),
    "mosaic": Mixing(mosaic_prob=1.0),
    "copy-paste": Mixing(copy_paste_prob=1.0),
    "both": Mixing(mosaic_prob=1.0, copy_paste_prob=1.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--images", type=int, default=40)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)  # as in a worker
    size_hw = (arguments.size, arguments.size)
    paths = dataset_paths(arguments.dataset)
    coco = read_coco(paths.train_json)
    recipe = PP_YOLOE_SEG_SCRATCH
    (resize,) = recipe.resizes(size_hw)
    tasks = {}
    for name, mixing in WAYS.items():
        dataset = TrainingSet(
            coco,
            paths.image_dir,
            recipe.policies,
            (resize,),
            recipe.preprocess(size_hw),
            seed=0,
            mixing=mixing,
        )
        tasks[name] = [dataset.task(0, draw, resize) for draw in dataset.draws(0)[: arguments.images]]
    seconds = {name: [] for name in WAYS}
    for _ in range(3):
        for name in WAYS:
            start = time.process_time()
            for task in tasks[name]:
                task()
            seconds[name].append(time.process_time() - start)
    for name, found in seconds.items():
        milliseconds = 1000 * min(found) / len(tasks[name])
        print(f"{name:12} {milliseconds:7.1f} ms an image, {1000 / milliseconds:6.1f} images/s")


if __name__ == "__main__":
    main()
