"""Pasted masks compared with a slow reference: full-size masks in Paddle, encoded by pycocotools."""

import threading
import tracemalloc
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from pycocotools import mask as coco_mask

from paddlex_seg.masks import paste
from paddlex_seg.masks.paste import (
    boxes_of_masks,
    detections_to_instances,
    encode_original_masks,
    paste_box_masks,
    paste_image_logits,
    paste_image_masks,
    paste_uncut_masks,
    source_coordinates,
)
from paddlex_seg.structures import Detections, MaskFrame


def smooth_masks(rng: np.random.Generator, num: int, size_hw: tuple[int, int]) -> np.ndarray:
    coarse = rng.random((num, 7, 9), dtype=np.float32)
    return np.stack([cv2.resize(one, size_hw[::-1]) for one in coarse])


def random_boxes(rng: np.random.Generator, num: int, size_hw: tuple[int, int]) -> np.ndarray:
    """Boxes xyxy: some cross the image edges, one is outside, one has no area."""
    x, y = (np.sort(rng.uniform(-0.15 * side, 1.15 * side, (num, 2)), 1) for side in size_hw[::-1])
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1).astype(np.float32)
    boxes[0] = [-9, -9, 2 * size_hw[1], 2 * size_hw[0]]
    boxes[1] += 3 * max(size_hw)
    boxes[2, 2] = boxes[2, 0]
    return boxes


def paste_in_full(mask, network_boxes, scale_yx, input_hw, original_hw) -> list[np.ndarray]:
    """The steps of the reference, each on full-size masks."""
    enlarged_hw = [int(np.floor(np.float32(n) / s + 0.5)) for n, s in zip(input_hw, scale_yx, strict=True)]
    columns, rows = (
        np.arange(input_hw[1], dtype=np.float32),
        np.arange(input_hw[0], dtype=np.float32)[:, None],
    )
    pasted = []
    for small, (x1, y1, x2, y2) in zip(mask, network_boxes, strict=True):
        network = F.interpolate(paddle.to_tensor(small[None, None]), list(input_hw), mode="bilinear").numpy()
        network = network * ((columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2))
        original = F.interpolate(paddle.to_tensor(network), enlarged_hw, mode="bilinear").numpy()[0, 0]
        full = np.zeros(original_hw, np.uint8)
        cut = original[: original_hw[0], : original_hw[1]] > 0.5
        full[: cut.shape[0], : cut.shape[1]] = cut
        pasted.append(full)
    return pasted


GEOMETRIES = {
    "smaller than the input": ((320, 320), (200, 300)),
    "larger, not square": ((320, 448), (901, 633)),
    "much smaller": ((320, 320), (61, 47)),
    "long and thin": ((320, 320), (20, 900)),
    "same size": ((160, 160), (160, 160)),
}


@pytest.mark.parametrize("padded", [False, True], ids=["stretched", "keep ratio, padded"])
@pytest.mark.parametrize(("input_hw", "original_hw"), GEOMETRIES.values(), ids=GEOMETRIES)
def test_pixels_equal_the_reference_and_bytes_equal_pycocotools(input_hw, original_hw, padded):
    rng = np.random.default_rng(0)
    mask = smooth_masks(rng, 12, (input_hw[0] // 4, input_hw[1] // 4))
    scale_yx = np.divide(input_hw, original_hw).astype(np.float32)
    if padded:
        scale_yx[:] = scale_yx.min() * np.float32(0.93)
    network_boxes = random_boxes(rng, 12, input_hw)
    expected = paste_in_full(mask, network_boxes, scale_yx, input_hw, original_hw)
    boxes = network_boxes / np.tile(scale_yx[::-1], 2)
    pasted = paste_image_masks(mask, boxes, scale_yx=scale_yx, input_hw=input_hw, original_hw=original_hw)
    assert sum(full.sum() for full in expected) > 0.1 * np.prod(original_hw)
    for rle, full in zip(pasted, expected, strict=True):
        wrong = np.count_nonzero(coco_mask.decode(rle) != full)
        assert wrong <= full.size * 1e-5  # a value within rounding of 0.5
        if wrong == 0:
            assert rle == coco_mask.encode(np.asfortranarray(full))
    assert (
        sum(
            rle == coco_mask.encode(np.asfortranarray(full))
            for rle, full in zip(pasted, expected, strict=True)
        )
        >= 11
    )


@pytest.mark.parametrize("padded", [False, True], ids=["stretched", "keep ratio, padded"])
@pytest.mark.parametrize(("input_hw", "original_hw"), GEOMETRIES.values(), ids=GEOMETRIES)
def test_uncut_masks_equal_the_reference_and_bytes_equal_pycocotools(input_hw, original_hw, padded):
    rng = np.random.default_rng(6)
    mask = smooth_masks(rng, 12, (input_hw[0] // 4, input_hw[1] // 4))
    mask[:3] *= rng.random(mask[:3].shape, dtype=np.float32)  # many small spots
    mask[3] = 1.0
    mask[4] = 0.4
    mask[5, :, :-2] = 0  # in the padding, if there is any
    image_hw = np.array(input_hw, np.float32)
    if padded:
        scale = np.divide(input_hw, original_hw).min() * 0.93
        image_hw = np.floor(np.array(original_hw) * scale).clip(1).astype(np.float32)
    pasted = paste_uncut_masks(mask, image_hw=image_hw, input_hw=input_hw, original_hw=original_hw)
    at_input = F.interpolate(paddle.to_tensor(mask[None]), list(input_hw), mode="bilinear")
    image = at_input[:, :, : int(image_hw[0]), : int(image_hw[1])]
    expected = F.interpolate(image, list(original_hw), mode="bilinear").numpy()[0] > 0.5
    assert expected[3].all() and not expected[4].any() and expected[6:].mean(axis=(1, 2)).min() > 0.05
    wrong = [
        np.count_nonzero(coco_mask.decode(rle) != full) for rle, full in zip(pasted, expected, strict=True)
    ]
    assert max(wrong) <= np.prod(original_hw) * 1e-5  # a value within rounding of 0.5
    equal = [
        rle == coco_mask.encode(np.asfortranarray(full.astype(np.uint8)))
        for rle, full in zip(pasted, expected, strict=True)
    ]
    assert sum(equal) >= 11 and equal == [number == 0 for number in wrong]


@pytest.mark.parametrize("mask_frame", ["image", "image_uncut", "image_logits"])
def test_only_the_part_of_a_mask_that_decides_is_resized_and_pixels_stay_the_same(mask_frame):
    rng = np.random.default_rng(8)
    size_hw, threshold = (301, 419), 0.0 if mask_frame == "image_logits" else 0.5
    mask = (threshold - 0.01 * rng.random((6, 40, 40))).astype(np.float32)  # hardly outside
    mask[:, 14:24, 17:25] += rng.random((6, 10, 8), dtype=np.float32)
    whole = mask.copy()
    whole[:, [0, 0, -1, -1], [0, -1, 0, -1]] = 1  # in all corners, so that nothing can be left out
    arguments = batch_arguments([size_hw], [6], mask_frame) | {"input_hw": (160, 160)}
    arguments["bbox"][:, 2:] = [0, 0, *size_hw[::-1]]
    arguments["im_shape"][:] = 160
    arguments["scale_factor"] = (160 / np.array([size_hw])).astype(np.float32)
    (part,) = detections_to_instances(**arguments | {"mask": mask})
    (full,) = detections_to_instances(**arguments | {"mask": whole})
    middle = np.s_[60:-60, 60:-60]
    for one, other in zip(part.masks, full.masks, strict=True):
        pixels = coco_mask.decode(one)
        assert pixels[middle].any() and pixels.sum() == pixels[middle].sum()
        assert np.array_equal(pixels[middle], coco_mask.decode(other)[middle])


@pytest.mark.parametrize("mask_frame", get_args(MaskFrame))
def test_threads_give_the_same_masks_in_the_same_order(mask_frame, monkeypatch):
    arguments = batch_arguments([(90, 120), (30, 40)], [9, 4], mask_frame)
    alone = detections_to_instances(**arguments)
    seen = set()

    def traced(flips, size_hw):
        seen.add(threading.get_ident())
        return flips_to_rle(flips, size_hw)

    flips_to_rle = paste._flips_to_rle
    monkeypatch.setattr(paste, "_flips_to_rle", traced)
    monkeypatch.setattr(paste, "PIXELS_PER_THREAD", 1)
    monkeypatch.setattr(paste, "LIGHT_PIXELS_PER_THREAD", 1)
    monkeypatch.setattr(paste, "num_usable_cores", lambda: 3)
    together = detections_to_instances(**arguments)
    assert threading.get_ident() not in seen and (seen or mask_frame == "original")
    assert [one.masks for one in alone] == [one.masks for one in together]


def test_boxes_of_masks_hold_all_their_pixels():
    masks = np.zeros((3, 20, 30), np.uint8)
    masks[0, 4:9, 7:20] = 1
    masks[1] = 1
    boxes = boxes_of_masks([coco_mask.encode(np.asfortranarray(mask)) for mask in masks])
    assert boxes.tolist() == [[7, 4, 20, 9], [0, 0, 30, 20], [0, 0, 0, 0]]
    assert boxes_of_masks([]).shape == (0, 4)


@pytest.mark.parametrize(("input_hw", "original_hw"), GEOMETRIES.values(), ids=GEOMETRIES)
def test_logits_are_resized_once_and_bytes_equal_pycocotools(input_hw, original_hw):
    rng = np.random.default_rng(5)
    mask = 8 * smooth_masks(rng, 12, (input_hw[0] // 4, input_hw[1] // 4)) - 4
    mask[:3] = rng.normal(size=mask[:3].shape)  # changes sign many times between two pixels of a small image
    pasted = paste_image_logits(mask, original_hw=original_hw)
    resized = F.interpolate(paddle.to_tensor(mask[None]), list(original_hw), mode="bilinear")
    expected = (resized.numpy()[0] > 0).astype(np.uint8)
    assert ((0.1 < expected.mean(axis=(1, 2))) & (expected.mean(axis=(1, 2)) < 0.9)).all()
    wrong = [
        np.count_nonzero(coco_mask.decode(rle) != full) for rle, full in zip(pasted, expected, strict=True)
    ]
    assert max(wrong) <= np.prod(original_hw) * 1e-5  # a value within rounding of 0
    equal = [
        rle == coco_mask.encode(np.asfortranarray(full)) for rle, full in zip(pasted, expected, strict=True)
    ]
    assert sum(equal) >= 11 and equal == [number == 0 for number in wrong]


def test_masks_of_boxes_equal_grid_sampling():
    rng = np.random.default_rng(1)
    size_hw = (150, 260)
    mask = rng.random((10, 28, 28), dtype=np.float32)
    boxes = random_boxes(rng, 10, size_hw)
    pasted = paste_box_masks(mask, boxes, original_hw=size_hw)
    for small, (x1, y1, x2, y2), rle in zip(mask, boxes, pasted, strict=True):
        expected = np.zeros(size_hw, bool)
        if x2 > x1 and y2 > y1:
            x, y = ((np.arange(side, dtype=np.float32) + 0.5) for side in size_hw[::-1])
            grid = np.stack(np.meshgrid((x - x1) / (x2 - x1) * 2 - 1, (y - y1) / (y2 - y1) * 2 - 1), axis=-1)
            sampled = F.grid_sample(
                paddle.to_tensor(small[None, None]), paddle.to_tensor(grid[None]), align_corners=False
            )
            expected = sampled.numpy()[0, 0] >= 0.5
        assert np.count_nonzero(coco_mask.decode(rle) != expected) <= 2


def test_a_mask_that_fills_the_image_has_no_holes_at_the_edges():
    size_hw = (50, 70)
    box = np.array([[0, 0, 70, 50]], np.float32)
    scale_yx = np.array([64 / 50, 64 / 70], np.float32)
    full = coco_mask.encode(np.ones(size_hw, np.uint8, order="F"))
    ones = np.ones((1, 16, 16), np.float32)
    assert paste_image_masks(ones, box, scale_yx=scale_yx, input_hw=(64, 64), original_hw=size_hw) == [full]
    at_the_edge = np.array([[-40, -40, 110, 90]], np.float32)
    assert paste_box_masks(ones, at_the_edge, original_hw=size_hw) == [full]
    assert paste_image_logits(ones * np.float32(1e-6), original_hw=size_hw) == [full]


def test_logits_that_are_not_above_0_give_an_empty_mask():
    empty = coco_mask.encode(np.zeros((50, 70), np.uint8, order="F"))
    mask = np.stack([np.zeros((16, 16), np.float32), np.full((16, 16), -1e-6, np.float32)])
    assert paste_image_logits(mask, original_hw=(50, 70)) == [empty, empty]


def test_coordinates_are_those_of_paddles_kernel_to_the_last_bit():
    for size_in, size_out in [(80, 320), (640, 479), (640, 6000), (608, 801)]:
        ramp = np.arange(size_in, dtype=np.float32)[None, None, None].repeat(2, axis=2)
        resized = F.interpolate(paddle.to_tensor(ramp), [2, size_out], mode="bilinear").numpy()[0, 0, 0]
        assert np.array_equal(source_coordinates(size_in, size_out), resized)


def batch_arguments(
    size_hws: list[tuple[int, int]], counts: list[int], mask_frame: MaskFrame = "image"
) -> dict:
    rng = np.random.default_rng(3)
    num, input_hw = sum(counts), (64, 64)
    bbox = np.zeros((num, 6), np.float32)
    bbox[:, 0], bbox[:, 1] = np.arange(num) % 3, rng.random(num)
    owners = np.repeat(np.arange(len(counts)), counts)
    for row, owner in enumerate(owners):
        bbox[row, 2:] = random_boxes(rng, 4, size_hws[owner])[3]
    mask = smooth_masks(rng, num, (16, 16)) if num else np.zeros((0, 16, 16), np.float32)
    largest = [max(sides) for sides in zip(*size_hws, strict=True)]
    mask_of_frame = dict.fromkeys(get_args(MaskFrame), mask) | {
        "image_logits": mask - 0.5,
        "original": rng.integers(0, 2, (num, *largest)),
    }
    return {
        "bbox": bbox,
        "bbox_num": np.array(counts, np.int32),
        "mask": mask_of_frame[mask_frame],
        "im_shape": np.full((len(counts), 2), 64, np.float32),
        "scale_factor": (64 / np.array(size_hws)).astype(np.float32),
        "input_hw": input_hw,
        "original_sizes": size_hws,
        "mask_frame": mask_frame,
    }


@pytest.mark.parametrize("mask_frame", get_args(MaskFrame))
def test_images_of_a_batch_get_their_own_rows_best_score_first(mask_frame: MaskFrame):
    sizes, counts = [(90, 120), (30, 40), (77, 50)], [4, 0, 3]
    arguments = batch_arguments(sizes, counts, mask_frame)
    together = detections_to_instances(**arguments)
    assert [len(found) for found in together] == counts
    for index, start in enumerate([0, 4, 4]):
        rows = slice(start, start + counts[index])
        alone = detections_to_instances(
            **arguments
            | {
                "bbox": arguments["bbox"][rows],
                "bbox_num": np.array([counts[index]]),
                "mask": arguments["mask"][rows],
                "im_shape": arguments["im_shape"][[index]],
                "scale_factor": arguments["scale_factor"][[index]],
                "original_sizes": [sizes[index]],
            }
        )[0]
        assert alone.size_hw == together[index].size_hw == sizes[index]
        assert alone.masks == together[index].masks
        assert np.array_equal(alone.scores, together[index].scores)
        assert np.all(np.diff(alone.scores) <= 0)
        order = np.argsort(-arguments["bbox"][rows, 1])
        assert np.array_equal(alone.class_ids, arguments["bbox"][rows, 0][order])
        expected = arguments["bbox"][rows, 2:][order]  # not clipped
        if mask_frame == "image_uncut":
            expected = boxes_of_masks(alone.masks)
        assert np.array_equal(alone.boxes_xyxy, expected)


@pytest.mark.parametrize("mask_frame", get_args(MaskFrame))
def test_a_batch_without_detections_gives_empty_instances(mask_frame: MaskFrame):
    found = detections_to_instances(**batch_arguments([(90, 120), (30, 40)], [0, 0], mask_frame))
    assert [len(one) for one in found] == [0, 0]
    assert found[0].boxes_xyxy.shape == (0, 4)


def test_the_mask_frame_decides_how_masks_are_pasted():
    arguments = batch_arguments([(90, 120)], [1])
    mask, boxes = arguments["mask"], arguments["bbox"][:, 2:]
    scale_yx = arguments["scale_factor"][0]
    expected = {
        "box": paste_box_masks(mask, boxes, original_hw=(90, 120)),
        "image": paste_image_masks(mask, boxes, scale_yx=scale_yx, input_hw=(64, 64), original_hw=(90, 120)),
        "image_uncut": paste_uncut_masks(
            mask, image_hw=arguments["im_shape"][0], input_hw=(64, 64), original_hw=(90, 120)
        ),
        "image_logits": paste_image_logits(mask, original_hw=(90, 120)),
    }
    assert len({rle["counts"] for (rle,) in expected.values()}) == 4
    for mask_frame, masks in expected.items():
        (found,) = detections_to_instances(**arguments | {"mask_frame": mask_frame})
        assert found.masks == tuple(masks)


def test_masks_of_the_original_size_are_cut_from_those_of_the_batch():
    arguments = batch_arguments([(90, 120), (30, 140)], [2, 1], "original")
    assert arguments["mask"].shape == (3, 90, 140)
    found = detections_to_instances(**arguments)
    for start, one in zip([0, 2], found, strict=True):
        order = np.argsort(-arguments["bbox"][start : start + len(one), 1])
        height, width = one.size_hw
        for row, rle in zip(start + order, one.masks, strict=True):
            assert np.array_equal(coco_mask.decode(rle), arguments["mask"][row, :height, :width])


def test_a_mask_that_lost_its_last_row_to_rounding_is_empty_there():
    (rle,) = encode_original_masks(np.ones((1, 9, 12), np.int32), original_hw=(10, 12))
    assert coco_mask.decode(rle).sum(axis=1).tolist() == [12] * 9 + [0]


def test_the_size_is_that_of_the_image_not_of_rounded_scales():
    scale_factor = np.array([[640 / 480, 640 / 600]], np.float32)
    assert int(np.float32(640) / scale_factor[0, 1]) == 599
    found = detections_to_instances(
        bbox=np.array([[0, 0.9, 0, 0, 600, 480]], np.float32),
        bbox_num=np.array([1]),
        mask=np.ones((1, 160, 160), np.float32),
        im_shape=np.full((1, 2), 640, np.float32),
        scale_factor=scale_factor,
        input_hw=(640, 640),
        original_sizes=[(480, 600)],
        mask_frame="image",
    )[0]
    assert coco_mask.decode(found.masks[0]).sum() == 480 * 600


def test_memory_does_not_grow_with_the_number_of_large_masks():
    size_hw = (4000, 6000)
    mask = smooth_masks(np.random.default_rng(4), 20, (160, 160))
    boxes = np.tile(np.array([0, 0, 6000, 4000], np.float32), (20, 1))
    scale_yx = (640 / np.array(size_hw)).astype(np.float32)
    tracemalloc.start()
    paste_image_masks(mask, boxes, scale_yx=scale_yx, input_hw=(640, 640), original_hw=size_hw)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 50e6  # one full-size mask alone is 24 MB as bytes, 96 MB as floats


@pytest.mark.parametrize("mask_frame", ["box", "image", "image_uncut", "image_logits"])
def test_the_graphs_pasting_and_ours_give_the_same_pixels(mask_frame: MaskFrame):
    from paddlex_seg.ops.masks import paste_masks

    sizes = [(90, 120), (30, 40), (201, 157), (11, 13)]
    arguments = batch_arguments(sizes, [4, 0, 5, 3], mask_frame)
    found = detections_to_instances(**arguments)
    bbox, bbox_num, mask, im_shape, scale_factor = (
        paddle.to_tensor(arguments[name]) for name in ("bbox", "bbox_num", "mask", "im_shape", "scale_factor")
    )
    pasted = paste_masks(
        Detections(bbox, bbox_num, mask),
        im_shape,
        scale_factor,
        input_hw=arguments["input_hw"],
        mask_frame=mask_frame,
    ).numpy()
    assert 0.01 < pasted.mean() < 0.99
    for start, instances in zip([0, 4, 4, 9], found, strict=True):
        order = np.argsort(-arguments["bbox"][start : start + len(instances), 1])
        height, width = instances.size_hw
        for row, rle in zip(start + order, instances.masks, strict=True):
            assert np.count_nonzero(coco_mask.decode(rle) != pasted[row, :height, :width]) <= 1


def test_masks_equal_the_recorded_masks_of_the_reference(reference_dir: Path):
    import rule

    from paddlex_seg.models.pp_yoloe_seg.model import pp_yoloe_seg_s

    golden = np.load(reference_dir / "goldens" / "PP-YOLOE_seg-S.eval_small.npz")
    size_hw, input_hw = (200, 300), (320, 320)
    model = pp_yoloe_seg_s(num_classes=80)
    rule.fill_model(model)
    model.eval()
    image = rule.drawn_image(int(golden["meta.input_seed"]), *input_hw)[None]
    im_shape = np.array([input_hw], np.float32)
    scale_factor = (im_shape / size_hw).astype(np.float32)
    with paddle.no_grad():
        detections = model(*map(paddle.to_tensor, (image, im_shape, scale_factor)))
    (found,) = detections_to_instances(
        *(tensor.numpy() for tensor in detections),
        im_shape=im_shape,
        scale_factor=scale_factor,
        input_hw=input_hw,
        original_sizes=[size_hw],
        mask_frame=model.mask_frame,
    )
    rows = np.column_stack([found.class_ids, found.scores, found.boxes_xyxy])
    pairs = rule.assert_detections(rows, golden["final0.bbox"])
    rule.assert_masks(np.stack([coco_mask.decode(rle) for rle in found.masks]), golden, pairs)
