"""The recipes match the official configurations. Lengths and sizes scale with the run."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from official_recipes import OFFICIAL

from paddlex_seg.data.preprocess import fitted_size
from paddlex_seg.data.samples.sample import Sample
from paddlex_seg.data.samples.transforms import (
    Policy,
    RandomCrop,
    RandomDistort,
    RandomExpand,
    RandomFlip,
    RandomResize,
    Resize,
)
from paddlex_seg.errors import ConfigError
from paddlex_seg.recipes import (
    CASCADE_MASK_RCNN,
    MASK_RCNN,
    MASK_RCNN_C4,
    MASK_RCNN_C4_SCRATCH,
    MASK_RCNN_SCRATCH,
    MASK_RT_DETR,
    MASK_RT_DETR_SCRATCH,
    PP_YOLOE_SEG,
    PP_YOLOE_SEG_SCRATCH,
    SOLOV2,
    SOLOV2_SCRATCH,
    CosineDecay,
    PiecewiseDecay,
    Recipe,
    SmallerInputs,
)

KEEP_ASPECT_RATIO = {
    "Mask R-CNN": (MASK_RCNN, MASK_RCNN_SCRATCH),
    "C4": (MASK_RCNN_C4, MASK_RCNN_C4_SCRATCH),
    "Cascade": (CASCADE_MASK_RCNN, MASK_RCNN_SCRATCH),
    "SOLOv2": (SOLOV2, SOLOV2_SCRATCH),
}
OFFICIAL_INTERPOLATIONS = (
    0,
    1,
    2,
    3,
    4,
)  # of "random_interp": OpenCV's nearest, linear, cubic, area, lanczos4


@pytest.fixture(params=OFFICIAL)
def official(request: pytest.FixtureRequest, reference_dir: Path) -> tuple[Recipe, dict[str, Any]]:
    """A recipe and the official configuration of a model that uses it."""
    path = reference_dir / f"manifests/{request.param}.config.json"
    return OFFICIAL[request.param], json.loads(path.read_text())


def steps_of(facts: dict[str, Any], reader: str, kind: str) -> dict[str, Any]:
    return {name: values for step in facts["readers"][reader].get(kind, []) for name, values in step.items()}


def test_optimizer_and_moving_average_are_the_official_ones(official: tuple[Recipe, dict[str, Any]]) -> None:
    recipe, facts = official
    settings = facts["recipe"]
    builder = settings["optimizer_builder"]
    assert recipe.optimizer == builder["optimizer"]["type"].lower()
    assert recipe.momentum == builder["optimizer"].get("momentum", 0.9)
    decay = builder["regularizer"]["factor"] if builder["regularizer"] else None
    assert recipe.weight_decay == builder["optimizer"].get("weight_decay", decay)
    assert recipe.clip_norm == builder.get("clip_grad_by_norm")
    if not settings["use_ema"]:
        assert recipe.ema is None
        return
    assert recipe.ema is not None
    assert recipe.ema.decay == settings["ema_decay"]
    assert recipe.ema.kind == settings.get("ema_decay_type", "threshold")
    assert recipe.ema.skip == tuple(settings.get("ema_black_list", ()))
    assert recipe.ema.skip_frozen == settings.get("ema_filter_no_grad", False)


def test_decay_and_warmup_are_the_official_ones(official: tuple[Recipe, dict[str, Any]]) -> None:
    recipe, facts = official
    epochs = facts["recipe"]["epoch"]
    decay, warmup = facts["recipe"]["learning_rate"]["schedulers"]
    assert recipe.warmup_start == warmup["start_factor"]
    if "max_epochs" in decay:
        assert recipe.decay == CosineDecay(stretch=decay["max_epochs"] / epochs)
        return
    assert isinstance(recipe.decay, PiecewiseDecay)
    within = [
        (mile / epochs, factor) for mile, factor in zip(*milestones_of(decay), strict=True) if mile < epochs
    ]
    assert list(zip(recipe.decay.milestones, recipe.decay.factors, strict=True)) == within


def milestones_of(decay: dict[str, Any]) -> tuple[list[int], list[float]]:
    gamma = decay["gamma"]
    return decay["milestones"], gamma if isinstance(gamma, list) else [gamma]


def test_augmentation_is_the_official_one(official: tuple[Recipe, dict[str, Any]]) -> None:
    recipe, facts = official
    steps = steps_of(facts, "TrainReader", "sample_transforms")
    geometry_of_batch = {
        "Decode",
        "Poly2Mask",
        "Resize",
        "RandomResize",
        "NormalizeImage",
        "Permute",
        "PadGT",
    }
    assert len(recipe.policies) == len(set(steps) - geometry_of_batch)
    if "RandomCrop" not in steps:
        assert recipe.policies == (RandomFlip(steps["RandomFlip"]["prob"]),)
        return
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
    steps = steps_of(facts, "TrainReader", "sample_transforms")
    if random := steps.get("RandomResize"):
        assert random["random_size"] and not random["random_range"] and not random["random_interp"]
        sizes = tuple(map(tuple, random["target_size"]))
        assert recipe.resizes(recipe.image_size) == (
            RandomResize(sizes, keep_ratio=random["keep_ratio"], interpolation=random["interp"]),
        )
        return
    if fixed := steps.get("Resize"):
        assert recipe.resizes(recipe.image_size) == (
            Resize(tuple(fixed["target_size"]), fixed["keep_ratio"], fixed["interp"]),
        )
        return
    found = [(resize.size_hw, resize.interpolation) for resize in recipe.resizes(recipe.image_size)]
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
    order = list(steps)
    assert spec.normalize_first == (order.index("NormalizeImage") < order.index("Resize"))
    assert steps == steps_of(facts, "TestReader", "sample_transforms")


@pytest.mark.parametrize("reader", ["TrainReader", "EvalReader", "TestReader"])
def test_padding_is_the_official_one(official: tuple[Recipe, dict[str, Any]], reader: str) -> None:
    recipe, facts = official
    official_stride = steps_of(facts, reader, "batch_transforms").get("PadBatch", {}).get("pad_to_stride", 0)
    assert recipe.preprocess(recipe.image_size).pad_stride == max(official_stride, 0)


@pytest.mark.parametrize("recipe", [PP_YOLOE_SEG, PP_YOLOE_SEG_SCRATCH, MASK_RT_DETR_SCRATCH])
def test_recipes_with_one_size_use_the_input_size(recipe: Recipe) -> None:
    assert recipe.resizes((96, 64)) == (Resize((96, 64)),)
    assert recipe.preprocess((96, 64)).size_hw == (96, 64)


@pytest.mark.parametrize(
    ("progress", "sizes"),
    [
        (0.0, [(224, 160), (256, 192)]),
        (0.299, [(224, 160), (256, 192)]),
        (0.3, [(256, 192), (288, 192)]),
        (0.65, [(320, 224)]),
        (0.99, [(320, 224)]),
    ],
)
def test_from_scratch_inputs_grow_over_the_run(progress: float, sizes: list[tuple[int, int]]) -> None:
    assert PP_YOLOE_SEG_SCRATCH.resizes_at((320, 224), progress) == tuple(map(Resize, sizes))


def test_the_smallest_input_does_not_shrink_to_nothing() -> None:
    assert PP_YOLOE_SEG_SCRATCH.resizes_at((32, 32), 0.0) == (Resize((32, 32)), Resize((32, 32)))
    tiny = replace(PP_YOLOE_SEG_SCRATCH, growth=(SmallerInputs(until=1.0, factors=(0.1,)),))
    assert tiny.resizes_at((64, 96), 0.5) == (Resize((32, 32)),)


@pytest.mark.parametrize("recipe", [PP_YOLOE_SEG, MASK_RT_DETR, MASK_RT_DETR_SCRATCH])
def test_other_recipes_have_no_smaller_inputs_and_no_mosaic(recipe: Recipe) -> None:
    assert recipe.resizes_at((320, 224), 0.0) == recipe.resizes((320, 224))
    assert recipe.mosaic_prob == 0


@pytest.mark.parametrize("recipes", KEEP_ASPECT_RATIO.values(), ids=KEEP_ASPECT_RATIO)
def test_with_kept_aspect_ratio_all_sizes_scale_with_the_input_size(
    recipes: tuple[Recipe, Recipe],
) -> None:
    for recipe in recipes:
        size = recipe.input_size(400)
        assert size == (400, 667)
        spec = recipe.preprocess(size)
        assert (spec.size_hw, spec.keep_ratio) == ((400, 667), True)
        (resize,) = recipe.resizes(size)
        sizes = resize.sizes_hw if isinstance(resize, RandomResize) else (resize.size_hw,)
        assert resize.keep_ratio and resize.interpolation == spec.interpolation
        assert {long for _, long in sizes} == {667}
        assert sorted(short for short, _ in sizes) in ([320, 336, 352, 368, 384, 400], [400])


@pytest.mark.parametrize("recipes", KEEP_ASPECT_RATIO.values(), ids=KEEP_ASPECT_RATIO)
def test_training_from_scratch_has_the_input_size_and_preprocessing_of_evaluation(
    recipes: tuple[Recipe, Recipe],
) -> None:
    official, scratch = recipes
    assert scratch.image_size == official.image_size
    assert scratch.preprocess((64, 107)) == official.preprocess((64, 107))
    assert scratch.policies == (RandomDistort(), RandomFlip())
    assert len(scratch.resizes((64, 107))) == 1


def drawn_shapes(policy: Policy, image_hw: tuple[int, int], num: int = 60) -> set[tuple[int, int]]:
    sample = Sample.from_source(np.zeros((*image_hw, 3), np.uint8), [], [])
    rng = np.random.default_rng(0)
    return {policy(sample, rng).size_hw for _ in range(num)}


@pytest.mark.parametrize(
    ("image_hw", "shapes"),
    [
        pytest.param((480, 640), {(s, round(s * 4 / 3)) for s in (64, 67, 70, 74, 77, 80)}, id="short side"),
        pytest.param((100, 400), {(33, 133)}, id="a panorama: long side"),
    ],
)
def test_one_number_limits_the_short_side(image_hw: tuple[int, int], shapes: set[tuple[int, int]]) -> None:
    size = MASK_RCNN.input_size(80)
    (resize,) = MASK_RCNN.resizes(size)
    assert drawn_shapes(resize, image_hw) == shapes
    assert fitted_size(image_hw, size, keep_ratio=True) == max(shapes)


@pytest.mark.parametrize(
    ("recipe", "wanted", "size"),
    [
        (PP_YOLOE_SEG, None, (640, 640)),
        (PP_YOLOE_SEG, 320, (320, 320)),
        (MASK_RT_DETR, (480, 640), (480, 640)),
        (MASK_RCNN, None, (800, 1333)),
        (MASK_RCNN, 800, (800, 1333)),
        (MASK_RCNN, 600, (600, 1000)),
        (SOLOV2, 640, (640, 1066)),
        (MASK_RCNN, (600, 1000), (600, 1000)),
        (MASK_RCNN, (1000, 600), (600, 1000)),
        (MASK_RCNN, (640, 640), (640, 640)),
    ],
    ids=lambda value: "" if isinstance(value, Recipe) else str(value),
)
def test_input_size_of_a_run(
    recipe: Recipe, wanted: int | tuple[int, int] | None, size: tuple[int, int]
) -> None:
    assert recipe.input_size(wanted) == size


@pytest.mark.parametrize("wanted", [100, (640, 650), (1333, 800)], ids=str)
def test_models_that_stretch_images_need_multiples_of_32(wanted: int | tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=rf"image_size: found {re.escape(str(wanted))}.*multiples of 32"):
        PP_YOLOE_SEG.input_size(wanted)


@pytest.mark.parametrize(
    ("image_size", "smallest", "largest"),
    [
        pytest.param((640, 640), (480, 480), (800, 800), id="the model's own"),
        pytest.param((320, 960), (256, 736), (416, 1216), id="not square"),  # 240, 720 and 400, 1200
        pytest.param((32, 32), (32, 32), (32, 32), id="the smallest"),
    ],
)
def test_multi_scale_sizes_range_around_the_input_size(
    image_size: tuple[int, int], smallest: tuple[int, int], largest: tuple[int, int]
) -> None:
    sizes = {resize.size_hw for resize in MASK_RT_DETR.resizes(image_size)}
    assert min(sizes) == smallest and max(sizes) == largest
    assert image_size in sizes
    assert all(side >= 32 and side % 32 == 0 for size in sizes for side in size)


def test_sizes_between_two_multiples_of_the_stride_are_rounded_up() -> None:
    """1600 * 736 / 640 is exactly 57.5 strides, but slightly less in floating point."""
    assert (1856, 1856) in {resize.size_hw for resize in MASK_RT_DETR.resizes((1600, 1600))}
