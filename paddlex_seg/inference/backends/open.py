"""Opens an exported model with one of the libraries that can run it."""

import importlib.util
from pathlib import Path
from typing import Protocol, get_args

from paddlex_seg.errors import BackendError, ConfigError
from paddlex_seg.inference.backends.exported_files import ONNX, find_description, find_files
from paddlex_seg.inference.backends.graph_check import require_sha256
from paddlex_seg.inference.backends.onnx_network import INT8_FILES, OnnxNetwork
from paddlex_seg.inference.backends.onnxruntime import load_onnxruntime
from paddlex_seg.inference.backends.openvino import load_openvino
from paddlex_seg.inference.backends.paddle import PaddleBackend
from paddlex_seg.inference.certificate import require_certified
from paddlex_seg.inference.export_spec import ExportedSpec, read_inference_yml
from paddlex_seg.runtime.environment import NO_PADDLE, require_paddle
from paddlex_seg.structures import Backend, BackendName, Precision, RunMode

__all__ = [
    "BackendName",
    "ExportedBackend",
    "Precision",
    "available_backends",
    "load_backend",
    "open_backend",
]
INSTALLATIONS = {
    "paddle": NO_PADDLE,
    "onnxruntime": "ONNX Runtime is not installed: pip install onnxruntime (or install this package with "
    "its [onnx] extra).",
    "openvino": "OpenVINO is not installed: pip install openvino (or install this package with its "
    "[openvino] extra).",
}
# Mask AP that bf16 costs, of models that were trained here; docs/int8.md says how it was measured. Others are
# not offered: Mask-RT-DETR-S lost 0.13, and nobody has measured the rest.
BF16_COST = {"PP-YOLOE_seg-S": -0.0055}


class ExportedBackend(Backend, Protocol):
    """A loaded exported model. Threads that use it take turns."""

    @property
    def name(self) -> BackendName:
        """The library that runs it."""

    @property
    def spec(self) -> ExportedSpec:
        """The description of the model."""


def open_backend(
    model_dir: Path,
    backend: BackendName = "paddle",
    *,
    device: str = "cpu",
    run_mode: RunMode = "paddle",
    precision: Precision = "f32",
) -> ExportedBackend:
    """Load the exported model in ``model_dir``.

    device, run_mode: see `PaddleBackend`; the other backends run on the CPU. precision: ``bf16`` and ``int8``
    are for the backends that offer them. Raises ConfigError when the library is not installed, and
    BackendError when files are missing or damaged, or the backend cannot do what is asked, and
    CertificateError for a converted file that is not proven.
    """
    if backend != "paddle" and (file := converted_file(model_dir, backend, precision)).is_file():
        require_certified(file, backend)
    opened = load_backend(model_dir, backend, device=device, run_mode=run_mode, precision=precision)
    if precision == "bf16":
        _require_measured(opened.spec.model_name)
    return opened


def load_backend(
    model_dir: Path,
    backend: BackendName,
    *,
    device: str = "cpu",
    run_mode: RunMode = "paddle",
    precision: Precision = "f32",
) -> ExportedBackend:
    """`open_backend` without a certificate or a measured cost, for those who make one."""
    require_installed(backend)
    if backend == "paddle":
        if precision != "f32":
            raise BackendError(
                f"Predict.precision is {precision}, and Predict.backend is paddle, which has only f32. Use "
                "Predict.backend=openvino, or Predict.precision=f32."
            )
        require_paddle()  # its import must find the settings that make it fast
        return PaddleBackend(model_dir, device=device, run_mode=run_mode)
    if device != "cpu":
        raise BackendError(
            f"Global.device is {device}, and Predict.backend is {backend}, which runs on the CPU. Use "
            "Global.device=cpu, or Predict.backend=paddle."
        )
    spec = read_inference_yml(find_description(model_dir))
    return load_onnx(_onnx_file(model_dir, backend, precision), spec, backend, precision)


def load_onnx(
    file: Path, spec: ExportedSpec, backend: BackendName, precision: Precision = "f32"
) -> ExportedBackend:
    """Load a converted network, which may stand elsewhere than its description.

    Raises BackendError when the file is damaged.
    """
    if file.name in spec.sha256:
        require_sha256(file, spec.sha256[file.name])
    load = load_onnxruntime if backend == "onnxruntime" else load_openvino
    return OnnxNetwork(backend, file, spec, load(file, precision))


def available_backends(model_dir: Path) -> list[BackendName]:
    """The backends that are installed and whose files ``model_dir`` has, for float32."""
    return [name for name in get_args(BackendName) if is_installed(name) and _has_files(model_dir, name)]


def is_installed(backend: BackendName) -> bool:
    """Whether the library of a backend is installed. Does not load it."""
    return importlib.util.find_spec(backend) is not None


def require_installed(backend: BackendName) -> None:
    """Raise ConfigError that says how to install the library of a backend, unless it is installed."""
    if not is_installed(backend):
        raise ConfigError(f"Predict.backend is {backend}. {INSTALLATIONS[backend]}")


def _require_measured(model_name: str) -> None:
    """Raise BackendError for a model of which nobody knows that bf16 costs it little."""
    if model_name not in BF16_COST:
        raise BackendError(
            f"Predict.precision is bf16, which is not offered for {model_name or 'a model without a name'}: "
            f"only of {', '.join(BF16_COST)} is it measured that it costs little mask AP, and "
            "Mask-RT-DETR-S lost 0.13. Use Predict.precision=f32. docs/int8.md has the figures."
        )


def _has_files(model_dir: Path, backend: BackendName) -> bool:
    try:
        if backend == "paddle":
            find_files(model_dir)
        else:
            find_description(model_dir)
            _onnx_file(model_dir, backend, "f32")
    except BackendError:
        return False
    return True


def _onnx_file(model_dir: Path, backend: BackendName, precision: Precision) -> Path:
    file = converted_file(model_dir, backend, precision)
    if file.is_file():
        return file
    if precision == "int8":
        also = " -o Export.edge=True" if backend == "onnxruntime" else ""
        raise BackendError(
            f"{file} is missing, which Predict.backend={backend} with Predict.precision=int8 reads. Export "
            f"the model again with -o Export.int8=True{also}, or use Predict.precision=f32. docs/int8.md "
            "says which models have it."
        )
    raise BackendError(
        f"{file} is missing, which Predict.backend={backend} with Predict.precision={precision} reads. "
        "Export the model again where paddle2onnx is installed (the [convert] extra of this package), or "
        "use Predict.backend=paddle. docs/backends.md says more."
    )


def converted_file(model_dir: Path, backend: BackendName, precision: Precision) -> Path:
    """The file that a backend other than Paddle reads. For bf16, it converts while it loads."""
    return model_dir / (INT8_FILES[backend] if precision == "int8" else ONNX)
