"""Types of configuration values. Their validators also accept the common spellings that users write."""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, StringConstraints

DEVICE_PATTERN = re.compile(r"auto|cpu|(gpu|npu|xpu|mlu)(:\d+(,\d+)*)?")


def _reject_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    return value


def _device(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    text = re.sub(r"^cuda(?=$|:)", "gpu", text)
    if not DEVICE_PATTERN.fullmatch(text):
        raise ValueError("expected auto, cpu, gpu, gpu:0 or gpu:0,1 (likewise npu, xpu, mlu)")
    return text


def _image_size(value: Any) -> Any:
    """One number or two. `Recipe.input_size` defines their meaning and checks for multiples of 32."""
    sides = value if isinstance(value, list | tuple) else [value]
    whole = [int(side) for side in sides if str(side).isdigit()]
    expected = 2 if isinstance(value, list | tuple) else 1
    if not len(sides) == len(whole) == expected or min(whole) < 32:
        raise ValueError("expected one or two numbers of at least 32 pixels, such as 640 or [480, 640]")
    return whole[0] if expected == 1 else tuple(whole)


def _inputs(value: Any) -> Any:
    items = value if isinstance(value, list | tuple) else [value]
    if not items or not all(isinstance(item, str) and item for item in items):
        raise ValueError("expected a file, a folder, a pattern, a URL, or a list of these")
    return tuple(items)


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _amp(value: Any) -> Any:
    if value is False:  # YAML reads OFF as false
        return "OFF"
    if value == "O2":
        raise ValueError(
            "O2 (weights in 16 bits) is not supported; use O1, which also computes convolutions and matrix "
            "products in 16 bits"
        )
    return value


def _addresses(value: Any) -> Any:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(
        isinstance(item, str) and item.strip() for item in items
    ):
        raise ValueError("expected the addresses of the machines, such as 10.0.0.1,10.0.0.2")
    return tuple(item.strip() for item in items)


_SourceName = Literal["LabelMe", "VOC", "YOLO", "MaskPNG", "COCO"]
_TargetName = Literal["COCO", "LabelMe", "YOLO", "MaskPNG"]


def _format(value: Any) -> Any:
    """The official name of an annotation format; case, hyphens, underscores and spaces are ignored."""
    names = {name.lower(): name for name in get_args(_SourceName)}
    return names.get(re.sub(r"[-_ ]", "", value).lower(), value) if isinstance(value, str) else value


def _batch_size(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() == "auto":
        return "auto"
    if not str(value).isdecimal() or int(value) < 1:
        raise ValueError("expected a number of images, 1 or more, or auto")
    return int(value)


Count = Annotated[int, BeforeValidator(_reject_bool), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(_reject_bool), Field(ge=1)]
PositiveFloat = Annotated[float, BeforeValidator(_reject_bool), Field(gt=0)]
Fraction = Annotated[float, BeforeValidator(_reject_bool), Field(ge=0, le=1)]
Percent = Annotated[int, BeforeValidator(_reject_bool), Field(ge=0, le=100)]
Text = Annotated[
    str,
    BeforeValidator(
        lambda value: str(value) if type(value) in (int, float) else value
    ),  # a folder called 2024
    StringConstraints(min_length=1),
]
Names = Annotated[tuple[Text, ...], BeforeValidator(_names)]
Device = Annotated[str, BeforeValidator(_device)]
ImageSize = Annotated[int | tuple[int, int], BeforeValidator(_image_size)]
BatchSize = Annotated[int | Literal["auto"], BeforeValidator(_batch_size)]
Inputs = Annotated[tuple[str, ...], BeforeValidator(_inputs)]
SourceFormat = Annotated[_SourceName, BeforeValidator(_format)]
TargetFormat = Annotated[_TargetName, BeforeValidator(_format)]
Precision = Annotated[Literal["OFF", "O1"], BeforeValidator(_amp)]
Addresses = Annotated[tuple[str, ...], BeforeValidator(_addresses)]
Folds = Annotated[int, BeforeValidator(_reject_bool), Field(ge=2)]
Ratio = Annotated[float, BeforeValidator(_reject_bool), Field(ge=0)]
