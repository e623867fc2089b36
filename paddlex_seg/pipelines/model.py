"""A loaded model as users of Python get it."""

import logging
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from paddlex_seg.config.pipeline import ModelSettings
from paddlex_seg.errors import PaddlexSegError
from paddlex_seg.inference.backends.exported_files import find_files
from paddlex_seg.inference.export_spec import read_inference_yml, require_model_name
from paddlex_seg.inference.predictor import Predictor, open_predictor
from paddlex_seg.inference.results import Result
from paddlex_seg.inference.sources import Input
from paddlex_seg.inference.thresholds import Threshold, class_thresholds, threshold_of_classes
from paddlex_seg.pipelines.folders import model_folder, require_known
from paddlex_seg.runtime.environment import require_paddle, writable_home

LOGGER = logging.getLogger(__name__)


class _Opened:
    """What `Model` and `Pipeline` share. Threads that use one take turns."""

    def __init__(self, settings: ModelSettings, threshold: Threshold | None = None) -> None:
        """Load the model of ``settings``; the official one is downloaded once.

        threshold: comes before the one of the settings, which comes before the one of the model. Raises
        ConfigError for settings that do not fit the model, and BackendError when files or the device cannot
        be used.
        """
        require_paddle()
        for notice in settings.notices:
            LOGGER.warning(notice)
        with writable_home():  # Paddle makes folders in it when it is imported
            from paddlex_seg.runtime.device import choose_device
        self.device = choose_device(settings.device, settings.place("device"))
        folder = model_folder(settings)
        spec = read_inference_yml(find_files(folder).description)
        name = settings.model_name or spec.model_name
        if settings.model_name is not None:
            if not spec.model_name:
                require_known(name, settings)
            require_model_name(spec, name, folder)
        threshold_of_classes(settings.threshold, spec.labels, settings.place("threshold"))
        thresholds = class_thresholds((threshold, settings.threshold, spec.draw_threshold), spec.labels)
        self.model_name = name
        self._predictor: Predictor | None = open_predictor(
            folder,
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
