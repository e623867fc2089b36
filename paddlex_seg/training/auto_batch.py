"""``Train.batch_size: auto``: how many images a step can take, measured before the first epoch.

Steps with 1, 2 and 4 images, forward and backward as in training, say how memory grows with them. They have
the images with the most objects, at the largest size that the recipe draws, so that hardly a batch of the
run needs more. The result is a power of two, for which at most ``SHARE`` of the memory is needed; the rest is
for data workers, evaluations, and what an allocator cannot use. It is

- at most 16, and at most 4 on the CPU, whose cores are nearly as busy with a few images as with many: more
  images a step make fewer steps of an epoch there, and the epoch hardly shorter;
- and so that an epoch has at least 16 steps, as few steps learn little however many images they have.
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
MOST_IMAGES, MOST_IMAGES_CPU = 16, 4  # a device
FEWEST_STEPS = 16  # an epoch
# Float32 numbers for each one that is trained, besides its gradient: what the optimizer remembers, which it
# has from its first step on, and a gradient more: one that is clipped, or that of the batches before.
NUMBERS_OF_OPTIMIZER = {"momentum": 2, "adamw": 3}
GB = 1e9


@dataclass(frozen=True)
class MemoryLine:
    """Bytes that a step needs: a fixed part, and as much again for every image."""

    fixed: float
    per_image: float

    def need(self, images: int) -> float:
        """Bytes for so many images."""
        return self.fixed + self.per_image * images


def fit_line(peaks: Mapping[int, int]) -> MemoryLine:
    """The line of least squares, moved up until no measurement lies above it.

    peaks: bytes by number of images. 0 is for what is there between steps. A step adds to it also what does
    not depend on the images, so that it counts only where there is no more than one other measurement.
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
    """The most that are sensible, however much memory there is; see the first lines of this module.

    batches_per_step: of all processes together.
    """
    most = MOST_IMAGES_CPU if is_cpu else MOST_IMAGES
    return max(1, min(most, epoch_length // (FEWEST_STEPS * batches_per_step)))


def find_batch_size(
    state: TrainState, dataset: TrainingSet, ranks: Ranks, *, optimizer: str, accumulate_steps: int
) -> int:
    """Images a step and process, the same on all ranks; ``state`` is left as it was.

    optimizer: its kind in the recipe. Raises BackendError where memory runs out for a single image, or on
    one of several ranks; DatasetError where no image can be read.
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
        "Train.batch_size=auto: %d image(s) a step%s; %.2f GB fixed and %.2f GB an image of %.2f GB.",
        size,
        " and process" if ranks.world_size > 1 else "",
        *(line.fixed / GB, line.per_image / GB, room / GB),
    )
    return size


def crowded_batch(dataset: TrainingSet, num_images: int) -> Batch:
    """A batch of the first epoch that needs as much memory as any: many objects at the largest size."""
    resize = largest_resize(dataset.resizes)
    samples: list[TrainSample] = []
    for index in sorted(range(len(dataset)), key=dataset.num_objects, reverse=True):
        with suppress(DatasetError):  # told when its turn comes
            samples.append(dataset.task(0, Draw(index), resize)())
        if len(samples) == num_images:
            break
    if not samples:
        raise DatasetError("None of the training images can be used; check_dataset says why. Repair them.")
    samples *= -(-num_images // len(samples))
    return to_batch(samples[:num_images], dataset.spec, largest_input(dataset, resize))


def largest_resize(resizes: Sequence[Policy]) -> Resize:
    """Of all that a batch may draw, the one to the most pixels."""
    every: list[Resize] = []
    for resize in resizes:
        if isinstance(resize, RandomResize):
            every += (Resize(size, resize.keep_ratio, resize.interpolation) for size in resize.sizes_hw)
        else:
            assert isinstance(resize, Resize), resize
            every.append(resize)
    return max(every, key=lambda resize: math.prod(resize.size_hw))


def largest_input(dataset: TrainingSet, resize: Resize) -> tuple[int, int]:
    """Height and width that a batch is padded to where upright and lying images meet in it."""
    sizes = {dataset.size_hw(index) for index in range(len(dataset))}
    fitted = [fitted_size(size, resize.size_hw, keep_ratio=resize.keep_ratio) for size in sizes]
    return padded_size(fitted, dataset.spec.pad_stride)


def _peak(state: TrainState, batch: Batch, ranks: Ranks) -> int | None:
    """The most bytes at once while gradients are computed; None where memory runs out.

    With several ranks it must not: the others would wait in vain for the one without memory.
    """
    ranks.barrier()  # images may have taken one of them longer
    reset_peak()
    try:
        try_whole(state, batch)
    except OutOfMemoryError:
        if ranks.world_size > 1 or len(batch.targets) == 1:
            raise
        return None
    return peak_bytes()
