"""Geometry (``sample``) and augmentations (``transforms``) of training samples."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from pycocotools import mask as coco_mask

from paddlex_seg.data.samples.sample import Sample
from paddlex_seg.data.samples.transforms import (
    RandomCrop,
    RandomDistort,
    RandomExpand,
    RandomFlip,
    RandomResize,
    Resize,
    apply,
    change_brightness,
    change_contrast,
    change_hue,
    change_saturation,
)

GREEN, RED, BLUE = (0, 255, 0), (255, 0, 0), (0, 0, 255)


def rectangle(x1, y1, x2, y2):
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)


def rle(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


def drawn_rectangles(size_hw, boxes, as_rle=False):
    """A blue image with red rectangles, each of them an object."""
    image = np.full((*size_hw, 3), BLUE, np.uint8)
    segments = []
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = RED
        drawn = np.zeros(size_hw, np.uint8)
        drawn[y1:y2, x1:x2] = 1
        segments.append(rle(drawn) if as_rle else (rectangle(x1, y1, x2, y2),))
    return Sample.from_source(image, segments, list(range(len(boxes))))


def red_pixels(image):
    return (image[:, :, 0] > 127) & (image[:, :, 1] < 128)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- geometry -------------------------------------------------------------------------------------


def test_a_sample_without_changes_renders_unchanged():
    image = noise(40, 60)
    rendered = Sample.from_source(image, [(rectangle(10, 5, 30, 25),)], [3]).render()
    np.testing.assert_array_equal(rendered.image, image)
    assert rendered.boxes_xyxy.tolist() == [[10, 5, 30, 25]]
    assert rendered.class_ids.tolist() == [3]
    assert rendered.masks.shape == (1, 40, 60)
    assert rendered.masks.sum() == rendered.masks[0, 5:25, 10:30].sum() == 400


@pytest.mark.parametrize("size_hw", [(320, 320), (90, 250), (37, 41), (160, 100)], ids=str)
@pytest.mark.parametrize("interpolation", [cv2.INTER_LINEAR, cv2.INTER_CUBIC], ids=["linear", "cubic"])
def test_a_pure_resize_equals_opencv(size_hw, interpolation):
    image = cv2.GaussianBlur(noise(120, 160), (0, 0), 1.5)
    rendered = Sample.from_source(image, [], []).resize(size_hw, interpolation=interpolation).render()
    expected = cv2.resize(image, size_hw[::-1], interpolation=interpolation)
    assert np.abs(rendered.image.astype(int) - expected).max() <= 2


def random_geometry(sample, rng, crops=True):
    """A random chain of 2 to 6 operations, then a resize to a size that is easy to check."""
    for _ in range(rng.integers(2, 7)):
        height, width = sample.size_hw
        match rng.integers(4) if crops else rng.choice([0, 1, 3]):
            case 0:
                sample = sample.hflip()
            case 1:
                borders = rng.integers(0, 60, size=4)
                sample = sample.pad(*(int(border) for border in borders), fill=GREEN)
            case 2:
                crop_h, crop_w = int(height * rng.uniform(0.6, 1)), int(width * rng.uniform(0.6, 1))
                x, y = rng.integers(width - crop_w + 1), rng.integers(height - crop_h + 1)
                sample = sample.crop(int(x), int(y), width=crop_w, height=crop_h)
            case 3:
                factors = rng.uniform(0.5, 2, size=2)
                sample = sample.resize((int(height * factors[0]), int(width * factors[1])))
    return sample.resize((700, 900), interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize("as_rle", [False, True], ids=["polygon", "rle"])
@pytest.mark.parametrize("seed", range(25))
def test_masks_match_the_image_after_any_chain_of_operations(as_rle, seed):
    rng = np.random.default_rng(seed)
    sample = drawn_rectangles((300, 400), [(90, 60, 320, 230)], as_rle=as_rle)
    rendered = random_geometry(sample, rng).render()
    shown = red_pixels(rendered.image)
    if not len(rendered.masks):
        assert not shown.any()
        return
    assert iou(rendered.masks[0] > 0, shown) > 0.995
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    seen_box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(rendered.boxes_xyxy[0], seen_box, atol=1.5)


def test_recipe_policies_keep_masks_on_their_objects():
    policies = [RandomExpand(fill=GREEN), RandomCrop(), RandomFlip(), Resize((640, 640), interpolation=1)]
    sample = drawn_rectangles((600, 800), [(60, 80, 360, 430), (420, 100, 760, 520)])
    for seed in range(40):
        rendered = apply(policies, sample, np.random.default_rng(seed)).render()
        assert rendered.image.shape == (640, 640, 3)
        assert rendered.masks.any(axis=(1, 2)).all()
        mask_pixels = rendered.masks.any(axis=0)
        assert (mask_pixels & red_pixels(rendered.image)).sum() > 0.99 * mask_pixels.sum()


def test_crop_drops_objects_outside_the_window():
    sample = drawn_rectangles((100, 100), [(10, 10, 40, 40), (60, 60, 90, 90)])
    cropped = sample.crop(50, 50, width=50, height=50)
    assert cropped.class_ids.tolist() == [1]
    assert cropped.render().boxes_xyxy.tolist() == [[10, 10, 40, 40]]


def test_a_cut_object_gets_the_tight_box_of_its_visible_part():
    """The left half of a triangle that widens to the right is less high than the whole triangle."""
    triangle = np.array([[10, 50], [90, 10], [90, 90]], np.float64)
    sample = Sample.from_source(noise(100, 100), [(triangle,)], [0]).crop(0, 0, width=50, height=100)
    x1, y1, x2, y2 = sample.render().boxes_xyxy[0]
    assert (x1, x2) == pytest.approx((10, 50), abs=1.01)
    assert (y1, y2) == pytest.approx((30, 70), abs=1.01)


def test_an_uncut_object_keeps_the_exact_box_of_its_polygon():
    polygon = np.array([[10.25, 20.5], [33.75, 24.25], [20.5, 40.125]])
    sample = Sample.from_source(noise(50, 50), [(polygon,)], [0]).hflip().resize((100, 150))
    expected = [(50 - 33.75) * 3, 20.5 * 2, (50 - 10.25) * 3, 40.125 * 2]
    np.testing.assert_allclose(sample.render().boxes_xyxy, [expected], rtol=1e-6)


@pytest.mark.parametrize("size", [35, 70, 110, 130, 170, 230, 290, 310])
def test_an_object_that_touches_the_crop_is_not_cut(size):
    """Rounding errors when a crop is mapped back to the source frame must not count as a cut."""
    polygon = np.array([[10, 10], [30, 10.4], [20, 30]], np.float64)
    sample = Sample.from_source(noise(50, 50), [(polygon,)], [0]).resize((size, size)).pad(3, 3, 0, 0)
    start, side = size // 5 + 3, 2 * size // 5
    np.testing.assert_allclose(
        sample.crop(start, start, width=side, height=side).render().boxes_xyxy,
        [[0, 0, side, side]],
        atol=1e-4,
    )


def test_a_pixel_belongs_to_the_image_if_its_centre_is_inside():
    """Scaled by 0.2, borders of 7 and 8 pixels end at 1.4 and 1.6; the centre of pixel 1 is at 1.5."""
    sample = drawn_rectangles((27, 28), [(0, 0, 28, 27)]).pad(left=7, top=8, right=0, bottom=0, fill=GREEN)
    rendered = sample.resize((7, 7)).render()
    expected = np.zeros((7, 7), bool)
    expected[2:, 1:] = True
    np.testing.assert_array_equal(red_pixels(rendered.image), expected)
    np.testing.assert_array_equal(rendered.masks[0], expected)


def test_a_polygon_beyond_the_image_is_cut_at_its_border_even_after_padding():
    sample = Sample.from_source(noise(40, 40), [(rectangle(-20, 10, 20, 60),)], [0])
    rendered = sample.pad(30, 30, 30, 30).render()
    assert rendered.boxes_xyxy.tolist() == [[30, 40, 50, 70]]
    assert rendered.masks[0].sum() == rendered.masks[0, 40:70, 30:50].sum() == 600


def test_padding_after_a_crop_does_not_bring_back_what_was_cropped():
    sample = drawn_rectangles((60, 60), [(0, 0, 60, 60)]).crop(20, 20, width=20, height=20)
    rendered = sample.pad(20, 20, 20, 20, fill=GREEN).render()
    assert red_pixels(rendered.image).sum() == rendered.masks.sum() == 400
    assert (rendered.image[:20] == GREEN).all() and (rendered.image[:, 40:] == GREEN).all()


def test_no_fill_colour_bleeds_into_the_image():
    white = np.full((20, 20, 3), 255, np.uint8)
    rendered = Sample.from_source(white, [], []).pad(10, 10, 10, 10).resize((123, 123)).render()
    assert set(np.unique(rendered.image)) == {0, 255}


def test_a_crop_of_border_only_has_neither_image_nor_objects():
    sample = drawn_rectangles((20, 20), [(0, 0, 20, 20)]).pad(40, 0, 0, 0, fill=GREEN)
    rendered = sample.crop(0, 0, width=30, height=20).render()
    assert (rendered.image == GREEN).all()
    assert rendered.masks.shape == (0, 20, 30)
    assert rendered.boxes_xyxy.shape == (0, 4)


def test_holes_and_separate_parts_are_kept():
    ring = np.zeros((80, 80), np.uint8)
    ring[10:70, 10:70] = 1
    ring[30:50, 30:50] = 0
    parts = (rectangle(5, 5, 20, 20), rectangle(50, 50, 70, 75))
    sample = Sample.from_source(noise(80, 80), [rle(ring), parts], [0, 1])
    masks = sample.resize((160, 160)).hflip().render().masks
    np.testing.assert_array_equal(masks[0], ring.repeat(2, axis=0).repeat(2, axis=1)[:, ::-1])
    assert cv2.connectedComponents(masks[1])[0] == 3  # background and two parts
    assert masks[1].sum() == 4 * (15 * 15 + 20 * 25)


def star(rng, centre_xy, radius):
    """A polygon of 12 corners, no two equally far from the centre."""
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    reach = radius * rng.uniform(0.4, 1, size=12)
    return np.array(centre_xy) + reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def rasterised(polygons, size_hw):
    return coco_mask.decode(
        coco_mask.merge(coco_mask.frPyObjects([part.ravel() for part in polygons], *size_hw))
    )


@pytest.mark.parametrize("crops", [False, True], ids=["whole objects", "with crops"])
@pytest.mark.parametrize("seed", range(15))
def test_polygons_match_the_masks_after_any_chain_of_operations(seed, crops):
    rng = np.random.default_rng(seed)
    segments = [
        (star(rng, (100, 90), 60), star(rng, (330, 200), 50)),  # two parts
        (star(rng, (250, 120), 110),),
    ]
    rendered = random_geometry(Sample.from_source(noise(300, 400), segments, [0, 1]), rng, crops).render()
    assert crops or None not in rendered.polygons
    for mask, polygons, box in zip(rendered.masks, rendered.polygons, rendered.boxes_xyxy, strict=True):
        if polygons is not None:
            np.testing.assert_array_equal(rasterised(polygons, (700, 900)), mask)
            corners = np.concatenate(polygons)
            np.testing.assert_allclose([*corners.min(axis=0), *corners.max(axis=0)], box, rtol=1e-5)


def test_flip_resize_and_pad_move_polygons_exactly():
    triangle = np.array([[10.25, 20.5], [33.75, 24.25], [20.5, 40.125]])
    sample = Sample.from_source(noise(50, 50), [(triangle,)], [0])
    ((moved,),) = sample.hflip().resize((100, 150)).pad(left=5, top=7, right=20, bottom=0).render().polygons
    np.testing.assert_allclose(moved, (triangle * [-1, 1] + [50, 0]) * [3, 2] + [5, 7], rtol=1e-14)


def test_cut_objects_and_rles_have_no_polygons():
    size_hw = (100, 100)
    inside, beyond = (rectangle(40, 40, 60, 60),), (rectangle(70, 45, 120, 55),)
    ring = np.zeros(size_hw, np.uint8)
    ring[45:55, 45:55] = 1
    sample = Sample.from_source(noise(*size_hw), [inside, rle(ring), beyond], [0, 1, 2])
    rendered = sample.render()
    assert [polygons is None for polygons in rendered.polygons] == [False, True, True]
    cropped = sample.crop(50, 0, width=50, height=100).render()
    assert cropped.polygons == (None, None, None)
    assert cropped.masks[0].sum() == 200


def test_an_object_without_visible_pixels_is_dropped():
    sample = drawn_rectangles((400, 400), [(5, 5, 6, 6), (100, 100, 300, 300)]).resize((40, 40))
    rendered = sample.render()
    assert rendered.class_ids.tolist() == [1]
    assert rendered.boxes_xyxy.tolist() == [[10, 10, 30, 30]]
    ((corners,),) = rendered.polygons
    np.testing.assert_allclose(corners, rectangle(10, 10, 30, 30))


def test_geometry_methods_do_not_change_their_sample():
    sample = drawn_rectangles((50, 50), [(10, 10, 40, 40)])
    before = sample.render()
    sample.hflip().pad(3, 4, 5, 6).crop(2, 2, width=20, height=20).resize((11, 12)).render()
    for was, now in zip(before, sample.render(), strict=True):
        np.testing.assert_array_equal(was, now)


# --- policies -------------------------------------------------------------------------------------


def test_expand_stays_within_its_ratio_and_shows_the_whole_image():
    sample = drawn_rectangles((30, 40), [(10, 10, 20, 20)])
    sizes = []
    for seed in range(50):
        expanded = RandomExpand(ratio=4.0, prob=1.0)(sample, np.random.default_rng(seed))
        sizes.append(expanded.size_hw)
        rendered = expanded.render()
        assert (rendered.image == BLUE).all(axis=2).sum() + red_pixels(rendered.image).sum() == 1200
        assert rendered.masks.sum() == 100
    heights, widths = np.array(sizes).T
    assert 30 <= heights.min() < 50 and 100 < heights.max() <= 120
    np.testing.assert_allclose(widths / heights, 4 / 3, rtol=0.05)


def test_crop_keeps_exactly_the_objects_whose_centres_are_inside():
    boxes = [(x, y, x + 60, y + 60) for x in range(0, 400, 80) for y in range(0, 300, 80)]
    sample = drawn_rectangles((300, 400), boxes)
    num_cropped = 0
    for seed in range(60):
        cropped = RandomCrop()(sample, np.random.default_rng(seed))
        assert len(cropped.class_ids) > 0
        num_cropped += cropped.size_hw != sample.size_hw
        window = cropped.visible_xyxy
        centres = sample.boxes_xyxy.reshape(-1, 2, 2).mean(axis=1)
        held = ((window[:2] <= centres) & (centres < window[2:])).all(axis=1)
        np.testing.assert_array_equal(cropped.class_ids, np.flatnonzero(held))
    assert 30 < num_cropped < 60  # one of 7 choices is no crop, and high thresholds are never reached


def test_crop_reaches_its_threshold():
    sample = drawn_rectangles((200, 300), [(100, 50, 220, 150)])
    policy = RandomCrop(thresholds=(0.5,), allow_no_crop=False, num_attempts=500)
    for seed in range(20):
        cropped = policy(sample, np.random.default_rng(seed))
        assert cropped.size_hw != sample.size_hw
        (x1, y1, x2, y2) = cropped.boxes_xyxy[0]
        shared, window = (x2 - x1) * (y2 - y1), cropped.size_hw[0] * cropped.size_hw[1]
        assert shared / (window + 120 * 100 - shared) >= 0.5


def test_crop_windows_keep_within_scaling_and_aspect_ratio():
    sample = drawn_rectangles((1000, 1000), [(0, 0, 1000, 1000)])
    policy = RandomCrop(thresholds=(0.0,), allow_no_crop=False)
    sizes = np.array([policy(sample, np.random.default_rng(seed)).size_hw for seed in range(200)])
    aspect = sizes[:, 1] / sizes[:, 0]
    scale = np.sqrt(sizes.prod(axis=1)) / 1000
    assert 0.49 < aspect.min() < 0.7 and 1.4 < aspect.max() < 2.02
    assert scale.min() > 0.29 and scale.max() <= 1


def test_crop_does_not_crop_images_without_objects():
    sample = Sample.from_source(noise(50, 50), [], [])
    assert RandomCrop(allow_no_crop=False)(sample, np.random.default_rng(0)) is sample


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 7), (3, 2)], ids=str)
def test_the_recipe_works_on_the_smallest_images(size_hw):
    box = rectangle(0, 0, size_hw[1], size_hw[0])
    policies = [RandomDistort(), RandomExpand(), RandomCrop(), RandomFlip(), Resize((32, 32))]
    for seed in range(30):
        sample = Sample.from_source(noise(*size_hw), [(box,)], [0])
        assert apply(policies, sample, np.random.default_rng(seed)).render().image.shape == (32, 32, 3)


def test_flip_has_the_configured_probability():
    sample = drawn_rectangles((10, 10), [(0, 0, 5, 5)])
    rng = np.random.default_rng(0)
    flipped = sum(RandomFlip(prob=0.3)(sample, rng).scale_xy[0] < 0 for _ in range(500))
    assert 110 < flipped < 190


def test_random_resize_draws_every_size():
    sample = drawn_rectangles((300, 400), [(10, 10, 100, 100)])
    policy = RandomResize(sizes_hw=((60, 1333), (90, 1333), (120, 1333)))
    rng = np.random.default_rng(0)
    assert {policy(sample, rng).size_hw for _ in range(40)} == {(60, 80), (90, 120), (120, 160)}


def test_the_same_generator_state_gives_the_same_pixels():
    policies = [RandomDistort(), RandomExpand(), RandomCrop(), RandomFlip(), Resize((64, 64))]
    sample = Sample.from_source(noise(100, 120), [(rectangle(20, 20, 90, 90),)], [0])
    first, again, other = (
        apply(policies, sample, np.random.default_rng(seed)).render().image for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    "change, enhancer",
    [
        pytest.param(change_brightness, ImageEnhance.Brightness, id="brightness"),
        pytest.param(change_contrast, ImageEnhance.Contrast, id="contrast"),
        pytest.param(change_saturation, ImageEnhance.Color, id="saturation"),
    ],
)
@pytest.mark.parametrize("factor", [0.5, 0.9, 1.5])
def test_colour_changes_equal_the_reference(change, enhancer, factor):
    image = noise(50, 50)
    expected = np.asarray(enhancer(Image.fromarray(image)).enhance(factor)).astype(int)
    assert np.abs(change(image, factor) - expected).max() <= 1  # Pillow truncates, this code rounds


@pytest.mark.parametrize("turn", [-18, -3, 0, 18])
def test_hue_shift_equals_the_reference(turn):
    image = cv2.GaussianBlur(noise(50, 50), (0, 0), 1)
    hsv = np.array(Image.fromarray(image).convert("HSV"))
    hsv[:, :, 0] = (hsv[:, :, 0].astype(int) + turn) % 256
    expected = np.asarray(
        Image.merge("HSV", [Image.fromarray(c) for c in hsv.transpose(2, 0, 1)]).convert("RGB")
    )
    difference = np.abs(change_hue(image, turn) - expected.astype(int))
    assert (
        difference.mean() < 2 and difference.max() < 16
    )  # both round hue and saturation to 1/256, but differently


def test_distort_changes_colours_but_not_the_source():
    image = noise(20, 20)
    sample = Sample.from_source(image.copy(), [], [])
    certain = replace(
        RandomDistort(), hue=(5, 5, 1.0), saturation=(0.5, 0.5, 1.0), contrast=(0.5, 0.5, 1.0), count=3
    )
    assert (certain(sample, np.random.default_rng(0)).image != image).any()
    np.testing.assert_array_equal(sample.image, image)
    never = replace(certain, prob=0.0)
    assert never(sample, np.random.default_rng(0)) is sample


INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
def test_sides_longer_than_opencv_warps_are_resized(interpolation: int, upright: bool, mirrored: bool):
    """Brightness rises along the long side, so that each pixel tells where in the image it is from."""
    long, short, small = 70_000, 8, 500
    rise = np.repeat(np.linspace(0, 255, long)[None, :, None], short, axis=0).repeat(3, axis=2)
    image = np.ascontiguousarray(np.rint(rise).astype(np.uint8).swapaxes(0, 1) if upright else np.rint(rise))
    sample = Sample.from_source(image.astype(np.uint8), [], [])
    sample = sample.hflip() if mirrored else sample
    size_hw = (small, short) if upright else (short, small)
    drawn = sample.resize(size_hw, interpolation).render().image
    values = drawn[:, 0, 0] if upright else drawn[0, :, 0]
    expected = (np.arange(small) + 0.5) / small * 255
    expected = expected[::-1] if mirrored and not upright else expected
    assert drawn.shape[:2] == size_hw
    assert np.abs(values - expected).max() <= 1.5


def test_an_image_that_is_warped_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch):
    sample = drawn_rectangles((90, 120), [(10, 20, 60, 70)]).crop(5, 5, width=100, height=80)
    sample = sample.resize((64, 150), cv2.INTER_CUBIC).pad(left=3, top=4, right=5, bottom=6, fill=GREEN)
    whole = sample.render().image
    monkeypatch.setattr("paddlex_seg.data.samples.sample.MOST_WARPED", 40)
    np.testing.assert_allclose(sample.render().image.astype(int), whole.astype(int), atol=1)
