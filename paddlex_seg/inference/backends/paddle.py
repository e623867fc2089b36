"""Runs an exported graph with Paddle Inference, as a `structures.Backend`.

An exported folder has one or both of two graphs with the same parameters. ``inference.json``
(``inference.pdmodel`` before Paddle 3; ``model.json`` or ``model.pdmodel`` of PaddleDetection) is the
official graph: it pastes every mask to the size of the original image. ``network.json`` is only the network,
with small masks. It is preferred if present, as 300 full-size masks of a 12 megapixel image take 14 GB.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.cores import num_usable_cores
from paddlex_seg.errors import BackendError
from paddlex_seg.inference.backends.exported_files import find_files
from paddlex_seg.inference.backends.graph_check import check_graph
from paddlex_seg.inference.backends.official_outputs import official_detections, require_mask_size
from paddlex_seg.inference.backends.onnx_network import INPUT_NAMES, last_line
from paddlex_seg.inference.export_spec import read_inference_yml
from paddlex_seg.structures import BackendName, DetectionArrays, MaskFrame, PreprocessSpec, RunMode

_TENSORRT: Mapping[RunMode, str] = {"trt_fp32": "Float32", "trt_fp16": "Half"}  # Paddle's precisions


class PaddleBackend:
    """A loaded exported graph. Threads that use it take turns."""

    name: BackendName = "paddle"

    def __init__(
        self, model_dir: Path, device: str = "cpu", run_mode: RunMode = "paddle", *, official: bool = False
    ) -> None:
        """Load a graph of ``model_dir`` for ``device``: cpu, gpu or gpu:<id>.

        run_mode: ``mkldnn`` enables oneDNN on the CPU. It is off by default, because some oneDNN kernels
        crash the process when a graph finds nothing. official: load the official graph, also if ours is
        there. Raises BackendError when files are missing or damaged, or the device cannot be used.
        """
        self._files = find_files(model_dir, official=official)
        self.spec = read_inference_yml(self._files.description)
        self._run_mode = run_mode
        self._turn = threading.Lock()  # inputs and outputs of Paddle's predictor belong together
        graph = self._files.graph
        config = _inference_config(
            graph,
            self._files.params,
            device=device,
            run_mode=run_mode,
            min_subgraph_size=self.spec.min_subgraph_size,
        )
        check_graph(self._files, self.spec)
        self._predictor = _create_predictor(config, graph, self._files.params.name, run_mode)
        names = self._input_names = self._predictor.get_input_names()
        # An export without unused inputs has fewer.
        if "image" not in names or not set(names) <= set(INPUT_NAMES):
            raise BackendError(
                f"{graph}: the inputs are {', '.join(names)}; expected {', '.join(INPUT_NAMES)}. This is not "
                "an exported instance segmentation model."
            )
        if (found := len(self._predictor.get_output_names())) not in (3, 4):
            raise BackendError(
                f"{graph}: the graph has {found} outputs; expected 3 (boxes, number of boxes, masks), or 4 "
                "for SOLOv2 (number, labels, scores, masks). This type of model is not supported."
            )

    @property
    def mask_frame(self) -> MaskFrame:
        """How the masks of the loaded graph must be pasted."""
        return "original" if self._files.is_official else self.spec.mask_frame

    @property
    def preprocess(self) -> PreprocessSpec:
        """How an image is converted to the network input."""
        return self.spec.preprocess

    def __call__(
        self,
        image: NDArray[np.float32],
        im_shape: NDArray[np.float32],
        scale_factor: NDArray[np.float32],
    ) -> DetectionArrays:
        """See `structures.Backend`. Raises BackendError when Paddle Inference cannot run the graph."""
        with self._turn:
            outputs = self._run(dict(zip(INPUT_NAMES, (image, im_shape, scale_factor), strict=True)))
        if not self._files.is_official:
            return DetectionArrays(*outputs)
        try:
            detections = official_detections(outputs, num_images=len(image))
            if len(image) == 1:
                height, width = np.round(im_shape[0] / scale_factor[0]).astype(int).tolist()
                require_mask_size(detections.mask, (height, width))
            return detections
        except ValueError as problem:
            raise BackendError(
                f"{self._files.graph}: {problem}. Use the export of an instance segmentation model."
            ) from problem

    def _run(self, arrays: Mapping[str, NDArray[np.float32]]) -> list[NDArray]:
        for name in self._input_names:
            handle = self._predictor.get_input_handle(name)
            handle.reshape(arrays[name].shape)
            handle.copy_from_cpu(np.ascontiguousarray(arrays[name], np.float32))
        try:
            self._predictor.run()
        except (RuntimeError, NotImplementedError, ValueError) as error:
            advice = " Set Predict.kernel_option.run_mode=paddle." if self._run_mode == "mkldnn" else ""
            raise BackendError(
                f"Paddle Inference could not run the model with run_mode {self._run_mode}: {error}{advice}"
            ) from error
        names = self._predictor.get_output_names()
        return [self._predictor.get_output_handle(name).copy_to_cpu() for name in names]


def _inference_config(
    graph: Path, params: Path, *, device: str, run_mode: RunMode, min_subgraph_size: int
) -> Any:
    from paddle import inference

    config = inference.Config(str(graph), str(params))
    kind, _, index = device.partition(":")
    if kind == "gpu" and (not index or index.isdigit()):
        _require_cuda(device)
        initial_memory_mb = 256
        config.enable_use_gpu(initial_memory_mb, int(index or 0))
        if run_mode in _TENSORRT:
            _use_tensorrt(config, _TENSORRT[run_mode], min_subgraph_size)
    elif device == "cpu":
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(num_usable_cores())
        if run_mode == "mkldnn":
            config.enable_mkldnn()
        elif run_mode in _TENSORRT:
            raise BackendError(
                f"Predict.kernel_option.run_mode is {run_mode}, which is for GPUs, and the device is "
                f"{device}. Use run_mode=paddle."
            )
        else:
            config.disable_mkldnn()
    else:
        raise BackendError(f"Device {device!r} cannot run exported models; use cpu, gpu or gpu:<number>.")
    config.disable_glog_info()
    return config


def _use_tensorrt(config: Any, precision: str, min_subgraph_size: int) -> None:
    """Let TensorRT run what it can of a graph. Was not tried on a GPU: see docs/backends.md.

    Paddle measures the ranges of shapes at the first run, and builds the engines then.
    """
    from paddle import inference

    if not any(inference.get_trt_compile_version()):
        raise BackendError(
            "Predict.kernel_option.run_mode asks for TensorRT, and the installed PaddlePaddle was built "
            "without it. Use run_mode=paddle, or install a build of PaddlePaddle with TensorRT."
        )
    config.enable_tensorrt_engine(
        workspace_size=1 << 30,  # bytes
        max_batch_size=1,
        min_subgraph_size=min_subgraph_size,
        precision_mode=getattr(inference.PrecisionType, precision),
        use_static=False,
        use_calib_mode=False,
    )
    config.enable_tuned_tensorrt_dynamic_shape()


def _require_cuda(device: str) -> None:
    import paddle

    if not paddle.device.is_compiled_with_cuda():
        raise BackendError(
            f"Device {device} is not available: the installed PaddlePaddle supports only the CPU. Use cpu, "
            "or install paddlepaddle-gpu."
        )


def _create_predictor(config: Any, graph: Path, params_name: str, run_mode: RunMode) -> Any:
    """Create Paddle's predictor. For damaged files Paddle raises many types of exceptions with C++ traces."""
    from paddle import inference

    try:
        return inference.create_predictor(config)
    except Exception as error:
        if run_mode != "paddle":  # oneDNN does not load Mask-RT-DETR-S, for example
            raise BackendError(
                f"{graph}: Paddle cannot load it with run_mode {run_mode} ({last_line(error)}). Set "
                "Predict.kernel_option.run_mode=paddle. If that fails, too, the file is damaged."
            ) from error
        raise BackendError(
            f"{graph}: Paddle cannot load it ({last_line(error)}). The file is damaged, does not match "
            f"{params_name}, or was written by a newer Paddle version. Export the model into another folder."
        ) from error
