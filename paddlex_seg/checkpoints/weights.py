"""Read and write weight files, and load weights into a network.

A .pdparams file is a pickle. `pickle_reader` reads it without running code from the file.
"""

import json
import logging
import pickle
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from paddle import Tensor, nn

from paddlex_seg.catalog import ModelSpec
from paddlex_seg.checkpoints.file_kinds import USE_WEIGHTS, is_safetensors, what_it_is
from paddlex_seg.checkpoints.finite import require_finite
from paddlex_seg.checkpoints.names import find_takers, match_classes
from paddlex_seg.checkpoints.pickle_reader import RefusedError, read_pickle
from paddlex_seg.checkpoints.prefixes import without_prefix
from paddlex_seg.checkpoints.wrappers import array_of, unwrapped
from paddlex_seg.errors import WeightsError
from paddlex_seg.files.atomic import new_file, write_bytes
from paddlex_seg.models.base import ClassAxis, InstanceSegmenter
from paddlex_seg.structures import Category

LOGGER = logging.getLogger(__name__)
PARAMETER_NAMES = "StructuredToParameterName@@"
SLICED_TENSORS = "UnpackBigParamInfor@@"  # Paddle's own spelling
# The description of the weights, as JSON: the bytes of an array in .pdparams, metadata in .safetensors. An
# array, because other tools expect that every entry of a weight file is a tensor.
DESCRIPTION = "paddlex_seg.description"


@dataclass(frozen=True)
class LoadReport:
    """Which entries of a weight file were loaded into which tensors of a network."""

    loaded: tuple[str, ...]  # names of the network's tensors that were loaded
    skipped: tuple[tuple[str, str], ...]  # entries of the file that were not used, each with the reason
    missing: tuple[str, ...]  # names of the network's tensors that were not loaded
    num_classes: int | None = None  # of the network, if its class layers were loaded by class name
    known_classes: tuple[str, ...] = ()  # classes of the network that exist in the file

    def message(self) -> str:
        """A paragraph for the log: what was not loaded, and why."""
        total = len(self.loaded) + len(self.missing)
        if self.missing:
            text = (
                f"{len(self.missing)} of {total} tensors were not loaded and keep their initial values "
                f"({_count_by_part(self.missing)})."
            )
        else:
            text = f"All {total} tensors were loaded."
        if self.skipped:
            text += f" Not used from the file: {_group_by_reason(self.skipped)}."
        if self.num_classes is not None:
            names = f" ({_first(list(self.known_classes), 10)})" if self.known_classes else ""
            text += f" {len(self.known_classes)} of {self.num_classes} classes were matched by name{names}."
        return text


def read_weights(path: str | Path) -> dict[str, NDArray[Any]]:
    """The named arrays of a .pdparams or .safetensors file, in the order of the file.

    Arrays may be read-only. bfloat16 arrays come as uint16, as Paddle stores them in a .pdparams file.
    Entries that are not arrays are ignored. Weights within an entry ("model", "ema", ...) are unwrapped, and
    the log says which entry is used. Raises WeightsError when the file is missing, empty, truncated, no
    weight file, or would run code.
    """
    arrays, note = _read(Path(path))
    if note:
        LOGGER.info("%s: %s.", path, note)
    return arrays


def check_weights(path: Path) -> None:
    """Raise WeightsError when ``read_weights`` would."""
    _read(path)


def read_description(path: Path) -> dict[str, Any] | None:
    """The description that `write_weights` stored in a weight file; None if it has none.

    Raises WeightsError as `read_weights` does, and when the description is damaged.
    """
    _require_content(path)
    if _is_safetensors(path):
        text: str | bytes | None = _safetensors_metadata(path).get(DESCRIPTION)
    else:
        entry = _read_pdparams(path)[0].get(DESCRIPTION)
        text = None if entry is None else entry.tobytes()
    try:
        return None if text is None else dict(json.loads(text))
    except (ValueError, TypeError) as problem:
        raise WeightsError(f"{path}: the description of the weights is damaged: {problem}.") from problem


def write_weights(
    weights: Mapping[str, Tensor], path: str | Path, description: Mapping[str, Any] | None = None
) -> None:
    """Write a .pdparams file in Paddle's own layout, or a .safetensors file, all or nothing.

    description: JSON values that `read_description` returns. Folders are created. Raises WeightsError when
    the file cannot be written to disk; an earlier file then stays.
    """
    path = Path(path)
    try:
        dump_weights(weights, path, description)
    except OSError as problem:
        raise WeightsError(f"{path}: the weights could not be written: {problem}.") from problem


def dump_weights(
    weights: Mapping[str, Tensor], path: Path, description: Mapping[str, Any] | None = None
) -> None:
    """`write_weights` for a caller that names the file itself: raises the OSError of the disk."""
    text = None if description is None else json.dumps(description)
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    if path.suffix == ".safetensors":
        write_bytes(path, safetensors.numpy.save(arrays, None if text is None else {DESCRIPTION: text}))
        return
    names = {name: tensor.name for name, tensor in weights.items()}
    if text is not None:
        arrays[DESCRIPTION] = np.frombuffer(text.encode(), np.uint8)
        names[DESCRIPTION] = DESCRIPTION  # paddle.load makes a tensor of each entry with a name here
    with new_file(path) as temporary, open(temporary, "wb") as file:
        pickle.dump({**arrays, PARAMETER_NAMES: names}, file, protocol=4)


def load_model(spec: ModelSpec, weight_path: Path, num_classes: int) -> InstanceSegmenter:
    """Build a model in evaluation mode with all of its weights. Raises WeightsError when some do not fit."""
    model = spec.build(num_classes=num_classes)
    report = load_into(model, read_weights(weight_path), source=weight_path)
    if report.missing or report.skipped:
        raise WeightsError(
            f"{weight_path} does not fit {spec.name} with {num_classes} classes. {report.message()}"
        )
    model.eval()
    return model


def load_pretrained(
    model: InstanceSegmenter,
    path: str | Path,
    *,
    categories: Sequence[Category],
    source_categories: Sequence[Category] | None,
    source: str | Path | None = None,
) -> LoadReport:
    """`load_into` from a file whose classes may differ from those of the model.

    Both lists are in the order of the class indices. Class weights are matched by class name, whatever the
    order of the classes; capitals, spaces and underscores are ignored. Classes that the file does not contain
    keep their initial values. When the file contains none of the classes, the background also keeps its
    initial values. Without ``source_categories``, layers of another shape are not loaded, and all other
    layers are loaded unchanged.

    Errors name ``source``, or else ``path``. Raises WeightsError as `read_weights` and `load_into` do.
    """
    weights = _unprefixed(model, read_weights(path), source or path)
    if source_categories is None:
        return load_into(model, weights, source=source or path)
    index_in_file = match_classes(categories, source_categories)
    added = len(source_categories) - len(categories)
    tensors = model.state_dict()
    takers = find_takers(tensors, weights)
    class_entries, begun_anew = 0, []
    for axis in model.class_axes():
        # A tensor can have two names, in the model and in the file.
        owned = (
            entry for entry, names in takers.items() if all(tensors[name] is axis.tensor for name in names)
        )
        for entry in owned:
            if list(weights[entry].shape) != _shape_with_more_classes(axis, added):
                continue  # load_into reports why it is not loaded
            class_entries += 1
            if index_in_file:
                weights[entry] = _filled_by_class(axis, weights[entry], index_in_file)
            else:
                del weights[entry]
                begun_anew.append((entry, "no class of the file has the name of one of the model"))
    report = load_into(model, weights, source=source or path)
    if not class_entries:
        return report
    return replace(
        report,
        skipped=(*report.skipped, *begun_anew),
        num_classes=len(categories),
        known_classes=tuple(categories[index].name for index in index_in_file),
    )


def load_into(
    model: nn.Layer, weights: Mapping[str, NDArray[Any]], *, source: str | Path = "the weights"
) -> LoadReport:
    """Copy arrays into the tensors of the same name and shape, converted to the model's dtype.

    An entry without a tensor of the same name is loaded into the one tensor whose name ends with it after a
    dot ("res2.conv.weight" into "backbone.res2.conv.weight"). When several entries match a tensor, the
    longest name wins. A prefix of the whole file ("module.") is left out, and the log says so. Raises
    WeightsError, which names ``source``, when no entry fits, or when one that fits is not finite.
    """
    tensors = model.state_dict()
    weights = _unprefixed(model, weights, source)
    takers = find_takers(tensors, weights)
    fitting: dict[str, str] = {}  # name in the model -> name in the file
    skipped: list[tuple[str, str]] = []
    for entry, array in weights.items():
        names = takers.get(entry, [])
        reason = _reason_to_skip(array, [tensors[name] for name in names], names)
        if reason:
            skipped.append((entry, reason))
        else:
            fitting.update(dict.fromkeys(names, entry))
    if not fitting:
        raise WeightsError(
            f"{source}: none of its {len(weights)} entries fits this model, which has {len(tensors)} "
            f"tensors: {_group_by_reason(skipped)}. {_advice_for(weights)}"
        )
    require_finite({entry: weights[entry] for entry in fitting.values()}, source=source)
    for name, entry in fitting.items():
        _assign(tensors[name], weights[entry])
    # A tensor can have two names in a model; the file may contain only one of them.
    filled = {id(tensors[name]) for name in fitting}
    return LoadReport(
        loaded=tuple(name for name, tensor in tensors.items() if id(tensor) in filled),
        skipped=tuple(skipped),
        missing=tuple(name for name, tensor in tensors.items() if id(tensor) not in filled),
    )


def _unprefixed(
    model: nn.Layer, weights: Mapping[str, NDArray[Any]], source: str | Path
) -> dict[str, NDArray[Any]]:
    unprefixed, note = without_prefix(model.state_dict(), weights)
    if note:
        LOGGER.info("%s: %s.", source, note)
    return dict(unprefixed)


def _advice_for(weights: Mapping[str, Any]) -> str:
    """What to give instead of a file without an entry for the model, by the names of its entries."""
    if any(name.startswith("optimizer/") or "_moment" in name or "_velocity" in name for name in weights):
        return "It holds the state of an optimizer. Use the .pdparams file beside it."
    return "Use weights of this model or of its backbone."


def _reason_to_skip(array: NDArray[Any], tensors: list[Tensor], names: list[str]) -> str:
    if not names:
        return "the model has no such tensor"
    if len({id(tensor) for tensor in tensors}) > 1:
        return f"fits {len(names)} tensors of the model, such as {names[0]} and {names[1]}"
    if list(array.shape) != tensors[0].shape:
        return f"file has {list(array.shape)}, model needs {tensors[0].shape}"
    return ""


def _shape_with_more_classes(axis: ClassAxis, count: int) -> list[int]:
    shape = list(axis.tensor.shape)
    shape[axis.axis] += axis.entries_per_class * count
    return shape


def _filled_by_class(axis: ClassAxis, array: NDArray[Any], index_in_file: Mapping[int, int]) -> NDArray[Any]:
    """The model's tensor, with the values of matching classes replaced by those of the file."""
    filled = np.array(axis.tensor.numpy())
    given = paddle.to_tensor(array).astype(axis.tensor.dtype).numpy()  # as in _assign
    into, out_of = np.moveaxis(filled, axis.axis, 0), np.moveaxis(given, axis.axis, 0)
    each = axis.entries_per_class
    for index, other in index_in_file.items():
        into[index * each : (index + 1) * each] = out_of[other * each : (other + 1) * each]
    if axis.background_entries:
        into[-axis.background_entries :] = out_of[-axis.background_entries :]
    return filled


def _assign(tensor: Tensor, array: NDArray[Any]) -> None:
    # to_tensor reads uint16 as the bits of bfloat16, as they are stored in a .pdparams file.
    tensor.set_value(paddle.to_tensor(array, place=tensor.place).astype(tensor.dtype))


def _count_by_part(names: Iterable[str]) -> str:
    counts = Counter(name.split(".")[0] for name in names)
    return ", ".join(f"{part} {count}" for part, count in counts.items())


def _group_by_reason(skipped: Iterable[tuple[str, str]]) -> str:
    groups: dict[str, list[str]] = {}
    for name, reason in skipped:
        groups.setdefault(reason, []).append(name)
    shown = [f"{_first(names, 3)}: {reason}" for reason, names in groups.items()]
    return _first(shown, 6, separator="; ")


def _first(texts: list[str], count: int, separator: str = ", ") -> str:
    rest = len(texts) - count
    return separator.join(texts[:count]) + (f"{separator}and {rest} more" if rest > 0 else "")


# Reading a file


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], str]:
    """The arrays of a file, and a note for the log about what was unwrapped."""
    _require_content(path)
    if _is_safetensors(path):
        arrays, note = _read_safetensors(path), ""
    else:
        arrays, note = _read_pdparams(path)
        arrays.pop(DESCRIPTION, None)
    if not arrays:
        raise WeightsError(f"{path}: the file holds no arrays, so it is not a weight file. {USE_WEIGHTS}")
    return arrays, note


def _is_safetensors(path: Path) -> bool:
    return path.suffix == ".safetensors" or is_safetensors(path)


def _require_content(path: Path) -> None:
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise WeightsError(f"{path} {state}; a .pdparams or .safetensors file was expected.")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path} is empty (0 bytes). {USE_WEIGHTS}")


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    try:
        try:
            return safetensors.numpy.load_file(path)
        except TypeError:  # NumPy does not know a data type
            found = safetensors.deserialize(path.read_bytes())
            return {name: _array_of_safetensor(**info) for name, info in found}
    except Exception as problem:  # a SafetensorError, or KeyError for a data type of 8 bits
        raise WeightsError(_damage_report(path, problem)) from problem


def _array_of_safetensor(dtype: str, shape: list[int], data: bytearray) -> NDArray[Any]:
    """An array of the data types that networks have. bfloat16 comes as uint16, as from a .pdparams file."""
    types = {"BF16": "u2", "F16": "f2", "F32": "f4", "F64": "f8", "I32": "i4", "I64": "i8"}
    return np.frombuffer(data, types[dtype]).reshape(shape)


def _safetensors_metadata(path: Path) -> dict[str, str]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except Exception as problem:
        raise WeightsError(_damage_report(path, problem)) from problem


def _read_pdparams(path: Path) -> tuple[dict[str, NDArray[Any]], str]:
    try:
        with open(path, "rb") as file:
            content = read_pickle(file)
        entries, note = unwrapped(content)
        return _named_arrays(entries), note
    except RefusedError as refused:
        raise WeightsError(
            f"{path}: the file {refused}, which no weight file needs. Such a file can run code on this "
            f"machine when it is opened, so it was not loaded. Get the weights from a source you trust, as "
            f".pdparams with plain arrays or as .safetensors."
        ) from None
    except Exception as problem:  # the unpickler raises many kinds of errors for bytes that are no pickle
        raise WeightsError(_damage_report(path, problem)) from problem


def _damage_report(path: Path, problem: Exception) -> str:
    if isinstance(problem, OSError):
        return f"{path} cannot be read: {problem}."
    return (
        f"{path} ({path.stat().st_size} bytes) is truncated, damaged or no weight file: "
        f"{type(problem).__name__}: {problem}. {what_it_is(path)}"
    )


def _named_arrays(content: Any) -> dict[str, NDArray[Any]]:
    if not isinstance(content, dict):
        kind = type(content).__name__.strip("_").lower()
        raise ValueError(f"found one object of type {kind}, expected named arrays")
    arrays = {str(name): array for name, value in content.items() if (array := array_of(value)) is not None}
    return _join_slices(arrays, content.get(SLICED_TENSORS, {}))


def _join_slices(arrays: dict[str, NDArray[Any]], sliced: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Join tensors that Paddle splits into pieces of 1 GB when it writes protocol 2 or 3."""
    for name, info in sliced.items():
        pieces = [arrays.pop(piece) for piece in info["slices"]]
        arrays[name] = np.concatenate(pieces).reshape(info["OriginShape"])
    return arrays
