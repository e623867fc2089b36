"""Bootstrap intervals of AP from one match table: time and memory.

    python benchmarks/evaluation_bootstrap.py [--images 1000] [--detections 100] [--resamples 1000]

The table has one object per detection and 20 classes. IoUs are drawn from 0.3 to 1: 71 % of the detections
are right at an IoU of 0.5, and 7 % at 0.95. All ten thresholds and all classes are resampled. Prints the time
of matching, of drawing the resamples and of their AP, also as processor time, which other work on the machine
changes less; the interval; and by how much the highest memory grew.
"""

import argparse
import resource
import time
from collections.abc import Sequence

import numpy as np
from sides import machine_and_date

from paddlex_seg.metrics.bootstrap import bootstrap_ap, interval, resample_weights
from paddlex_seg.metrics.matching import match
from paddlex_seg.metrics.overlaps import Found, Objects, Overlaps

NUM_CLASSES = 20


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args(argv)
    print(machine_and_date(), flush=True)
    overlaps = make_table(options.images, options.detections)
    start = time.perf_counter()
    matching = match(overlaps)
    matched = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    weights = resample_weights(options.images, options.resamples)
    drawn, busy = time.perf_counter(), time.process_time()
    total, _ = bootstrap_ap(overlaps, matching, weights)
    end, busy = time.perf_counter(), time.process_time() - busy
    again, _ = bootstrap_ap(overlaps, matching, weights[:10])
    assert (again == total[:10]).all(), "the same resamples give other values"
    print(f"matching  {matched - start:6.2f} s")
    print(f"resamples {drawn - matched:6.2f} s")
    print(f"AP        {end - drawn:6.2f} s, {busy:.2f} s of a processor")
    print(f"memory    {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024:6.0f} MB more")
    print(interval(total))
    return 0


def make_table(num_images: int, per_image: int) -> Overlaps:
    rng = np.random.default_rng(0)
    number = num_images * per_image
    rows = np.arange(number, dtype=np.int32)
    image, place = rows // per_image, rows % per_image
    classes, score = rng.integers(0, NUM_CLASSES, number).astype(np.int32), rng.random(number)
    area = np.full(number, 500.0)
    order = np.lexsort((-score, classes, image))
    is_new = np.ones(number, bool)
    is_new[1:] = (np.diff(image[order]) != 0) | (np.diff(classes[order]) != 0)
    starts = np.flatnonzero(is_new)
    rank = np.empty(number, np.int32)
    rank[order] = np.arange(number) - np.repeat(starts, np.diff(np.append(starts, number)))
    return Overlaps(
        kind="segm",
        image_ids=tuple(range(num_images)),
        category_ids=tuple(range(NUM_CLASSES)),
        found=Found(image, classes, place, score, area, rank, np.lexsort((rank, image, -score, classes))),
        objects=Objects(image, classes, rows, area, np.zeros(number, bool)),
        pair_found=rows,
        pair_object=rows,
        pair_iou=rng.uniform(0.3, 1, number),
    )


if __name__ == "__main__":
    raise SystemExit(main())
