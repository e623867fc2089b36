"""Prediction with an exported model: pictures in, results out, one after the other."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from paddlex_seg.data.preprocess import NetworkInput, collate, preprocess
from paddlex_seg.errors import BackendError, DatasetError
from paddlex_seg.inference.exported import PaddleBackend, RunMode, read_inference_yml
from paddlex_seg.inference.results import Result, clip_to_picture
from paddlex_seg.inference.sources import Input, Picture, expand_inputs, read_pictures
from paddlex_seg.masks.paste import detections_to_instances, sorted_instances
from paddlex_seg.runtime.network import network
from paddlex_seg.structures import Instances, Rle

LOGGER = logging.getLogger(__name__)


def warn_of_unreadable(error: DatasetError) -> None:
    """Log that a picture is left out."""
    LOGGER.warning("Left out: %s", error)


class Predictor:
    """An exported model, ready for pictures."""

    def __init__(
        self,
        model_dir: Path | str,
        device: str = "cpu",
        run_mode: RunMode = "paddle",
        batch_size: int = 1,
        threshold: float | None = None,
    ) -> None:
        """Load a folder that mode export or PaddleX wrote. Raises BackendError when that fails.

        threshold: keep what scores more than this; None takes the ``draw_threshold`` stored with the model.
        batch_size: pictures that the network sees at once; results do not depend on it.
        """
        assert batch_size >= 1, batch_size
        model_dir = Path(model_dir)
        self._backend = PaddleBackend(model_dir, device=device, run_mode=run_mode)
        self.spec = read_inference_yml(model_dir / "inference.yml")
        self.threshold = self.spec.draw_threshold if threshold is None else threshold
        # A graph that pastes the masks makes all of a batch as large as its largest picture.
        self._batch_size = 1 if self._backend.pasted_masks else batch_size

    def predict(
        self,
        inputs: Input | Sequence[Input],
        threshold: float | None = None,
        on_unreadable: Callable[[DatasetError], None] = warn_of_unreadable,
    ) -> Iterator[Result]:
        """One result per picture, in order: files, folders, patterns, URLs, arrays, or a list of these.

        Arrays are uint8 [H, W, 3] in the order blue, green, red, as OpenCV reads them and as in PaddleX. A
        file that cannot be read among others is handed to ``on_unreadable`` and left out. Raises DatasetError
        at once for a folder or pattern without pictures, and while iterating when nothing at all can be read.
        """
        sources = expand_inputs(inputs)
        chosen = self.threshold if threshold is None else threshold
        return self._predict_pictures(read_pictures(sources, on_unreadable, network()), chosen)

    def _predict_pictures(self, pictures: Iterator[Picture], threshold: float) -> Iterator[Result]:
        for batch in self._batches(pictures):
            for (picture, _), instances in zip(batch, self._find_instances(batch, threshold), strict=True):
                yield Result(
                    input_path=picture.input_path,
                    page_index=picture.page_index,
                    image=picture.image,
                    instances=clip_to_picture(instances),
                    labels=self.spec.labels,
                    save_name=picture.save_name,
                )

    def _batches(self, pictures: Iterator[Picture]) -> Iterator[list[tuple[Picture, NetworkInput]]]:
        """Pictures with their network inputs, all of a batch equally large.

        Padding one input to the size of another would change what the network sees near its edges, so that
        results would depend on the company.
        """
        batch: list[tuple[Picture, NetworkInput]] = []
        for picture in pictures:
            network_input = preprocess(picture.image, self.spec.preprocess)
            if batch and batch[0][1].image.shape != network_input.image.shape:
                yield batch
                batch = []
            batch.append((picture, network_input))
            if len(batch) == self._batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _find_instances(
        self, batch: Sequence[tuple[Picture, NetworkInput]], threshold: float
    ) -> list[Instances]:
        image, im_shape, scale_factor = collate([network_input for _, network_input in batch])
        bbox, bbox_num, mask = self._backend.run(image, im_shape, scale_factor)
        bbox, bbox_num, mask = _drop_low_scores(bbox, bbox_num, mask, threshold)
        self._check_classes(bbox)
        sizes = [(picture.image.shape[0], picture.image.shape[1]) for picture, _ in batch]
        if self._backend.pasted_masks:
            return [sorted_instances(bbox, _encode_pasted(mask, sizes[0]), sizes[0])]
        return detections_to_instances(
            bbox,
            bbox_num,
            mask,
            im_shape,
            scale_factor,
            input_hw=image.shape[2:],
            original_sizes=sizes,
            mask_frame=self.spec.mask_frame,
        )

    def _check_classes(self, bbox: NDArray[np.float32]) -> None:
        if len(bbox) and bbox[:, 0].max() >= len(self.spec.labels):
            raise BackendError(
                f"The model found class {int(bbox[:, 0].max())}, but label_list in its inference.yml has "
                f"{len(self.spec.labels)} names. The files are not of the same model; export it again."
            )


def _drop_low_scores(
    bbox: NDArray[np.float32], bbox_num: NDArray[np.integer], mask: NDArray, threshold: float
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray]:
    """Without the rows below the threshold: most of the masks need not be pasted.

    Official graphs also mark rows that are no detection, by class -1 or score 0.
    """
    keep = (bbox[:, 1] > threshold) & (bbox[:, 0] >= 0)
    picture_of_row = np.repeat(np.arange(len(bbox_num)), bbox_num)
    return bbox[keep], np.bincount(picture_of_row[keep], minlength=len(bbox_num)), mask[keep]


def _encode_pasted(masks: NDArray, size_hw: tuple[int, int]) -> list[Rle]:
    """RLE of masks that the graph pasted. Official graphs may lose the last row or column to rounding."""
    encoded = []
    for mask in masks:
        whole = np.zeros(size_hw, np.uint8, order="F")
        part = mask[: size_hw[0], : size_hw[1]]
        whole[: part.shape[0], : part.shape[1]] = part > 0
        rle = coco_mask.encode(whole)
        encoded.append(Rle(size=list(size_hw), counts=rle["counts"]))
    return encoded
