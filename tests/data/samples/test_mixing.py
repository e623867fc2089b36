"""Mosaic and copy-paste: geometry, exact masks, hidden objects."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from paddlex_seg.data.samples.mixing import Layer, compose, hide, mosaic, objects_to_paste
from paddlex_seg.data.samples.sample import RenderedObjects, Sample
from paddlex_seg.data.samples.transforms import MIN_VISIBLE, LargeScaleJitter, RandomFlip, Resize, apply

GREEN, RED, BLUE, WHITE = (0, 255, 0), (255, 0, 0), (0, 0, 255), (255, 255, 255)
SIZES = st.tuples(st.integers(1, 90), st.integers(1, 90))


def rectangle(x1, y1, x2, y2):
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)


def encoded(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


def planted(size_hw, rng, colour=RED, as_rle=False, num_objects=3):
    """A blue image with rectangles of a colour, each an object; RLEs are frames around a hole."""
    image = np.full((*size_hw, 3), BLUE, np.uint8)
    segments = []
    for _ in range(num_objects):
        y1, x1 = (int(rng.integers(side)) for side in size_hw)
        y2, x2 = int(rng.integers(y1, size_hw[0])) + 1, int(rng.integers(x1, size_hw[1])) + 1
        mask = np.zeros(size_hw, np.uint8)
        mask[y1:y2, x1:x2] = 1
        if as_rle:
            mask[y1 + (y2 - y1) // 3 : y2 - (y2 - y1) // 3, x1 + (x2 - x1) // 3 : x2 - (x2 - x1) // 3] = 0
            mask[y1, x1] = 1
        image[mask.astype(bool)] = colour
        segments.append(encoded(mask) if as_rle else (rectangle(x1, y1, x2, y2),))
    return Sample.from_source(image, segments, rng.integers(5, size=num_objects).tolist())


def layers_of(samples, size_hw, interpolation=cv2.INTER_NEAREST):
    resized = [sample.resize(size_hw, interpolation=interpolation) for sample in samples]
    return [Layer(sample, sample.render_objects()) for sample in resized]


def drawn_directly(sample):
    """Masks [n, H, W] without windows: each object drawn whole into the frame, then cut to what is visible.

    RLEs by the source pixel under the centre of each pixel.
    """
    height, width = sample.size_hw
    xs = (np.arange(width) + 0.5 - sample.shift_xy[0]) / sample.scale_xy[0]
    ys = (np.arange(height) + 0.5 - sample.shift_xy[1]) / sample.scale_xy[1]
    # A pixel whose centre is on an edge belongs to the area on its right or below.
    edges = np.sort(sample.visible_xyxy.reshape(2, 2) * sample.scale_xy + sample.shift_xy, axis=0) - 1e-6
    is_column, is_row = (
        (edges[0, axis] <= np.arange(side) + 0.5) & (np.arange(side) + 0.5 < edges[1, axis])
        for axis, side in enumerate((width, height))
    )
    visible = is_row[:, None] & is_column
    masks = []
    for segment in sample.segments:
        if isinstance(segment, dict):
            source = coco_mask.decode(segment)
            rows = np.clip(np.floor(ys).astype(int), 0, source.shape[0] - 1)
            columns = np.clip(np.floor(xs).astype(int), 0, source.shape[1] - 1)
            whole = source[rows][:, columns]
        else:
            corners = [(part * sample.scale_xy + sample.shift_xy).ravel() for part in segment]
            whole = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(corners, height, width)))
        masks.append(whole & visible)
    return np.array(masks, np.uint8).reshape(-1, height, width)


def of_colour(image, colour):
    """Masks of the mostly red, green and blue pixels. The fill colour is none of these."""
    return np.where(np.array(colour) > 0, image > 127, image < 90).all(axis=2)


# --- large-scale jitter ---------------------------------------------------------------------------


def test_jitter_keeps_the_frame_size_and_the_aspect_ratio():
    image = np.full((120, 200, 3), WHITE, np.uint8)
    heights = []
    for seed in range(60):
        sample = Sample.from_source(image, [], [])
        jittered = LargeScaleJitter(fill=BLUE)(sample, np.random.default_rng(seed))
        assert jittered.size_hw == (120, 200)
        assert jittered.scale_xy[0] == pytest.approx(jittered.scale_xy[1], abs=0.5 / 120 + 0.5 / 200)
        heights.append(jittered.scale_xy[1] * 120)
        white = (jittered.render().image == WHITE).all(axis=2).sum()
        assert white == min(round(heights[-1]), 120) * min(round(jittered.scale_xy[0] * 200), 200)
    assert min(heights) < 30 and max(heights) > 210
    assert min(heights) >= 11.5 and max(heights) <= 240.5


@settings(deadline=None, max_examples=40)
@given(SIZES, st.integers(0, 10**6), st.booleans())
def test_masks_after_jitter_equal_directly_drawn_masks(size_hw, seed, as_rle):
    rng = np.random.default_rng(seed)
    sample = planted(size_hw, rng, as_rle=as_rle)
    jittered = apply([LargeScaleJitter(), RandomFlip(), Resize((48, 64))], sample, rng)
    expected = drawn_directly(jittered)
    rendered = jittered.render()
    np.testing.assert_array_equal(rendered.masks, expected[expected.any(axis=(1, 2))])


def test_jitter_drops_objects_that_are_almost_completely_cut_off():
    image = np.zeros((100, 100, 3), np.uint8)
    sample = Sample.from_source(image, [(rectangle(0, 0, 30, 30),), (rectangle(40, 40, 60, 60),)], [0, 1])
    shares = [
        share
        for seed in range(200)
        for share in LargeScaleJitter(scale=(1.5, 2.0))(sample, np.random.default_rng(seed)).visible_shares
    ]
    assert 200 < len(shares) < 400 and MIN_VISIBLE <= min(shares) < 0.3


# --- mosaic ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.lists(SIZES, min_size=4, max_size=4), SIZES, st.integers(0, 10**6))
def test_masks_of_a_mosaic_equal_directly_drawn_masks(sizes_hw, size_hw, seed):
    rng = np.random.default_rng(seed)
    samples = [planted(size, rng, as_rle=number % 2 == 1) for number, size in enumerate(sizes_hw)]
    samples = [RandomFlip()(sample, rng) for sample in samples]
    placed = mosaic(samples, rng)
    assert len({sample.size_hw for sample in placed}) == 1
    layers = layers_of(placed, size_hw)
    rendered = compose(layers)
    direct = [drawn_directly(layer.sample) for layer in layers]
    kept = [masks.any(axis=(1, 2)) for masks in direct]
    expected = np.concatenate([masks[keep] for masks, keep in zip(direct, kept, strict=True)])
    np.testing.assert_array_equal(rendered.masks, expected)
    classes = [layer.sample.class_ids[keep] for layer, keep in zip(layers, kept, strict=True)]
    np.testing.assert_array_equal(rendered.class_ids, np.concatenate(classes))
    assert len(rendered.boxes_xyxy) == len(rendered.polygons) == len(expected)


@pytest.mark.parametrize("as_rle", [False, True], ids=["polygon", "rle"])
@pytest.mark.parametrize("seed", range(12))
def test_masks_of_a_mosaic_match_its_image(seed, as_rle):
    rng = np.random.default_rng(seed)
    samples = [planted((200, 260 - 30 * i), rng, as_rle=as_rle) for i in range(4)]
    rendered = compose(layers_of(mosaic(samples, rng), (640, 700)))
    shown, expected = of_colour(rendered.image, RED), rendered.masks.any(axis=0)
    # Objects that are almost completely cut off are dropped, but their pixels stay in the image.
    assert (expected & shown).sum() >= 0.98 * expected.sum() > 0
    assert shown.sum() <= 1.1 * expected.sum() + 600


def test_the_images_of_a_mosaic_meet_without_gap_or_overlap():
    white = Sample.from_source(np.full((64, 80, 3), WHITE, np.uint8), [], [])
    for seed in range(40):
        rng = np.random.default_rng(seed)
        samples = [RandomFlip()(white, rng) for _ in range(4)]
        placed = mosaic(samples, rng)
        # At half the size, many seams are at pixel centres, where rounding matters.
        for size_hw in [(side // 2 for side in placed[0].size_hw), (97, 61)]:
            layers = layers_of(placed, tuple(size_hw))
            shares = [(compose([layer]).image == WHITE).all(axis=2) for layer in layers]
            assert (np.sum(shares, axis=0) <= 1).all()
            together = (compose(layers).image == WHITE).all(axis=2)
            np.testing.assert_array_equal(together, np.any(shares, axis=0))
            assert together.sum() == together.any(axis=1).sum() * together.any(axis=0).sum()  # a rectangle


def test_a_mosaic_has_one_image_in_each_corner_and_is_up_to_twice_as_large():
    colours = [RED, GREEN, BLUE, WHITE]
    sides = []
    for seed in range(30):
        samples = [Sample.from_source(np.full((60, 80, 3), c, np.uint8), [], []) for c in colours]
        placed = mosaic(samples, np.random.default_rng(seed))
        height, width = placed[0].size_hw
        sides.append(height / 60)
        assert width / height == pytest.approx(4 / 3, rel=0.02)
        image = compose([Layer(sample, sample.render_objects()) for sample in placed]).image
        centres = []
        for colour in colours:
            rows, columns = np.nonzero((image == colour).all(axis=2))
            centres.append((rows.mean(), columns.mean()))
        (top_left, top_right, bottom_left, bottom_right) = centres
        assert top_left[0] < bottom_left[0] and top_right[0] < bottom_right[0]
        assert top_left[1] < top_right[1] and bottom_left[1] < bottom_right[1]
    assert 0.98 < min(sides) < 1.2 and 1.8 < max(sides) < 2.02


def test_a_mosaic_drops_objects_that_are_almost_completely_cut_off():
    stripes = [(rectangle(0, y, 100, y + 10),) for y in range(0, 100, 10)]
    sample = Sample.from_source(np.zeros((100, 100, 3), np.uint8), stripes, range(10))
    shares = []
    for seed in range(20):
        for part in mosaic([sample] * 4, np.random.default_rng(seed)):
            shares += part.visible_shares.tolist()
            assert len(part.render_objects().class_ids) == len(part.class_ids)
    assert MIN_VISIBLE <= min(shares) < 0.3


# --- copy-paste -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(SIZES, SIZES, SIZES, st.integers(0, 10**6))
def test_pasted_masks_are_exact_and_removed_from_the_masks_below(base_hw, partner_hw, size_hw, seed):
    rng = np.random.default_rng(seed)
    base = planted(base_hw, rng, as_rle=seed % 3 == 0)
    partner = RandomFlip()(planted(partner_hw, rng, as_rle=seed % 2 == 0), rng)
    below, above = layers_of([base, objects_to_paste(partner, base_hw, rng)], size_hw)
    before, pasted = drawn_directly(below.sample), drawn_directly(above.sample)
    rendered = compose([below], above)
    pasted = pasted[pasted.any(axis=(1, 2))]
    covered = pasted.any(axis=0)
    before = before[before.any(axis=(1, 2))]
    after = before * ~covered
    areas, left = before.sum(axis=(1, 2)), after.sum(axis=(1, 2))
    expected = after[(left > 0) & (left >= MIN_VISIBLE * areas)]
    np.testing.assert_array_equal(rendered.masks, np.concatenate([expected, pasted]))


@pytest.mark.parametrize("seed", range(12))
def test_masks_of_pasted_objects_match_the_image(seed):
    rng = np.random.default_rng(seed)
    base, partner = planted((240, 320), rng, colour=RED), planted((300, 200), rng, colour=GREEN)
    below, above = layers_of([base, objects_to_paste(partner, base.size_hw, rng)], (480, 640))
    num_pasted = len(above.objects.class_ids)
    rendered = compose([below], above)
    pasted = rendered.masks[len(rendered.masks) - num_pasted :].any(axis=0)
    shown = of_colour(rendered.image, GREEN)
    assert not (shown & ~pasted).any()  # only objects are pasted
    # Overlapping objects of the pasted image have the same colour.
    assert shown.sum() >= 0.98 * pasted.sum()
    rest = rendered.masks[: len(rendered.masks) - num_pasted]
    assert not (rest.any(axis=0) & pasted).any()


def test_a_random_subset_of_the_objects_is_pasted():
    sample = planted((50, 50), np.random.default_rng(0), num_objects=4)
    sample = Sample.from_source(sample.image, [(rectangle(20, 20, 30, 30),)] * 4, range(4))
    subsets = {
        tuple(objects_to_paste(sample, (50, 50), np.random.default_rng(seed)).class_ids.tolist())
        for seed in range(200)
    }
    assert {len(subset) for subset in subsets} == {1, 2, 3, 4}
    assert len(subsets) == 15


def test_nothing_is_pasted_from_an_image_without_objects():
    rng = np.random.default_rng(0)
    base = planted((40, 50), rng)
    empty = Sample.from_source(np.full((40, 50, 3), GREEN, np.uint8), [], [])
    below, above = layers_of([base, objects_to_paste(empty, base.size_hw, rng)], (40, 50))
    for found, expected in zip(compose([below], above), compose([below]), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_objects_are_pasted_onto_an_image_without_any():
    rng = np.random.default_rng(0)
    empty = Sample.from_source(np.full((40, 50, 3), BLUE, np.uint8), [], [])
    below, above = layers_of([empty, objects_to_paste(planted((40, 50), rng), (40, 50), rng)], (40, 50))
    rendered = compose([below], above)
    np.testing.assert_array_equal(rendered.masks, above.objects.masks)
    assert len(rendered.masks) and rendered.masks.any()


def objects_of(*masks):
    """Objects whose boxes and polygons differ from those computed from the masks."""
    return RenderedObjects(
        boxes_xyxy=np.full((len(masks), 4), 0.25, np.float32),
        class_ids=np.arange(len(masks)),
        masks=np.array(masks, np.uint8),
        polygons=tuple((rectangle(0, 0, 1, 1),) for _ in masks),
    )


def box_mask(x1, y1, x2, y2, size_hw=(20, 30)):
    mask = np.zeros(size_hw, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def test_only_partly_hidden_objects_get_a_new_box_and_lose_their_polygons():
    apart, cut, hidden = box_mask(0, 0, 5, 5), box_mask(10, 5, 20, 15), box_mask(16, 8, 18, 9)
    found = hide(objects_of(apart, cut, hidden), box_mask(15, 0, 25, 20))
    assert found.class_ids.tolist() == [0, 1]
    np.testing.assert_array_equal(found.masks, [apart, box_mask(10, 5, 15, 15)])
    assert found.boxes_xyxy.tolist() == [[0.25] * 4, [10, 5, 15, 15]]
    assert found.boxes_xyxy.dtype == np.float32
    assert found.polygons[0] is not None and found.polygons[1] is None


@pytest.mark.parametrize(("num_left", "is_kept"), [(9, False), (10, True), (11, True)])
def test_an_object_is_dropped_when_less_than_a_tenth_is_left(num_left, is_kept):
    mask = box_mask(0, 0, 10, 10)
    covered = mask.copy()
    covered.ravel()[np.flatnonzero(mask)[:num_left]] = False
    assert len(hide(objects_of(mask), covered).class_ids) == is_kept


def test_pasted_objects_with_holes_show_the_image_below():
    frame = box_mask(5, 5, 25, 18)
    frame[8:15, 10:20] = False
    below = Sample.from_source(np.full((20, 30, 3), RED, np.uint8), [(rectangle(8, 6, 22, 17),)], [1])
    above = Sample.from_source(np.full((20, 30, 3), GREEN, np.uint8), [encoded(frame)], [2])
    rendered = compose([Layer(below, below.render_objects())], Layer(above, above.render_objects()))
    np.testing.assert_array_equal(of_colour(rendered.image, GREEN), frame)
    np.testing.assert_array_equal(rendered.masks, [box_mask(10, 8, 20, 15), frame])
