"""Time saved on the CPU by reusing the memory of freed tensors (paddlex_seg/runtime/environment.py).

    python benchmarks/memory_reuse.py [--size 320] [--pairs 3]

Runs a ReLU of a large tensor and a training step of PP-YOLOE_seg-S in new processes, in turn with
``prepare_process`` and with ``prepare_process`` without ``keep_freed_memory``. Prints the ratio of each pair.
Takes two minutes. If the C library is not glibc, there is nothing to set, and the ratios are about 1.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from statistics import median

from sides import peak_memory_mb, run_alone

JOBS = ("elementwise", "training step")


def elementwise(size: int) -> Callable[[], object]:
    """Ten ReLUs of a tensor with 64 channels."""
    from paddlex_seg.runtime.environment import prepare_process

    prepare_process()
    import paddle
    import paddle.nn.functional as F

    from paddlex_seg.runtime.device import use_device

    use_device("cpu")
    tensor = paddle.randn([4, 64, size, size])
    return lambda: [F.relu(tensor) for _ in range(10)][-1]


def training_step(size: int) -> Callable[[], object]:
    """One training step with two images, which have 3 and 2 objects."""
    from training_step import our_step

    return our_step("PP-YOLOE_seg-S", size, (3, 2))


def seconds_and_memory(job: str, size: int, keep: bool) -> dict[str, float]:
    """The median of five runs after two warm-up runs, and the peak memory."""
    from paddlex_seg.runtime import environment

    if not keep:
        environment.keep_freed_memory = lambda: None
    run = elementwise(size) if job == "elementwise" else training_step(size)
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {"seconds": median(seconds[2:]), "peak_mb": peak_memory_mb()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--one", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--give-back", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(seconds_and_memory(arguments.one, arguments.size, keep=not arguments.give_back)))
        return
    for job in JOBS:
        for _ in range(arguments.pairs):
            options = ["--one", job, "--size", str(arguments.size)]
            given_back, _ = run_alone(sys.executable, __file__, [*options, "--give-back"])
            kept, _ = run_alone(sys.executable, __file__, options)
            print(
                f"{job}: given back {given_back['seconds']:.3f} s, {given_back['peak_mb']:.0f} MB; "
                f"kept {kept['seconds']:.3f} s, {kept['peak_mb']:.0f} MB; "
                f"ratio {given_back['seconds'] / kept['seconds']:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
