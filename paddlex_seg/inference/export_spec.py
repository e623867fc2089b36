"""Reads and writes ``inference.yml``, the description of an exported model, in PaddleX's format.

PaddleDetection calls it ``infer_cfg.yml``. It then has no model name, and some defaults are others.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, get_args

import yaml

from paddlex_seg.data.bands import bands_from_json
from paddlex_seg.errors import BackendError
from paddlex_seg.files.atomic import write_text
from paddlex_seg.inference.thresholds import Threshold
from paddlex_seg.structures import Bands, MaskFrame, PreprocessSpec

OFFICIAL_LIMITS = {"DETR": 100, "RCNN": 100, "PPYOLOE": 300, "SOLOv2": 100}  # of official exports, by arch
# A part of the names of all models of an arch, in upper case.
NAME_PARTS = {"DETR": "DETR", "RCNN": "RCNN", "PPYOLOE": "PP-YOLOE", "SOLOv2": "SOLOV2"}
# PaddleX's names; the index is OpenCV's number.
INTERPOLATION_NAMES = ("NEAREST", "LINEAR", "BICUBIC", "AREA", "LANCZOS4")
_MOST_VALUES = 200_000  # of a description, with all that its aliases stand for
LARGEST_SIDE = 16384  # pixels of a network input; such an image takes 3 GB
ADVICE = "Correct the file, copy the exported folder again, or export the model into another folder."


PADDLEDETECTION_YML = "infer_cfg.yml"


@dataclass(frozen=True)
class _Rules:
    """How a toolkit understands arguments that are missing, and norm_type."""

    keep_ratio: bool
    interp: int
    stride: int
    normalizes_with_none: bool  # whether mean and std are used with ``norm_type: none``


_PADDLEX = _Rules(keep_ratio=False, interp=2, stride=32, normalizes_with_none=True)
_PADDLEDETECTION = _Rules(keep_ratio=True, interp=1, stride=0, normalizes_with_none=False)


@dataclass(frozen=True)
class ExportedSpec:
    """The content of ``inference.yml``."""

    model_name: str  # empty if the file has none, as in those of PaddleDetection
    arch: str  # DETR, RCNN, PPYOLOE or SOLOv2
    min_subgraph_size: int  # used by Paddle's deployment code for TensorRT
    labels: tuple[str, ...]  # name of each class index
    preprocess: PreprocessSpec
    draw_threshold: float
    mask_frame: MaskFrame = "image"  # how the masks of network.json are pasted
    max_detections: int | None = None  # how many objects the model finds in an image at most; None: unknown
    sha256: Mapping[str, str] = field(default_factory=dict)  # of graphs and parameters, by file name
    exported_from: Mapping[str, Any] = field(default_factory=dict)  # the identity of the weights
    # By class index: the best score threshold of a class by an evaluation. Others have ``draw_threshold``.
    class_thresholds: Mapping[int, float] = field(default_factory=dict)

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """The score thresholds of the model, as levels of `class_thresholds`."""
        return (*([self.class_thresholds] if self.class_thresholds else []), self.draw_threshold)


def write_inference_yml(path: Path, spec: ExportedSpec) -> None:
    """Write ``inference.yml`` in the format that PaddleX 3 and Paddle's deployment code read.

    Only this toolkit uses the keys ``mask_frame``, ``max_detections``, ``bands``, ``sha256``,
    ``exported_from`` and ``class_thresholds``.
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
        **({} if spec.max_detections is None else {"max_detections": spec.max_detections}),
        **_bands_section(spec.preprocess.bands),
        "Preprocess": _preprocess_to_operators(spec.preprocess),
        "label_list": list(spec.labels),
    }
    for key in ("sha256", "exported_from"):
        if getattr(spec, key):
            document[key] = dict(getattr(spec, key))
    if spec.class_thresholds:
        document["class_thresholds"] = [spec.class_thresholds.get(k) for k in range(len(spec.labels))]
    write_text(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def write_class_thresholds(path: Path, thresholds: Sequence[float | None]) -> None:
    """Write the score threshold of each class into an ``inference.yml``; all else in it stays.

    thresholds: 0..1, in the order of its labels; None: no own threshold. Raises BackendError if the file
    cannot be read.
    """
    read_inference_yml(path)
    document = dict(_load_yaml(path))
    document["class_thresholds"] = [None if one is None else round(one, 4) for one in thresholds]
    write_text(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def read_inference_yml(path: Path) -> ExportedSpec:
    """Read an ``inference.yml`` of this toolkit or PaddleX, or an ``infer_cfg.yml`` of PaddleDetection.

    Raises BackendError that lists all problems of the file.
    """
    document = _load_yaml(path)
    rules = _PADDLEDETECTION if path.name == PADDLEDETECTION_YML else _PADDLEX
    problems: list[str] = []
    arch = str(document.get("arch", ""))
    spec = ExportedSpec(
        model_name=_read_model_name(document),
        arch=arch,
        min_subgraph_size=_read_count(document, "min_subgraph_size", 3, problems),
        labels=_read_labels(document, problems),
        preprocess=replace(
            _operators_to_preprocess(document.get("Preprocess"), rules, problems),
            bands=_read_bands(document.get("bands"), problems),
        ),
        draw_threshold=_read_threshold(document, problems),
        mask_frame=_read_mask_frame(document, problems),
        max_detections=_read_count(document, "max_detections", OFFICIAL_LIMITS.get(arch, 0), problems)
        or None,
        sha256=_read_sha256(document, problems),
        exported_from=_read_section(document, "exported_from"),
        class_thresholds=_read_class_thresholds(document, problems),
    )
    if problems:
        raise BackendError(f"{path}: {'; '.join(problems)}. {ADVICE}")
    return spec


def require_model_name(spec: ExportedSpec, name: str, model_dir: Path) -> None:
    """Raise BackendError unless ``spec``, of the folder ``model_dir``, may be the model ``name``.

    A description without a model name is of any model of its architecture.
    """
    if spec.model_name and spec.model_name != name:
        raise BackendError(
            f"{model_dir}: the exported model is {spec.model_name} (Global.model_name), and {name} was asked "
            f"for. Set the model name to {spec.model_name}, or name the folder of a {name}."
        )
    if not name_fits_arch(name, spec.arch):
        raise BackendError(
            f"{model_dir}: the exported model has the architecture {spec.arch}, which {name} has not. Set "
            f"the name of a model of {spec.arch}, or name the folder of a {name}."
        )


def name_fits_arch(name: str, arch: str) -> bool:
    """Whether a model name can be of an architecture; True for an unknown one."""
    return NAME_PARTS.get(arch, "") in name.upper()


def _load_yaml(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        _require_bounded(document)
    except FileNotFoundError:
        raise BackendError(f"{path}: the file is missing. {ADVICE}") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: no UTF-8, no date
        raise BackendError(f"{path}: cannot be read ({error}). {ADVICE}") from error
    if not isinstance(document, Mapping):
        raise BackendError(f"{path}: expected a YAML mapping with keys. {ADVICE}")
    return document


class _Loader(yaml.SafeLoader):
    """Without ``<<``, which nobody writes into a description: a few lines of it fill any memory."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "<< is not supported", node.start_mark)


def _require_bounded(document: Any) -> None:
    """Raise ValueError for aliases in aliases: few values in memory, and many more as text."""
    waiting, seen = [document], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > _MOST_VALUES:
            raise ValueError(f"it has more than {_MOST_VALUES:,} values")
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list | set | tuple):
            waiting.extend(value)


def _read_model_name(document: Mapping[str, Any]) -> str:
    section = document.get("Global")
    return str(section.get("model_name", "")) if isinstance(section, Mapping) else ""


def _read_section(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = document.get(key)
    return section if isinstance(section, Mapping) else {}


def _read_labels(document: Mapping[str, Any], problems: list[str]) -> tuple[str, ...]:
    labels = document.get("label_list")
    if (
        not isinstance(labels, list)
        or not labels
        or not all(isinstance(name, str | int | float | date | None) for name in labels)
    ):
        problems.append(f"label_list is {labels!r}, expected a list of class names")
        return ()
    return tuple(map(str, labels))


def _read_threshold(document: Mapping[str, Any], problems: list[str]) -> float:
    threshold = document.get("draw_threshold", 0.5)
    if not _is_threshold(threshold):
        problems.append(f"draw_threshold is {threshold!r}, expected a number from 0 to 1")
        return 0.0
    return float(threshold)


def _read_class_thresholds(document: Mapping[str, Any], problems: list[str]) -> Mapping[int, float]:
    values = document.get("class_thresholds")
    labels = document.get("label_list")
    if values is None:
        return {}
    if not isinstance(values, list) or not isinstance(labels, list) or len(values) != len(labels):
        problems.append(f"class_thresholds is {values!r}, expected a list with a number for each label")
        return {}
    if any(value is not None and not _is_threshold(value) for value in values):
        problems.append(f"class_thresholds is {values!r}, expected numbers from 0 to 1, or null")
        return {}
    return {index: float(value) for index, value in enumerate(values) if value is not None}


def _is_threshold(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _read_count(section: Mapping[str, Any], key: str, default: int, problems: list[str]) -> int:
    value = section.get(key, default)
    if type(value) is not int or value > LARGEST_SIDE:
        problems.append(f"{key} is {value!r}, expected a whole number up to {LARGEST_SIDE}")
        return default
    return value


def _read_mask_frame(document: Mapping[str, Any], problems: list[str]) -> MaskFrame:
    frame = document.get("mask_frame", "image")
    expected = [name for name in get_args(MaskFrame) if name != "original"]  # only official graphs have it
    if frame not in expected:
        problems.append(f"mask_frame is {frame!r}, expected one of {', '.join(expected)}")
        return "image"
    return frame


def _read_sha256(document: Mapping[str, Any], problems: list[str]) -> dict[str, str]:
    checksums = document.get("sha256", {})
    if not isinstance(checksums, Mapping) or not all(isinstance(one, str) for one in checksums.values()):
        problems.append(f"sha256 is {checksums!r}, expected a checksum for each file name")
        return {}
    return {str(name): checksum.lower() for name, checksum in checksums.items()}


def _bands_section(bands: Bands | None) -> dict[str, Any]:
    # Through JSON, because YAML has no tuples.
    return {} if bands is None else {"bands": json.loads(json.dumps(asdict(bands)))}


def _read_bands(values: Any, problems: list[str]) -> Bands | None:
    try:
        return bands_from_json(values)
    except (ValueError, TypeError) as error:
        problems.append(f"bands is {values!r}, expected red, green, blue and range or stretch ({error})")
        return None


def _preprocess_to_operators(spec: PreprocessSpec) -> list[dict[str, Any]]:
    """The list of PaddleX operators, each with its arguments in alphabetical order."""
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


def _operators_to_preprocess(operators: Any, rules: _Rules, problems: list[str]) -> PreprocessSpec:
    unknown = PreprocessSpec(size_hw=(0, 0))
    if not isinstance(operators, list) or not all(isinstance(one, Mapping) for one in operators):
        problems.append(f"Preprocess is {operators!r}, expected a list of operators")
        return unknown
    order = [str(one.get("type")) for one in operators]
    by_type = dict(zip(order, operators, strict=True))
    unsupported = set(order) - {"Resize", "NormalizeImage", "Permute", "PadStride"}
    missing = {"Resize", "Permute"} - set(order)
    if unsupported or missing or len(by_type) != len(order):
        problems.append(
            f"Preprocess has {', '.join(order) or 'no operators'}; expected Resize and Permute once each, "
            "and optionally NormalizeImage and PadStride"
        )
        return unknown
    size_hw = _read_size(by_type["Resize"].get("target_size"), problems)
    # PaddleDetection leaves NormalizeImage out if the graph normalises (TestReader.fuse_normalize).
    unscaled = {"is_scale": False, "mean": [0.0] * 3, "std": [1.0] * 3}
    mean, std = _read_mean_std(by_type.get("NormalizeImage", unscaled), rules, problems)
    return PreprocessSpec(
        size_hw=size_hw,
        keep_ratio=bool(by_type["Resize"].get("keep_ratio", rules.keep_ratio)),
        interpolation=_read_interpolation(by_type["Resize"].get("interp", rules.interp), problems),
        mean=mean,
        std=std,
        pad_stride=_read_count(by_type.get("PadStride", {"stride": 0}), "stride", rules.stride, problems),
        normalize_first="NormalizeImage" in order and order.index("NormalizeImage") < order.index("Resize"),
    )


def _read_size(size: Any, problems: list[str]) -> tuple[int, int]:
    if type(size) is int:  # in files of PaddleDetection: both sides
        size = [size, size]
    if (
        not isinstance(size, list)
        or len(size) != 2
        or not all(type(side) is int and 0 < side <= LARGEST_SIDE for side in size)
    ):
        problems.append(
            f"Resize.target_size is {size!r}, expected [height, width] in pixels, up to {LARGEST_SIDE}"
        )
        return 0, 0
    return size[0], size[1]


def _read_interpolation(value: Any, problems: list[str]) -> int:
    if isinstance(value, str) and value.upper() in INTERPOLATION_NAMES:
        return INTERPOLATION_NAMES.index(value.upper())
    if type(value) is int and 0 <= value < len(INTERPOLATION_NAMES):
        return value
    problems.append(f"Resize.interp is {value!r}, expected 0..4 or one of {', '.join(INTERPOLATION_NAMES)}")
    return 2


def _read_mean_std(operator: Mapping[str, Any], rules: _Rules, problems: list[str]) -> tuple[Any, Any]:
    """Mean and std for pixel values in [0, 1].

    If ``is_scale`` is false, the file has them for values 0..255. The defaults are those of ImageNet.
    """
    if (norm_type := operator.get("norm_type")) not in (None, "none", "mean_std"):
        problems.append(f"NormalizeImage.norm_type is {norm_type!r}, expected none or mean_std")
    scale = 1.0 if operator.get("is_scale", True) else 255.0
    if norm_type == "none" and not rules.normalizes_with_none:
        operator = {**operator, "mean": [0.0] * 3, "std": [1.0] * 3}
    triples = []
    for name, default in (("mean", [0.485, 0.456, 0.406]), ("std", [0.229, 0.224, 0.225])):
        values = operator.get(name, default)
        if not isinstance(values, list) or len(values) != 3 or not _are_numbers(values):
            problems.append(f"NormalizeImage.{name} is {values!r}, expected three numbers")
            values = [1.0] * 3
        triples.append(tuple(float(value) / scale for value in values))
    if 0.0 in triples[1]:
        problems.append("NormalizeImage.std contains zero, expected values above 0")
    return triples[0], triples[1]


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        for value in values
    )
