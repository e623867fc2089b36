from dataclasses import replace

import cv2
import numpy as np
import pytest

from paddlex_seg.data.preprocess import collate, fitted_size, input_size, normalize, padded_size, preprocess
from paddlex_seg.structures import PreprocessSpec

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SPECS = {
    "detr_yoloe": PreprocessSpec(size_hw=(640, 640)),
    "rcnn": PreprocessSpec(size_hw=(800, 1333), keep_ratio=True, **IMAGENET),
    "solov2": PreprocessSpec(
        size_hw=(800, 1333),
        keep_ratio=True,
        interpolation=cv2.INTER_LINEAR,
        normalize_first=True,
        **IMAGENET,
    ),
}


def reference_image(height, width, seed=42):
    """The image of the recorded reference numbers: a coarse random grid, interpolated, with noise."""
    random = np.random.RandomState(seed)
    grid = random.rand(3, 9, 9)
    y, x = np.linspace(0, 8, height), np.linspace(0, 8, width)
    top, left = np.minimum(y.astype(int), 7), np.minimum(x.astype(int), 7)
    down, right = (y - top)[None, :, None], (x - left)[None, None, :]
    rows = grid[:, top] * (1 - down) + grid[:, top + 1] * down
    smooth = rows[:, :, left] * (1 - right) + rows[:, :, left + 1] * right
    noisy = smooth + 0.05 * (random.rand(3, height, width) - 0.5)
    pixels = np.clip(noisy, 0, 1).astype(np.float32).transpose(1, 2, 0)
    return np.floor(pixels * 255 + 0.5).astype(np.uint8)


@pytest.mark.parametrize("family", SPECS)
@pytest.mark.parametrize("size_hw", [(123, 217), (480, 640), (333, 200), (1200, 900)], ids=str)
def test_preprocess_equals_the_reference(reference_dir, family, size_hw):
    recorded = np.load(reference_dir / "goldens/preprocess.npz")
    key = f"{family}.{size_hw[0]}x{size_hw[1]}"
    image, im_shape, scale_factor = preprocess(reference_image(*size_hw), SPECS[family])
    assert image.dtype == im_shape.dtype == scale_factor.dtype == np.float32
    assert image.shape == tuple(recorded[f"{key}.image.shape"])
    positions = np.linspace(0, image.size - 1, 64).astype(np.int64)
    np.testing.assert_allclose(image.ravel()[positions], recorded[f"{key}.image.samples"], atol=2e-5)
    pixels = image.astype(np.float64)
    stats = [pixels.mean(), pixels.std(), np.abs(pixels).sum(), pixels.min(), pixels.max()]
    np.testing.assert_allclose(stats, recorded[f"{key}.image.stats"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(im_shape, recorded[f"{key}.im_shape"])
    np.testing.assert_array_equal(scale_factor, recorded[f"{key}.scale_factor"])


def test_normalize_first_does_not_round_to_grey_levels():
    steps = np.array([[0, 1, 0, 1]], np.uint8)[:, :, None].repeat(3, axis=2)
    spec = PreprocessSpec(size_hw=(1, 2), interpolation=cv2.INTER_LINEAR, normalize_first=True)
    np.testing.assert_allclose(preprocess(steps, spec).image, 0.5 / 255, rtol=1e-6)


def test_padding_is_zero_after_normalising_and_not_counted_in_im_shape():
    spec = PreprocessSpec(size_hw=(50, 70), pad_stride=32, **IMAGENET)
    image, im_shape, scale_factor = preprocess(np.full((100, 100, 3), 255, np.uint8), spec)
    assert image.shape == (3, 64, 96)
    assert im_shape.tolist() == [50, 70]
    np.testing.assert_allclose(scale_factor, [0.5, 0.7])
    assert (image[:, :50, :70] > 2).all()
    assert not image[:, 50:].any() and not image[:, :, 70:].any()


def test_collate_stacks_inputs_of_one_size_and_refuses_others():
    spec = PreprocessSpec(size_hw=(40, 100), keep_ratio=True, pad_stride=32)
    white = [np.full((*size_hw, 3), 255, np.uint8) for size_hw in [(20, 30), (20, 25), (30, 20)]]
    inputs = [preprocess(one, spec) for one in white]
    image, im_shape, scale_factor = collate(inputs[:2])
    assert image.shape == (2, 3, 64, 64)
    assert image.dtype == im_shape.dtype == scale_factor.dtype == np.float32
    assert im_shape.tolist() == [[40, 60], [40, 50]]
    assert scale_factor.tolist() == [[2, 2], [2, 2]]
    for row, one in zip(image, inputs[:2], strict=True):
        np.testing.assert_array_equal(row, one.image)
    with pytest.raises(ValueError, match="shape"):
        collate([preprocess(one, replace(spec, pad_stride=0)) for one in white])


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("pad_stride", [0, 32])
@pytest.mark.parametrize("size_hw", [(123, 217), (480, 640), (333, 200), (100, 900)], ids=str)
def test_input_size_is_the_size_of_the_input(spec, pad_stride, size_hw):
    spec = replace(spec, pad_stride=pad_stride)
    found = input_size(size_hw, spec)
    assert preprocess(np.zeros((*size_hw, 3), np.uint8), spec).image.shape == (3, *found)


@pytest.mark.parametrize(
    "size_hw, expected",
    [
        pytest.param((480, 640), (800, 1067), id="short side decides"),
        pytest.param((123, 217), (756, 1333), id="long side decides"),
        pytest.param((640, 480), (1067, 800), id="portrait"),
        pytest.param((1, 5000), (1, 1333), id="never less than a pixel"),
    ],
)
def test_fitted_size_keeps_the_ratio(size_hw, expected):
    assert fitted_size(size_hw, (800, 1333), keep_ratio=True) == expected


def test_padded_size_without_stride_is_the_largest():
    assert padded_size([(10, 33), (31, 5)], stride=0) == (31, 33)
    assert padded_size([(10, 33), (32, 5)], stride=32) == (32, 64)


def test_normalize_is_per_channel():
    spec = PreprocessSpec(size_hw=(1, 1), mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0))
    image = np.array([[[51, 255, 0]]], np.uint8)
    out = np.empty((3, 1, 1), np.float32)
    normalize(image, spec, out=out)
    np.testing.assert_allclose(out.ravel(), [0.2, 1.0, -0.5], rtol=1e-6)
