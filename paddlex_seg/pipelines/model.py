"""A loaded model as users of Python get it."""

import logging
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from paddlex_seg.config.pipeline import ModelSettings
from paddlex_seg.errors import BackendError, PaddlexSegError
from paddlex_seg.inference.backends.exported_files import find_description
from paddlex_seg.inference.backends.open import is_installed
from paddlex_seg.inference.export_spec import read_inference_yml, require_model_name
from paddlex_seg.inference.predictor import Predictor, open_predictor
from paddlex_seg.inference.results import Result
from paddlex_seg.inference.sources import Input
from paddlex_seg.inference.thresholds import Threshold, class_thresholds, threshold_of_classes
from paddlex_seg.pipelines.folders import model_folder, require_known
from paddlex_seg.runtime.environment import require_paddle, writable_home
from paddlex_seg.runtime.stop_signals import held
from paddlex_seg.structures import BackendChoice

LOGGER = logging.getLogger(__name__)


class _Opened:
    """What `Model` and `Pipeline` share. Threads that use one take turns."""

    def __init__(self, settings: ModelSettings, threshold: Threshold | None = None) -> None:
        """Load the model of ``settings``; the official one is downloaded once.

        threshold: comes before the one of the settings, which comes before the one of the model. Raises
        ConfigError for settings that do not fit the model, and BackendError when files or the device cannot
        be used.
        """
        for notice in settings.notices:
            LOGGER.warning(notice)
        wanted = _wanted_backend(settings)
        self.device = _device(wanted, settings)
        folder = model_folder(settings)
        spec = read_inference_yml(find_description(folder))
        name = settings.model_name or spec.model_name
        if settings.model_name is not None:
            if not spec.model_name:
                require_known(name, settings)
            require_model_name(spec, name, folder)
        threshold_of_classes(settings.threshold, spec.labels, settings.place("threshold"))
        thresholds = class_thresholds((threshold, settings.threshold, *spec.thresholds), spec.labels)
        self.model_name = name
        self.thresholds = tuple(thresholds.tolist())  # of each class
        if wanted == "auto":
            # Only here, because it loads the metrics, which take as long to import as all else.
            from paddlex_seg.inference.backends.choice import choose_backend

            # Only OpenVINO offers other precisions.
            is_f32 = settings.precision == "f32"
            wanted = choose_backend(folder, device=self.device) if is_f32 else "openvino"
        self.backend, self.precision = wanted, settings.precision
        self._predictor: Predictor | None = open_predictor(
            folder,
            backend=wanted,
            precision=settings.precision,
            device=self.device,
            run_mode=settings.run_mode,
            batch_size=settings.batch_size,
            threshold=dict(enumerate(thresholds.tolist())),
        )
        self.labels = self._predictor.labels
        self.model_dir = folder
        self.max_detections = self._predictor.max_detections  # in an image; None if unknown
        self.bands = self._predictor.bands  # None: files are read as any image

    def close(self) -> None:
        """Free the memory of the model. It cannot predict afterwards."""
        self._predictor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model_name!r}, device={self.device!r})"

    def _predict(
        self, input: Input, batch_size: int | None, threshold: Threshold | None, masks: str
    ) -> Iterator[Result]:
        if self._predictor is None:
            raise PaddlexSegError(f"{self!r} is closed. Create another one.")
        return self._predictor.predict(input, batch_size=batch_size, threshold=threshold, masks=masks)


class Model(_Opened):
    """A loaded model: ``model_name``, ``device`` (such as ``gpu:0``), ``labels`` (class names) and `predict`.

    Calling the object is `predict`.
    """

    def predict(
        self,
        input: Input,
        batch_size: int | None = None,
        threshold: Threshold | None = None,
        masks: str = "rle",
    ) -> Iterator[Result]:
        """Yield a result for each image of ``input``, in order.

        See `Predictor.predict` for the kinds of input. batch_size, threshold: None uses those with which the
        model was created. masks: ``rle``, ``polygons``, ``crops``, ``png`` or ``dense``, see
        `mask_forms.mask_entries`. An input that cannot be used gives a result with ``error``. Raises
        ConfigError at once for a setting that is wrong.
        """
        return self._predict(input, batch_size, threshold, masks)

    __call__ = predict


class Pipeline(_Opened):
    """As `Model`, with the arguments of `predict` in the order of PaddleX's pipelines."""

    def predict(
        self,
        input: Input,
        threshold: Threshold | None = None,
        batch_size: int | None = None,
        masks: str = "rle",
    ) -> Iterator[Result]:
        """Yield a result for each image of ``input``, in order; see `Model.predict`."""
        return self._predict(input, batch_size, threshold, masks)

    __call__ = predict


def _wanted_backend(settings: ModelSettings) -> BackendChoice:
    """The backend that the settings mean. ``auto`` is left to be chosen."""
    if settings.backend is not None:
        return settings.backend
    # What was asked for by name may need Paddle: then it is named as missing.
    needs_paddle = settings.run_mode != "paddle" or settings.device not in ("auto", "cpu")
    has_other = is_installed("onnxruntime") or is_installed("openvino")
    if needs_paddle or is_installed("paddle") or not has_other:
        return "paddle"
    LOGGER.info("PaddlePaddle is not installed, so backend is auto.")
    return "auto"


def _device(backend: BackendChoice, settings: ModelSettings) -> str:
    """Paddle's name of the device to use. Paddle is loaded only if it may be needed."""
    uses_paddle = backend == "paddle" or (backend == "auto" and is_installed("paddle"))
    if settings.device == "cpu" and backend != "paddle":
        return "cpu"
    if not uses_paddle:
        if settings.device == "auto":
            return "cpu"
        raise BackendError(
            f"{settings.place('device')} is {settings.device}, and the backend is {backend}, which runs on "
            "the CPU. Use the device cpu, or the backend paddle."
        )
    require_paddle()
    with held(), writable_home():  # Paddle makes folders in it when it is imported
        from paddlex_seg.runtime.device import choose_device
    return choose_device(settings.device, settings.place("device"))
