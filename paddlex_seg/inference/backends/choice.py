"""Which backend ``auto`` means."""

from pathlib import Path

from paddlex_seg.errors import BackendError
from paddlex_seg.inference.backends.open import available_backends
from paddlex_seg.structures import BackendName, Precision

PREFERENCE: tuple[BackendName, ...] = ("openvino", "onnxruntime", "paddle")


def choose_backend(model_dir: Path, precision: Precision = "f32") -> BackendName:
    """The backend to use for the exported model in ``model_dir``. Raises BackendError if there is none."""
    available = available_backends(model_dir)
    for name in PREFERENCE:
        if name in available:
            return name
    raise BackendError(f"{model_dir}: no installed backend can run this model.")
