"""Shared by benchmarks that compare our models with other implementations.

It has inputs, processes, and PaddleDetection's models. Each side runs in a process of its own: a script calls
itself with ``run_alone`` and prints its result as JSON in the last line. The other side's Python may lack the
requirements of this project and have only Paddle or PyTorch. Therefore this module imports only the standard
library at the top.
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
SQUARE_MODELS = ("Mask-RT-DETR", "PP-YOLOE_seg")  # the others keep the aspect ratio of the image, here 4:3

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
    """A measuring process ended without a result; the message is one line."""


def catalog_models() -> list[str]:
    """The names of all our models. Sets no variable for Paddle: other sides inherit the environment."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Paddle warns at import that ccache is missing
        from paddlex_seg.catalog import MODELS
    return list(MODELS)


def is_square(name: str) -> bool:
    """Whether a model takes squares with values 0..1. Others take normalised images and keep the ratio."""
    return name.startswith(SQUARE_MODELS)


def image_size(name: str, side: int | None) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Height and width of the image in the network input, and of the padded input; None for squares.

    side: side of the square, or short side of the 4:3 image. Default: the published size, 640 or 800.
    """
    if is_square(name):
        return (side or 640, side or 640), None
    height = side or 800
    image_hw = height, int(height * 4 / 3 + 0.5)
    if name == "MaskRCNN-ResNet50":  # no FPN, so no padding
        return image_hw, image_hw
    return image_hw, (-(-image_hw[0] // 32) * 32, -(-image_hw[1] // 32) * 32)


def run_alone(python: str, script: str, arguments: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Run one side in a process of its own; returns its result and the text that it printed before.

    Raises SideFailed if there is no result.
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
    """The peak memory of this process in 10^6 bytes. Linux only."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found.group(1)) * 1024 / 1e6


def machine_and_date() -> tuple[str, str]:
    """Description of the machine with Paddle's version, and today's date."""
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
    """A model of the catalog with generated weights. Sets up this process as the command line does."""
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
    """PaddleDetection's model with the same weights, using all cores."""
    os.environ["OMP_NUM_THREADS"] = str(NUM_CORES)  # Paddle reads it at import
    sys.path.insert(0, str(checkout))
    for module in ("", ".augmenters", ".augmentables", ".augmentables.lines", ".augmentables.segmaps"):
        sys.modules[f"imgaug{module}"] = _Anything(f"imgaug{module}")  # only lane detection needs it
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
    """A fake module in which every name is an empty class."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
