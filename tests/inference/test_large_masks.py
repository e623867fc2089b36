"""300 objects in an image of 12 megapixels: memory does not grow with the masks, and pixels are those of
masks that are pasted whole.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paddlex_seg.inference.predictor import Predictor
from paddlex_seg.masks.paste import source_coordinates
from paddlex_seg.masks.rle import rle_to_mask
from paddlex_seg.structures import DetectionArrays, MaskFrame, PreprocessSpec

FRAMES: tuple[MaskFrame, ...] = ("box", "image", "image_uncut", "image_logits")
SIZE_HW, INPUT_HW = (3000, 4000), (640, 640)
NUM_OBJECTS, NUM_CHECKED = 300, 4
MOST_MEGABYTES = 300
# Prints by how much predicting raises the peak memory of the process, in MB, and the number of objects.
SCRIPT = """
    import sys
    import numpy as np
    from test_large_masks import SIZE_HW, made_predictor

    def megabytes(key):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(key)) * 1024 / 1e6

    predictor = made_predictor(sys.argv[1])
    list(predictor.predict(np.zeros((64, 64, 3), np.uint8)))  # what libraries take once
    image = np.zeros((*SIZE_HW, 3), np.uint8)
    image[:] = 1  # its pages are in memory
    before = megabytes("VmRSS")
    (result,) = predictor.predict(image)
    print(round(megabytes("VmHWM") - before), len(result.instances))
"""


class MadeBackend:
    """Finds the same objects in each image: some large, some small, some at the edges."""

    preprocess = PreprocessSpec(size_hw=INPUT_HW)

    def __init__(self, mask_frame: MaskFrame) -> None:
        self.mask_frame = mask_frame
        rng = np.random.default_rng(5)
        side = 28 if mask_frame == "box" else 160
        at = np.linspace(0, 4, side, dtype=np.float32)
        lower = np.minimum(at.astype(int), 3)
        weight = (at - lower)[:, None]
        coarse = rng.random((NUM_OBJECTS, 5, 5), dtype=np.float32)
        rows = coarse[:, lower] * (1 - weight) + coarse[:, lower + 1] * weight
        columns = rows.transpose(0, 2, 1)
        columns = columns[:, lower] * (1 - weight) + columns[:, lower + 1] * weight
        self.masks = np.ascontiguousarray(columns.transpose(0, 2, 1))
        if mask_frame == "image_logits":
            self.masks = 8 * self.masks - 4
        low = rng.uniform(-0.1, 0.8, (NUM_OBJECTS, 1, 2))
        self.corners = np.concatenate([low, low + rng.uniform(0.15, 0.6, low.shape)], axis=1)

    def __call__(self, image, im_shape, scale_factor) -> DetectionArrays:
        height, width = np.round(im_shape[0] / scale_factor[0])
        bbox = np.zeros((NUM_OBJECTS, 6), np.float32)
        bbox[:, 1] = np.linspace(0.9, 0.1, NUM_OBJECTS)
        bbox[:, 2:] = (self.corners * [width, height]).reshape(-1, 4)
        return DetectionArrays(bbox, np.array([NUM_OBJECTS]), self.masks)


def made_predictor(mask_frame: MaskFrame) -> Predictor:
    return Predictor(MadeBackend(mask_frame), labels=("bolt",), thresholds=(0.0,))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of a process from /proc")
@pytest.mark.parametrize("mask_frame", FRAMES)
def test_300_objects_on_12_megapixels_take_little_memory(mask_frame: MaskFrame) -> None:
    code = "\n".join(line[4:] for line in SCRIPT.splitlines())
    path = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}"
    ended = subprocess.run(
        [sys.executable, "-c", f"{path}\n{code}", mask_frame], capture_output=True, text=True, timeout=250
    )
    assert ended.returncode == 0, ended.stderr
    grown, found = map(int, ended.stdout.split())
    assert found == NUM_OBJECTS
    assert grown <= MOST_MEGABYTES


@pytest.mark.parametrize("mask_frame", FRAMES)
def test_pixels_are_those_of_masks_that_are_pasted_whole(mask_frame: MaskFrame) -> None:
    backend = MadeBackend(mask_frame)
    predictor = Predictor(backend, labels=("bolt",), thresholds=(0.0,))
    (result,) = predictor.predict(np.zeros((*SIZE_HW, 3), np.uint8))
    scale = (np.array(INPUT_HW, np.float32)[None], (np.array(INPUT_HW) / SIZE_HW).astype(np.float32)[None])
    boxes = backend(None, *scale).bbox[:, 2:]
    is_large = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) > 0.1 * np.prod(SIZE_HW)
    some_inside = False
    for index in np.flatnonzero(is_large)[:NUM_CHECKED]:
        whole = pasted_whole(backend.masks[index], boxes[index], mask_frame)
        pixels = rle_to_mask(result.instances.masks[index])
        some_inside |= 0.01 < pixels.mean() < 0.99
        # A pixel whose value is the threshold, to the last bit of float32, may be on either side.
        differs = np.abs(whole[pixels != (whole > 0)])
        assert len(differs) <= 1 and np.all(differs < 6e-8)
    assert some_inside


def pasted_whole(mask: np.ndarray, box: np.ndarray, mask_frame: MaskFrame) -> np.ndarray:
    """The values of one mask minus the threshold, resized step by step as a whole: float64 [H, W]."""
    if mask_frame == "box":
        rows, columns = (
            ((np.arange(size) + 0.5 - low) / (high - low) * 28 - 0.5).astype(np.float32)
            for size, low, high in zip(
                SIZE_HW, box.astype(float)[[1, 0]], box.astype(float)[[3, 2]], strict=True
            )
        )
        # Values of at least 0.5 are inside, in float32.
        return resized(mask, rows, columns) - np.nextafter(np.float32(0.5), np.float32(0))
    if mask_frame == "image_logits":
        return resized(mask, *(source_coordinates(160, size) for size in SIZE_HW))
    to_rows, to_columns = (source_coordinates(160, size) for size in INPUT_HW)
    at_input = along_rows(along_rows(mask, to_rows).T, to_columns).T  # here y is first
    if mask_frame == "image":
        scale_yx = (np.array(INPUT_HW) / SIZE_HW).astype(np.float32)
        x1, y1, x2, y2 = box * np.tile(scale_yx[::-1], 2)
        y, x = np.ogrid[: INPUT_HW[0], : INPUT_HW[1]]
        at_input = at_input * ((x >= x1) & (x < x2) & (y >= y1) & (y < y2))
    sides = zip(INPUT_HW, SIZE_HW, strict=True)
    return resized(at_input, *(source_coordinates(side, size) for side, size in sides)) - 0.5


def resized(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Values [h, w] at these coordinates, interpolated linearly along x, then along y.

    The last step does not round, because pasting compares a position in between, too.
    """
    return along_rows(along_rows(values.T, columns).T.astype(np.float64), rows)


def along_rows(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Lines [n, m] at coordinates [k]; outside there are zeros."""
    lower = np.floor(at).astype(np.int64)
    weight = (at.astype(values.dtype) - lower.astype(values.dtype))[:, None]
    padded = np.pad(values, ((1, 1), (0, 0)))
    lower, upper = ((lower + number).clip(0, len(values) + 1) for number in (1, 2))
    return padded[lower] * (1 - weight) + padded[upper] * weight
