"""Prediction: yields a result for each image, with any `structures.Backend`."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.data.preprocess import NetworkInput, collate, preprocess
from paddlex_seg.errors import BackendError, ConfigError
from paddlex_seg.files.names import printable
from paddlex_seg.files.written import WrittenFiles
from paddlex_seg.inference.ahead import are_files, one_ahead
from paddlex_seg.inference.backends.base import find_instances, fitting_batch_size
from paddlex_seg.inference.backends.open import open_backend
from paddlex_seg.inference.mask_forms import MaskForm, check_mask_form
from paddlex_seg.inference.results import Result, clip_to_image
from paddlex_seg.inference.sources import BadInput, Input, LoadedImage, read_inputs
from paddlex_seg.inference.thresholds import Threshold, class_thresholds
from paddlex_seg.runtime.network import network
from paddlex_seg.structures import Backend, BackendName, Bands, Instances, Precision, RunMode

LOGGER = logging.getLogger(__name__)


def open_predictor(
    model_dir: Path | str,
    device: str = "cpu",
    run_mode: RunMode = "paddle",
    batch_size: int = 1,
    threshold: Threshold | None = None,
    backend: BackendName = "paddle",
    precision: Precision = "f32",
) -> "Predictor":
    """A predictor for the exported model in ``model_dir``, written by mode export or by PaddleX.

    threshold: keep instances with a higher score; None, and for classes that are not named, uses the
    ``draw_threshold`` in inference.yml. See `open_backend` for device, run_mode, backend and precision,
    `Predictor` for batch_size. Raises the errors of `open_backend`, and ConfigError for a wrong threshold.
    """
    opened = open_backend(Path(model_dir), backend, device=device, run_mode=run_mode, precision=precision)
    return Predictor(
        opened,
        labels=opened.spec.labels,
        thresholds=(threshold, *opened.spec.thresholds),
        batch_size=batch_size,
        max_detections=opened.spec.max_detections,
        whole_masks=opened.spec.arch == "SOLOv2",
    )


@dataclass(frozen=True)
class _Prepared:
    image: LoadedImage
    input: NetworkInput


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
        whole_masks: bool = False,
    ) -> None:
        """Predict with ``backend``. labels: the class names.

        thresholds: the levels of `class_thresholds`. batch_size: images per call of the backend; results do
        not depend on it. max_detections: how many objects the backend finds in an image at most; an image
        with as many is logged. whole_masks: dense masks are of the whole image, as PaddleX gives for SOLOv2.
        """
        assert batch_size >= 1, batch_size
        self._backend = backend
        self.labels = tuple(labels)
        self._thresholds = tuple(thresholds)
        class_thresholds(self._thresholds, self.labels)
        self.max_detections = max_detections
        self._whole_masks = whole_masks
        self._batch_size = fitting_batch_size(backend, batch_size)
        self._written = WrittenFiles()

    @property
    def bands(self) -> Bands | None:
        """Which bands of a file become red, green and blue, and how; None: files are read as any image."""
        return self._backend.preprocess.bands

    def predict(
        self,
        input: Input,
        batch_size: int | None = None,
        threshold: Threshold | None = None,
        masks: str = "rle",
    ) -> Iterator[Result]:
        """Yield a result for each image, in the order of the input; see `sources.Input`.

        Arrays are uint8 [H, W, 3] in BGR order, as from OpenCV and as in PaddleX. Files are read with the
        bands that the model was trained with (`structures.Bands`); arrays are taken as they are. An input
        that cannot be used gives a result with ``error`` in its place, and a warning in the log. batch_size,
        threshold: for this call. masks: the form of the masks, see `mask_forms.mask_entries`. Raises
        ConfigError at once for a setting that is wrong.
        """
        thresholds = class_thresholds((threshold, *self._thresholds), self.labels)
        read = read_inputs(input, network=network(), bands=self.bands, written=self._written)
        images: Iterator[_Prepared | BadInput] = map(self._prepared, read)
        return self._predict_images(
            one_ahead(images) if are_files(input) else images,
            self._size_of_batch(batch_size),
            thresholds,
            check_mask_form(masks),
        )

    def _predict_images(
        self,
        images: Iterator["_Prepared | BadInput"],
        batch_size: int,
        thresholds: NDArray[np.float32],
        masks: MaskForm,
    ) -> Iterator[Result]:
        tables: set[Path] = set()
        for batch in _batches(images, batch_size):
            found = iter(
                self._find_instances([one for one in batch if isinstance(one, _Prepared)], thresholds)
            )
            for one in batch:
                if isinstance(one, BadInput):
                    yield self._error(one, one.problem)
                    continue
                image, instances = one.image, next(found)
                if isinstance(instances, str):
                    yield self._error(image, instances)
                    continue
                self._tell_of_limit(image, len(instances))
                yield Result(
                    input_path=image.input_path,
                    page_index=image.page_index,
                    image=image.image,
                    instances=clip_to_image(instances),
                    labels=self.labels,
                    save_name=image.save_name,
                    masks=masks,
                    whole_masks=self._whole_masks,
                    place=image.place,
                    written=self._written,
                    tables=tables,
                )

    def _error(self, image: LoadedImage | BadInput, problem: str) -> Result:
        LOGGER.warning("Image skipped: %s", printable(problem))
        return Result(
            input_path=image.input_path,
            page_index=image.page_index,
            save_name=image.save_name,
            error=problem,
            place=image.place,
            written=self._written,
        )

    def _size_of_batch(self, wanted: int | None) -> int:
        if wanted is None:
            return self._batch_size
        if type(wanted) is not int or wanted < 1:
            raise ConfigError(f"batch_size is {wanted!r}; expected a number of images, 1 or more.")
        return fitting_batch_size(self._backend, wanted)

    def _prepared(self, image: LoadedImage | BadInput) -> "_Prepared | BadInput":
        if isinstance(image, BadInput):
            return image
        return _Prepared(image, preprocess(image.image, self._backend.preprocess))

    def _find_instances(
        self, batch: Sequence["_Prepared"], thresholds: NDArray[np.float32]
    ) -> list[Instances | str]:
        """The instances of each image, or the message of the backend when it cannot run with an image."""
        if not batch:
            return []
        inputs = collate([one.input for one in batch])
        sizes = [(one.image.image.shape[0], one.image.image.shape[1]) for one in batch]
        try:
            found = find_instances(self._backend, inputs, sizes, score_threshold=thresholds)
        except (BackendError, MemoryError) as error:
            if len(batch) > 1:  # the others may be good
                return [one for image in batch for one in self._find_instances([image], thresholds)]
            return [str(error) or "There is not enough memory for this image."]
        self._check_classes(found)
        return list(found)

    def _tell_of_limit(self, image: LoadedImage, found: int) -> None:
        if found == self.max_detections:
            LOGGER.warning(
                "%s: %d objects, as many as this model gives, so some may be missing. Export the model again "
                "with a higher Global.max_detections, or cut the image into tiles.",
                *(printable(str(image.input_path or "An image in memory")), found),
            )

    def _check_classes(self, found: Sequence[Instances]) -> None:
        largest = max((int(one.class_ids.max()) for one in found if len(one)), default=-1)
        if largest >= len(self.labels):
            raise BackendError(
                f"The model found class index {largest}, but label_list in inference.yml has "
                f"{len(self.labels)} names. The files are from different models. Export the model again."
            )


def _batches(images: Iterator[_Prepared | BadInput], batch_size: int) -> Iterator[list[_Prepared | BadInput]]:
    """Batches of images with their network inputs, and bad inputs. All inputs of a batch have the same size.

    Padding an input to the size of another one would change the values near its edges. The result of an
    image would then depend on the other images in its batch.
    """
    batch: list[_Prepared | BadInput] = []
    shapes: set[tuple[int, ...]] = set()
    for image in images:
        if isinstance(image, _Prepared):
            if shapes and image.input.image.shape not in shapes:
                yield batch
                batch, shapes = [], set()
            shapes.add(image.input.image.shape)
        batch.append(image)
        if len(batch) == batch_size:
            yield batch
            batch, shapes = [], set()
    if batch:
        yield batch
