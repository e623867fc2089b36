"""Prediction over a data set."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest
from pycocotools import mask as coco_mask
from small_runs import CATEGORIES, annotation_file, filled_model

from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.samples.loader import WorkerPool
from paddlex_seg.evaluation.predict import predict_dataset
from paddlex_seg.inference.backends.paddle import PaddleBackend
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.models.network_backend import NetworkBackend
from paddlex_seg.recipes import MASK_RCNN
from paddlex_seg.structures import CocoFile, Detections, ImageRecord, MaskFrame


class WholeView(InstanceSegmenter):
    """Finds one object per image. Its score and mask depend on all pixels of the input, including padding."""

    mask_frame: MaskFrame = "box"

    def forward(
        self, image: paddle.Tensor, im_shape: paddle.Tensor, scale_factor: paddle.Tensor
    ) -> Detections:
        score = paddle.nn.functional.sigmoid(image.mean([1, 2, 3])).unsqueeze(1)  # [B, 1]
        size = im_shape / scale_factor
        bbox = paddle.concat([0 * score, score, 0 * size, size.flip(-1)], axis=1)
        mask = paddle.nn.functional.adaptive_avg_pool2d(image, 28).mean(1)
        return Detections(bbox, paddle.ones([len(image)], "int32"), paddle.nn.functional.sigmoid(mask))


@pytest.mark.parametrize("pad_stride", [0, 32])
def test_results_of_images_of_many_sizes_do_not_depend_on_batch_size(tmp_path: Path, pad_stride: int) -> None:
    rng = np.random.default_rng(0)
    sizes = [(40, 60), (60, 40), (40, 55), (40, 60), (61, 40), (40, 54), (60, 40)]
    records = tuple(ImageRecord(7 - i, f"{i}.png", width=w, height=h) for i, (h, w) in enumerate(sizes))
    for record in records:
        pixels = rng.integers(0, 256, (record.height, record.width, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / record.file_name), pixels)
    coco = CocoFile(tmp_path / "val.json", images=records, annotations=(), categories=CATEGORIES)
    spec = replace(MASK_RCNN.preprocess((64, 107)), pad_stride=pad_stride)
    backend = NetworkBackend(WholeView(), spec)
    with WorkerPool(0) as pool:
        alone, together = (
            predict_dataset(backend, coco, tmp_path, batch_size=batch_size, pool=pool, log_interval=1)
            for batch_size in (1, 4)
        )
    assert list(alone) == list(together) == [record.id for record in records]
    for one, other in zip(alone.values(), together.values(), strict=True):
        assert one.masks == other.masks
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-6)
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)


@pytest.mark.parametrize("graph", ["network", "inference"])
def test_a_network_in_memory_and_its_exported_graphs_find_the_same(
    exported: Path, dataset: Path, tmp_path: Path, graph: str
) -> None:
    """The official graph, whose masks are full-size, must agree too."""
    folder = tmp_path / "exported"
    shutil.copytree(exported, folder)
    if graph == "inference":
        (folder / "network.json").unlink()
    backend = PaddleBackend(folder)
    assert backend.mask_frame == {"network": "image", "inference": "original"}[graph]
    network = NetworkBackend(filled_model(), backend.preprocess)
    coco = read_coco(annotation_file(dataset, "val"))
    with WorkerPool(0) as pool:
        found, expected = (
            predict_dataset(one, coco, dataset / "images", batch_size=2, pool=pool, log_interval=10)
            for one in (backend, network)
        )
    for image_id, theirs in expected.items():
        ours = found[image_id]
        assert len(ours) == len(theirs) > 5
        assert ours.class_ids.tolist() == theirs.class_ids.tolist()
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
        np.testing.assert_allclose(ours.boxes_xyxy, theirs.boxes_xyxy, atol=1e-3)
        for one, other in zip(ours.masks, theirs.masks, strict=True):
            area = coco_mask.area(other)
            assert coco_mask.area(one) == area == 0 or coco_mask.iou([one], [other], [0])[0, 0] >= 0.99
