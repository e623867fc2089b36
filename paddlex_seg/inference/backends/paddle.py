"""Runs an exported graph with Paddle Inference, as a `structures.Backend`.

An exported folder has one or both of two graphs with the same parameters. ``inference.json``
(``inference.pdmodel`` before Paddle 3) is the official graph: it pastes every mask to the size of the
original image. ``network.json`` is only the network, with small masks. It is preferred if present, as 300
full-size masks of a 12 megapixel image take 14 GB.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.cores import num_usable_cores
from paddlex_seg.errors import BackendError
from paddlex_seg.inference.backends.base import keep_rows
from paddlex_seg.inference.backends.graph_check import check_graph
from paddlex_seg.inference.export_spec import read_inference_yml
from paddlex_seg.structures import DetectionArrays, MaskFrame, PreprocessSpec

RunMode = Literal["paddle", "mkldnn"]
INPUT_NAMES = ("image", "im_shape", "scale_factor")


class PaddleBackend:
    """A loaded exported graph. Only one thread at a time may use it."""

    def __init__(self, model_dir: Path, device: str = "cpu", run_mode: RunMode = "paddle") -> None:
        """Load a graph of ``model_dir`` for ``device``: cpu, gpu or gpu:<id>.

        run_mode: ``mkldnn`` enables oneDNN on the CPU. It is off by default, because some oneDNN kernels
        crash the process when a graph finds nothing. Raises BackendError when files are missing or damaged,
        or the device cannot be used.
        """
        graph = find_graph(model_dir)
        self.spec = read_inference_yml(model_dir / "inference.yml")
        self._run_mode = run_mode
        self._is_official = graph.stem != "network"
        params = model_dir / "inference.pdiparams"
        config = _inference_config(graph, params, device, run_mode)
        check_graph(graph, params, self.spec)
        self._predictor = _create_predictor(config, graph)
        names = self._predictor.get_input_names()
        if sorted(names) != sorted(INPUT_NAMES):
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
        return "original" if self._is_official else self.spec.mask_frame

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
        for name, array in zip(INPUT_NAMES, (image, im_shape, scale_factor), strict=True):
            handle = self._predictor.get_input_handle(name)
            handle.reshape(array.shape)
            handle.copy_from_cpu(np.ascontiguousarray(array, np.float32))
        try:
            self._predictor.run()
        except (RuntimeError, NotImplementedError, ValueError) as error:
            advice = " Set Predict.kernel_option.run_mode=paddle." if self._run_mode == "mkldnn" else ""
            raise BackendError(
                f"Paddle Inference could not run the model with run_mode {self._run_mode}: {error}{advice}"
            ) from error
        outputs = [
            self._predictor.get_output_handle(name).copy_to_cpu()
            for name in self._predictor.get_output_names()
        ]
        if len(outputs) == 4:
            bbox_num, labels, scores, mask = outputs
            outputs = [_rows_around_masks(labels, scores, mask), bbox_num, mask]
        detections = DetectionArrays(*outputs)
        return _without_fillers(detections) if self._is_official else detections


def _without_fillers(detections: DetectionArrays) -> DetectionArrays:
    """Remove the filler rows of official graphs. They have class -1 or score 0."""
    return keep_rows(detections, (detections.bbox[:, 0] >= 0) & (detections.bbox[:, 1] > 0))


def _rows_around_masks(labels: NDArray, scores: NDArray, masks: NDArray) -> NDArray[np.float32]:
    """Rows [N, 6] of `DetectionArrays`, with the boxes of full-size masks [N, H, W]; box 0 if empty."""
    edges = []
    for other_axis in (1, 2):  # x, then y
        line: NDArray[np.bool_] = np.max(masks, axis=other_axis, initial=0) > 0
        is_empty = np.logical_not(line.max(axis=1))
        begin, end = line.argmax(axis=1), line.shape[1] - line[:, ::-1].argmax(axis=1)
        edges.append((np.where(is_empty, 0, begin), np.where(is_empty, 0, end)))
    (left, right), (top, bottom) = edges
    return np.stack([labels, scores, left, top, right, bottom], axis=1).astype(np.float32)


def find_graph(model_dir: Path) -> Path:
    """The graph file to run. Raises BackendError that names the missing files of an exported folder."""
    if not model_dir.is_dir():
        state = "is a file" if model_dir.exists() else "does not exist"
        raise BackendError(
            f"{model_dir} {state}; expected the folder of an exported model. Export a model, or correct "
            "Predict.model_dir."
        )
    graphs = [model_dir / name for name in ("network.json", "inference.json", "inference.pdmodel")]
    present = [graph for graph in graphs if graph.is_file()]
    missing = [name for name in ("inference.yml", "inference.pdiparams") if not (model_dir / name).is_file()]
    if not present:
        missing.append("inference.json (or network.json, inference.pdmodel)")
    if missing:
        inner = model_dir / "inference"
        hint = f" Did you mean Predict.model_dir={inner}?" if (inner / "inference.yml").is_file() else ""
        raise BackendError(
            f"{model_dir}: {', '.join(missing)} missing. Expected a folder written by mode export. Copy all "
            f"its files, or export the model into another folder.{hint}"
        )
    return present[0]


def _inference_config(graph: Path, params: Path, device: str, run_mode: RunMode) -> Any:
    from paddle import inference

    config = inference.Config(str(graph), str(params))
    kind, _, index = device.partition(":")
    if kind == "gpu" and (not index or index.isdigit()):
        _require_cuda(device)
        initial_memory_mb = 256
        config.enable_use_gpu(initial_memory_mb, int(index or 0))
    elif device == "cpu":
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(num_usable_cores())
        if run_mode == "mkldnn":
            config.enable_mkldnn()
        else:
            config.disable_mkldnn()
    else:
        raise BackendError(f"Device {device!r} cannot run exported models; use cpu, gpu or gpu:<number>.")
    config.disable_glog_info()
    return config


def _require_cuda(device: str) -> None:
    import paddle

    if not paddle.device.is_compiled_with_cuda():
        raise BackendError(
            f"Device {device} is not available: the installed PaddlePaddle supports only the CPU. Use cpu, "
            "or install paddlepaddle-gpu."
        )


def _create_predictor(config: Any, graph: Path) -> Any:
    """Create Paddle's predictor. For damaged files Paddle raises many types of exceptions with C++ traces."""
    from paddle import inference

    try:
        return inference.create_predictor(config)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BackendError(
            f"{graph}: Paddle cannot load it ({lines[-1] if lines else type(error).__name__}). The file is "
            "damaged, does not match inference.pdiparams, or was written by a newer Paddle version. Export "
            "the model into another folder."
        ) from error
