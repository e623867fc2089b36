import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest

from paddlex_seg.data.dataset import TrainingSet, TrainSample
from paddlex_seg.data.loader import (
    WorkerPool,
    epoch_plan,
    evaluation_batches,
    evaluation_plan,
    num_batches,
    resize_plan,
    to_batch,
    train_batches,
)
from paddlex_seg.data.preprocess import preprocess
from paddlex_seg.data.transforms import RandomCrop, RandomDistort, RandomExpand, RandomFlip, Resize
from paddlex_seg.errors import DatasetError, PaddlexSegError
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord, PreprocessSpec

SPEC = PreprocessSpec(size_hw=(32, 45), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
POLICIES = (RandomDistort(), RandomExpand(), RandomCrop(), RandomFlip())
RESIZE = Resize((32, 45))
RESIZES = (RESIZE, Resize((64, 45)), Resize((32, 90), interpolation=cv2.INTER_NEAREST))


@pytest.fixture(scope="module")
def pool():
    """Two workers for all tests that leave them alive: starting them takes a second."""
    with WorkerPool(2) as workers:
        yield workers


@pytest.fixture
def coco(tmp_path):
    """Eleven pictures; every second one has an object."""
    rng = np.random.default_rng(0)
    records, annotations = [], []
    for index in range(11):
        cv2.imwrite(str(tmp_path / f"{index}.png"), rng.integers(0, 256, (40, 50 + index, 3), dtype=np.uint8))
        records.append(ImageRecord(id=100 + index, file_name=f"{index}.png", width=50 + index, height=40))
        if index % 2:
            corners = [10.0, 10.0, 30.0, 12.0, 28.0, 30.0]
            annotations.append(Annotation(index, 100 + index, category_id=1, segmentation=[corners]))
    return CocoFile(tmp_path / "train.json", tuple(records), tuple(annotations), (Category(1, "one"),))


@pytest.fixture
def dataset(coco, tmp_path):
    return training_set(coco, tmp_path)


def training_set(coco, folder, resizes=(RESIZE,), seed=3):
    return TrainingSet(coco, image_dir=folder, policies=POLICIES, resizes=resizes, spec=SPEC, seed=seed)


def numpy_batches(batches):
    """Plain arrays, in a fixed order, of everything in the batches."""
    arrays = []
    for batch in batches:
        arrays += [batch.image, batch.im_shape, batch.scale_factor]
        arrays += [part for target in batch.targets for part in target]
    return [np.asarray(array) for array in arrays]


def wait_until_gone(pids, seconds=10):
    deadline = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "workers are still there"
        time.sleep(0.05)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Tasks run in workers, so they are functions of this module.


def worker_pid(seconds=0.0):
    time.sleep(seconds)
    return os.getpid()


def loaded_modules():
    return set(sys.modules)


def opencv_threads():
    return cv2.getNumThreads()


def fail(message):
    raise DatasetError(message)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("resizes", [(RESIZE,), RESIZES], ids=["one size", "many sizes"])
def test_workers_make_the_same_batches_as_the_main_process(coco, tmp_path, pool, resizes):
    dataset = training_set(coco, tmp_path, resizes)
    with WorkerPool(0) as no_workers:
        alone = numpy_batches(train_batches(dataset, epoch=2, batch_size=4, pool=no_workers))
    together = numpy_batches(train_batches(dataset, epoch=2, batch_size=4, pool=pool))
    assert len(alone) == len(together) == 2 * (3 + 4 * 4)
    for a, b in zip(alone, together, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("resizes", [(RESIZE,), RESIZES], ids=["one size", "many sizes"])
def test_a_batch_holds_the_samples_of_its_plan_in_the_size_drawn_for_it(coco, tmp_path, resizes):
    dataset = training_set(coco, tmp_path, resizes)
    found = set()
    for epoch in range(6):
        plan = epoch_plan(len(dataset), batch_size=4, seed=3, epoch=epoch)
        drawn = resize_plan(resizes, num_batches=len(plan), seed=3, epoch=epoch)
        batches = list(train_batches(dataset, epoch, batch_size=4, pool=WorkerPool(0)))
        assert len(batches) == len(plan) == num_batches(11, 4) == 2
        for batch, indices, resize in zip(batches, plan, drawn, strict=True):
            assert batch.image.shape == [4, 3, *resize.size_hw]
            assert batch.im_shape.numpy().tolist() == [list(resize.size_hw)] * 4  # none is padded
            for row, target, index in zip(batch.image.numpy(), batch.targets, indices, strict=True):
                sample = dataset.task(epoch, index, resize)()
                pixels = (sample.image / 255 - SPEC.mean) / SPEC.std
                np.testing.assert_allclose(row.transpose(1, 2, 0), pixels, atol=1e-5)
                np.testing.assert_array_equal(target.masks.numpy(), sample.masks)
                np.testing.assert_array_equal(target.boxes_xyxy.numpy(), sample.boxes_xyxy)
                assert target.class_ids.numpy().tolist() == sample.class_ids.tolist()
                assert len(target.polygons) == len(sample.class_ids)
                for found_parts, parts in zip(target.polygons, sample.polygons, strict=True):
                    np.testing.assert_array_equal(found_parts, parts)
        found |= set(drawn)
    assert found == set(resizes)


def test_each_rank_trains_on_the_sizes_drawn_for_it(coco, tmp_path):
    dataset = training_set(coco, tmp_path, RESIZES)
    for rank in (0, 1):
        drawn = [
            resize.size_hw
            for epoch in range(8)
            for resize in resize_plan(RESIZES, num_batches=2, seed=3, epoch=epoch, rank=rank)
        ]
        found = [
            tuple(batch.image.shape[2:])
            for epoch in range(8)
            for batch in train_batches(dataset, epoch, 2, WorkerPool(0), rank=rank, world_size=2)
        ]
        assert found == drawn


def test_images_of_different_sizes_are_padded_with_their_masks():
    def white(height, width):
        return TrainSample(
            image=np.full((height, width, 3), 255, np.uint8),
            boxes_xyxy=np.array([[0, 0, width, height]], np.float32),
            class_ids=np.array([0]),
            masks=np.ones((1, height, width), np.uint8),
            polygons=(None,),
            image_id=1,
            im_shape=np.array([height, width], np.float32),
            scale_factor=np.ones(2, np.float32),
        )

    spec = PreprocessSpec(size_hw=(1, 1), mean=(0.5, 0.5, 0.5), pad_stride=16)
    batch = to_batch([white(20, 40), white(30, 10)], spec)
    assert batch.image.shape == [2, 3, 32, 48]
    assert batch.im_shape.numpy().tolist() == [[20, 40], [30, 10]]
    for image, target, (height, width) in zip(
        batch.image.numpy(), batch.targets, [(20, 40), (30, 10)], strict=True
    ):
        inside = np.zeros((32, 48))
        inside[:height, :width] = 1
        np.testing.assert_array_equal(target.masks.numpy()[0], inside)
        np.testing.assert_allclose(image, np.stack([inside * 0.5] * 3))


STRETCHED = PreprocessSpec(size_hw=(32, 64))
PADDED = PreprocessSpec(size_hw=(32, 64), keep_ratio=True, pad_stride=16)  # widths 40 to 48 before padding
FITTED = PreprocessSpec(size_hw=(32, 64), keep_ratio=True)


@pytest.mark.parametrize(
    ("spec", "batch_size", "sizes"),
    [
        pytest.param(STRETCHED, 4, [4, 4, 3], id="one size"),
        pytest.param(PADDED, 4, [4, 4, 3], id="one size after padding"),
        pytest.param(FITTED, 4, [1, 1, 2, 1, 1, 1, 2, 1, 1], id="some of one size"),
        pytest.param(FITTED, 1, [1] * 11, id="one at a time"),
    ],
)
def test_evaluation_never_pads_a_picture_to_the_size_of_another(
    coco, tmp_path, pool, spec, batch_size, sizes
):
    batches = list(evaluation_batches(coco, tmp_path, spec, batch_size=batch_size, pool=pool))
    assert [len(batch.records) for batch in batches] == sizes
    assert [record for batch in batches for record in batch.records] == list(coco.images)
    for batch in batches:
        for record, *row in zip(*batch, strict=True):
            picture = cv2.imread(str(tmp_path / record.file_name))[:, :, ::-1]
            for found, expected in zip(row, preprocess(np.ascontiguousarray(picture), spec), strict=True):
                np.testing.assert_array_equal(found, expected)


def test_evaluation_fills_batches_with_pictures_of_one_size_from_the_whole_file(coco):
    widths = [50, 60, 50, 70, 60, 50, 50]
    records = tuple(replace(coco.images[0], id=i, width=width) for i, width in enumerate(widths))
    plan = evaluation_plan(replace(coco, images=records), FITTED, batch_size=3)
    assert plan == [[0, 2, 5], [6], [1, 4], [3]]


# --- the plan of an epoch -------------------------------------------------------------------------


def test_every_epoch_has_another_order_and_a_resumed_one_the_same():
    first, again, next_epoch, other_seed = (
        epoch_plan(100, 10, seed=seed, epoch=epoch) for seed, epoch in [(0, 1), (0, 1), (0, 2), (1, 1)]
    )
    assert first == again
    assert first != next_epoch and first != other_seed
    assert sorted(sum(first, [])) == list(range(100))


@pytest.mark.parametrize(
    "num_samples, batch_size, world_size, sizes",
    [
        pytest.param(11, 4, 1, [4, 4], id="a rest is dropped"),
        pytest.param(12, 4, 1, [4, 4, 4], id="no rest"),
        pytest.param(3, 4, 1, [3], id="less than a batch still is one"),
        pytest.param(23, 4, 2, [4, 4], id="a rest that does not fill all ranks is dropped"),
        pytest.param(7, 4, 2, [4], id="less than a batch for each rank"),
        pytest.param(1, 4, 3, [1], id="one sample for three ranks"),
    ],
)
def test_all_ranks_get_the_same_number_of_batches(num_samples, batch_size, world_size, sizes):
    ranks = [
        epoch_plan(num_samples, batch_size, seed=0, epoch=0, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for plan in ranks:
        assert [len(batch) for batch in plan] == sizes
        assert len(plan) == num_batches(num_samples, batch_size, world_size)
    drawn = [index for plan in ranks for batch in plan for index in batch]
    assert set(drawn) <= set(range(num_samples))
    assert len(set(drawn)) == min(num_samples, len(drawn))  # nothing twice unless all are drawn


def test_sizes_are_drawn_anew_for_each_seed_epoch_and_rank_and_alike_for_the_same():
    choices = tuple(Resize((side, side)) for side in range(32, 132))
    first = resize_plan(choices, 50, seed=1, epoch=2, rank=3)
    assert resize_plan(choices, 50, seed=1, epoch=2, rank=3) == first
    others = [
        resize_plan(choices, 50, seed=seed, epoch=epoch, rank=rank)
        for seed, epoch, rank in [(0, 2, 3), (1, 0, 3), (1, 2, 0), (1, 3, 2)]
    ]
    assert all(plan != first for plan in others)


def test_sizes_are_drawn_apart_from_what_samples_draw():
    choices = tuple(Resize((side, side)) for side in range(32, 132))
    drawn = resize_plan(choices, 50, seed=1, epoch=2, rank=3)
    of_sample = np.random.default_rng((1, 2, 3)).integers(len(choices), size=50)
    assert drawn != [choices[choice] for choice in of_sample]


def test_every_size_is_drawn_as_often_as_it_is_listed():
    often, seldom = Resize((64, 64)), Resize((32, 32))
    drawn = resize_plan((often, often, often, seldom), num_batches=2000, seed=0, epoch=0)
    assert drawn.count(often) + drawn.count(seldom) == 2000
    assert 1400 < drawn.count(often) < 1600


# --- workers --------------------------------------------------------------------------------------


def test_workers_never_load_paddle_and_use_one_thread(pool, dataset):
    list(pool.run([dataset.task(0, 0, RESIZE)] * 4, ahead=4))
    for modules in pool.run([loaded_modules] * 4, ahead=4):
        assert "paddlex_seg.data.dataset" in modules
        assert "paddle" not in modules
    assert set(pool.run([opencv_threads] * 4, ahead=4)) == {1}


def test_results_keep_the_order_of_the_tasks(pool):
    waits = [0.2, 0.0, 0.1, 0.0, 0.0]
    tasks = [partial(_wait_and_return, wait, index) for index, wait in enumerate(waits)]
    assert list(pool.run(tasks, ahead=5)) == [0, 1, 2, 3, 4]


def _wait_and_return(seconds, value):
    time.sleep(seconds)
    return value


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_tasks_are_taken_than_asked_for(pool, ahead):
    taken = []

    def tasks():
        for index in range(20):
            taken.append(index)
            yield partial(_wait_and_return, 0, index)

    results = pool.run(tasks(), ahead=ahead)
    for asked in range(1, 5):
        next(results)
        assert len(taken) == asked + ahead
    results.close()


def test_an_unreadable_picture_stops_the_epoch_with_its_name(dataset, coco, tmp_path, pool):
    (tmp_path / "4.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"4\.png"):
        list(train_batches(dataset, epoch=0, batch_size=11, pool=pool))
    with pytest.raises(DatasetError, match=r"4\.png"):
        list(evaluation_batches(coco, tmp_path, SPEC, batch_size=2, pool=pool))


def test_a_pool_goes_on_after_an_error_and_after_an_epoch_left_early(dataset, pool):
    with pytest.raises(DatasetError, match="no such thing"):
        list(pool.run([partial(fail, "no such thing")], ahead=1))
    batches = train_batches(dataset, epoch=0, batch_size=2, pool=pool)
    next(batches)
    batches.close()
    assert len(list(train_batches(dataset, epoch=0, batch_size=2, pool=pool))) == 5


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_no_worker_outlives_its_pool(error):
    try:
        with WorkerPool(2) as workers:
            pids = set(workers.run([partial(worker_pid, 0.1)] * 6, ahead=6))
            assert os.getpid() not in pids
            rest = workers.run([partial(worker_pid, 0.1)] * 100, ahead=100)
            next(rest)
            left_at = time.monotonic()
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    assert time.monotonic() - left_at < 3  # did not wait for the hundred tasks, five seconds of work
    wait_until_gone(pids)
    assert not [child for child in multiprocessing.active_children() if child.pid in pids]


def test_a_worker_that_dies_is_reported():
    with WorkerPool(1) as workers:
        with pytest.raises(PaddlexSegError, match="memory"):
            list(workers.run([die, die], ahead=2))


MAIN_PROGRAM = """
import signal
import time
from paddlex_seg.data.loader import WorkerPool

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs without
    with WorkerPool(2) as workers:
        pending = [workers._executor.submit(time.sleep, 0.3) for _ in range(4)]
        [future.result() for future in pending]
        print(*workers._executor._processes, flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_main_process_however_it_ends(tmp_path, ending):
    script = tmp_path / "main.py"
    script.write_text(MAIN_PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stderr is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2 and all(is_alive(pid) for pid in pids)
    if ending == signal.SIGINT:
        os.killpg(process.pid, ending)  # as a terminal does on Ctrl-C: workers get it, too
    else:
        process.send_signal(ending)
    process.wait(timeout=20)
    wait_until_gone(pids)
    errors = process.stderr.read()
    assert errors.count("KeyboardInterrupt") == (ending == signal.SIGINT)  # the main process's, no worker's
