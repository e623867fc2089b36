"""What the benchmarks share that set our models beside other implementations: inputs, processes, and
PaddleDetection's models.

A side runs in a process of its own: a script calls itself with ``run_alone``, and prints its result as JSON
in the last line. The other side's Python need not have the requirements of this project, only Paddle or
PyTorch, so nothing here imports more than NumPy before it is asked to.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests" / "reference")]
NUM_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
NUM_CLASSES = 80
SQUARE_MODELS = ("Mask-RT-DETR", "PP-YOLOE_seg")  # the others take images of 4:3 in their own shape

OFFICIAL_CONFIGS = {
    **{
        f"Mask-RT-DETR-{size}": f"mask_rtdetr/mask_rtdetr_hgnetv2_{size.lower()}_6x_coco.yml"
        for size in "SMLXH"
    },
    "PP-YOLOE_seg-S": "ppyoloe_seg/ppyoloe_seg_s_80e_coco.yml",
    "SOLOv2": "solov2/solov2_r50_fpn_1x_coco.yml",
    "MaskRCNN-ResNet50": "mask_rcnn/mask_rcnn_r50_1x_coco.yml",
    "MaskRCNN-ResNet50-FPN": "mask_rcnn/mask_rcnn_r50_fpn_1x_coco.yml",
    "MaskRCNN-ResNet50-vd-FPN": "mask_rcnn/mask_rcnn_r50_vd_fpn_1x_coco.yml",
    "MaskRCNN-ResNet50-vd-SSLDv2-FPN": "mask_rcnn/mask_rcnn_r50_vd_fpn_ssld_1x_coco.yml",
    "MaskRCNN-ResNet101-FPN": "mask_rcnn/mask_rcnn_r101_fpn_1x_coco.yml",
    "MaskRCNN-ResNet101-vd-FPN": "mask_rcnn/mask_rcnn_r101_vd_fpn_1x_coco.yml",
    "MaskRCNN-ResNeXt101-vd-FPN": "mask_rcnn/mask_rcnn_x101_vd_64x4d_fpn_1x_coco.yml",
    "Cascade-MaskRCNN-ResNet50-FPN": "cascade_rcnn/cascade_mask_rcnn_r50_fpn_1x_coco.yml",
    "Cascade-MaskRCNN-ResNet50-vd-SSLDv2-FPN": "cascade_rcnn/cascade_mask_rcnn_r50_vd_fpn_ssld_1x_coco.yml",
}


class SideFailed(Exception):
    """A process that measures ended without a result; the message is one line."""


def catalog_models() -> list[str]:
    """The names of all our models. Sets nothing for Paddle, since other sides inherit the environment."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Paddle says at import that it will not compile fast
        from paddlex_seg.catalog import MODELS
    return list(MODELS)


def is_square(name: str) -> bool:
    """Whether a model takes squares with values 0..1; others take normalised images in their shape."""
    return name.startswith(SQUARE_MODELS)


def image_size(name: str, side: int | None) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Height and width of an image in the network's input, and with padding; None for squares.

    side: of the square, or the short side of 4:3; by default what the model is published for, 640 or 800.
    """
    if is_square(name):
        return (side or 640, side or 640), None
    height = side or 800
    image_hw = height, int(height * 4 / 3 + 0.5)
    if name == "MaskRCNN-ResNet50":  # one stride, nothing to pad to
        return image_hw, image_hw
    return image_hw, (-(-image_hw[0] // 32) * 32, -(-image_hw[1] // 32) * 32)


def run_alone(python: str, script: str, arguments: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The result of one side in a process of its own, and what it printed before that.

    Raises SideFailed when there is none.
    """
    command = [python, script, *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode < 0:
        raise SideFailed(f"ended by signal {-result.returncode}: {_last_line(result.stderr)}")
    if result.returncode:
        raise SideFailed(_last_line(result.stderr))
    *text, last = result.stdout.strip().splitlines()
    return json.loads(last), "\n".join(text)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (named or lines or ["no message"])[-1]


def peak_memory_mb() -> float:
    """The most memory that this process has had at a time, in 10^6 bytes. Linux only."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found.group(1)) * 1024 / 1e6


def machine_and_date() -> tuple[str, str]:
    """What figures depend on: the machine with Paddle's version, and today's date."""
    cpu_info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    cpu = re.search(r"model name\s*: (.*)", cpu_info)
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"))
    vectors = next(
        (name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in cpu_info), ""
    )
    parts = [
        f"{NUM_CORES} cores of an {cpu.group(1).strip() if cpu else 'unknown CPU'}",
        vectors,
        f"{int(memory.group(1)) * 1024 / 2**30:.0f} GiB" if memory else "",
        f"PaddlePaddle {version('paddlepaddle')}",
    ]
    return ", ".join(part for part in parts if part), date.today().isoformat()


def our_model(name: str) -> Any:
    """A model of the catalog with weights by rule, in a process that is set up as by the command line."""
    from paddlex_seg.runtime.environment import prepare_process

    prepare_process()
    from rule import fill_model

    from paddlex_seg.catalog import find_model
    from paddlex_seg.runtime.device import use_device

    use_device("cpu")
    model = find_model(name).build(num_classes=NUM_CLASSES)
    fill_model(model)
    return model


def official_model(name: str, checkout: Path, input_hw: tuple[int, int]) -> Any:
    """PaddleDetection's model with the same weights, on all cores."""
    os.environ["OMP_NUM_THREADS"] = str(NUM_CORES)  # read when Paddle is imported
    sys.path.insert(0, str(checkout))
    for module in ("", ".augmenters", ".augmentables", ".augmentables.lines", ".augmentables.segmaps"):
        sys.modules[f"imgaug{module}"] = _Anything(f"imgaug{module}")  # for lanes only, and hard to install
    from rule import fill_model

    importlib.import_module("ppdet.modeling")
    importlib.import_module("ppdet.optimizer")
    workspace = importlib.import_module("ppdet.core.workspace")
    config = workspace.load_config(str(checkout / "configs" / OFFICIAL_CONFIGS[name]))
    config["eval_size"] = list(input_hw)
    model = workspace.create(config.architecture)
    fill_model(model)
    return model


class _Anything(ModuleType):
    """A module in which every name is an empty class."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
