"""Finds the weights in a file that holds them within an entry, as in ``{"model": ..., "optimizer": ...}``."""

from typing import Any

from numpy.typing import NDArray

from paddlex_seg.checkpoints.pickle_reader import PickledArray

# Entries that can hold the weights, the preferred first: moving averages are what is evaluated.
WRAPPERS = tuple(
    "ema ema_state_dict model_ema teacher model state_dict model_state_dict params module network net "
    "weights student".split()
)
MOST_NESTED = 3  # entries in entries, as in ema.module


def unwrapped(content: Any) -> tuple[Any, str]:
    """The dict with the arrays in a file that wraps it, and a note about it: empty when it is not wrapped."""
    path: list[str] = []
    unused: list[str] = []
    while isinstance(content, dict) and len(path) < MOST_NESTED:
        inner = [key for key, value in content.items() if isinstance(key, str) and _holds_arrays(value)]
        best = next((key for key in WRAPPERS if key in inner), None)
        if best is None:
            break
        unused += [".".join([*path, key]) for key in inner if key != best]
        path.append(best)
        content = content[best]
    if not path:
        return content, ""
    others = f"; not used: {', '.join(unused)}" if unused else ""
    return content, f"the entry {'.'.join(path)} is used as weights{others}"


def _holds_arrays(value: Any, levels: int = MOST_NESTED) -> bool:
    """Whether a value is a dict with arrays in it, or in the dicts in it. A dict can contain itself."""
    return (
        levels > 0
        and isinstance(value, dict)
        and any(array_of(one) is not None or _holds_arrays(one, levels - 1) for one in value.values())
    )


def array_of(value: Any) -> NDArray[Any] | None:
    """The array that an entry of a weight file is; None if it is none."""
    if isinstance(value, tuple) and len(value) == 2:  # how Paddle pickles a Tensor: its name and its values
        value = value[1]
    return value.array if isinstance(value, PickledArray) else None
