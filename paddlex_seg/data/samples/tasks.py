"""Self-contained tasks that load and augment one sample, so that any process can run them.

A task contains only the records of its images, a few kilobytes. So workers do not need the annotation file,
and a sample does not depend on the worker that makes it, or on when it is made.
"""

from __future__ import annotations

import copy
import traceback
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.images import image_path, load_image
from paddlex_seg.data.preprocess import NetworkInput, preprocess
from paddlex_seg.data.samples.epochs import Draw, draw_epoch, epoch_length
from paddlex_seg.data.samples.mixing import Layer, Mixing, compose, mosaic, objects_to_paste
from paddlex_seg.data.samples.sample import RenderedSample, Sample, Segment
from paddlex_seg.data.samples.transforms import Policy, apply
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import annotation_to_rle
from paddlex_seg.structures import Annotation, CocoFile, Id, ImageRecord, Polygons, PreprocessSpec


class TrainSample(NamedTuple):
    """A training sample in pixels of the network input, not yet normalised. n may be 0."""

    image: NDArray[np.uint8]  # [H, W, 3] RGB
    boxes_xyxy: NDArray[np.float32]  # [n, 4]
    class_ids: NDArray[np.int64]  # [n], 0-based class index
    masks: NDArray[np.uint8]  # [n, H, W], 0 or 1
    polygons: tuple[Polygons | None, ...]  # n of them, None where only the mask is exact
    image_id: Id
    im_shape: NDArray[np.float32]  # [2], height and width
    scale_factor: NDArray[np.float32]  # [2], im_shape / size of the original image
    file_names: tuple[str, ...]  # of the base image, and of all images mixed into it


@dataclass(frozen=True)
class SourceImage:
    """An original image and its objects. ``annotations`` do not contain crowds."""

    index: int  # in the annotation file
    record: ImageRecord
    path: Path
    annotations: tuple[Annotation, ...]
    class_ids: tuple[int, ...]  # 0-based class index of each annotation

    def load(self) -> Sample:
        """Load image and objects, without augmentation. Raises DatasetError like ``load_image``."""
        image = load_image(self.path, size_hw=(self.record.height, self.record.width))
        segments = [_segment(annotation, self.record) for annotation in self.annotations]
        return Sample.from_source(image, segments, self.class_ids)


class BadImage(DatasetError):
    """An image that cannot be used in a sample."""

    def __init__(self, message: str, record: ImageRecord) -> None:
        super().__init__(message)
        self.record = record

    def __reduce__(self) -> tuple[type[BadImage], tuple[str, ImageRecord]]:  # to pickle it in a worker
        return BadImage, (str(self), self.record)


# Slots of a sample. Each slot has its own random stream, so mixing in other images does not change the base
# image.
BASE, MOSAIC_SLOTS, PASTE_SLOT = 0, (1, 2, 3), 4
# Purposes of the random streams of a slot.
PICK, CHANGE, DECIDE, ARRANGE, RESIZE = range(5)


@dataclass(frozen=True)
class TrainTask:
    """Everything needed to make one training sample."""

    base: SourceImage
    mosaic: tuple[SourceImage, ...]  # the three other images of a mosaic, or none
    pasted: SourceImage | None  # the image whose objects are pasted
    policies: tuple[Policy, ...]  # augmentations, applied to each image separately
    resize: Policy  # applied to the whole sample
    entropy: tuple[int, ...]  # seed, epoch, image; occurrence if the image is repeated in the epoch

    @property
    def images(self) -> tuple[SourceImage, ...]:
        """All images of the sample, the base first."""
        return (self.base, *self.mosaic, *([self.pasted] if self.pasted is not None else []))

    def __call__(self) -> TrainSample:
        """Make the sample. Raises BadImage when an image is unreadable, its size differs from the annotation
        file, or its annotations cannot be drawn.
        """
        with _errors_as_bad_image(self.base):
            sample, rng = self.base.load(), self._policy_generator(self.base, BASE)
            changed = apply(self.policies, sample, rng)
            if self.mosaic or self.pasted is not None:
                rendered = self._mix(changed)
            else:
                rendered = self.resize(changed, rng).render()
        im_shape = np.array(rendered.image.shape[:2], np.float32)
        source_shape = np.array(sample.image.shape[:2], np.float32)
        return TrainSample(
            image=rendered.image,
            boxes_xyxy=rendered.boxes_xyxy,
            class_ids=rendered.class_ids,
            masks=rendered.masks,
            polygons=rendered.polygons,
            image_id=self.base.record.id,
            im_shape=im_shape,
            scale_factor=im_shape / source_shape,
            file_names=tuple(image.record.file_name for image in self.images),
        )

    def _mix(self, base: Sample) -> RenderedSample:
        samples = [base]
        if self.mosaic:
            samples += map(self._changed, self.mosaic, MOSAIC_SLOTS)
            samples = mosaic(samples, self._generator(ARRANGE, BASE))
        layers = list(map(self._layer, (self.base, *self.mosaic), samples))
        if self.pasted is None:
            return compose(layers)
        with _errors_as_bad_image(self.pasted):
            source = self._changed(self.pasted, PASTE_SLOT)
            objects = objects_to_paste(source, samples[0].size_hw, self._generator(ARRANGE, PASTE_SLOT))
        return compose(layers, self._layer(self.pasted, objects))

    def _changed(self, image: SourceImage, slot: int) -> Sample:
        with _errors_as_bad_image(image):
            return apply(self.policies, image.load(), self._policy_generator(image, slot))

    def _layer(self, image: SourceImage, sample: Sample) -> Layer:
        with _errors_as_bad_image(image):
            resized = self.resize(sample, self._generator(RESIZE, BASE))  # all layers get the same size
            return Layer(resized, resized.render_objects())

    def _policy_generator(self, image: SourceImage, slot: int) -> np.random.Generator:
        """The generator for the policies. A replacement for a bad image gets another one, because the random
        augmentation may have caused the failure.
        """
        if slot == BASE and image.index == self.entropy[2]:
            return np.random.default_rng(self.entropy)
        return generator(self.entropy, CHANGE, slot, image.index)

    def _generator(self, purpose: int, slot: int) -> np.random.Generator:
        return generator(self.entropy, purpose, slot)


def generator(entropy: Sequence[int], *purpose: int) -> np.random.Generator:
    """The generator of a sample for one purpose: the number of the purpose, the slot, and further numbers."""
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=purpose))


@contextmanager
def _errors_as_bad_image(image: SourceImage) -> Iterator[None]:
    """Converts any exception into a BadImage that names the image."""
    try:
        yield
    except BadImage:
        raise
    except DatasetError as error:
        is_named = str(image.path) in str(error)
        message = str(error) if is_named else f"{image.path}: {error}"
        raise BadImage(message, image.record) from error
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise BadImage(
            f"{image.path}: cannot be used for training ({type(error).__name__}: {error}, in line "
            f"{frame.lineno} of {Path(frame.filename).name}). Check its annotations, or remove the image "
            "from the annotation file.",
            image.record,
        ) from error


@dataclass(frozen=True)
class EvalTask:
    """Everything needed to prepare one image for evaluation."""

    record: ImageRecord
    path: Path
    spec: PreprocessSpec

    def __call__(self) -> NetworkInput:
        """The network input. Raises DatasetError like ``load_image``."""
        image = load_image(self.path, size_hw=(self.record.height, self.record.width))
        return preprocess(image, self.spec)


class TrainingSet:
    """The images of ``coco`` as training samples, including images without objects. Crowds are not used.

    The class index of a category is its position in ``coco.categories``. A sample depends only on the seed,
    the epoch, its ``Draw``, and the element of ``resizes`` that is drawn for its batch and applied last.
    ``spec`` defines normalisation and padding. ``weights`` [num_images] are the average repeats of each image
    per epoch, 1 by default; see ``image_weights``. Raises DatasetError when there are no images, or when a
    file name leads out of ``image_dir``.

    With ``mixing``, other images are mixed into some samples. They are drawn with probabilities proportional
    to their weights. The policies are applied to each image separately before mixing. ``image_id`` and
    ``scale_factor`` of a mixed sample are those of its base image.
    """

    def __init__(
        self,
        coco: CocoFile,
        image_dir: Path,
        policies: Sequence[Policy],
        resizes: Sequence[Policy],
        spec: PreprocessSpec,
        seed: int,
        *,
        mixing: Mixing | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        if not coco.images:
            raise DatasetError(
                f"{coco.path}: lists no images. Training needs at least one. Add images to the file."
            )
        self.coco = coco
        self.resizes, self.spec, self.seed = tuple(resizes), spec, seed
        self._mixing = mixing or Mixing()
        self._policies = tuple(policies)
        self._path = coco.path
        self._records = coco.images
        self._paths = [image_path(image_dir, record.file_name) for record in coco.images]
        self._annotations_of_image = _group_without_crowds(coco)
        self._class_of_category = {category.id: index for index, category in enumerate(coco.categories)}
        self._weights = np.ones(len(coco.images)) if weights is None else weights
        has_objects = np.array([record.id in self._annotations_of_image for record in coco.images])
        self._up_to_weight = np.cumsum(self._weights)
        self._up_to_paste_weight = np.cumsum(self._weights * has_objects)

    def adapted(self, resizes: Sequence[Policy], *, is_mixed: bool) -> TrainingSet:
        """A copy with other input sizes; without mixing if ``is_mixed`` is False."""
        other = copy.copy(self)
        other.resizes = tuple(resizes)
        other._mixing = self._mixing if is_mixed else Mixing()
        return other

    def __len__(self) -> int:
        """The number of images, without repeats."""
        return len(self._records)

    @property
    def epoch_length(self) -> int:
        """The number of samples in an epoch, including repeats."""
        return epoch_length(self._weights)

    def draws(self, epoch: int) -> list[Draw]:
        """The ``epoch_length`` samples of an epoch, in order."""
        return draw_epoch(self._weights, self.seed, epoch)

    def file_name(self, index: int) -> str:
        """The file name of image ``index`` as in the annotation file, for messages."""
        return self._records[index].file_name

    def size_hw(self, index: int) -> tuple[int, int]:
        """Height and width of the original image ``index``."""
        return self._records[index].height, self._records[index].width

    def num_objects(self, index: int) -> int:
        """The number of objects of image ``index``, without crowds."""
        return len(self._annotations_of_image.get(self._records[index].id, ()))

    def task(self, epoch: int, draw: Draw, resize: Policy, bad: Container[str] = ()) -> TrainTask:
        """The task that makes a sample in a worker.

        An image whose file name is in ``bad`` is replaced. Each slot of a sample has a list of candidates,
        whose order depends only on seed, epoch and draw. The first candidate that is not bad is used. Raises
        DatasetError when all candidates are bad.
        """
        entropy = (self.seed, epoch, draw.image) + ((draw.occurrence,) if draw.occurrence else ())
        base = self._pick(entropy, BASE, bad, self._up_to_weight, planned=draw.image)
        if base is None:
            raise DatasetError(f"{self._path}: none of its images can be used. Repair the image files.")
        partners: list[SourceImage] = []
        pasted = None
        chances = generator(entropy, DECIDE, BASE).random(2)
        if chances[0] < self._mixing.mosaic_prob:
            picks = (self._pick(entropy, slot, bad, self._up_to_weight) for slot in MOSAIC_SLOTS)
            partners = [image for image in picks if image is not None]
        if chances[1] < self._mixing.copy_paste_prob:
            pasted = self._pick(entropy, PASTE_SLOT, bad, self._up_to_paste_weight)
        return TrainTask(
            base=base,
            mosaic=tuple(partners),
            pasted=pasted,
            policies=self._policies,
            resize=resize,
            entropy=entropy,
        )

    def _pick(
        self,
        entropy: tuple[int, ...],
        slot: int,
        bad: Container[str],
        up_to_weight: NDArray[np.float64],
        planned: int | None = None,
    ) -> SourceImage | None:
        """The first candidate that is not bad: the planned image, one drawn by weight, then all others."""
        for index in self._candidates(generator(entropy, PICK, slot), up_to_weight, planned):
            if self._records[index].file_name not in bad:
                return self._source_image(index)
        return None

    def _candidates(
        self, rng: np.random.Generator, up_to_weight: NDArray[np.float64], planned: int | None
    ) -> Iterator[int]:
        if planned is not None:
            yield planned
        total = up_to_weight[-1]
        if total > 0:
            yield int(np.searchsorted(up_to_weight, rng.random() * total, side="right"))
            weights = np.diff(up_to_weight, prepend=0)
            yield from (int(index) for index in rng.permutation(len(weights)) if weights[index] > 0)

    def _source_image(self, index: int) -> SourceImage:
        record = self._records[index]
        annotations = self._annotations_of_image.get(record.id, ())
        return SourceImage(
            index=index,
            record=record,
            path=self._paths[index],
            annotations=tuple(annotations),
            class_ids=tuple(self._class_of_category[item.category_id] for item in annotations),
        )


def evaluation_tasks(coco: CocoFile, image_dir: Path, spec: PreprocessSpec) -> list[EvalTask]:
    """One task per image, in file order. Raises DatasetError when a file name leads out of ``image_dir``."""
    return [EvalTask(record, image_path(image_dir, record.file_name), spec) for record in coco.images]


def _group_without_crowds(coco: CocoFile) -> Mapping[Id, Sequence[Annotation]]:
    groups: dict[Id, list[Annotation]] = defaultdict(list)
    for annotation in coco.annotations:
        if not annotation.iscrowd:
            groups[annotation.image_id].append(annotation)
    return groups


def _segment(annotation: Annotation, record: ImageRecord) -> Segment:
    if isinstance(annotation.segmentation, Mapping):
        return annotation_to_rle(annotation, record.height, record.width)
    return tuple(np.array(part, np.float64).reshape(-1, 2) for part in annotation.segmentation)
