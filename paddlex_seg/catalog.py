"""The table of models. This is the only place that lists model names."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from paddlex_seg.errors import ConfigError
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.models.mask_rt_detr.model import (
    mask_rt_detr_h,
    mask_rt_detr_l,
    mask_rt_detr_m,
    mask_rt_detr_s,
    mask_rt_detr_x,
)
from paddlex_seg.models.pp_yoloe_seg.model import pp_yoloe_seg_s
from paddlex_seg.models.rcnn.model import (
    cascade_mask_rcnn_r50_fpn,
    cascade_mask_rcnn_r50_vd_ssld_fpn,
    mask_rcnn_r50,
    mask_rcnn_r50_fpn,
    mask_rcnn_r50_vd_fpn,
    mask_rcnn_r50_vd_ssld_fpn,
    mask_rcnn_r101_fpn,
    mask_rcnn_r101_vd_fpn,
    mask_rcnn_x101_vd_fpn,
)
from paddlex_seg.models.solov2.model import solov2
from paddlex_seg.recipes import (
    CASCADE_MASK_RCNN,
    MASK_RCNN,
    MASK_RCNN_C4,
    MASK_RCNN_C4_SCRATCH,
    MASK_RCNN_RESNEXT,
    MASK_RCNN_SCRATCH,
    MASK_RCNN_SSLD,
    MASK_RT_DETR,
    MASK_RT_DETR_SCRATCH,
    PP_YOLOE_SEG,
    PP_YOLOE_SEG_SCRATCH,
    SOLOV2,
    SOLOV2_SCRATCH,
    ImageSize,
    Recipe,
)

OFFICIAL_WEIGHTS = "https://paddle-model-ecology.bj.bcebos.com/paddlex/official_pretrained_model"


@dataclass(frozen=True)
class ModelSpec:
    """Everything the rest of the toolkit needs to know about a model."""

    name: str
    build: Callable[..., InstanceSegmenter]  # build(num_classes=..., from_scratch=False), with random weights
    recipe: Recipe  # for training from official weights
    scratch_recipe: Recipe  # for training from random weights
    arch: str  # PaddleX's name of the architecture, for inference.yml
    min_subgraph_size: int  # for TensorRT, in inference.yml
    published_mask_ap: float  # of the official weights on COCO val2017 in percent, published by PaddleX

    @property
    def official_weights(self) -> str:
        """URL of the weights trained on COCO with 80 classes."""
        return f"{OFFICIAL_WEIGHTS}/{self.name}_pretrained.pdparams"

    def limit_detections(self, model: InstanceSegmenter, count: int | None, image_size: ImageSize) -> None:
        """Let ``model`` find at most ``count`` objects in an image; None keeps the limit of the model.

        Raises ConfigError if the model cannot find as many with inputs of this size.
        """
        if count is None:
            return
        most = model.most_detections(self.recipe.preprocess(image_size).size_hw)
        if count > most:
            raise ConfigError(
                f"Global.max_detections: found {count}, but {self.name} can find at most {most} objects in "
                f"an image with inputs of {image_size[0]} x {image_size[1]} pixels. Set it to {most} or "
                "less, or cut the images into tiles."
            )
        model.max_detections = count


def _mask_rt_detr(size: str, build: Callable[..., InstanceSegmenter], published_mask_ap: float) -> ModelSpec:
    return ModelSpec(
        f"Mask-RT-DETR-{size}",
        build,
        MASK_RT_DETR,
        MASK_RT_DETR_SCRATCH,
        arch="DETR",
        min_subgraph_size=3,
        published_mask_ap=published_mask_ap,
    )


def _rcnn(
    name: str,
    build: Callable[..., InstanceSegmenter],
    published_mask_ap: float,
    recipe: Recipe = MASK_RCNN,
    scratch_recipe: Recipe = MASK_RCNN_SCRATCH,
) -> ModelSpec:
    return ModelSpec(
        name,
        build,
        recipe,
        scratch_recipe,
        arch="RCNN",
        min_subgraph_size=40,
        published_mask_ap=published_mask_ap,
    )


MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        _mask_rt_detr("S", mask_rt_detr_s, 41.0),
        _mask_rt_detr("M", mask_rt_detr_m, 42.7),
        _mask_rt_detr("L", mask_rt_detr_l, 45.7),
        _mask_rt_detr("X", mask_rt_detr_x, 47.5),
        _mask_rt_detr("H", mask_rt_detr_h, 50.6),
        ModelSpec(
            "PP-YOLOE_seg-S",
            pp_yoloe_seg_s,
            PP_YOLOE_SEG,
            PP_YOLOE_SEG_SCRATCH,
            arch="PPYOLOE",
            min_subgraph_size=3,
            published_mask_ap=32.5,
        ),
        _rcnn("MaskRCNN-ResNet50", mask_rcnn_r50, 32.8, MASK_RCNN_C4, MASK_RCNN_C4_SCRATCH),
        _rcnn("MaskRCNN-ResNet50-FPN", mask_rcnn_r50_fpn, 35.6),
        _rcnn("MaskRCNN-ResNet50-vd-FPN", mask_rcnn_r50_vd_fpn, 36.4),
        _rcnn("MaskRCNN-ResNet50-vd-SSLDv2-FPN", mask_rcnn_r50_vd_ssld_fpn, 38.2, MASK_RCNN_SSLD),
        _rcnn("MaskRCNN-ResNet101-FPN", mask_rcnn_r101_fpn, 36.6),
        _rcnn("MaskRCNN-ResNet101-vd-FPN", mask_rcnn_r101_vd_fpn, 38.1),
        _rcnn("MaskRCNN-ResNeXt101-vd-FPN", mask_rcnn_x101_vd_fpn, 39.5, MASK_RCNN_RESNEXT),
        _rcnn("Cascade-MaskRCNN-ResNet50-FPN", cascade_mask_rcnn_r50_fpn, 36.3, CASCADE_MASK_RCNN),
        _rcnn(
            "Cascade-MaskRCNN-ResNet50-vd-SSLDv2-FPN",
            cascade_mask_rcnn_r50_vd_ssld_fpn,
            39.1,
            CASCADE_MASK_RCNN,
        ),
        ModelSpec(
            "SOLOv2",
            solov2,
            SOLOV2,
            SOLOV2_SCRATCH,
            arch="SOLOv2",
            min_subgraph_size=60,
            published_mask_ap=35.5,
        ),
    )
}


def find_model(name: str) -> ModelSpec:
    """The model with this name. Raises ConfigError with similar names if there is none."""
    if name in MODELS:
        return MODELS[name]
    near = difflib.get_close_matches(name, MODELS, n=2, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ConfigError(f"Global.model: unknown model {name!r}.{hint} Known models: {', '.join(MODELS)}.")
