from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from paddlex_seg.ops.masks import (
    boxes_around_masks,
    is_inside,
    original_sizes,
    paste_box_masks,
    paste_image_logits,
    paste_image_masks,
    paste_masks,
    paste_uncut_masks,
)
from paddlex_seg.structures import Detections, MaskFrame

INPUT_HW = (64, 96)
PADDED_FROM = [[64.0, 96.0], [48.0, 80.0], [64.0, 64.0]]
ORIGINAL = [[100.0, 51.0], [30.0, 77.0], [41.0, 41.0]]
# Larger and smaller than the input, mixed, and smaller than the masks.
LOGITS_ORIGINAL = [[180.0, 301.0], [41.0, 53.0], [100.0, 51.0], [9.0, 13.0]]


def blobs(rows_per_image: list[int]) -> list[paddle.Tensor]:
    """Smooth random masks, boxes that cut through them, and image sizes."""
    random = np.random.default_rng(0)
    count = sum(rows_per_image)
    mask = F.interpolate(
        paddle.to_tensor(random.random((1, max(count, 1), 4, 6)).astype(np.float32)), size=(16, 24)
    )
    im_shape = paddle.to_tensor(PADDED_FROM[: len(rows_per_image)])
    scale = im_shape / paddle.to_tensor(ORIGINAL[: len(rows_per_image)])
    boxes = []
    for b, rows in enumerate(rows_per_image):
        for _ in range(rows):
            corner = random.uniform([-5, -5], [40, 25])
            box = np.concatenate([corner, corner + random.uniform(10, 50, 2)])
            scale_y, scale_x = scale[b].tolist()
            boxes.append([0, 0.9, *(box / [scale_x, scale_y, scale_x, scale_y])])
    bbox = paddle.to_tensor(np.array(boxes, np.float32).reshape(-1, 6))
    return [mask[0, :count], bbox, paddle.to_tensor(rows_per_image, dtype="int32"), im_shape, scale]


def paste_step_by_step(mask, box, im_shape, scale) -> np.ndarray:
    height, width = (im_shape / scale).round().astype("int64").tolist()
    padded = [round(INPUT_HW[i] / float(scale[i])) for i in range(2)]
    at_input = F.interpolate(mask[None, None], size=INPUT_HW, mode="bilinear")[0, 0].numpy()
    y, x = np.mgrid[: INPUT_HW[0], : INPUT_HW[1]]
    x1, y1, x2, y2 = box.numpy() * np.tile(scale.numpy()[::-1], 2)
    at_input = at_input * ((x >= x1) & (x < x2) & (y >= y1) & (y < y2))
    pasted = F.interpolate(
        paddle.to_tensor(at_input.astype(np.float32))[None, None], size=padded, mode="bilinear"
    )
    return pasted[0, 0].numpy()[:height, :width] > 0.5


@pytest.mark.parametrize("rows_per_image", [[5], [3, 0, 4], [2, 6]], ids=str)
def test_pasting_equals_resizing_cutting_and_resizing(rows_per_image: list[int]) -> None:
    mask, bbox, bbox_num, im_shape, scale = blobs(rows_per_image)
    pasted = paste_image_masks(mask, bbox, bbox_num, im_shape, scale, INPUT_HW)
    sizes = np.array(ORIGINAL[: len(rows_per_image)], int)
    assert pasted.dtype == paddle.int32
    assert pasted.shape == [sum(rows_per_image), *sizes.max(axis=0)]
    image_of_row = np.repeat(np.arange(len(rows_per_image)), rows_per_image)
    assert pasted.sum() > 100
    for i, b in enumerate(image_of_row):
        height, width = sizes[b]
        expected = paste_step_by_step(mask[i], bbox[i, 2:], im_shape[b], scale[b])
        assert (pasted[i, :height, :width].numpy() != expected).sum() <= 1  # rounding at the threshold
        assert pasted[i].sum() == pasted[i, :height, :width].sum()


def logit_blobs(rows_per_image: list[int]) -> list[paddle.Tensor]:
    """Like ``blobs``, but masks are logits and inputs are not padded."""
    rows = sum(rows_per_image)
    random = np.random.default_rng(1)
    coarse = paddle.to_tensor(random.normal(size=(1, max(rows, 1), 5, 7)).astype(np.float32))
    mask = 5 * F.interpolate(coarse, size=(16, 24), mode="bilinear")[0, :rows]
    # Cropping to these boxes would leave almost empty masks.
    bbox = paddle.to_tensor(np.tile(np.float32([0, 0.9, 2, 2, 5, 5]), (rows, 1)))
    im_shape = paddle.to_tensor([INPUT_HW] * len(rows_per_image), dtype="float32")
    scale = im_shape / paddle.to_tensor(LOGITS_ORIGINAL[: len(rows_per_image)])
    return [mask, bbox, paddle.to_tensor(rows_per_image, dtype="int32"), im_shape, scale]


@pytest.mark.parametrize("rows_per_image", [[5], [3, 0, 4], [0, 6], [2, 1, 3, 5]], ids=str)
def test_pasting_logits_equals_resizing_them_once(rows_per_image: list[int]) -> None:
    mask, _, bbox_num, im_shape, scale = logit_blobs(rows_per_image)
    pasted = paste_image_logits(mask, bbox_num, im_shape, scale)
    sizes = np.array(LOGITS_ORIGINAL[: len(rows_per_image)], int)
    assert pasted.dtype == paddle.int32
    assert pasted.shape == [sum(rows_per_image), *sizes.max(axis=0)]
    for i, b in enumerate(np.repeat(np.arange(len(rows_per_image)), rows_per_image)):
        height, width = sizes[b]
        resized = F.interpolate(mask[i][None, None], size=(height, width), mode="bilinear")
        expected = resized[0, 0].numpy() > 0
        assert 0.05 < expected.mean() < 0.95
        assert (pasted[i, :height, :width].numpy() != expected).sum() <= 1  # rounding at the threshold
        assert pasted[i].sum() == pasted[i, :height, :width].sum()


def test_a_logit_of_0_is_outside() -> None:
    mask, _, bbox_num, im_shape, scale = logit_blobs([1])
    assert paste_image_logits(0 * mask, bbox_num, im_shape, scale).sum() == 0
    assert paste_image_logits(0 * mask + 1e-6, bbox_num, im_shape, scale).all()


def sample_over_box(mask, box, size_hw) -> np.ndarray:
    """As in PaddleDetection: sample the mask, with zeros around it, at the centres of all pixels."""
    x1, y1, x2, y2 = box.numpy()
    y, x = (np.arange(side, dtype=np.float32) + 0.5 for side in size_hw)
    grid = np.stack(np.meshgrid((x - x1) / (x2 - x1) * 2 - 1, (y - y1) / (y2 - y1) * 2 - 1), axis=-1)
    sampled = F.grid_sample(
        mask[None, None], paddle.to_tensor(grid[None]), padding_mode="zeros", align_corners=False
    )
    return sampled[0, 0].numpy() >= 0.5


@pytest.mark.parametrize("rows_per_image", [[5], [3, 0, 4], [0, 6]], ids=str)
def test_pasting_box_masks_equals_grid_sampling(rows_per_image: list[int]) -> None:
    mask, bbox, bbox_num, im_shape, scale = blobs(rows_per_image)
    pasted = paste_box_masks(mask, bbox, bbox_num, im_shape, scale)
    sizes = np.array(ORIGINAL[: len(rows_per_image)], int)
    assert pasted.dtype == paddle.int32
    assert pasted.shape == [sum(rows_per_image), *sizes.max(axis=0)]
    for i, b in enumerate(np.repeat(np.arange(len(rows_per_image)), rows_per_image)):
        height, width = sizes[b]
        expected = sample_over_box(mask[i], bbox[i, 2:], (height, width))
        assert expected.sum() > 10
        assert (pasted[i, :height, :width].numpy() != expected).sum() <= 1  # rounding at the threshold
        assert pasted[i].sum() == pasted[i, :height, :width].sum()


@pytest.mark.parametrize("box", [[5, 5, 5, 20], [5, 9, 30, 9], [20, 5, 10, 20], [0, 0, 0, 0]], ids=str)
def test_a_box_without_area_has_an_empty_mask(box: list[float]) -> None:
    mask, bbox, bbox_num, im_shape, scale = blobs([2])
    bbox[0, 2:] = paddle.to_tensor(box, dtype="float32")
    pasted = paste_box_masks(0 * mask + 1, bbox, bbox_num, im_shape, scale)
    assert pasted[0].sum() == 0
    assert pasted[1].sum() > 10


def test_probability_one_half_is_inside_a_box_mask() -> None:
    _, bbox, bbox_num, im_shape, scale = blobs([1])
    bbox[0, 2:] = paddle.to_tensor([8.0, 4.0, 24.0, 12.0])
    mask = paddle.full([1, 8, 16], 0.5)  # a value for each pixel of the box
    pasted = paste_box_masks(mask, bbox, bbox_num, im_shape, scale)
    assert pasted.sum() == pasted[0, 4:12, 8:24].sum() == 8 * 16
    assert paste_box_masks(mask - 1e-6, bbox, bbox_num, im_shape, scale).sum() == 0


def paste_uncut_step_by_step(mask, im_shape, scale) -> np.ndarray:
    height, width = (im_shape / scale).round().astype("int64").tolist()
    image_h, image_w = im_shape.astype("int64").tolist()
    at_input = F.interpolate(mask[None, None], size=INPUT_HW, mode="bilinear")
    pasted = F.interpolate(at_input[:, :, :image_h, :image_w], size=[height, width], mode="bilinear")
    return pasted[0, 0].numpy() > 0.5


@pytest.mark.parametrize("rows_per_image", [[5], [3, 0, 4], [2, 6]], ids=str)
def test_pasting_uncut_masks_equals_resizing_leaving_out_the_padding_and_resizing(
    rows_per_image: list[int],
) -> None:
    mask, _, bbox_num, im_shape, scale = blobs(rows_per_image)
    pasted = paste_uncut_masks(mask, bbox_num, im_shape, scale, INPUT_HW)
    sizes = np.array(ORIGINAL[: len(rows_per_image)], int)
    assert pasted.dtype == paddle.int32
    assert pasted.shape == [sum(rows_per_image), *sizes.max(axis=0)]
    for i, b in enumerate(np.repeat(np.arange(len(rows_per_image)), rows_per_image)):
        height, width = sizes[b]
        expected = paste_uncut_step_by_step(mask[i], im_shape[b], scale[b])
        assert 0.02 < expected.mean() < 0.98
        assert (pasted[i, :height, :width].numpy() != expected).sum() <= 1  # rounding at the threshold
        assert pasted[i].sum() == pasted[i, :height, :width].sum()


def test_padding_does_not_change_uncut_masks() -> None:
    mask = paddle.zeros([1, 16, 24])
    mask[:, :, 20:] = 1.0  # from pixel 80 on, where the padding of the second image begins
    im_shape = paddle.to_tensor([PADDED_FROM[1]])
    pasted = paste_uncut_masks(mask, paddle.to_tensor([1]), im_shape, im_shape / 400.0, INPUT_HW)
    assert pasted.shape == [1, 400, 400]
    # The last pixel before the padding would be interpolated to 0.375.
    assert pasted.sum() == 0


def test_boxes_end_where_interpolated_masks_cross_the_threshold() -> None:
    mask = np.zeros((1, 5, 16, 24), np.float32)
    mask[0, 0, 4:8, 6:12] = 1.0  # starts half-way between two pixels of the mask
    mask[0, 1] = 1.0
    mask[0, 2, 0, 0] = 0.75
    mask[0, 3, 14:, :] = 1.0  # below the image
    im_shape, scale = paddle.to_tensor([[48.0, 80.0]]), paddle.to_tensor([[0.5, 2.0]])
    boxes = boxes_around_masks(paddle.to_tensor(mask), im_shape, scale, stride=4)[0].numpy()
    edge = (0.5 + 1 / 3) * 4  # 0.75 falls to 0.5 in a third of a pixel
    expected = [[12, 32, 24, 64], [0, 0, 40, 96], [0, 0, edge / 2, edge * 2], [0] * 4, [0] * 4]
    np.testing.assert_allclose(boxes, expected, rtol=1e-5)


def test_boxes_enclose_smooth_pasted_masks() -> None:
    mask, _, bbox_num, im_shape, scale = blobs([6])
    boxes = boxes_around_masks(mask.unsqueeze(0), im_shape, scale, stride=4)[0].numpy()
    for box, pasted in zip(
        boxes, paste_uncut_masks(mask, bbox_num, im_shape, scale, INPUT_HW).numpy(), strict=True
    ):
        y, x = np.nonzero(pasted)
        np.testing.assert_allclose(box, [x.min(), y.min(), x.max() + 1, y.max() + 1], atol=2)


def test_one_half_is_not_inside() -> None:
    values = paddle.to_tensor([0.0, 0.3, 0.5, float(np.nextafter(np.float32(0.5), np.float32(1))), 1.0])
    assert is_inside(values).tolist() == [0, 0, 0, 1, 1]


def test_original_sizes_are_rounded_not_truncated() -> None:
    im_shape = paddle.to_tensor([[640.0, 640.0]])
    scale = im_shape / paddle.to_tensor([[480.0, 600.0]])
    assert int((im_shape / scale)[0, 1]) == 599
    assert original_sizes(im_shape, scale).tolist() == [[480.0, 600.0]]


class Paste(paddle.nn.Layer):
    def __init__(self, mask_frame: MaskFrame) -> None:
        super().__init__()
        self.mask_frame = mask_frame

    def forward(self, image, mask, bbox, bbox_num, im_shape, scale_factor):
        detections = Detections(bbox, bbox_num, mask)
        pasted = paste_masks(
            detections, im_shape, scale_factor, input_hw=image.shape[2:], mask_frame=self.mask_frame
        )
        # A graph with an unused input cannot be saved.
        return pasted, paddle.shape(bbox), paddle.shape(image)


def paste_eagerly(mask_frame: MaskFrame, mask, bbox, bbox_num, im_shape, scale_factor) -> paddle.Tensor:
    if mask_frame == "box":
        return paste_box_masks(mask, bbox, bbox_num, im_shape, scale_factor)
    if mask_frame == "image":
        return paste_image_masks(mask, bbox, bbox_num, im_shape, scale_factor, INPUT_HW)
    if mask_frame == "image_uncut":
        return paste_uncut_masks(mask, bbox_num, im_shape, scale_factor, INPUT_HW)
    return paste_image_logits(mask, bbox_num, im_shape, scale_factor)


INPUTS = ("image", "mask", "bbox", "bbox_num", "im_shape", "scale_factor")


def run_graph(path: str, inputs: list[paddle.Tensor], onednn: bool) -> np.ndarray:
    config = paddle.inference.Config(f"{path}.json", "")
    config.enable_mkldnn() if onednn else config.disable_mkldnn()
    config.disable_glog_info()
    predictor = paddle.inference.create_predictor(config)
    for name, tensor in zip(INPUTS, inputs, strict=True):
        predictor.get_input_handle(name).copy_from_cpu(tensor.numpy())
    predictor.run()
    return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()


@pytest.mark.parametrize("onednn", [False, True], ids=["plain", "oneDNN"])
@pytest.mark.parametrize("size_hw", [(16, 24), (-1, -1)], ids=["fixed sizes", "open sizes"])
@pytest.mark.parametrize(
    ("mask_frame", "make"),
    [("box", blobs), ("image", blobs), ("image_uncut", blobs), ("image_logits", logit_blobs)],
)
def test_pasting_in_an_exported_graph(
    tmp_path: Path, mask_frame: MaskFrame, make, size_hw: tuple[int, int], onednn: bool
) -> None:
    input_hw = INPUT_HW if size_hw == (16, 24) else (-1, -1)
    shapes = ([-1, 3, *input_hw], [-1, *size_hw], [-1, 6], [-1], [-1, 2], [-1, 2])
    spec = [
        paddle.static.InputSpec(shape, "int32" if name == "bbox_num" else "float32", name)
        for name, shape in zip(INPUTS, shapes, strict=True)
    ]
    path = str(tmp_path / "paste")
    paddle.jit.save(paddle.jit.to_static(Paste(mask_frame), input_spec=spec, full_graph=True), path)
    for rows_per_image in ([2], [3, 0, 4], [0], [0, 0]):
        arguments = make(rows_per_image)
        image = paddle.zeros([len(rows_per_image), 3, *INPUT_HW])
        expected = paste_eagerly(mask_frame, *arguments).numpy()
        pasted = run_graph(path, [image, *arguments], onednn)
        assert pasted.shape == expected.shape
        np.testing.assert_array_equal(pasted, expected)
