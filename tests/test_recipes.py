"""The recipes say what the official configurations say, and their lengths and sizes follow the run."""

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from paddlex_seg.data.transforms import RandomCrop, RandomDistort, RandomExpand, RandomFlip, Resize
from paddlex_seg.recipes import MASK_RT_DETR, MASK_RT_DETR_SCRATCH, PP_YOLOE_SEG, PP_YOLOE_SEG_SCRATCH, Recipe

OFFICIAL = {
    "PP-YOLOE_seg-S": PP_YOLOE_SEG,
    **{f"Mask-RT-DETR-{size}": MASK_RT_DETR for size in "SMLXH"},
}
OFFICIAL_INTERPOLATIONS = (
    0,
    1,
    2,
    3,
    4,
)  # of "random_interp": OpenCV's nearest, linear, cubic, area, lanczos4


@pytest.fixture(params=OFFICIAL)
def official(request: pytest.FixtureRequest, shared_dir: Path) -> tuple[Recipe, dict[str, Any]]:
    """A recipe, and the configuration of a model that it is for."""
    path = shared_dir / f"reference/manifests/{request.param}.config.json"
    return OFFICIAL[request.param], json.loads(path.read_text())


def steps_of(facts: dict[str, Any], reader: str, kind: str) -> dict[str, Any]:
    return {name: values for step in facts["readers"][reader][kind] for name, values in step.items()}


def test_optimizer_and_moving_average_are_the_official_ones(official: tuple[Recipe, dict[str, Any]]) -> None:
    recipe, facts = official
    settings = facts["recipe"]
    builder = settings["optimizer_builder"]
    assert recipe.optimizer == builder["optimizer"]["type"].lower()
    assert recipe.momentum == builder["optimizer"].get("momentum", 0.9)
    decay = builder["regularizer"]["factor"] if builder["regularizer"] else None
    assert recipe.weight_decay == builder["optimizer"].get("weight_decay", decay)
    assert recipe.clip_norm == builder.get("clip_grad_by_norm")
    assert recipe.ema is not None
    assert recipe.ema.decay == settings["ema_decay"]
    assert recipe.ema.kind == settings.get("ema_decay_type", "threshold")
    assert recipe.ema.skip == tuple(settings.get("ema_black_list", ()))
    assert recipe.ema.skip_frozen == settings.get("ema_filter_no_grad", False)


def test_augmentation_is_the_official_one(official: tuple[Recipe, dict[str, Any]]) -> None:
    recipe, facts = official
    steps = steps_of(facts, "TrainReader", "sample_transforms")
    distort, expand, crop = (steps[name] for name in ("RandomDistort", "RandomExpand", "RandomCrop"))
    assert recipe.policies == (
        RandomDistort(
            hue=tuple(distort["hue"]),
            saturation=tuple(distort["saturation"]),
            contrast=tuple(distort["contrast"]),
            brightness=tuple(distort["brightness"]),
            count=distort["count"],
            prob=distort["prob"],
        ),
        RandomExpand(expand["ratio"], expand["prob"], tuple(expand["fill_value"])),
        RandomCrop(
            thresholds=tuple(crop["thresholds"]),
            aspect_ratio=tuple(crop["aspect_ratio"]),
            scaling=tuple(crop["scaling"]),
            num_attempts=crop["num_attempts"],
            allow_no_crop=crop["allow_no_crop"],
            prob=crop["prob"],
        ),
        RandomFlip(steps["RandomFlip"]["prob"]),
    )


def test_input_sizes_are_the_official_ones(official: tuple[Recipe, dict[str, Any]]) -> None:
    recipe, facts = official
    found = [(resize.size_hw, resize.interpolation) for resize in recipe.resizes(recipe.image_size)]
    of_sample = steps_of(facts, "TrainReader", "sample_transforms").get("Resize")
    if of_sample is not None:
        assert found == [(tuple(of_sample["target_size"]), of_sample["interp"])]
        return
    of_batch = steps_of(facts, "TrainReader", "batch_transforms")["BatchRandomResize"]
    assert of_batch["random_size"] and of_batch["random_interp"] and not of_batch["keep_ratio"]
    assert sorted(found) == sorted(
        ((side, side), cv2.INTER_LINEAR if interpolation == cv2.INTER_AREA else interpolation)
        for side in of_batch["target_size"]
        for interpolation in OFFICIAL_INTERPOLATIONS
    )
    assert not any(resize.keep_ratio for resize in recipe.resizes(recipe.image_size))


def test_evaluation_preprocessing_is_the_official_one(official: tuple[Recipe, dict[str, Any]]) -> None:
    recipe, facts = official
    steps = steps_of(facts, "EvalReader", "sample_transforms")
    spec = recipe.preprocess(recipe.image_size)
    resize, normalize = steps["Resize"], steps["NormalizeImage"]
    assert spec.size_hw == tuple(resize["target_size"])
    assert (spec.keep_ratio, spec.interpolation) == (resize["keep_ratio"], resize["interp"])
    assert normalize["is_scale"]
    assert (spec.mean, spec.std) == (tuple(normalize["mean"]), tuple(normalize["std"]))
    assert spec.pad_stride == 0


@pytest.mark.parametrize("recipe", [PP_YOLOE_SEG, PP_YOLOE_SEG_SCRATCH, MASK_RT_DETR_SCRATCH])
def test_one_size_is_the_size_of_the_run(recipe: Recipe) -> None:
    assert recipe.resizes((96, 64)) == (Resize((96, 64)),)
    assert recipe.preprocess((96, 64)).size_hw == (96, 64)


@pytest.mark.parametrize(
    ("image_size", "smallest", "largest"),
    [
        pytest.param((640, 640), (480, 480), (800, 800), id="the model's own"),
        pytest.param((320, 960), (256, 736), (416, 1216), id="not square"),  # 240, 720 and 400, 1200
        pytest.param((32, 32), (32, 32), (32, 32), id="the smallest"),
    ],
)
def test_many_sizes_surround_the_size_of_the_run(
    image_size: tuple[int, int], smallest: tuple[int, int], largest: tuple[int, int]
) -> None:
    sizes = {resize.size_hw for resize in MASK_RT_DETR.resizes(image_size)}
    assert min(sizes) == smallest and max(sizes) == largest
    assert image_size in sizes
    assert all(side >= 32 and side % 32 == 0 for size in sizes for side in size)
