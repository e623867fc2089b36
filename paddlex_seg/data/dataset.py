"""A data set picture by picture: tasks that need nothing but themselves, so that any process can do them.

A task holds the few kilobytes of one picture's records and is a call away from its pixels. Worker processes
thus never hold the annotation file, and a sample is the same wherever and whenever it is made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.coco import annotation_to_rle
from paddlex_seg.data.pictures import image_path, load_image
from paddlex_seg.data.preprocess import NetworkInput, preprocess
from paddlex_seg.data.sample import Sample, Segment
from paddlex_seg.data.transforms import Policy, apply
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Annotation, CocoFile, ImageRecord, Polygons, PreprocessSpec


class TrainSample(NamedTuple):
    """A picture to train on, in pixels of the network input, not yet normalised. n may be 0."""

    image: NDArray[np.uint8]  # [H, W, 3] RGB
    boxes_xyxy: NDArray[np.float32]  # [n, 4]
    class_ids: NDArray[np.int64]  # [n], 0-based class index
    masks: NDArray[np.uint8]  # [n, H, W], 0 or 1
    polygons: tuple[Polygons | None, ...]  # n of them, None where only the mask is exact
    image_id: int
    im_shape: NDArray[np.float32]  # [2], height and width
    scale_factor: NDArray[np.float32]  # [2], im_shape / size of the picture in its file


@dataclass(frozen=True)
class TrainTask:
    """All it takes to make one training sample. ``annotations`` are without crowds."""

    record: ImageRecord
    path: Path
    annotations: tuple[Annotation, ...]
    class_ids: tuple[int, ...]  # 0-based class index of each annotation
    policies: tuple[Policy, ...]
    entropy: tuple[int, int, int]  # seed, epoch, index

    def __call__(self) -> TrainSample:
        """The sample. Raises DatasetError when the picture is unreadable or of another size than recorded."""
        image = load_image(self.path, size_hw=(self.record.height, self.record.width))
        segments = [_segment(annotation, self.record) for annotation in self.annotations]
        sample = Sample.from_source(image, segments, self.class_ids)
        rendered = apply(self.policies, sample, np.random.default_rng(self.entropy)).render()
        im_shape = np.array(rendered.image.shape[:2], np.float32)
        source_shape = np.array(image.shape[:2], np.float32)
        return TrainSample(
            image=rendered.image,
            boxes_xyxy=rendered.boxes_xyxy,
            class_ids=rendered.class_ids,
            masks=rendered.masks,
            polygons=rendered.polygons,
            image_id=self.record.id,
            im_shape=im_shape,
            scale_factor=im_shape / source_shape,
        )


@dataclass(frozen=True)
class EvalTask:
    """All it takes to prepare one picture for evaluation."""

    record: ImageRecord
    path: Path
    spec: PreprocessSpec

    def __call__(self) -> NetworkInput:
        """The network's input. Raises DatasetError as ``TrainTask`` does."""
        image = load_image(self.path, size_hw=(self.record.height, self.record.width))
        return preprocess(image, self.spec)


class TrainingSet:
    """The pictures of ``coco`` as training samples. Pictures without objects stay; crowds are left out.

    The class index of a category is its position in ``coco.categories``. What a sample looks like depends on
    the seed, the epoch, its index and the one of ``resizes`` that its batch takes, the last of its policies.
    ``spec`` says how its image is normalised and padded in the batch. Raises DatasetError when there are no
    pictures, or a file name leads out of ``image_dir``.
    """

    def __init__(
        self,
        coco: CocoFile,
        image_dir: Path,
        policies: Sequence[Policy],
        resizes: Sequence[Policy],
        spec: PreprocessSpec,
        seed: int,
    ) -> None:
        if not coco.images:
            raise DatasetError(
                f"{coco.path}: lists no images; training needs at least one. Add pictures to the file."
            )
        self.resizes, self.spec, self.seed = tuple(resizes), spec, seed
        self._policies = tuple(policies)
        self._records = coco.images
        self._paths = [image_path(image_dir, record.file_name) for record in coco.images]
        self._annotations_of_image = _group_without_crowds(coco)
        self._class_of_category = {category.id: index for index, category in enumerate(coco.categories)}

    def __len__(self) -> int:
        return len(self._records)

    def file_name(self, index: int) -> str:
        """The name of picture ``index`` as the annotation file has it, for messages."""
        return self._records[index].file_name

    def task(self, epoch: int, index: int, resize: Policy) -> TrainTask:
        """What to do for picture ``index``, to be sent to a worker."""
        record = self._records[index]
        annotations = self._annotations_of_image.get(record.id, ())
        return TrainTask(
            record=record,
            path=self._paths[index],
            annotations=tuple(annotations),
            class_ids=tuple(self._class_of_category[item.category_id] for item in annotations),
            policies=(*self._policies, resize),
            entropy=(self.seed, epoch, index),
        )


def evaluation_tasks(coco: CocoFile, image_dir: Path, spec: PreprocessSpec) -> list[EvalTask]:
    """A task for each picture, in file order. Raises DatasetError when a name leads out of ``image_dir``."""
    return [EvalTask(record, image_path(image_dir, record.file_name), spec) for record in coco.images]


def _group_without_crowds(coco: CocoFile) -> Mapping[int, Sequence[Annotation]]:
    groups: dict[int, list[Annotation]] = defaultdict(list)
    for annotation in coco.annotations:
        if not annotation.iscrowd:
            groups[annotation.image_id].append(annotation)
    return groups


def _segment(annotation: Annotation, record: ImageRecord) -> Segment:
    if isinstance(annotation.segmentation, Mapping):
        return annotation_to_rle(annotation, record.height, record.width)
    return tuple(np.array(part, np.float64).reshape(-1, 2) for part in annotation.segmentation)
