from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from paddlex_seg.data.dataset import TrainingSet, evaluation_tasks
from paddlex_seg.data.preprocess import preprocess
from paddlex_seg.data.transforms import RandomCrop, RandomDistort, RandomExpand, RandomFlip, Resize
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord, PreprocessSpec

SPEC = PreprocessSpec(size_hw=(32, 48))
POLICIES = (RandomDistort(), RandomCrop(), RandomFlip())


def square(x, y, side):
    return [float(v) for v in (x, y, x + side, y, x + side, y + side, x, y + side)]


def one_object(segmentation, category_id=7, **kwargs):
    return Annotation(id=1, image_id=5, category_id=category_id, segmentation=segmentation, **kwargs)


def build_coco(folder, annotations=(), num_images=1, size_hw=(40, 60)):
    """Pictures with ids 5, 6, ... on disk, and the file that lists them; the classes have the ids 9, 7, 3."""
    rng = np.random.default_rng(0)
    records = []
    for index in range(num_images):
        name = f"{index}.png"
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8))
        records.append(ImageRecord(id=5 + index, file_name=name, width=size_hw[1], height=size_hw[0]))
    categories = (Category(9, "nine"), Category(7, "seven"), Category(3, "three"))
    return CocoFile(folder / "train.json", tuple(records), tuple(annotations), categories)


def training_set(coco, folder, policies=(), seed=0):
    return TrainingSet(coco, image_dir=folder, policies=policies, resizes=(), spec=SPEC, seed=seed)


def sample_of(dataset, epoch=0, index=0, size_hw=(40, 60)):
    return dataset.task(epoch, index, Resize(size_hw))()


def test_class_index_is_the_position_of_the_category(tmp_path):
    coco = build_coco(tmp_path, [one_object([square(5, 5, 10)], category) for category in (3, 9, 7)])
    assert sample_of(training_set(coco, tmp_path)).class_ids.tolist() == [2, 0, 1]


def test_crowds_are_left_out_and_pictures_without_objects_stay(tmp_path):
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


def test_parts_of_an_object_are_one_mask(tmp_path):
    parts = [square(2, 3, 10), square(30, 20, 10)]
    sample = sample_of(training_set(build_coco(tmp_path, [one_object(parts)]), tmp_path))
    assert sample.masks.sum() == 200
    assert sample.boxes_xyxy.tolist() == [[2, 3, 40, 30]]


def test_the_box_is_that_of_the_polygon_whatever_the_file_says(tmp_path):
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
    sample_of(second, 0, 1), sample_of(second, 3, 0)  # what was asked before does not matter
    for a, b in zip(sample_of(first, 2), sample_of(second, 2), strict=True):
        np.testing.assert_array_equal(a, b)
    other_seed = training_set(coco, tmp_path, POLICIES, seed=2)
    for other in (sample_of(first, 1), sample_of(other_seed, 2)):
        assert (other.image != sample_of(first, 2).image).any()


def test_a_sample_of_another_size_differs_in_nothing_else(tmp_path):
    coco = build_coco(tmp_path, [one_object([square(10, 10, 20)])])
    dataset = training_set(coco, tmp_path, (RandomDistort(), RandomExpand(), RandomFlip()))
    for epoch in range(8):
        small, large = (sample_of(dataset, epoch, size_hw=size) for size in ((64, 96), (128, 192)))
        np.testing.assert_allclose(large.boxes_xyxy, small.boxes_xyxy * 2, rtol=1e-6)
        assert np.abs(large.image.mean(axis=(0, 1)) - small.image.mean(axis=(0, 1))).max() < 2


def test_an_unreadable_picture_is_named(tmp_path):
    coco = build_coco(tmp_path, num_images=2)
    (tmp_path / "1.png").write_bytes(b"not a picture")
    dataset = training_set(coco, tmp_path)
    sample_of(dataset)
    with pytest.raises(DatasetError, match=r"1\.png"):
        sample_of(dataset, index=1)
    with pytest.raises(DatasetError, match=r"1\.png"):
        evaluation_tasks(coco, tmp_path, SPEC)[1]()


def test_a_picture_of_another_size_than_recorded_is_named(tmp_path):
    coco = build_coco(tmp_path)
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((41, 60, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"0\.png"):
        sample_of(training_set(coco, tmp_path))


def test_training_needs_a_picture():
    empty = CocoFile(Path("train.json"), images=(), annotations=(), categories=(Category(1, "one"),))
    with pytest.raises(DatasetError, match="train.json"):
        training_set(empty, Path())


def test_evaluation_tasks_preprocess_in_file_order(tmp_path):
    coco = build_coco(tmp_path, num_images=3)
    tasks = evaluation_tasks(coco, tmp_path, SPEC)
    assert [task.record.id for task in tasks] == [5, 6, 7]
    picture = cv2.imread(str(tmp_path / "1.png"))[:, :, ::-1]
    for a, b in zip(tasks[1](), preprocess(np.ascontiguousarray(picture), SPEC), strict=True):
        np.testing.assert_array_equal(a, b)
