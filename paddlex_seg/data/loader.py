"""Batches, in order, from worker processes or without them.

Workers read, decode and warp; training pixels cross the process border as uint8 and are normalised in the
main process. Workers never import Paddle; ``to_batch`` does, in the main process.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.dataset import TrainingSet, TrainSample, TrainTask, evaluation_tasks
from paddlex_seg.data.preprocess import NetworkInput, collate, input_size, normalize, padded_size
from paddlex_seg.data.processes import prepare_worker, start_context
from paddlex_seg.data.transforms import Policy
from paddlex_seg.errors import PaddlexSegError
from paddlex_seg.structures import Batch, CocoFile, ImageRecord, PreprocessSpec, Target

T = TypeVar("T")


class EvalBatch(NamedTuple):
    """Pictures ready for a network, and which they are."""

    records: list[ImageRecord]
    image: NDArray[np.float32]  # [B, 3, H, W]
    im_shape: NDArray[np.float32]  # [B, 2]
    scale_factor: NDArray[np.float32]  # [B, 2]


class TrainBatch(NamedTuple):
    """TEMP."""

    batch: Batch
    file_names: list[tuple[str, ...]]


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """TEMP."""
    n = len(batch.targets)
    bounds = np.linspace(0, n, min(parts, n) + 1).round().astype(int)
    if len(bounds) == 2:
        return [batch]
    return [
        Batch(batch.image[a:b], batch.im_shape[a:b], batch.scale_factor[a:b], batch.targets[a:b])
        for a, b in zip(bounds[:-1], bounds[1:], strict=True)
    ]


class WorkerPool:
    """Worker processes that do tasks; with ``num_workers`` 0, the calling process does them.

    A context manager: at its end, however it comes, no worker is left. One pool can serve training and
    evaluation.
    """

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self._executor: ProcessPoolExecutor | None = None
        if num_workers:
            self._executor = ProcessPoolExecutor(
                num_workers, mp_context=start_context(), initializer=prepare_worker
            )

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget what is not begun, wait for what is, and end the workers."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def run(self, tasks: Iterable[Callable[[], T]], ahead: int) -> Generator[T, None, None]:
        """Results in the order of the tasks, of which at most ``ahead`` are begun before they are asked for.

        What a task raises is raised here, when its turn comes. Raises PaddlexSegError when a worker dies.
        """
        if self._executor is None:
            yield from (task() for task in tasks)
            return
        pending: deque[Future[T]] = deque()
        try:
            for task in tasks:
                pending.append(self._executor.submit(task))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise PaddlexSegError(
                f"One of {self.num_workers} data workers was ended from outside, most often because memory "
                "ran out. Use fewer workers or smaller batches."
            ) from error
        finally:
            for future in pending:
                future.cancel()


def train_batches(
    dataset: TrainingSet,
    epoch: int,
    batch_size: int,
    pool: WorkerPool,
    rank: int = 0,
    world_size: int = 1,
    first_batch: int = 0,
) -> Generator[TrainBatch, None, None]:
    """The batches of one epoch for one of ``world_size`` ranks, ``batch_size`` pictures each.

    All ranks get the same number of batches: see ``epoch_plan``. Raises DatasetError, naming the picture,
    when one cannot be read.
    """
    plan = epoch_plan(
        len(dataset), batch_size, seed=dataset.seed, epoch=epoch, rank=rank, world_size=world_size
    )
    resizes = resize_plan(dataset.resizes, len(plan), seed=dataset.seed, epoch=epoch, rank=rank)
    plan, resizes = plan[first_batch:], resizes[first_batch:]
    tasks = (
        partial(_make_packed, dataset.task(epoch, index, resize))
        for batch, resize in zip(plan, resizes, strict=True)
        for index in batch
    )
    with closing(pool.run(tasks, ahead=_look_ahead(pool, batch_size))) as samples:
        for batch in plan:
            made = to_batch([_unpack(next(samples)) for _ in batch], dataset.spec)
            yield TrainBatch(made, [(dataset.file_name(index),) for index in batch])


def evaluation_batches(
    coco: CocoFile, image_dir: Path, spec: PreprocessSpec, batch_size: int, pool: WorkerPool
) -> Iterator[EvalBatch]:
    """The batches of ``evaluation_plan``. Raises DatasetError, naming the picture that cannot be read."""
    tasks = evaluation_tasks(coco, image_dir, spec)
    plan = evaluation_plan(coco, spec, batch_size)
    planned = (tasks[index] for batch in plan for index in batch)
    with closing(pool.run(planned, ahead=_look_ahead(pool, batch_size))) as inputs:
        for batch in plan:
            records = [tasks[index].record for index in batch]
            yield EvalBatch(records, *collate([next(inputs) for _ in batch]))


def evaluation_plan(coco: CocoFile, spec: PreprocessSpec, batch_size: int) -> list[list[int]]:
    """The picture indices of each batch: all pictures once, those of a batch with inputs of one size.

    Padding an input to the size of another would change what the network sees near its edges, so that results
    would depend on the company. Where all inputs have one size, the order is that of the file.
    """
    indices_of_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, record in enumerate(coco.images):
        indices_of_size[input_size((record.height, record.width), spec)].append(index)
    return [
        indices[start : start + batch_size]
        for indices in indices_of_size.values()
        for start in range(0, len(indices), batch_size)
    ]


def num_batches(num_samples: int, batch_size: int, world_size: int = 1) -> int:
    """Batches that each rank gets in an epoch; at least one."""
    return max(1, num_samples // (batch_size * world_size))


def epoch_plan(
    num_samples: int, batch_size: int, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> list[list[int]]:
    """The sample indices of each batch of one rank, in an order that depends on seed and epoch only.

    A rest that does not fill a batch on every rank is left out, another one each epoch. Only when there is
    no full batch at all do the samples make one smaller batch per rank; a few then serve two ranks or more,
    since every rank needs as many as the others.
    """
    order = np.random.default_rng([seed, epoch]).permutation(num_samples)
    shape = (num_samples // (batch_size * world_size), world_size, batch_size)
    if shape[0]:
        return order[: shape[0] * shape[1] * shape[2]].reshape(shape)[:, rank].tolist()
    per_rank = -(-num_samples // world_size)
    return [np.resize(order, (world_size, per_rank))[rank].tolist()]  # np.resize repeats from the start


def resize_plan(
    resizes: Sequence[Policy], num_batches: int, seed: int, epoch: int, rank: int = 0
) -> list[Policy]:
    """One of ``resizes`` for each batch of one rank, drawn by seed, epoch and rank only."""
    # Not [seed, epoch, rank], from which sample number ``rank`` draws.
    entropy = np.random.SeedSequence([seed, epoch], spawn_key=(rank,))
    drawn = np.random.default_rng(entropy).integers(len(resizes), size=num_batches)
    return [resizes[choice] for choice in drawn]


def to_batch(samples: Sequence[TrainSample], spec: PreprocessSpec) -> Batch:
    """Tensors on the current device: images normalised, images and masks padded with zeros to the largest."""
    import paddle

    size_hw = padded_size([sample.image.shape[:2] for sample in samples], spec.pad_stride)
    image, im_shape, scale_factor = map(paddle.to_tensor, stack_images(samples, size_hw, spec))
    targets = [
        Target(
            boxes_xyxy=paddle.to_tensor(sample.boxes_xyxy),
            class_ids=paddle.to_tensor(sample.class_ids),
            masks=paddle.to_tensor(_pad_masks(sample.masks, size_hw)),
            polygons=sample.polygons,
        )
        for sample in samples
    ]
    return Batch(image, im_shape, scale_factor, targets)


def stack_images(
    samples: Sequence[TrainSample], size_hw: tuple[int, int], spec: PreprocessSpec
) -> NetworkInput:
    """Normalised images of the samples in one array [B, 3, H, W], with their sizes."""
    images = np.zeros((len(samples), 3, *size_hw), np.float32)
    for row, sample in zip(images, samples, strict=True):
        height, width = sample.image.shape[:2]
        normalize(sample.image, spec, out=row[:, :height, :width])
    im_shape = np.stack([sample.im_shape for sample in samples])
    return NetworkInput(images, im_shape, np.stack([sample.scale_factor for sample in samples]))


def _make_packed(task: TrainTask) -> TrainSample:
    """The sample with 8 mask pixels a byte: on the way from a worker, masks would outweigh the picture."""
    sample = task()
    return sample._replace(masks=np.packbits(sample.masks, axis=2))


def _unpack(sample: TrainSample) -> TrainSample:
    return sample._replace(masks=np.unpackbits(sample.masks, axis=2, count=sample.image.shape[1]))


def _pad_masks(masks: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    bottom, right = (large - small for large, small in zip(size_hw, masks.shape[1:], strict=True))
    return np.pad(masks, ((0, 0), (0, bottom), (0, right))) if bottom or right else masks


def _look_ahead(pool: WorkerPool, batch_size: int) -> int:
    """Two batches, so that one is ready while another is made; two tasks a worker, so that none waits."""
    return 2 * max(batch_size, pool.num_workers)
