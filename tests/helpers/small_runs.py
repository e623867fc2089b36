"""Data sets, settings and checkpoints for runs that take seconds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from command_line import Outcome, run_cli
from pycocotools import mask as coco_mask
from rule import fill_model

from paddlex_seg.catalog import MODELS, find_model
from paddlex_seg.checkpoints.files import checkpoints, save_checkpoint
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.checkpoints.progress import Progress
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.coco.write import write_coco
from paddlex_seg.data.samples.loader import WorkerPool
from paddlex_seg.evaluation.predict import predict_dataset
from paddlex_seg.models.backbones.csp_resnet import CspResNet
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.models.network_backend import NetworkBackend
from paddlex_seg.models.pp_yoloe_seg.head import PpYoloeSegHead
from paddlex_seg.models.pp_yoloe_seg.model import PpYoloeSeg
from paddlex_seg.models.pp_yoloe_seg.neck import CspPan
from paddlex_seg.structures import Annotation, Category, CocoFile, PreprocessSpec

MODEL = "PP-YOLOE_seg-S"
IMAGE_SIZE = (96, 64)  # height and width differ, so that swapping them is noticed
CATEGORIES = (Category(17, "bolt"), Category(5, "Scheibe ß"))  # ids that are neither dense nor sorted


def train_options(dataset: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a training run that takes seconds: two steps per epoch, from random weights."""
    return {
        "Global__dataset_dir": dataset,
        "Train__pretrain_weight_path": "scratch",
        "Train__image_size": 64,
        "Train__batch_size": 4,
        "Train__epochs_iters": 2,
        "Train__eval_interval": 1,  # the default depends on measured times
        "Train__num_workers": 0,
        "Train__self_check": False,  # its export is slower than everything else
        **changes,
    }


def run_slim(mode: str, output: Path, **options: Any) -> Outcome:
    """`run_cli` with a network of the same structure and 1 % of the weights, so that nothing takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, MODEL, replace(MODELS[MODEL], build=slim_model))
        return run_cli(mode, output, **options)


def slim_model(num_classes: int, *, from_scratch: bool = False) -> PpYoloeSeg:
    """PP-YOLOE_seg with few channels."""
    backbone = CspResNet(widths=(8, 16, 16, 24, 32), depths=(1, 1, 1, 1))
    neck = CspPan(backbone.out_channels, out_channels=(24, 16, 16))
    head = PpYoloeSegHead(neck.out_channels, num_classes, prototype_channels=16)
    return PpYoloeSeg(backbone, neck, head, from_scratch=from_scratch)


def filled_model(num_classes: int = 2) -> InstanceSegmenter:
    """A network with weights that are made by rule: about 40 weak detections in every image."""
    model = find_model(MODEL).build(num_classes=num_classes)
    fill_model(model)
    model.eval()
    return model


def blind_model() -> InstanceSegmenter:
    """Like `filled_model`, but with no detection in any image."""
    model = filled_model()
    for layer in model.yolo_head.pred_cls:
        layer.bias.set_value(layer.bias - 30)
    return model


def save_model(model: InstanceSegmenter, folder: Path, info: ModelInfo | None = None) -> Path:
    """Write a checkpoint of an untrained network; returns its weight file."""
    save_checkpoint(
        folder,
        weights=model.state_dict(),
        raw_weights=None,
        training_state={"none": paddle.zeros([1])},
        progress=Progress(),
        score=None,
        info=info or ModelInfo(MODEL, CATEGORIES, IMAGE_SIZE),
        config_yaml="",
    )
    return folder / f"{folder.name}.pdparams"


def last_checkpoint(output: Path, suffix: str = "pdparams") -> Path:
    """A file of the newest checkpoint of a run."""
    folder = checkpoints(output)[0]
    return folder / f"{folder.name}.{suffix}"


def copy_dataset(dataset: Path, folder: Path) -> Path:
    """A copy whose annotation files may be changed; the images are those of the original."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").symlink_to(dataset / "images")
    for split in ("train", "val"):
        write_coco(read_coco(annotation_file(dataset, split)), annotation_file(folder, split))
    return folder


def change_split(dataset: Path, split: str, **changes: Any) -> None:
    """Replace fields of an annotation file."""
    path = annotation_file(dataset, split)
    write_coco(replace(read_coco(path), **changes), path)


def with_new_categories(coco: CocoFile) -> CocoFile:
    """The same objects, their categories renamed to `CATEGORIES`, in order."""
    new_id = {old.id: new.id for old, new in zip(coco.categories, CATEGORIES, strict=True)}
    annotations = tuple(replace(item, category_id=new_id[item.category_id]) for item in coco.annotations)
    return replace(coco, annotations=annotations, categories=CATEGORIES)


def annotation_file(dataset: Path, split: str) -> Path:
    return dataset / "annotations" / f"instance_{split}.json"


def labelled_by(
    model: InstanceSegmenter, coco: CocoFile, image_dir: Path, preprocess: PreprocessSpec | None = None
) -> CocoFile:
    backend = NetworkBackend(model, preprocess or find_model(MODEL).recipe.preprocess(IMAGE_SIZE))
    with WorkerPool(0) as pool:
        found = predict_dataset(backend, coco, image_dir, batch_size=1, pool=pool, log_interval=10)
    rows = [
        (image_id, class_id, mask)
        for image_id, instances in found.items()
        for class_id, mask in list(zip(instances.class_ids, instances.masks, strict=True))[::3]
        if coco_mask.area(mask) > 0
    ]
    annotations = tuple(
        Annotation(
            id=number,
            image_id=image_id,
            category_id=CATEGORIES[int(class_id)].id,
            segmentation=mask,
            bbox_xywh=tuple(np.asarray(coco_mask.toBbox(mask)).tolist()),
            area=float(coco_mask.area(mask)),
        )
        for number, (image_id, class_id, mask) in enumerate(rows, start=1)
    )
    return replace(coco, annotations=annotations, categories=CATEGORIES)
