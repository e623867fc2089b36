"""Writes replies, as PaddleX's service does, with more mask formats."""

import base64
import json
from collections.abc import Callable
from typing import Any, Literal

from PIL import Image

from paddlex_seg.data.formats.labelme.write import labelme_text
from paddlex_seg.files.images import encode_image
from paddlex_seg.inference.mask_forms import MaskForm
from paddlex_seg.inference.outputs.labelme import labelme_shapes
from paddlex_seg.inference.results import JPEG_QUALITY, Result

MaskFormat = Literal["rle", "full_rle", "polygon", "png", "none"]
_FORMS: dict[str, MaskForm] = {"rle": "crops", "full_rle": "rle", "polygon": "polygons", "png": "png"}


def writer(mask_format: MaskFormat, *, visualize: bool, labelme: bool) -> Callable[[Result], bytes]:
    """A function that writes the ``result`` of a reply as JSON; see docs/serving.md for its content."""

    def write(result: Result) -> bytes:
        return to_json(result_fields(result, mask_format, visualize=visualize, labelme=labelme))

    return write


def result_fields(
    result: Result, mask_format: MaskFormat, *, visualize: bool = False, labelme: bool = False
) -> dict[str, Any]:
    """The ``result`` of a reply."""
    height, width = result.instances.size_hw
    instances = [
        {
            "bbox": box["coordinate"],
            "categoryId": box["cls_id"],
            "categoryName": box["label"],
            "score": box["score"],
        }
        for box in result.boxes
    ]
    if mask_format != "none":
        masks = result.masks_as(_FORMS[mask_format])
        for instance, mask in zip(instances, masks, strict=True):
            instance["mask"] = _mask(mask, mask_format, (height, width))
    fields: dict[str, Any] = {"size": [height, width], "instances": instances}
    if visualize:
        drawing = encode_image(Image.fromarray(result.draw()), ".jpg", quality=JPEG_QUALITY)
        fields["image"] = base64.b64encode(drawing).decode("ascii")
    if labelme:
        # Without the image, which the client has.
        shapes = labelme_shapes(result.instances, result.labels, "The image of a request")
        text = labelme_text(shapes, image_path="image", size_hw=(height, width))
        fields["labelme"] = json.loads(text)
    return fields


def _mask(entry: Any, mask_format: MaskFormat, size_hw: tuple[int, int]) -> dict[str, Any]:
    """A mask of a reply. entry: as `mask_forms.mask_entries` gives it. ``offset``: of its top left corner."""
    if mask_format == "full_rle":
        return {"rleResult": entry["counts"], "size": entry["size"], "offset": [0, 0]}
    if mask_format == "polygon":
        return {"polygons": entry, "size": list(size_hw), "offset": [0, 0]}
    x1, y1, x2, y2 = entry["box"]
    if mask_format == "rle":
        return {"rleResult": entry["counts"], "size": entry["size"], "offset": [x1, y1]}
    return {"png": entry["png"], "size": [y2 - y1, x2 - x1], "offset": [x1, y1]}


def to_json(value: Any) -> bytes:
    """Compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def success(log_id: str, result: bytes) -> bytes:
    """The reply with a result that is JSON already."""
    head = to_json({"logId": log_id, "errorCode": 0, "errorMsg": "Success"})
    return b'%s,"result":%s}' % (head[:-1], result)


def failure(log_id: str, status: int, message: str) -> dict[str, Any]:
    """The reply of a request that failed."""
    return {"logId": log_id, "errorCode": status, "errorMsg": message}
