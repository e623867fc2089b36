"""An exported directory: what ``inference.yml`` says, and a runtime for the graphs beside it.

A directory holds one or both of two graphs over the same parameters. ``inference.json``
(``inference.pdmodel`` before Paddle 3) is the official one: it pastes every mask to the size of the original
picture itself. ``network.json`` is the network alone; its masks stay small, and it is preferred where
present: 300 full-size masks of a photograph of 12 megapixels take 14 GB.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml
from numpy.typing import NDArray

from paddlex_seg.cores import num_usable_cores
from paddlex_seg.errors import BackendError
from paddlex_seg.structures import MaskFrame, PreprocessSpec

RunMode = Literal["paddle", "mkldnn"]
INPUT_NAMES = ("image", "im_shape", "scale_factor")
INTERPOLATION_NAMES = ("NEAREST", "LINEAR", "BICUBIC", "AREA", "LANCZOS4")  # PaddleX's, by OpenCV's number


@dataclass(frozen=True)
class ExportedSpec:
    """What ``inference.yml`` says of an exported model."""

    model_name: str
    arch: str  # DETR, RCNN, PPYOLOE or SOLOv2
    min_subgraph_size: int  # for TensorRT in Paddle's deployment code
    labels: tuple[str, ...]  # name of each class index
    preprocess: PreprocessSpec
    draw_threshold: float
    mask_frame: MaskFrame = "image"  # what the small masks of network.json hold


def write_inference_yml(path: Path, spec: ExportedSpec) -> None:
    """Write ``inference.yml`` as PaddleX 3 and Paddle's deployment code read it.

    ``mask_frame`` is an addition of ours, which they ignore.
    """
    document = {
        "mode": "paddle",
        "draw_threshold": spec.draw_threshold,
        "metric": "COCO",
        "use_dynamic_shape": spec.preprocess.keep_ratio,
        "Global": {"model_name": spec.model_name},
        "arch": spec.arch,
        "min_subgraph_size": spec.min_subgraph_size,
        "mask": True,
        "mask_frame": spec.mask_frame,
        "Preprocess": _preprocess_to_operators(spec.preprocess),
        "label_list": list(spec.labels),
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def read_inference_yml(path: Path) -> ExportedSpec:
    """What ``inference.yml`` says, written by us or by PaddleX. Raises BackendError with all its problems."""
    document = _load_yaml(path)
    problems: list[str] = []
    spec = ExportedSpec(
        model_name=_read_model_name(document),
        arch=str(document.get("arch", "")),
        min_subgraph_size=_read_count(document, "min_subgraph_size", 3, problems),
        labels=_read_labels(document, problems),
        preprocess=_operators_to_preprocess(document.get("Preprocess"), problems),
        draw_threshold=_read_threshold(document, problems),
        mask_frame=_read_mask_frame(document, problems),
    )
    if problems:
        raise BackendError(f"{path}: {'; '.join(problems)}. Export the model again, or correct the file.")
    return spec


class PaddleBackend:
    """An exported graph that runs: arrays in, arrays out. One thread at a time may use it."""

    def __init__(self, model_dir: Path, device: str = "cpu", run_mode: RunMode = "paddle") -> None:
        """Load a graph of ``model_dir`` for ``device``: cpu, gpu or gpu:<id>.

        run_mode: ``mkldnn`` turns oneDNN on for the CPU. It is off by default, because some oneDNN kernels
        end the process when a graph finds nothing. Raises BackendError when files are missing or damaged, or
        the device cannot be used.
        """
        graph = find_graph(model_dir)
        self._run_mode = run_mode
        self.pasted_masks = graph.stem != "network"
        config = _inference_config(graph, model_dir / "inference.pdiparams", device, run_mode)
        self._predictor = _create_predictor(config, graph)
        names = self._predictor.get_input_names()
        if sorted(names) != sorted(INPUT_NAMES):
            raise BackendError(
                f"{graph}: the graph takes {', '.join(names)}; expected {', '.join(INPUT_NAMES)}. It is not "
                "an exported instance segmentation model."
            )
        if (found := len(self._predictor.get_output_names())) not in (3, 4):
            raise BackendError(
                f"{graph}: the graph gives {found} outputs; expected 3 (boxes, their number, masks), or "
                "the 4 of SOLOv2 (number, labels, scores, masks). This kind of model is not supported."
            )

    def run(
        self,
        image: NDArray[np.float32],
        im_shape: NDArray[np.float32],
        scale_factor: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.integer], NDArray]:
        """Boxes [N, 6] (class, score, xyxy of the original picture), their number per picture [B], and masks.

        image: [B, 3, H, W]; im_shape, scale_factor: [B, 2]. Masks are float32 [N, h, w], or with
        ``pasted_masks`` integers [N, height, width] of the largest original picture of the batch. Raises
        BackendError when Paddle's runtime cannot run the graph.
        """
        for name, array in zip(INPUT_NAMES, (image, im_shape, scale_factor), strict=True):
            handle = self._predictor.get_input_handle(name)
            handle.reshape(array.shape)
            handle.copy_from_cpu(np.ascontiguousarray(array, np.float32))
        try:
            self._predictor.run()
        except (RuntimeError, NotImplementedError, ValueError) as error:
            advice = " Set Predict.kernel_option.run_mode=paddle." if self._run_mode == "mkldnn" else ""
            raise BackendError(
                f"Paddle's runtime could not run the model with run_mode {self._run_mode}: {error}{advice}"
            ) from error
        outputs = [
            self._predictor.get_output_handle(name).copy_to_cpu()
            for name in self._predictor.get_output_names()
        ]
        if len(outputs) == 4:
            bbox_num, labels, scores, mask = outputs
            return _rows_around_masks(labels, scores, mask), bbox_num, mask
        bbox, bbox_num, mask = outputs
        return bbox, bbox_num, mask


def _rows_around_masks(labels: NDArray, scores: NDArray, masks: NDArray) -> NDArray[np.float32]:
    """Rows [N, 6] of ``PaddleBackend.run`` with boxes around full-size masks [N, H, W]; all 0 if empty."""
    edges = []
    for other_axis in (1, 2):  # x, then y
        line: NDArray[np.bool_] = np.max(masks, axis=other_axis, initial=0) > 0
        is_empty = np.logical_not(line.max(axis=1))
        begin, end = line.argmax(axis=1), line.shape[1] - line[:, ::-1].argmax(axis=1)
        edges.append((np.where(is_empty, 0, begin), np.where(is_empty, 0, end)))
    (left, right), (top, bottom) = edges
    return np.stack([labels, scores, left, top, right, bottom], axis=1).astype(np.float32)


def find_graph(model_dir: Path) -> Path:
    """The graph file to run. Raises BackendError saying which file of an exported directory is missing."""
    if not model_dir.is_dir():
        raise BackendError(
            f"{model_dir}: there is no such folder. Export a model, or correct Predict.model_dir."
        )
    graphs = [model_dir / name for name in ("network.json", "inference.json", "inference.pdmodel")]
    present = [graph for graph in graphs if graph.is_file()]
    missing = [name for name in ("inference.yml", "inference.pdiparams") if not (model_dir / name).is_file()]
    if not present:
        missing.append("inference.json (or network.json, inference.pdmodel)")
    if missing:
        raise BackendError(
            f"{model_dir}: {', '.join(missing)} missing. Expected a folder that mode export wrote; copy all "
            "its files, or export again."
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
            f"Device {device} was asked for, but the installed PaddlePaddle is the build for the CPU. Use "
            "cpu, or install paddlepaddle-gpu."
        )


def _create_predictor(config: Any, graph: Path) -> Any:
    """A predictor; Paddle reports damaged files by many kinds of exceptions with a C++ trace in the text."""
    from paddle import inference

    try:
        return inference.create_predictor(config)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BackendError(
            f"{graph}: Paddle cannot load it ({lines[-1] if lines else type(error).__name__}). The file is "
            "damaged, does not fit inference.pdiparams, or is of a newer Paddle. Export the model again."
        ) from error


def _load_yaml(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BackendError(f"{path}: the file is missing. Export the model again.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BackendError(f"{path}: cannot be read ({error}). Export the model again.") from error
    if not isinstance(document, Mapping):
        raise BackendError(f"{path}: holds no keys. Export the model again.")
    return document


def _read_model_name(document: Mapping[str, Any]) -> str:
    section = document.get("Global")
    return str(section.get("model_name", "")) if isinstance(section, Mapping) else ""


def _read_labels(document: Mapping[str, Any], problems: list[str]) -> tuple[str, ...]:
    labels = document.get("label_list")
    if not isinstance(labels, list) or not labels:
        problems.append(f"label_list is {labels!r}, expected a list of class names")
        return ()
    return tuple(map(str, labels))


def _read_threshold(document: Mapping[str, Any], problems: list[str]) -> float:
    threshold = document.get("draw_threshold")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        problems.append(f"draw_threshold is {threshold!r}, expected a number from 0 to 1")
        return 0.0
    return float(threshold)


def _read_count(section: Mapping[str, Any], key: str, default: int, problems: list[str]) -> int:
    value = section.get(key, default)
    if type(value) is not int:
        problems.append(f"{key} is {value!r}, expected a whole number")
        return default
    return value


def _read_mask_frame(document: Mapping[str, Any], problems: list[str]) -> MaskFrame:
    frame = document.get("mask_frame", "image")
    if frame not in get_args(MaskFrame):
        problems.append(f"mask_frame is {frame!r}, expected one of {', '.join(get_args(MaskFrame))}")
        return "image"
    return frame


def _preprocess_to_operators(spec: PreprocessSpec) -> list[dict[str, Any]]:
    """The operators of PaddleX, each with its arguments in alphabetical order."""
    resize = {
        "interp": spec.interpolation,
        "keep_ratio": spec.keep_ratio,
        "target_size": list(spec.size_hw),
        "type": "Resize",
    }
    normalize = {
        "is_scale": True,
        "mean": list(spec.mean),
        "norm_type": "mean_std",
        "std": list(spec.std),
        "type": "NormalizeImage",
    }
    geometry = [normalize, resize] if spec.normalize_first else [resize, normalize]
    padding = [{"stride": spec.pad_stride, "type": "PadStride"}] if spec.pad_stride > 0 else []
    return [*geometry, {"type": "Permute"}, *padding]


def _operators_to_preprocess(operators: Any, problems: list[str]) -> PreprocessSpec:
    unknown = PreprocessSpec(size_hw=(0, 0))
    if not isinstance(operators, list) or not all(isinstance(one, Mapping) for one in operators):
        problems.append("Preprocess is no list of operators")
        return unknown
    order = [str(one.get("type")) for one in operators]
    by_type = dict(zip(order, operators, strict=True))
    unsupported = set(order) - {"Resize", "NormalizeImage", "Permute", "PadStride"}
    missing = {"Resize", "NormalizeImage", "Permute"} - set(order)
    if unsupported or missing or len(by_type) != len(order):
        problems.append(
            f"Preprocess has {', '.join(order) or 'no operators'}; expected Resize, NormalizeImage and "
            "Permute once each, and optionally PadStride"
        )
        return unknown
    size_hw = _read_size(by_type["Resize"].get("target_size"), problems)
    mean, std = _read_mean_std(by_type["NormalizeImage"], problems)
    return PreprocessSpec(
        size_hw=size_hw,
        keep_ratio=bool(by_type["Resize"].get("keep_ratio", False)),
        interpolation=_read_interpolation(by_type["Resize"].get("interp", 2), problems),
        mean=mean,
        std=std,
        pad_stride=_read_count(by_type.get("PadStride", {"stride": 0}), "stride", 32, problems),
        normalize_first=order.index("NormalizeImage") < order.index("Resize"),
    )


def _read_size(size: Any, problems: list[str]) -> tuple[int, int]:
    if (
        not isinstance(size, list)
        or len(size) != 2
        or not all(type(side) is int and side > 0 for side in size)
    ):
        problems.append(f"Resize.target_size is {size!r}, expected [height, width] in pixels")
        return 0, 0
    return size[0], size[1]


def _read_interpolation(value: Any, problems: list[str]) -> int:
    if isinstance(value, str) and value.upper() in INTERPOLATION_NAMES:
        return INTERPOLATION_NAMES.index(value.upper())
    if type(value) is int and 0 <= value < len(INTERPOLATION_NAMES):
        return value
    problems.append(f"Resize.interp is {value!r}, expected 0..4 or one of {', '.join(INTERPOLATION_NAMES)}")
    return 2


def _read_mean_std(operator: Mapping[str, Any], problems: list[str]) -> tuple[Any, Any]:
    """Mean and std for values in [0, 1]; without ``is_scale`` the file's are for values 0..255.

    Left out, they are ImageNet's, as in PaddleX.
    """
    if (norm_type := operator.get("norm_type")) not in (None, "none", "mean_std"):
        problems.append(f"NormalizeImage.norm_type is {norm_type!r}, expected none or mean_std")
    scale = 1.0 if operator.get("is_scale", True) else 255.0
    triples = []
    for name, default in (("mean", [0.485, 0.456, 0.406]), ("std", [0.229, 0.224, 0.225])):
        values = operator.get(name, default)
        if not isinstance(values, list) or len(values) != 3 or not _are_numbers(values):
            problems.append(f"NormalizeImage.{name} is {values!r}, expected three numbers")
            values = [1.0] * 3
        triples.append(tuple(float(value) / scale for value in values))
    if 0.0 in triples[1]:
        problems.append("NormalizeImage.std has a zero")
    return triples[0], triples[1]


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
