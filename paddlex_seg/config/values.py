"""Types of configuration values. Each one reads the text that the user wrote; only here is its type decided.

A value comes as text, whatever it looks like (yaml_text.py). Null is None.
"""

import math
import os
import re
from numbers import Integral, Real
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator

from paddlex_seg.structures import BackendChoice

MAX_SIDE = 16384  # pixels of a network input
MAX_BATCH_SIZE = 10**5
MAX_PROCESSES = 1024
DEVICE_KINDS = ("gpu", "npu", "xpu", "mlu")
DEVICE_PATTERN = re.compile(rf"auto|cpu|({'|'.join(DEVICE_KINDS)})(:\d+(,\d+)*)?")
_TRUE, _FALSE = ("true", "yes", "on", "1", "t", "y"), ("false", "no", "off", "0", "f", "n")


def expand_home(path: str) -> str:
    """Replace a leading ``~`` or ``~user`` by the home folder. Raises ValueError for an unknown user."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        user = re.split(r"[/\\]", path)[0]
        raise ValueError(
            f"the home folder {user} is unknown; for a file or folder of that name write ./{path}"
        )
    return expanded


def whole(low: int, high: int) -> BeforeValidator:
    """A validator for whole numbers from ``low`` to ``high``."""

    def read(value: Any) -> int:
        number = _to_number(value)
        if number is None or number % 1 or not low <= number <= high:
            raise ValueError(f"expected a whole number from {low} to {high}{_comma_hint(value)}")
        return int(number)

    return BeforeValidator(read)


def number(low: float, high: float, *, above: bool = False) -> BeforeValidator:
    """A validator for numbers from ``low`` (with ``above``: greater than ``low``) to ``high``."""

    def read(value: Any) -> float:
        number = _to_number(value)
        if number is None or not low <= number <= high or (above and number == low):
            start = f"greater than {low:g} and at most" if above else f"from {low:g} to"
            raise ValueError(f"expected a number {start} {high:g}{_comma_hint(value)}")
        return float(number)

    return BeforeValidator(read)


def _to_number(value: Any) -> int | float | None:
    """The number that a text means, an int if written as one; None for other values, NaN, infinity."""
    if isinstance(value, bool) or not isinstance(value, str | Real):
        return None
    try:
        return int(value) if isinstance(value, str | Integral) else _finite(float(value))
    except ValueError:
        pass
    try:
        return _finite(float(value))
    except ValueError:
        return None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _comma_hint(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"\s*\d+,\d+\s*", value):
        return f" with a decimal point: {value.strip().replace(',', '.')}"
    return ""


def _switch(value: Any) -> Any:
    word = str(value).strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError("expected True or False")
    return word in _TRUE


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a text{'' if value is None else '; put it into quotes'}")
    if not value:
        raise ValueError("expected a text that is not empty")
    if "\0" in value:
        raise ValueError("expected a text without the character U+0000")
    return value


def _device(value: Any) -> Any:
    text = re.sub(r"\s", "", value).lower() if isinstance(value, str) else ""
    text = re.sub(r"^cuda(?=$|:)", "gpu", text)
    if not DEVICE_PATTERN.fullmatch(text):
        raise ValueError(
            f"expected auto, cpu, gpu, gpu:0 or gpu:0,1 (likewise npu, xpu, mlu){_device_hint(value)}"
        )
    return text


def _device_hint(value: Any) -> str:
    """`` ; write gpu:0`` for other spellings of devices, such as ``0`` and ``gpu:0,gpu:1``."""
    words = value if isinstance(value, list) else re.split(r"[\s,\[\]]+", str(value))
    found = [re.fullmatch(r"([a-z]*)[:_]?(\d+)", str(word).strip().lower()) for word in words if word]
    kinds = {match[1] or "gpu" for match in found if match} - {"cuda", "gpu"}
    if not found or not all(found) or len(kinds) > 1 or not kinds <= set(DEVICE_KINDS):
        return ""
    numbers = ",".join(match[2] for match in found if match)
    return f"; write {next(iter(kinds), 'gpu')}:{numbers}"


def _image_size(value: Any) -> Any:
    """One number or two. `Recipe.input_size` defines their meaning and checks for multiples of 32."""
    sides = value if isinstance(value, list | tuple) else [value]
    pixels = [int(side) for side in sides if re.fullmatch(r"\s*\d{1,9}\s*", str(side))]
    expected = 2 if isinstance(value, list | tuple) else 1
    if not len(sides) == len(pixels) == expected or min(pixels) < 32 or max(pixels) > MAX_SIDE:
        raise ValueError(
            f"expected one or two numbers of at least 32 pixels and at most {MAX_SIDE}, such as 640 or "
            "[480, 640]"
        )
    return pixels[0] if expected == 1 else tuple(pixels)


def _inputs(value: Any) -> Any:
    items = value if isinstance(value, list | tuple) else [value]
    if not items or not all(isinstance(item, str) and item for item in items):
        raise ValueError("expected a file, a folder, a pattern, a URL, or a list of these")
    return tuple(items)


def _names(value: Any) -> Any:
    if isinstance(value, str) and "," in value:
        raise ValueError(f"expected a name or a list of names; write [{value}]")
    if not isinstance(value, str | list | tuple):
        raise ValueError("expected a name or a list of names")
    return (value,) if isinstance(value, str) else value


def _several(value: Any) -> Any:
    """One value, or a list of them."""
    return value if isinstance(value, list | tuple) else (value,)


def _factors(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("expected names and numbers, such as {backbone: 0.1}")
    return value


def _threshold(value: Any) -> Any:
    """A number, or a mapping of class names or indices to numbers."""
    if isinstance(value, dict):
        return {name: _fraction(one, " for each class") for name, one in value.items()}
    return _fraction(value, ", or classes and such numbers, such as {bolt: 0.3}")


def _fractions(value: Any) -> Any:
    """A number, or a list of numbers."""
    items = value if isinstance(value, list | tuple) and value else [value]
    return tuple(_fraction(item, ", or a list of such numbers") for item in items)


def _fraction(value: Any, more: str) -> float:
    number = _to_number(value)
    if number is None or not 0 <= number <= 1:
        raise ValueError(f"expected a number from 0 to 1{more}{_comma_hint(value)}")
    return float(number)


def _options(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("expected names and values, such as {backend: paddle}")
    return value


def _amp(value: Any) -> Any:
    text = str(value).strip().upper()
    if text in ("OFF", "O0", "FALSE", "NO"):  # O0: Paddle's name for float32
        return "OFF"
    if text == "O1":
        return text
    if text == "O2":
        raise ValueError(
            "O2 (weights in 16 bits) is not supported; use O1, which also computes convolutions and matrix "
            "products in 16 bits"
        )
    types = {"FP16": "float16", "FLOAT16": "float16", "BF16": "bfloat16", "BFLOAT16": "bfloat16"}
    more = f" and Train.amp_dtype={types[text]}" if text in types else ""
    raise ValueError(f"expected OFF or O1; for mixed precision write O1{more}")


def _master(value: Any) -> Any:
    found = re.fullmatch(r"\s*([^\s:,]+:(\d{1,5}))\s*", value) if isinstance(value, str) else None
    if found is None or not 1 <= int(found[2]) <= 65535:
        raise ValueError("expected the address and a port from 1 to 65535, such as 10.0.0.1:6070")
    return found[1]


def _addresses(value: Any) -> Any:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(
        isinstance(item, str) and item.strip() and not item.strip().isdecimal() for item in items
    ):
        raise ValueError("expected the addresses of the machines, such as 10.0.0.1,10.0.0.2")
    return tuple(item.strip() for item in items)


def _value_range(value: Any) -> Any:
    """``[low, high]``, or a list of them, as a tuple of pairs."""
    items = list(value) if isinstance(value, list | tuple) else []
    pairs = items if items and isinstance(items[0], list | tuple) else [items]
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError("expected two numbers [low, high]")
    return tuple((_any_number(low), _any_number(high)) for low, high in pairs)


def _any_number(value: Any) -> float:
    number = _to_number(value)
    if number is None:
        raise ValueError(f"expected a number{_comma_hint(value)}")
    return float(number)


_SourceName = Literal["auto", "LabelMe", "VOC", "YOLO", "MaskPNG", "COCO"]
_TargetName = Literal["COCO", "LabelMe", "YOLO", "MaskPNG"]


def _format(value: Any) -> Any:
    """The official name of an annotation format; case, hyphens, underscores and spaces are ignored."""
    names = {name.lower(): name for name in get_args(_SourceName)}
    return names.get(re.sub(r"[-_ ]", "", value).lower(), value) if isinstance(value, str) else value


def _ports(value: Any) -> tuple[int, ...]:
    ports = [_to_number(one) for one in (value if isinstance(value, list | tuple) else [value])]
    if not ports or not all(type(one) is int and 1 <= one <= 65535 for one in ports):
        raise ValueError("expected numbers of ports, from 1 to 65535, such as [80, 443]")
    return tuple(int(one) for one in ports if one is not None)


def _batch_size(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() == "auto":
        return "auto"
    number = _to_number(value)
    if number is None or number % 1 or not 1 <= number <= MAX_BATCH_SIZE:
        raise ValueError(f"expected a number of images, 1 or more (at most {MAX_BATCH_SIZE}), or auto")
    return int(number)


Count = Annotated[int, whole(0, 10**9)]
Positive = Annotated[int, whole(1, 10**9)]
Epochs = Annotated[int, whole(1, 10**6)]
Classes = Annotated[int, whole(1, 10**5)]
Seed = Annotated[int, whole(0, 2**32 - 1)]
Workers = Annotated[int, whole(0, MAX_PROCESSES)]
Processes = Annotated[int, whole(1, MAX_PROCESSES)]
Images = Annotated[int, whole(1, MAX_BATCH_SIZE)]
Port = Annotated[int, whole(0, 65535)]
Ports = Annotated[tuple[int, ...], BeforeValidator(_ports)]
Folds = Annotated[int, whole(2, 1000)]
Percent = Annotated[int, whole(0, 100)]
Rate = Annotated[float, number(0, 1000, above=True)]
Minutes = Annotated[float, number(0, 10**6, above=True)]
Seconds = Annotated[float, number(0, 10**6, above=True)]
Fraction = Annotated[float, number(0, 1)]
Fractions = Annotated[tuple[float, ...], BeforeValidator(_fractions)]
Backends = Annotated[tuple[BackendChoice, ...], BeforeValidator(_several)]
Threshold = Annotated[float | dict[str | int, float], BeforeValidator(_threshold)]
Ratio = Annotated[float, number(0, 10**6)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Text = Annotated[str, BeforeValidator(_text)]
PathText = Annotated[Text, AfterValidator(expand_home)]  # URLs and words such as scratch pass unchanged
Places = Annotated[tuple[PathText, ...], BeforeValidator(_several)]
Names = Annotated[tuple[Text, ...], BeforeValidator(_names)]
Factors = Annotated[dict[str, Rate], BeforeValidator(_factors)]
Options = Annotated[dict[str, Any], BeforeValidator(_options)]
Device = Annotated[str, BeforeValidator(_device)]
ImageSize = Annotated[int | tuple[int, int], BeforeValidator(_image_size)]
BatchSize = Annotated[int | Literal["auto"], BeforeValidator(_batch_size)]
ValueRange = Annotated[tuple[tuple[float, float], ...], BeforeValidator(_value_range)]
AnyNumber = Annotated[float, BeforeValidator(_any_number)]
Inputs = Annotated[tuple[PathText, ...], BeforeValidator(_inputs)]
SourceFormat = Annotated[_SourceName, BeforeValidator(_format)]
TargetFormat = Annotated[_TargetName, BeforeValidator(_format)]
Precision = Annotated[Literal["OFF", "O1"], BeforeValidator(_amp)]
Master = Annotated[str, BeforeValidator(_master)]
Addresses = Annotated[tuple[str, ...], BeforeValidator(_addresses)]
