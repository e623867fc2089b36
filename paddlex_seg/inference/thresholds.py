"""Score thresholds: one number for all classes, or one for each class, on several levels of settings."""

import operator
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.errors import ConfigError, suggest

# A number from 0 to 1, or class names or class indices with such numbers.
Threshold = float | Mapping[Any, float]
SHOWN_CLASSES = 20  # in a message


def class_thresholds(levels: Sequence[Threshold | None], labels: Sequence[str]) -> NDArray[np.float32]:
    """The threshold of each class, float32 [C]. Instances with a higher score are kept.

    levels: the settings, the one that decides first; the last one is a number. A mapping decides about the
    classes that it names, None about none. labels: the C class names. Raises ConfigError for a setting that
    is wrong, even if an earlier level decides.
    """
    thresholds = np.full(len(labels), np.nan, np.float32)
    for level in reversed(levels):
        for index, value in threshold_of_classes(level, labels).items():
            thresholds[index] = value
    assert not np.isnan(thresholds).any(), levels
    return thresholds


def threshold_of_classes(
    level: Threshold | None, labels: Sequence[str], setting: str = "threshold"
) -> dict[int, float]:
    """What one level says: class index -> number. ``setting``: its name, for the error.

    A text as key is a class name, and if no class has this name, a class index: files have only texts. If
    several classes have the name, all are meant. Raises ConfigError for a class that does not exist or is
    given twice, and for a value that is no number from 0 to 1.
    """
    if level is None:
        return {}
    if not isinstance(level, Mapping):
        return dict.fromkeys(range(len(labels)), _to_threshold(level, setting, labels))
    classes: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        classes.setdefault(label, []).append(index)
    found: dict[int, float] = {}
    for key, value in level.items():
        number = _to_threshold(value, f"{setting} of {key!r}", labels)
        for index in classes.get(key) or [_class_index(key, setting, labels)]:
            if index in found:
                raise ConfigError(
                    f"{setting}: class {index} ({labels[index]}) is given twice, by name and by index. "
                    "Keep one of them."
                )
            found[index] = number
    return found


def _to_threshold(value: Any, where: str, labels: Sequence[str]) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        example = f"{{{labels[0] if labels else 'bolt'!r}: 0.3}}"
        raise ConfigError(
            f"{where}: found {value!r}; expected a number from 0 to 1, or a mapping of classes to such "
            f"numbers, such as {example}."
        )
    return float(value)


def _class_index(key: Any, setting: str, labels: Sequence[str]) -> int:
    """The class that a key means as index."""
    if isinstance(key, str) and not key.strip().isdecimal():
        more = f" and {len(labels) - SHOWN_CLASSES} more" if len(labels) > SHOWN_CLASSES else ""
        raise ConfigError(
            f"{setting}: there is no class {key!r}.{suggest(key, labels)} The classes of this model are: "
            f"{', '.join(labels[:SHOWN_CLASSES])}{more}."
        )
    try:
        index = int(key) if isinstance(key, str) else operator.index(key)
    except TypeError:
        index = -1
    if isinstance(key, bool) or not 0 <= index < len(labels):
        raise ConfigError(
            f"{setting}: there is no class {key!r}; expected a class name, or an index from 0 to "
            f"{len(labels) - 1}."
        )
    return index
