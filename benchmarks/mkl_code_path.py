"""Time that a training step on an AMD CPU saves when Paddle's MKL gets the code path for this CPU.

    python benchmarks/mkl_code_path.py [--size 192] [--batch 4] [--pairs 3]

Runs forward and backward of PP-YOLOE_seg-S in new processes, in turn without and with the setting. Prints the
ratio of each pair. Takes a minute. On Intel CPUs there is nothing to set, and the script says so.
"""

import argparse
import os
import subprocess
import sys

from paddlex_seg.runtime.environment import CPU_INFO, mkl_code_path

STEP = """
import time, paddle
from paddlex_seg.catalog import MODELS
from paddlex_seg.runtime.device import use_device
use_device("cpu")
model = MODELS["PP-YOLOE_seg-S"].build(num_classes=2)
image = paddle.randn([{batch}, 3, {size}, {size}])
def step():
    outputs = model.yolo_head(model.neck(model.backbone(image)))
    sum(output.mean() for output in outputs[:4]).backward()
step(), step()
start = time.perf_counter()
for _ in range(5):
    step()
print((time.perf_counter() - start) / 5)
"""


def seconds_per_step(size: int, batch: int, code_path: str | None) -> float:
    """Mean of five steps after two warm-up steps, in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key != "MKL_DEBUG_CPU_TYPE"}
    if code_path is not None:
        environment["MKL_DEBUG_CPU_TYPE"] = code_path
    code = STEP.format(size=size, batch=batch)
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return float(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    code_path = mkl_code_path(CPU_INFO.read_text(encoding="utf-8") if CPU_INFO.is_file() else "")
    if code_path is None:
        sys.exit("MKL chooses its own code path on this CPU. There is nothing to compare.")
    for _ in range(arguments.pairs):
        plain, asked = (seconds_per_step(arguments.size, arguments.batch, path) for path in (None, code_path))
        print(f"without {plain:.3f} s, with path {code_path} {asked:.3f} s, ratio {plain / asked:.2f}")


if __name__ == "__main__":
    main()
