import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from paddlex_seg.data.preprocess import preprocess
from paddlex_seg.data.samples.epochs import Draw
from paddlex_seg.data.samples.mixing import Mixing
from paddlex_seg.data.samples.tasks import BadImage, TrainingSet, evaluation_tasks
from paddlex_seg.data.samples.transforms import (
    RandomCrop,
    RandomDistort,
    RandomExpand,
    RandomFlip,
    RandomResize,
    Resize,
)
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord, PreprocessSpec

SPEC = PreprocessSpec(size_hw=(32, 48))
POLICIES = (RandomDistort(), RandomCrop(), RandomFlip())


def square(x, y, side):
    return [float(v) for v in (x, y, x + side, y, x + side, y + side, x, y + side)]


def one_object(segmentation, category_id=7, **kwargs):
    return Annotation(id=1, image_id=5, category_id=category_id, segmentation=segmentation, **kwargs)


def build_coco(folder, annotations=(), num_images=1, size_hw=(40, 60)):
    """Images with ids 5, 6, ... on disk, and their annotation file. The category ids are 9, 7, 3."""
    rng = np.random.default_rng(0)
    records = []
    for index in range(num_images):
        name = f"{index}.png"
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8))
        records.append(ImageRecord(id=5 + index, file_name=name, width=size_hw[1], height=size_hw[0]))
    categories = (Category(9, "nine"), Category(7, "seven"), Category(3, "three"))
    return CocoFile(folder / "train.json", tuple(records), tuple(annotations), categories)


def training_set(coco, folder, policies=(), seed=0, **kwargs):
    return TrainingSet(coco, image_dir=folder, policies=policies, resizes=(), spec=SPEC, seed=seed, **kwargs)


def sample_of(dataset, epoch=0, index=0, size_hw=(40, 60), **kwargs):
    return dataset.task(epoch, Draw(index), Resize(size_hw), **kwargs)()


def test_class_index_is_the_position_of_the_category(tmp_path):
    coco = build_coco(tmp_path, [one_object([square(5, 5, 10)], category) for category in (3, 9, 7)])
    assert sample_of(training_set(coco, tmp_path)).class_ids.tolist() == [2, 0, 1]


def test_crowds_are_skipped_and_images_without_objects_are_kept(tmp_path):
    crowd = one_object({"size": [40, 60], "counts": [0, 2400]}, iscrowd=True)
    dataset = training_set(build_coco(tmp_path, [crowd], num_images=2), tmp_path, POLICIES)
    assert len(dataset) == 2
    for index in range(2):
        sample = sample_of(dataset, index=index, size_hw=(32, 48))
        assert sample.image.shape == (32, 48, 3)
        assert sample.masks.shape == (0, 32, 48) and sample.masks.dtype == np.uint8
        assert sample.boxes_xyxy.shape == (0, 4) and sample.boxes_xyxy.dtype == np.float32
        assert sample.class_ids.shape == (0,) and sample.class_ids.dtype == np.int64


def ring():
    mask = np.zeros((40, 60), np.uint8)
    mask[5:35, 10:50] = 1
    mask[15:25, 20:40] = 0
    return mask


def compressed_rle(mask):
    counts = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    return {"size": list(mask.shape), "counts": counts}


def uncompressed_rle(mask):
    column_wise = mask.T.ravel()
    edges = np.flatnonzero(np.diff(column_wise, prepend=0, append=1 - column_wise[-1]))
    return {"size": list(mask.shape), "counts": np.diff(edges, prepend=0).tolist()}


@pytest.mark.parametrize("encode", [compressed_rle, uncompressed_rle])
def test_both_kinds_of_rle_keep_their_holes(tmp_path, encode):
    sample = sample_of(training_set(build_coco(tmp_path, [one_object(encode(ring()))]), tmp_path))
    np.testing.assert_array_equal(sample.masks[0], ring())
    assert sample.boxes_xyxy.tolist() == [[10, 5, 50, 35]]


def test_several_polygons_of_an_object_make_one_mask(tmp_path):
    parts = [square(2, 3, 10), square(30, 20, 10)]
    sample = sample_of(training_set(build_coco(tmp_path, [one_object(parts)]), tmp_path))
    assert sample.masks.sum() == 200
    assert sample.boxes_xyxy.tolist() == [[2, 3, 40, 30]]


def test_the_box_comes_from_the_polygon_not_from_the_file(tmp_path):
    wrong_box = one_object([square(10, 10, 20)], bbox_xywh=(0.0, 0.0, 60.0, 40.0))
    sample = sample_of(training_set(build_coco(tmp_path, [wrong_box]), tmp_path))
    assert sample.boxes_xyxy.tolist() == [[10, 10, 30, 30]]


def test_sizes_are_reported(tmp_path):
    sample = sample_of(training_set(build_coco(tmp_path), tmp_path), size_hw=(32, 48))
    assert sample.im_shape.tolist() == [32, 48]
    np.testing.assert_allclose(sample.scale_factor, [0.8, 0.8])
    assert sample.image_id == 5


def test_a_sample_depends_on_seed_epoch_and_index_only(tmp_path):
    coco = build_coco(tmp_path, [one_object([square(10, 10, 20)])], num_images=2)
    first = training_set(coco, tmp_path, POLICIES, seed=1)
    second = training_set(coco, tmp_path, POLICIES, seed=1)
    sample_of(second, 0, 1), sample_of(second, 3, 0)  # samples made before do not matter
    for a, b in zip(sample_of(first, 2), sample_of(second, 2), strict=True):
        np.testing.assert_array_equal(a, b)
    other_seed = training_set(coco, tmp_path, POLICIES, seed=2)
    for other in (sample_of(first, 1), sample_of(other_seed, 2)):
        assert (other.image != sample_of(first, 2).image).any()


def test_the_input_size_does_not_change_the_augmentation(tmp_path):
    coco = build_coco(tmp_path, [one_object([square(10, 10, 20)])])
    dataset = training_set(coco, tmp_path, (RandomDistort(), RandomExpand(), RandomFlip()))
    for epoch in range(8):
        small, large = (sample_of(dataset, epoch, size_hw=size) for size in ((64, 96), (128, 192)))
        np.testing.assert_allclose(large.boxes_xyxy, small.boxes_xyxy * 2, rtol=1e-6)
        assert np.abs(large.image.mean(axis=(0, 1)) - small.image.mean(axis=(0, 1))).max() < 2


def test_an_unreadable_image_is_named(tmp_path):
    coco = build_coco(tmp_path, num_images=2)
    (tmp_path / "1.png").write_bytes(b"not an image")
    dataset = training_set(coco, tmp_path)
    sample_of(dataset)
    with pytest.raises(DatasetError, match=r"1\.png"):
        sample_of(dataset, index=1)
    with pytest.raises(DatasetError, match=r"1\.png"):
        evaluation_tasks(coco, tmp_path, SPEC)[1]()


def test_an_image_of_another_size_than_recorded_is_named(tmp_path):
    coco = build_coco(tmp_path)
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((41, 60, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"0\.png"):
        sample_of(training_set(coco, tmp_path))


def test_training_needs_an_image():
    empty = CocoFile(Path("train.json"), images=(), annotations=(), categories=(Category(1, "one"),))
    with pytest.raises(DatasetError, match="train.json"):
        training_set(empty, Path())


def test_evaluation_tasks_preprocess_in_file_order(tmp_path):
    coco = build_coco(tmp_path, num_images=3)
    tasks = evaluation_tasks(coco, tmp_path, SPEC)
    assert [task.record.id for task in tasks] == [5, 6, 7]
    image = cv2.imread(str(tmp_path / "1.png"))[:, :, ::-1]
    for a, b in zip(tasks[1](), preprocess(np.ascontiguousarray(image), SPEC), strict=True):
        np.testing.assert_array_equal(a, b)


# --- repeated and mixed images ------------------------------------------------------------------

BOTH = Mixing(mosaic_prob=1.0, copy_paste_prob=1.0)


def five_images(folder):
    """Images of 40 x 60 with one object each, except the last."""
    objects = [Annotation(i, 5 + i, 7, [square(5 * i, 5, 20)]) for i in range(4)]
    return build_coco(folder, objects, num_images=5)


def assert_same(first, second):
    for a, b in zip(first._replace(polygons=()), second._replace(polygons=()), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(first.polygons, second.polygons, strict=True):
        assert (a is None) == (b is None)
        for part, other_part in zip(a or (), b or (), strict=True):
            np.testing.assert_array_equal(part, other_part)


def test_a_repeated_image_gets_different_augmentation(tmp_path):
    dataset = training_set(five_images(tmp_path), tmp_path, POLICIES, weights=np.array([3.0, 1, 1, 1, 0]))
    assert dataset.epoch_length == 6 and len(dataset) == 5
    assert Draw(0, 2) in dataset.draws(0) and Draw(4) not in dataset.draws(0)
    samples = [dataset.task(0, Draw(0, occurrence), Resize((40, 60)))() for occurrence in range(3)]
    assert [sample.file_names for sample in samples] == [("0.png",)] * 3
    for i, j in [(0, 1), (1, 2), (0, 2)]:
        assert (samples[i].image != samples[j].image).any()
    assert_same(samples[1], dataset.task(0, Draw(0, 1), Resize((40, 60)))())


def test_samples_without_mixing_are_the_same_if_mixing_is_enabled(tmp_path):
    coco = five_images(tmp_path)
    plain = training_set(coco, tmp_path, POLICIES)
    for mixing in (Mixing(), Mixing(mosaic_prob=0.5), Mixing(copy_paste_prob=0.5)):
        dataset = training_set(coco, tmp_path, POLICIES, mixing=mixing)
        num_mixed = 0
        for epoch in range(10):
            sample = sample_of(dataset, epoch)
            if len(sample.file_names) == 1:
                assert_same(sample, sample_of(plain, epoch))
            num_mixed += len(sample.file_names) > 1
        assert (num_mixed > 0) == (mixing != Mixing())


def test_a_mixed_sample_depends_on_seed_epoch_and_draw_only(tmp_path):
    coco = five_images(tmp_path)
    first, second = (training_set(coco, tmp_path, POLICIES, seed=1, mixing=BOTH) for _ in range(2))
    sample_of(second, 0, 1), sample_of(second, 3, 0)
    sample = sample_of(first, 2)
    assert len(sample.file_names) == 5 and sample.file_names[0] == "0.png"
    assert_same(sample, pickle.loads(pickle.dumps(second.task(2, Draw(0), Resize((40, 60)))))())
    others = [
        sample_of(first, 1),
        sample_of(training_set(coco, tmp_path, POLICIES, seed=2, mixing=BOTH), 2),
        first.task(2, Draw(0, 1), Resize((40, 60)))(),
    ]
    for other in others:
        assert (other.image != sample.image).any()


def test_mosaic_and_copy_paste_have_separate_random_streams(tmp_path):
    coco = five_images(tmp_path)
    names = [
        sample_of(training_set(coco, tmp_path, mixing=mixing)).file_names
        for mixing in (BOTH, Mixing(mosaic_prob=1.0), Mixing(copy_paste_prob=1.0))
    ]
    assert names[0] == names[1] + names[2][1:]


def test_an_adapted_set_can_change_sizes_and_disable_mixing(tmp_path):
    coco = five_images(tmp_path)
    dataset = training_set(coco, tmp_path, POLICIES, mixing=BOTH)
    plain = training_set(coco, tmp_path, POLICIES)
    smaller = (Resize((4, 6)),)
    assert_same(sample_of(dataset.adapted(smaller, is_mixed=True), 3), sample_of(dataset, 3))
    assert_same(sample_of(dataset.adapted(smaller, is_mixed=False), 3), sample_of(plain, 3))
    assert dataset.adapted(smaller, is_mixed=False).resizes == smaller
    assert dataset.resizes != smaller
    assert len(sample_of(dataset, 3).file_names) == 5


def test_pasted_objects_come_from_images_with_objects(tmp_path):
    dataset = training_set(five_images(tmp_path), tmp_path, mixing=Mixing(copy_paste_prob=1.0))
    drawn = [sample_of(dataset, epoch).file_names[1] for epoch in range(60)]
    assert set(drawn) == {"0.png", "1.png", "2.png", "3.png"}


def test_partners_are_drawn_by_their_weights(tmp_path):
    weights = np.array([1.0, 4.0, 0.0, 0.0, 1.0])
    dataset = training_set(five_images(tmp_path), tmp_path, mixing=Mixing(mosaic_prob=1.0), weights=weights)
    drawn = Counter(
        name
        for epoch in range(200)
        for image in dataset.task(epoch, Draw(0), Resize((8, 8))).mosaic
        for name in [image.record.file_name]
    )
    assert set(drawn) == {"0.png", "1.png", "4.png"}
    assert 350 < drawn["1.png"] < 450


def test_without_any_object_nothing_is_pasted(tmp_path):
    dataset = training_set(build_coco(tmp_path, num_images=2), tmp_path, mixing=BOTH)
    sample = sample_of(dataset)
    assert len(sample.file_names) == 4 and len(sample.masks) == 0


def test_a_single_image_is_mixed_with_itself(tmp_path):
    coco = build_coco(tmp_path, [one_object([square(5, 5, 20)]), one_object(compressed_rle(ring()))])
    sample = sample_of(training_set(coco, tmp_path, POLICIES, mixing=BOTH))
    assert sample.file_names == ("0.png",) * 5
    assert len(sample.masks) == len(sample.boxes_xyxy) == len(sample.class_ids) == len(sample.polygons) > 0


@pytest.mark.parametrize(
    "resize", [Resize((384, 256)), RandomResize(((160, 360), (240, 280)))], ids=["one size", "drawn size"]
)
def test_mixed_images_of_different_sizes_show_objects_where_their_masks_are(tmp_path, resize):
    """Bright objects on dark images."""
    rng = np.random.default_rng(0)
    records, annotations = [], []
    for index, (height, width) in enumerate([(60, 80), (200, 50), (31, 300), (120, 121)]):
        x, y = width // 4, height // 4
        image = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
        image[y : y + height // 2, x : x + width // 2] = 250
        cv2.imwrite(str(tmp_path / f"{index}.png"), image)
        records.append(ImageRecord(index, f"{index}.png", width, height))
        x2, y2 = x + width // 2, y + height // 2
        annotations.append(Annotation(index, index, 1, [[x, y, x2, y, x2, y2, x, y2]]))
    coco = CocoFile(tmp_path / "train.json", tuple(records), tuple(annotations), (Category(1, "one"),))
    dataset = training_set(coco, tmp_path, (RandomFlip(),), mixing=Mixing(0.6, 0.6))
    for index in range(4):
        for epoch in range(4):
            sample = dataset.task(epoch, Draw(index), resize)()
            assert sample.im_shape.tolist() == list(sample.image.shape[:2])
            shown, expected = (sample.image > 170).all(axis=2), sample.masks.any(axis=0)
            assert (shown & expected).sum() >= 0.93 * expected.sum() > 0
            for box, mask in zip(sample.boxes_xyxy, sample.masks, strict=True):
                rows, columns = np.nonzero(mask)
                tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                np.testing.assert_allclose(box, tight, atol=1.01)


# --- bad images ---------------------------------------------------------------------------------


def names_of(dataset, bad, epoch=0):
    return [image.record.file_name for image in dataset.task(epoch, Draw(0), Resize((8, 8)), bad).images]


def test_a_bad_image_is_replaced_by_the_next_good_candidate(tmp_path):
    dataset = training_set(five_images(tmp_path), tmp_path, mixing=BOTH)
    for epoch in range(30):
        usual = names_of(dataset, bad=(), epoch=epoch)
        for bad in ({"0.png"}, {"1.png"}, {"0.png", "3.png"}):
            found = names_of(dataset, bad, epoch)
            assert not bad & set(found)
            for name, before in zip(found, usual, strict=True):
                assert name == before or before in bad
        # The result is the same whether the images become bad one by one or all at once.
        assert names_of(dataset, ("0.png", "1.png", "2.png", "4.png"), epoch) == ["3.png"] * 5


def test_any_image_can_be_a_replacement(tmp_path):
    dataset = training_set(five_images(tmp_path), tmp_path)
    replaced = {name for epoch in range(60) for name in names_of(dataset, {"0.png"}, epoch)}
    assert replaced == {"1.png", "2.png", "3.png", "4.png"}


def test_when_all_images_are_bad_there_is_no_sample(tmp_path):
    dataset = training_set(five_images(tmp_path), tmp_path)
    with pytest.raises(DatasetError, match="none of its images"):
        names_of(dataset, bad=[f"{index}.png" for index in range(5)])


@pytest.mark.parametrize("part", ["base", "mosaic", "pasted"])
def test_the_bad_image_of_a_mixed_sample_is_named(tmp_path, part):
    coco = five_images(tmp_path)
    task = training_set(coco, tmp_path, mixing=BOTH).task(0, Draw(0), Resize((8, 8)))
    broken = replace(coco.annotations[1], segmentation=[])
    if part == "mosaic":
        guilty = replace(task.mosaic[1], annotations=(broken,))
        task = replace(task, mosaic=(task.mosaic[0], guilty, task.mosaic[2]))
    else:
        guilty = replace(getattr(task, part), annotations=(broken,))
        task = replace(task, **{part: guilty})
    with pytest.raises(BadImage, match="ValueError") as caught:
        task()
    assert caught.value.record == guilty.record
    assert guilty.record.file_name in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.record) == (str(caught.value), guilty.record)
