"""Prediction: yields a result for each image, with any `structures.Backend`."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.preprocess import NetworkInput, collate, preprocess
from paddlex_seg.errors import BackendError
from paddlex_seg.files.names import printable
from paddlex_seg.files.written import WrittenFiles
from paddlex_seg.inference.backends.base import find_instances, fitting_batch_size
from paddlex_seg.inference.backends.paddle import PaddleBackend, RunMode
from paddlex_seg.inference.results import Result, clip_to_image
from paddlex_seg.inference.sources import Input, LoadedImage, UnreadableInput, expand_inputs, read_images
from paddlex_seg.inference.thresholds import Threshold, class_thresholds
from paddlex_seg.runtime.network import network
from paddlex_seg.structures import Backend, Bands, Instances

LOGGER = logging.getLogger(__name__)


def open_predictor(
    model_dir: Path | str,
    device: str = "cpu",
    run_mode: RunMode = "paddle",
    batch_size: int = 1,
    threshold: Threshold | None = None,
) -> "Predictor":
    """A predictor for the exported model in ``model_dir``, written by mode export or by PaddleX.

    threshold: keep instances with a higher score; None uses the ``draw_threshold`` in inference.yml. See
    `PaddleBackend` for device and run_mode, `Predictor` for batch_size. Raises BackendError when files are
    missing or damaged, or the device cannot be used.
    """
    backend = PaddleBackend(Path(model_dir), device=device, run_mode=run_mode)
    return Predictor(
        backend,
        labels=backend.spec.labels,
        thresholds=(threshold, backend.spec.draw_threshold),
        batch_size=batch_size,
        max_detections=backend.spec.max_detections,
    )


def warn_of_unreadable(error: UnreadableInput) -> None:
    """Log that an unreadable image is skipped."""
    LOGGER.warning("Image skipped: %s", printable(str(error)))


class Predictor:
    """Predicts images with a loaded model."""

    def __init__(
        self,
        backend: Backend,
        *,
        labels: Sequence[str],
        thresholds: Sequence[Threshold | None] = (0.5,),
        batch_size: int = 1,
        max_detections: int | None = None,
    ) -> None:
        """Predict with ``backend``. labels: the class names.

        thresholds: the levels of `class_thresholds`. batch_size: images per call of the backend; results do
        not depend on it. max_detections: how many objects the backend finds in an image at most; an image
        with as many is logged.
        """
        assert batch_size >= 1, batch_size
        self._backend = backend
        self.labels = tuple(labels)
        self._thresholds = tuple(thresholds)
        class_thresholds(self._thresholds, self.labels)
        self.max_detections = max_detections
        self._batch_size = fitting_batch_size(backend, batch_size)

    @property
    def bands(self) -> Bands | None:
        """Which bands of a file become red, green and blue, and how; None: files are read as any image."""
        return self._backend.preprocess.bands

    def predict(
        self,
        inputs: Input | Sequence[Input],
        threshold: Threshold | None = None,
        on_unreadable: Callable[[UnreadableInput], None] = warn_of_unreadable,
    ) -> Iterator[Result]:
        """Yield one result per image, in the order of ``inputs``.

        inputs: a file, folder, pattern, URL or array, or a list of these. Arrays are uint8 [H, W, 3] in BGR
        order, as from OpenCV and as in PaddleX. Files are read with the bands that the model was trained with
        (`structures.Bands`); arrays are taken as they are. A file that cannot be read is passed to
        ``on_unreadable`` and skipped, and drawings of earlier results are left out. Raises DatasetError at
        once for a folder or pattern without images. Raises DatasetError during iteration when no image at all
        can be read.
        """
        chosen = class_thresholds((threshold, *self._thresholds), self.labels)
        written = WrittenFiles()
        sources = expand_inputs(inputs, written)
        images = read_images(sources, on_unreadable, network(), bands=self.bands)
        return self._predict_images(images, chosen, written)

    def _predict_images(
        self, images: Iterator[LoadedImage], threshold: NDArray[np.float32], written: WrittenFiles
    ) -> Iterator[Result]:
        for batch in self._batches(images):
            for (image, _), instances in zip(batch, self._find_instances(batch, threshold), strict=True):
                self._tell_of_limit(image, len(instances))
                yield Result(
                    input_path=image.input_path,
                    page_index=image.page_index,
                    image=image.image,
                    instances=clip_to_image(instances),
                    labels=self.labels,
                    save_name=image.save_name,
                    written=written,
                )

    def _batches(self, images: Iterator[LoadedImage]) -> Iterator[list[tuple[LoadedImage, NetworkInput]]]:
        """Batches of images with their network inputs. All inputs of a batch have the same size.

        Padding an input to the size of another one would change the values near its edges. The result of an
        image would then depend on the other images in its batch.
        """
        batch: list[tuple[LoadedImage, NetworkInput]] = []
        for image in images:
            network_input = preprocess(image.image, self._backend.preprocess)
            if batch and batch[0][1].image.shape != network_input.image.shape:
                yield batch
                batch = []
            batch.append((image, network_input))
            if len(batch) == self._batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _find_instances(
        self, batch: Sequence[tuple[LoadedImage, NetworkInput]], threshold: NDArray[np.float32]
    ) -> list[Instances]:
        inputs = collate([network_input for _, network_input in batch])
        sizes = [(image.image.shape[0], image.image.shape[1]) for image, _ in batch]
        found = find_instances(self._backend, inputs, sizes, score_threshold=threshold)
        self._check_classes(found)
        return found

    def _tell_of_limit(self, image: LoadedImage, found: int) -> None:
        if found == self.max_detections:
            LOGGER.warning(
                "%s: %d objects, as many as this model gives, so some may be missing. Export the model again "
                "with a higher Global.max_detections, or cut the image into tiles.",
                *(printable(str(image.input_path)), found),
            )

    def _check_classes(self, found: Sequence[Instances]) -> None:
        largest = max((int(one.class_ids.max()) for one in found if len(one)), default=-1)
        if largest >= len(self.labels):
            raise BackendError(
                f"The model found class index {largest}, but label_list in inference.yml has "
                f"{len(self.labels)} names. The files are from different models. Export the model again."
            )
