"""Choose the device before any work is done, with a clear error when it cannot be used."""

import logging
import re
import warnings

import paddle

from paddlex_seg.cores import num_usable_cores
from paddlex_seg.errors import BackendError
from paddlex_seg.runtime.environment import Launched

SUPPORTED_PADDLE = "3.2.2"
LOGGER = logging.getLogger(__name__)


def use_device(name: str, place: Launched | None = None) -> str:
    """Make Paddle use the device that ``Global.device`` names. Returns Paddle's name of it (``gpu:0``).

    See `choose_device`. CPU processes of a distributed run on one machine share its cores.
    """
    device = choose_device(name, place=place)
    if device == "cpu":
        # Without this, Paddle uses one core. OMP_NUM_THREADS, set before the import, makes Paddle warn.
        paddle.base.core.set_num_threads(max(1, num_usable_cores() // (place.local_size if place else 1)))
    return _set_device(device)


def choose_device(name: str, setting: str = "Global.device", place: Launched | None = None) -> str:
    """Paddle's name (``gpu:0``) of the device that ``setting`` names. Changes nothing in this process.
    ``setting`` is a key, after its place if it has one.

    ``auto`` is the first GPU if one is usable, else the CPU. Of several ids only the first is used, with a
    warning. In a distributed run, ``place`` says which process this is: each process uses its own device.
    Raises BackendError when this machine or this Paddle cannot use the device.
    """
    warn_of_unproven_paddle()
    kind = name.partition(":")[0]
    if kind == "auto":
        return "gpu:0" if _count("gpu") > 0 else "cpu"
    if kind == "cpu":
        return "cpu"
    indices = find_devices(name, setting)
    if len(indices) > 1 and place is None:
        LOGGER.warning("Only the first device of %s is used: this mode runs on one device.", name)
    return f"{kind}:{indices[place.local_rank if place else 0]}"


def find_devices(name: str, setting: str = "Global.device") -> list[int]:
    """The numbers of the devices that ``gpu:0,1`` or the like names. Starts nothing and uses none of them.

    Raises BackendError when this machine or this Paddle does not have them.
    """
    kind, _, ids = name.partition(":")
    indices = [int(index) for index in ids.split(",")] if ids else [0]
    available = _count(kind)
    if available == 0:
        raise BackendError(
            f"{setting} is {name}, but {_why_unusable(kind)}. Use {setting.split()[-1]}=cpu, or install the "
            f"build of PaddlePaddle for this device (README.md, installation)."
        )
    if max(indices) >= available:
        raise BackendError(
            f"{setting} is {name}, but this machine has {available} {kind} device(s), numbered from 0. "
            "Name devices that exist."
        )
    return indices


def warn_of_unproven_paddle() -> None:
    """Log a warning when Paddle's version is not the one that the toolkit is tested with."""
    version = re.match(r"\d+\.\d+\.\d+", paddle.__version__)
    if version is None or version.group() == SUPPORTED_PADDLE:
        return
    LOGGER.warning(
        "PaddlePaddle %s is installed; this toolkit is tested with %s. Paddle 3.3.0 and 3.3.1 crash some CPU "
        "graphs when oneDNN is on, and paddle2onnx 2.1.0 cannot convert what they export.",
        paddle.__version__,
        SUPPORTED_PADDLE,
    )


def _set_device(device: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paddle.device.set_device(device)
    return device


def _count(kind: str) -> int:
    """How many devices of a kind Paddle can use. Setting a missing device would abort the process."""
    if kind == "gpu":
        return paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    if kind == "xpu":
        return paddle.device.xpu.device_count() if paddle.device.is_compiled_with_xpu() else 0
    if kind not in paddle.device.get_all_custom_device_type():
        return 0
    return sum(
        device.startswith(f"{kind}:") or device == kind
        for device in paddle.device.get_available_custom_device()
    )


def _why_unusable(kind: str) -> str:
    if kind == "gpu":
        if not paddle.device.is_compiled_with_cuda():
            return "the installed PaddlePaddle is the CPU build"
        return "no GPU is visible to PaddlePaddle"
    if kind == "xpu" and paddle.device.is_compiled_with_xpu():
        return "no XPU is visible to PaddlePaddle"
    return f"the installed PaddlePaddle has no support for {kind}"
