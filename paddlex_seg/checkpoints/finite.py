"""Refuses weights that are NaN or infinite."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.errors import WeightsError

MOST_NAMED = 3  # tensors in a message
BFLOAT16_EXPONENT = 0x7F80  # all of its bits are set in NaN and infinity


def require_finite(arrays: Mapping[str, NDArray[Any]], *, source: str | Path) -> None:
    """Raise WeightsError, which names the tensors and ``source``, unless all values are finite as float32.

    uint16 arrays are bfloat16, as in .pdparams files.
    """
    bad = {name: count for name, array in arrays.items() if (count := _count_not_finite(array))}
    if not bad:
        return
    named = [f"{name} ({count} of {arrays[name].size})" for name, count in list(bad.items())[:MOST_NAMED]]
    more = f", and {len(bad) - MOST_NAMED} more" if len(bad) > MOST_NAMED else ""
    raise WeightsError(
        f"{source}: {len(bad)} of {len(arrays)} tensors have values that are NaN or infinite: "
        f"{', '.join(named)}{more}. The training that wrote them diverged, or the file is damaged. Use an "
        "earlier checkpoint or other weights."
    )


def _count_not_finite(array: NDArray[Any]) -> int:
    if array.dtype == np.uint16:
        return int((array & BFLOAT16_EXPONENT == BFLOAT16_EXPONENT).sum())
    if array.dtype.kind not in "fc":
        return 0
    if array.dtype.itemsize > np.dtype(np.float32).itemsize and array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)  # as in the network
    return int(array.size - np.isfinite(array).sum())
