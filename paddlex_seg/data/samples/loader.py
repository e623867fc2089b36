"""Batches for training and evaluation, in order, made by worker processes or the main process.

Workers read, decode and warp. They send training images as uint8, and the main process normalises them.
Workers never import Paddle. Only ``to_batch`` and ``split_batch`` use it, in the main process.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.images import pixel_limit
from paddlex_seg.data.preprocess import NetworkInput, collate, input_size, normalize, padded_size
from paddlex_seg.data.samples.epochs import Draw
from paddlex_seg.data.samples.quarantine import BadSample, Quarantine
from paddlex_seg.data.samples.tasks import BadImage, TrainingSet, TrainSample, TrainTask, evaluation_tasks
from paddlex_seg.data.samples.transforms import Policy
from paddlex_seg.data.workers import prepare_worker, start_context
from paddlex_seg.errors import PaddlexSegError
from paddlex_seg.structures import Batch, CocoFile, ImageRecord, PreprocessSpec, Target

T = TypeVar("T")


class TrainBatch(NamedTuple):
    """A training batch and the names of its images."""

    batch: Batch
    # For each sample, the file_name of its base image and of the images mixed into it.
    file_names: tuple[tuple[str, ...], ...]


class EvalBatch(NamedTuple):
    """Network inputs and the records of their images."""

    records: list[ImageRecord]
    image: NDArray[np.float32]  # [B, 3, H, W]
    im_shape: NDArray[np.float32]  # [B, 2]
    scale_factor: NDArray[np.float32]  # [B, 2]


class WorkerPool:
    """Worker processes that run tasks. With ``num_workers`` 0, the calling process runs them.

    A context manager: all workers are ended at its exit, also after an exception. Training and evaluation can
    share one pool.
    """

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self._executor: ProcessPoolExecutor | None = None
        if num_workers:
            self._executor = ProcessPoolExecutor(
                num_workers,
                mp_context=start_context(),
                initializer=prepare_worker,
                initargs=(pixel_limit(),),
            )

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel pending tasks, wait for running ones, and end the workers."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def run(self, tasks: Iterable[Callable[[], T]], ahead: int) -> Generator[T, None, None]:
        """Results in the order of the tasks. At most ``ahead`` tasks are submitted ahead of the consumer.

        The exception of a task is raised here in place of its result. Raises PaddlexSegError when a worker
        dies.
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
                f"One of {self.num_workers} data workers was killed, most often because memory ran out. Use "
                "fewer workers or a smaller batch size."
            ) from error
        finally:
            for future in pending:
                future.cancel()


def train_batches(
    dataset: TrainingSet,
    epoch: int,
    batch_size: int,
    pool: WorkerPool,
    *,
    rank: int = 0,
    world_size: int = 1,
    first_batch: int = 0,
    quarantine: Quarantine | None = None,
) -> Generator[TrainBatch, None, None]:
    """The batches of one epoch for one of ``world_size`` ranks, ``batch_size`` images each.

    All ranks get the same number of batches, see ``epoch_plan``. ``first_batch`` skips the batches before it
    without making them; all later batches stay the same.

    An unusable image is added to the ``quarantine`` and replaced by another one, see ``TrainingSet.task``.
    The content of the batches does not depend on the workers, nor on whether the image was already known to
    be bad. Without a quarantine, raises DatasetError that names the image. With one, raises DatasetError when
    its budget is exceeded.
    """
    quarantine = Quarantine() if quarantine is None else quarantine
    plan = epoch_plan(dataset.draws(epoch), batch_size, rank=rank, world_size=world_size)
    resizes = resize_plan(dataset.resizes, len(plan), seed=dataset.seed, epoch=epoch)
    planned = list(zip(plan, resizes, strict=True))[first_batch:]

    def make(draw: Draw, resize: Policy) -> Callable[[], TrainSample | BadImage]:
        return partial(_make_packed, dataset.task(epoch, draw, resize, bad=quarantine))

    def settle(result: TrainSample | BadImage, draw: Draw, resize: Policy) -> TrainSample:
        """Remake the sample until it contains no bad image, including images found after its task started."""
        while True:
            if isinstance(result, BadImage):
                record = result.record
                quarantine.add(BadSample(record.file_name, record.id, error=str(result), epoch=epoch))
            elif not any(name in quarantine for name in result.file_names):
                return _unpack(result)
            (result,) = pool.run([make(draw, resize)], ahead=0)

    tasks = (make(draw, resize) for draws, resize in planned for draw in draws)
    with closing(pool.run(tasks, ahead=_look_ahead(pool, batch_size))) as results:
        for draws, resize in planned:
            samples = [settle(next(results), draw, resize) for draw in draws]
            yield TrainBatch(to_batch(samples, dataset.spec), tuple(sample.file_names for sample in samples))


def evaluation_batches(
    coco: CocoFile, image_dir: Path, spec: PreprocessSpec, batch_size: int, pool: WorkerPool
) -> Iterator[EvalBatch]:
    """The batches of ``evaluation_plan``. Raises DatasetError that names an image that cannot be read."""
    tasks = evaluation_tasks(coco, image_dir, spec)
    plan = evaluation_plan(coco, spec, batch_size)
    planned = (tasks[index] for batch in plan for index in batch)
    with closing(pool.run(planned, ahead=_look_ahead(pool, batch_size))) as inputs:
        for batch in plan:
            records = [tasks[index].record for index in batch]
            yield EvalBatch(records, *collate([next(inputs) for _ in batch]))


def evaluation_plan(coco: CocoFile, spec: PreprocessSpec, batch_size: int) -> list[list[int]]:
    """The image indices of each batch. Each image is in one batch; all inputs of a batch have the same size.

    Padding an input to the size of another one would change the features near its edges, so results would
    depend on the other images in the batch. If all inputs have the same size, the order is that of the file.
    """
    indices_of_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, record in enumerate(coco.images):
        indices_of_size[input_size((record.height, record.width), spec)].append(index)
    return [
        indices[start : start + batch_size]
        for indices in indices_of_size.values()
        for start in range(0, len(indices), batch_size)
    ]


def num_batches(epoch_length: int, batch_size: int, world_size: int = 1) -> int:
    """The number of batches per rank in an epoch of ``epoch_length`` samples; at least 1."""
    return max(1, epoch_length // (batch_size * world_size))


def epoch_plan(
    draws: Sequence[Draw], batch_size: int, rank: int = 0, world_size: int = 1
) -> list[list[Draw]]:
    """Divide the samples of an epoch, in order, into the batches of one rank.

    A step over all ranks uses ``batch_size * world_size`` consecutive samples, so the samples of a step
    depend only on this product. Remaining samples that do not fill a batch on every rank are dropped. If
    there are too few samples for one full batch per rank, each rank gets one smaller batch. Some samples are
    then on several ranks, because all ranks need the same number.
    """
    size, total = batch_size, len(draws) // (batch_size * world_size)
    if total == 0:
        size, total = -(-len(draws) // world_size), 1
    starts = ((number * world_size + rank) * size for number in range(total))
    return [[draws[place % len(draws)] for place in range(start, start + size)] for start in starts]


def resize_plan(resizes: Sequence[Policy], num_batches: int, seed: int, epoch: int) -> list[Policy]:
    """Draw one of ``resizes`` for each batch. The result depends only on seed and epoch.

    All ranks use the same input size in a step, so no rank waits for a larger input on another rank.
    """
    # The spawn key separates this random stream from those of the samples, [seed, epoch, image].
    entropy = np.random.SeedSequence([seed, epoch], spawn_key=(0,))
    drawn = np.random.default_rng(entropy).integers(len(resizes), size=num_batches)
    return [resizes[choice] for choice in drawn]


def to_batch(
    samples: Sequence[TrainSample], spec: PreprocessSpec, size_hw: tuple[int, int] | None = None
) -> Batch:
    """Samples as tensors on the current device. Images are normalised; images and masks are zero-padded.

    size_hw: the size after padding. None: the smallest size that fits all samples and ``pad_stride``.
    """
    import paddle

    from paddlex_seg.ops.joined_batch import JoinedBatch

    size_hw = size_hw or padded_size([sample.image.shape[:2] for sample in samples], spec.pad_stride)
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
    return Batch(image, im_shape, scale_factor, targets, JoinedBatch())


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """Split a batch with its targets into ``parts`` smaller batches, in order. Empty ones are left out.

    Sizes differ by at most 1, larger ones first. Images keep their padding. Each part has its own
    ``JoinedBatch``.
    """
    import paddle

    from paddlex_seg.ops.joined_batch import JoinedBatch

    size, rest = divmod(len(batch.targets), parts)
    sizes = [size + (part < rest) for part in range(min(parts, len(batch.targets)))]
    batches = []
    for start, stop in pairwise(accumulate(sizes, initial=0)):
        image, im_shape, scale_factor = (
            paddle.slice(tensor, axes=[0], starts=[start], ends=[stop]) for tensor in batch[:3]
        )
        batches.append(Batch(image, im_shape, scale_factor, batch.targets[start:stop], JoinedBatch()))
    return batches


def stack_images(
    samples: Sequence[TrainSample], size_hw: tuple[int, int], spec: PreprocessSpec
) -> NetworkInput:
    """The normalised images of the samples in one array [B, 3, H, W], with sizes and scale factors."""
    images = np.zeros((len(samples), 3, *size_hw), np.float32)
    for row, sample in zip(images, samples, strict=True):
        height, width = sample.image.shape[:2]
        normalize(sample.image, spec, out=row[:, :height, :width])
    im_shape = np.stack([sample.im_shape for sample in samples])
    return NetworkInput(images, im_shape, np.stack([sample.scale_factor for sample in samples]))


def _make_packed(task: TrainTask) -> TrainSample | BadImage:
    """Make the sample and pack its masks into 1 bit per pixel. Unpacked, masks are larger than the image, and
    sending them from a worker is slow.
    """
    try:
        sample = task()
    except BadImage as error:
        return error
    return sample._replace(masks=np.packbits(sample.masks, axis=2))


def _unpack(sample: TrainSample) -> TrainSample:
    return sample._replace(masks=np.unpackbits(sample.masks, axis=2, count=sample.image.shape[1]))


def _pad_masks(masks: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    bottom, right = (large - small for large, small in zip(size_hw, masks.shape[1:], strict=True))
    return np.pad(masks, ((0, 0), (0, bottom), (0, right))) if bottom or right else masks


def _look_ahead(pool: WorkerPool, batch_size: int) -> int:
    """Two batches, so that one is ready while the next is made, and at least two tasks per worker."""
    return 2 * max(batch_size, pool.num_workers)
