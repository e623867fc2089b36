"""``Train.batch_size: auto``: find the batch size by measuring memory before the first epoch.

Forward and backward passes with 1, 2 and 4 images measure how memory grows with the batch size. They use the
images with the most objects, at the largest input size of the recipe, so that hardly any batch of the run
needs more. The result is a power of two that needs at most ``SHARE`` of the memory. The rest is for data
workers, evaluation and memory that the allocator cannot use. The batch size is limited to

- 16, and 4 on the CPU: a few images keep its cores nearly as busy as many, so a larger batch gives fewer
  steps per epoch but hardly a shorter epoch;
- a size that leaves at least 16 steps per epoch: few steps learn little, however large the batch.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import paddle

from paddlex_seg.data.preprocess import fitted_size, padded_size
from paddlex_seg.data.samples.epochs import Draw
from paddlex_seg.data.samples.loader import to_batch
from paddlex_seg.data.samples.tasks import TrainingSet, TrainSample
from paddlex_seg.data.samples.transforms import Policy, RandomResize, Resize
from paddlex_seg.errors import DatasetError
from paddlex_seg.runtime.device_memory import allocated_bytes, peak_bytes, reset_peak, room_bytes
from paddlex_seg.runtime.ranks import Ranks
from paddlex_seg.structures import Batch
from paddlex_seg.training.step import OutOfMemoryError, TrainState, try_whole

LOGGER = logging.getLogger(__name__)
SHARE = 0.7
MEASURED = (1, 2, 4)  # images
MOST_IMAGES, MOST_IMAGES_CPU = 16, 4  # per device
FEWEST_STEPS = 16  # per epoch
# Float32 numbers per trained weight, besides its gradient: the optimizer's state, which exists from the first
# step on, and one more gradient (the clipped one, or the one accumulated from earlier batches).
NUMBERS_OF_OPTIMIZER = {"momentum": 2, "adamw": 3}
GB = 1e9


@dataclass(frozen=True)
class MemoryLine:
    """Bytes that a step needs: a fixed part, and a part for every image."""

    fixed: float
    per_image: float

    def need(self, images: int) -> float:
        """Bytes for a step with this number of images."""
        return self.fixed + self.per_image * images


def fit_line(peaks: Mapping[int, int]) -> MemoryLine:
    """The least-squares line, moved up until no measurement lies above it.

    peaks: bytes by number of images. 0 images means the memory in use between steps. A step also needs memory
    that does not depend on the images, so the entry for 0 is used only with at most one other measurement.
    """
    images = [number for number in peaks if number > 0]
    if len(images) < 2:
        images = list(peaks)
    slope = max(0.0, float(np.polyfit(images, [peaks[number] for number in images], deg=1)[0]))
    return MemoryLine(max(peaks[number] - slope * number for number in images), slope)


def choose(line: MemoryLine, *, budget: float, most: int) -> int:
    """The largest power of two up to ``most`` whose need is within the budget; at least 1."""
    size = 1
    while 2 * size <= most and line.need(2 * size) <= budget:
        size *= 2
    return size


def most_images(epoch_length: int, *, batches_per_step: int, is_cpu: bool) -> int:
    """The largest sensible batch size, whatever the memory; see the docstring of this module.

    batches_per_step: over all processes.
    """
    most = MOST_IMAGES_CPU if is_cpu else MOST_IMAGES
    return max(1, min(most, epoch_length // (FEWEST_STEPS * batches_per_step)))


def find_batch_size(
    state: TrainState, dataset: TrainingSet, ranks: Ranks, *, optimizer: str, accumulate_steps: int
) -> int:
    """Images per step and process, the same on all ranks. ``state`` is not changed.

    optimizer: its kind in the recipe. Raises BackendError when memory runs out for a single image, or on
    one of several ranks; DatasetError when no image can be read.
    """
    most = most_images(
        dataset.epoch_length,
        batches_per_step=accumulate_steps * ranks.world_size,
        is_cpu=paddle.get_device() == "cpu",
    )
    random_state = paddle.get_rng_state()
    trained = sum(parameter.size * 4 for parameter in state.parameters)
    extra = NUMBERS_OF_OPTIMIZER[optimizer] * trained
    room = min(ranks.gather(room_bytes()))
    peaks = {0: max(ranks.gather(allocated_bytes() + extra))}
    for images in MEASURED:
        if images > 1 and choose(fit_line(peaks), budget=SHARE * room, most=most) < images:
            break
        peak = _peak(state, crowded_batch(dataset, images), ranks)
        if peak is None:
            most = images // 2
            break
        peaks[images] = max(ranks.gather(peak + extra))
    line = fit_line(peaks)
    size = choose(line, budget=SHARE * room, most=most)
    while size not in peaks and _peak(state, crowded_batch(dataset, size), ranks) is None:
        size //= 2
    paddle.set_rng_state(random_state)
    LOGGER.info(
        "Train.batch_size=auto: %d image(s) per step%s. Memory: %.2f GB fixed, %.2f GB per image, %.2f GB "
        "available.",
        size,
        " and process" if ranks.world_size > 1 else "",
        *(line.fixed / GB, line.per_image / GB, room / GB),
    )
    return size


def crowded_batch(dataset: TrainingSet, num_images: int) -> Batch:
    """A batch that needs as much memory as any of the first epoch: many objects at the largest size."""
    resize = largest_resize(dataset.resizes)
    samples: list[TrainSample] = []
    for index in sorted(range(len(dataset)), key=dataset.num_objects, reverse=True):
        with suppress(DatasetError):  # reported when training reaches the image
            samples.append(dataset.task(0, Draw(index), resize)())
        if len(samples) == num_images:
            break
    if not samples:
        raise DatasetError(
            "None of the training images can be read. Run Global.mode=check_dataset to see why, and repair "
            "them."
        )
    samples *= -(-num_images // len(samples))
    return to_batch(samples[:num_images], dataset.spec, largest_input(dataset, resize))


def largest_resize(resizes: Sequence[Policy]) -> Resize:
    """The resize with the most pixels among all that a batch may draw."""
    every: list[Resize] = []
    for resize in resizes:
        if isinstance(resize, RandomResize):
            every += (Resize(size, resize.keep_ratio, resize.interpolation) for size in resize.sizes_hw)
        else:
            assert isinstance(resize, Resize), resize
            every.append(resize)
    return max(every, key=lambda resize: math.prod(resize.size_hw))


def largest_input(dataset: TrainingSet, resize: Resize) -> tuple[int, int]:
    """Height and width of a padded batch that contains both portrait and landscape images."""
    sizes = {dataset.size_hw(index) for index in range(len(dataset))}
    fitted = [fitted_size(size, resize.size_hw, keep_ratio=resize.keep_ratio) for size in sizes]
    return padded_size(fitted, dataset.spec.pad_stride)


def _peak(state: TrainState, batch: Batch, ranks: Ranks) -> int | None:
    """Peak bytes while gradients are computed; None when memory runs out.

    With several ranks, running out of memory raises: the other ranks would wait forever for this one.
    """
    ranks.barrier()  # one rank may have needed longer to read its images
    reset_peak()
    try:
        try_whole(state, batch)
    except OutOfMemoryError:
        if ranks.world_size > 1 or len(batch.targets) == 1:
            raise
        return None
    return peak_bytes()
