import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from paddlex_seg.data.images import limit_pixels, load_image
from paddlex_seg.data.preprocess import preprocess
from paddlex_seg.data.samples.epochs import Draw
from paddlex_seg.data.samples.loader import (
    WorkerPool,
    epoch_plan,
    evaluation_batches,
    evaluation_plan,
    num_batches,
    resize_plan,
    split_batch,
    to_batch,
    train_batches,
)
from paddlex_seg.data.samples.mixing import Mixing
from paddlex_seg.data.samples.quarantine import Quarantine
from paddlex_seg.data.samples.tasks import TrainingSet, TrainSample
from paddlex_seg.data.samples.transforms import RandomCrop, RandomDistort, RandomExpand, RandomFlip, Resize
from paddlex_seg.errors import DatasetError, PaddlexSegError
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord, PreprocessSpec

SPEC = PreprocessSpec(size_hw=(32, 45), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
POLICIES = (RandomDistort(), RandomExpand(), RandomCrop(), RandomFlip())
RESIZE = Resize((32, 45))
RESIZES = (RESIZE, Resize((64, 45)), Resize((32, 90), interpolation=cv2.INTER_NEAREST))


@pytest.fixture(scope="module")
def pool():
    """Two workers, shared by all tests that do not end them, because starting them takes a second."""
    with WorkerPool(2) as workers:
        yield workers


@pytest.fixture
def coco(tmp_path):
    """Eleven images; every second one has an object."""
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


def training_set(coco, folder, resizes=(RESIZE,), seed=3, **kwargs):
    return TrainingSet(coco, folder, policies=POLICIES, resizes=resizes, spec=SPEC, seed=seed, **kwargs)


def numpy_batches(batches):
    """The content of the batches as arrays, in a fixed order."""
    arrays = []
    for batch, _ in batches:
        arrays += [batch.image, batch.im_shape, batch.scale_factor]
        for *tensors, polygons in batch.targets:
            corners = [[np.nan] if parts is None else np.concatenate(parts).ravel() for parts in polygons]
            arrays += [*tensors, np.concatenate([[], *corners])]
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


def fail_sometimes(sample, rng):
    if rng.random() < 0.1:
        raise ValueError("bad luck")
    return sample


def die_with_sample(sample, rng):
    die()


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
def test_a_batch_has_its_planned_samples_at_its_drawn_input_size(coco, tmp_path, resizes):
    dataset = training_set(coco, tmp_path, resizes)
    found = set()
    for epoch in range(6):
        plan = epoch_plan(dataset.draws(epoch), batch_size=4)
        drawn = resize_plan(resizes, num_batches=len(plan), seed=3, epoch=epoch)
        batches = list(train_batches(dataset, epoch, batch_size=4, pool=WorkerPool(0)))
        assert len(batches) == len(plan) == num_batches(11, 4) == 2
        for (batch, file_names), draws, resize in zip(batches, plan, drawn, strict=True):
            assert file_names == tuple((f"{draw.image}.png",) for draw in draws)
            assert batch.image.shape == [4, 3, *resize.size_hw]
            assert batch.im_shape.numpy().tolist() == [list(resize.size_hw)] * 4  # none is padded
            for row, target, draw in zip(batch.image.numpy(), batch.targets, draws, strict=True):
                sample = dataset.task(epoch, draw, resize)()
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


def test_all_ranks_train_on_the_same_sizes(coco, tmp_path):
    dataset = training_set(coco, tmp_path, RESIZES)
    for rank in (0, 1):
        drawn = [
            resize.size_hw
            for epoch in range(8)
            for resize in resize_plan(RESIZES, num_batches=2, seed=3, epoch=epoch)
        ]
        found = [
            tuple(batch.image.shape[2:])
            for epoch in range(8)
            for batch, _ in train_batches(dataset, epoch, 2, WorkerPool(0), rank=rank, world_size=2)
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
            file_names=("white.png",),
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


# --- resumed, repeated, mixed and replaced -------------------------------------------------------

MIXED = Mixing(mosaic_prob=0.5, copy_paste_prob=0.5)
WEIGHTS = np.array([0.4, 2.5] * 5 + [0.4])


def assert_same_batches(first, second):
    """Bytes and names."""
    assert len(first) == len(second) > 0
    for a, b in zip(numpy_batches(first), numpy_batches(second), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert [batch.file_names for batch in first] == [batch.file_names for batch in second]


@pytest.mark.parametrize("first_batch", [0, 1, 3, 7, 8])
def test_resuming_an_epoch_gives_the_same_remaining_batches_and_skips_earlier_ones(
    coco, tmp_path, pool, first_batch
):
    dataset = training_set(coco, tmp_path, RESIZES, weights=WEIGHTS)
    full = list(train_batches(dataset, epoch=1, batch_size=2, pool=pool))
    assert len(full) == 7
    later = {name for batch in full[first_batch:] for names in batch.file_names for name in names}
    for record in coco.images:
        if record.file_name not in later:
            (tmp_path / record.file_name).unlink()  # reading it would fail
    rest = list(train_batches(dataset, epoch=1, batch_size=2, pool=pool, first_batch=first_batch))
    assert len(rest) == max(0, 7 - first_batch)
    if rest:
        assert_same_batches(rest, full[first_batch:])


@pytest.mark.parametrize("mixing", [MIXED, Mixing()], ids=["mixed", "plain"])
def test_workers_do_not_change_repeated_mixed_and_replaced_images(coco, tmp_path, pool, mixing):
    """Also for bad images that are found during an epoch, as mixed-in images or by their annotations."""
    (tmp_path / "5.png").write_bytes(b"")
    broken = replace(coco.annotations[0], segmentation=[])  # of image 1
    coco = replace(coco, annotations=(broken, *coco.annotations[1:]))
    runs = []
    for workers in (WorkerPool(0), pool, pool):
        dataset = training_set(coco, tmp_path, RESIZES, mixing=mixing, weights=WEIGHTS)
        quarantine = Quarantine(budget=2)
        batches = train_batches(dataset, 1, 2, workers, quarantine=quarantine)
        runs.append((list(batches), quarantine.records))
    for batches, records in runs:
        assert_same_batches(batches, runs[0][0])
        assert records == runs[0][1]
        assert not {"1.png", "5.png"} & {
            name for batch in batches for names in batch.file_names for name in names
        }
    assert {(record.file_name, record.image_id, record.epoch) for record in runs[0][1]} == {
        ("1.png", 101, 1),
        ("5.png", 105, 1),
    }
    is_mixed = [max(map(len, batch.file_names)) > 1 for batch in runs[0][0]]
    assert any(is_mixed) == (mixing == MIXED)


def test_a_known_bad_image_gets_the_same_replacement_and_is_not_read_again(coco, tmp_path, pool, caplog):
    dataset = training_set(coco, tmp_path, mixing=MIXED)
    (tmp_path / "4.png").write_bytes(b"")
    quarantine = Quarantine(budget=1)
    found = list(train_batches(dataset, 0, 2, pool, quarantine=quarantine))
    assert len(caplog.records) == 1 and "4.png" in caplog.records[0].getMessage()
    resumed = Quarantine(budget=1, known=quarantine.records)
    for first_batch in (0, 3):
        rest = list(train_batches(dataset, 0, 2, pool, first_batch=first_batch, quarantine=resumed))
        assert_same_batches(rest, found[first_batch:])
    assert len(caplog.records) == 1
    image = np.zeros((40, 54, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "4.png"), image)  # readable again, but known to be bad
    assert_same_batches(list(train_batches(dataset, 0, 2, pool, quarantine=resumed)), found)


def test_a_bad_image_does_not_change_the_samples_of_the_others(coco, tmp_path):
    dataset = training_set(coco, tmp_path)
    sound = list(train_batches(dataset, 0, 1, WorkerPool(0)))
    (tmp_path / "4.png").write_bytes(b"")
    with_bad = list(train_batches(dataset, 0, 1, WorkerPool(0), quarantine=Quarantine(budget=1)))
    changed = [
        before.file_names
        for before, after in zip(sound, with_bad, strict=True)
        if (before.batch.image.numpy() != after.batch.image.numpy()).any()
    ]
    assert changed == [(("4.png",),)]


def test_failures_of_random_augmentation_are_the_same_with_workers(coco, tmp_path, pool):
    """Whether an image counts as bad must not depend on which tasks started before it was found."""
    runs = []
    for workers in (WorkerPool(0), pool):
        dataset = TrainingSet(
            coco, tmp_path, (fail_sometimes,), (RESIZE,), SPEC, seed=0, weights=np.full(11, 4.0)
        )
        quarantine = Quarantine(budget=11)
        runs.append((list(train_batches(dataset, 0, 4, workers, quarantine=quarantine)), quarantine.records))
    assert_same_batches(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1] and 0 < len(runs[0][1]) < 11


@pytest.mark.parametrize("num_bad", [3, 11], ids=["some", "all"])
def test_more_bad_images_than_the_budget_end_the_run_with_their_names(coco, tmp_path, pool, num_bad):
    for index in range(num_bad):
        (tmp_path / f"{index}.png").write_bytes(b"")
    quarantine = Quarantine(budget=num_bad - 1, path=tmp_path / "bad_samples.json")
    with pytest.raises(DatasetError, match="Train.max_bad_samples") as caught:
        list(train_batches(training_set(coco, tmp_path), 0, 11, pool, quarantine=quarantine))
    assert all(f"{index}.png" in str(caught.value) for index in range(num_bad))
    assert len(quarantine.records) == num_bad


def test_a_killed_worker_is_not_reported_as_a_bad_image(coco, tmp_path):
    dataset = TrainingSet(coco, tmp_path, (die_with_sample,), (RESIZE,), SPEC, seed=0)
    quarantine = Quarantine(budget=11)
    with WorkerPool(1) as workers, pytest.raises(PaddlexSegError, match="memory"):
        list(train_batches(dataset, 0, 4, workers, quarantine=quarantine))
    assert quarantine.records == ()


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
def test_evaluation_inputs_do_not_depend_on_the_batch(coco, tmp_path, pool, spec, batch_size, sizes):
    batches = list(evaluation_batches(coco, tmp_path, spec, batch_size=batch_size, pool=pool))
    assert [len(batch.records) for batch in batches] == sizes
    assert [record for batch in batches for record in batch.records] == list(coco.images)
    for batch in batches:
        for record, *row in zip(*batch, strict=True):
            image = cv2.imread(str(tmp_path / record.file_name))[:, :, ::-1]
            for found, expected in zip(row, preprocess(np.ascontiguousarray(image), spec), strict=True):
                np.testing.assert_array_equal(found, expected)


def test_evaluation_fills_batches_with_images_of_one_size_from_the_whole_file(coco):
    widths = [50, 60, 50, 70, 60, 50, 50]
    records = tuple(replace(coco.images[0], id=i, width=width) for i, width in enumerate(widths))
    plan = evaluation_plan(replace(coco, images=records), FITTED, batch_size=3)
    assert plan == [[0, 2, 5], [6], [1, 4], [3]]


@pytest.mark.parametrize(
    ("parts", "sizes"), [(1, [5]), (2, [3, 2]), (4, [2, 1, 1, 1]), (5, [1] * 5), (9, [1] * 5)]
)
def test_a_batch_is_split_in_order_with_its_targets(dataset, parts, sizes):
    (batch, _), *_ = train_batches(dataset, epoch=0, batch_size=5, pool=WorkerPool(0))
    pieces = split_batch(batch, parts)
    assert [len(piece.targets) for piece in pieces] == sizes
    assert [target for piece in pieces for target in piece.targets] == batch.targets
    for name in ("image", "im_shape", "scale_factor"):
        together = np.concatenate([getattr(piece, name).numpy() for piece in pieces])
        np.testing.assert_array_equal(together, getattr(batch, name).numpy())


# --- the plan of an epoch -------------------------------------------------------------------------


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
        epoch_plan(
            [Draw(index) for index in range(num_samples)], batch_size, rank=rank, world_size=world_size
        )
        for rank in range(world_size)
    ]
    for plan in ranks:
        assert [len(batch) for batch in plan] == sizes
        assert len(plan) == num_batches(num_samples, batch_size, world_size)
    drawn = [draw.image for plan in ranks for batch in plan for draw in batch]
    assert set(drawn) <= set(range(num_samples))
    assert len(set(drawn)) == min(num_samples, len(drawn))  # repeats only after all samples are used


@pytest.mark.parametrize(("batch_size", "world_size"), [(6, 1), (3, 2), (2, 3), (1, 6)])
def test_the_images_of_a_step_depend_only_on_the_total_batch_size(batch_size, world_size):
    draws = [Draw(image) for image in np.random.default_rng(0).permutation(40).tolist()]
    ranks = [epoch_plan(draws, batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert len(ranks[0]) == 6
    for k in range(7):
        assert sorted(draw for plan in ranks for batch in plan[:k] for draw in batch) == sorted(
            draws[: 6 * k]
        )


def test_drawn_input_sizes_depend_only_on_seed_and_epoch():
    choices = tuple(Resize((side, side)) for side in range(32, 132))
    first = resize_plan(choices, 50, seed=1, epoch=2)
    assert resize_plan(choices, 50, seed=1, epoch=2) == first
    others = [
        resize_plan(choices, 50, seed=seed, epoch=epoch) for seed, epoch in [(0, 2), (1, 0), (1, 3), (2, 1)]
    ]
    assert all(plan != first for plan in others)


def test_input_sizes_have_a_separate_random_stream():
    choices = tuple(Resize((side, side)) for side in range(32, 132))
    drawn = resize_plan(choices, 50, seed=1, epoch=2)
    for entropy in ((1, 2), (1, 2, 0)):
        of_sample = np.random.default_rng(entropy).integers(len(choices), size=50)
        assert drawn != [choices[choice] for choice in of_sample]


def test_every_size_is_drawn_as_often_as_it_is_listed():
    often, seldom = Resize((64, 64)), Resize((32, 32))
    drawn = resize_plan((often, often, often, seldom), num_batches=2000, seed=0, epoch=0)
    assert drawn.count(often) + drawn.count(seldom) == 2000
    assert 1400 < drawn.count(often) < 1600


# --- workers --------------------------------------------------------------------------------------


def test_workers_never_load_paddle_and_use_one_thread(pool, dataset):
    list(pool.run([dataset.task(0, Draw(0), RESIZE)] * 4, ahead=4))
    for modules in pool.run([loaded_modules] * 4, ahead=4):
        assert "paddlex_seg.data.samples.tasks" in modules
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
def test_at_most_ahead_tasks_are_submitted_early(pool, ahead):
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


def test_an_unreadable_image_stops_the_epoch_with_its_name(dataset, coco, tmp_path, pool):
    (tmp_path / "4.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"4\.png"):
        list(train_batches(dataset, epoch=0, batch_size=11, pool=pool))
    with pytest.raises(DatasetError, match=r"4\.png"):
        list(evaluation_batches(coco, tmp_path, SPEC, batch_size=2, pool=pool))


def test_a_pool_can_be_used_after_an_error_and_after_an_unfinished_epoch(dataset, pool):
    with pytest.raises(DatasetError, match="no such thing"):
        list(pool.run([partial(fail, "no such thing")], ahead=1))
    batches = train_batches(dataset, epoch=0, batch_size=2, pool=pool)
    next(batches)
    batches.close()
    assert len(list(train_batches(dataset, epoch=0, batch_size=2, pool=pool))) == 5


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_workers_end_with_their_pool(error):
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
    assert time.monotonic() - left_at < 3  # did not wait for all hundred tasks, which take five seconds
    wait_until_gone(pids)
    assert not [child for child in multiprocessing.active_children() if child.pid in pids]


def test_a_killed_worker_is_reported():
    with WorkerPool(1) as workers:
        with pytest.raises(PaddlexSegError, match="memory"):
            list(workers.run([die, die], ahead=2))


MAIN_PROGRAM = """
import signal
import time
from paddlex_seg.data.samples.loader import WorkerPool

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells disable it for background jobs
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
        os.killpg(process.pid, ending)  # like Ctrl-C in a terminal: workers get the signal, too
    else:
        process.send_signal(ending)
    process.wait(timeout=20)
    wait_until_gone(pids)
    errors = process.stderr.read()
    assert errors.count("KeyboardInterrupt") == (ending == signal.SIGINT)  # only from the main process


@pytest.mark.parametrize("num_workers", [0, 1])
def test_workers_have_the_limit_of_pixels_of_the_main_process(
    tmp_path: Path, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # put back after the test
    limit_pixels(9_999)
    with WorkerPool(num_workers) as pool, pytest.raises(DatasetError, match="limit is 9,999"):
        list(pool.run([partial(load_image, tmp_path / "a.png")], ahead=1))
