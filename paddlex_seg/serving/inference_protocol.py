"""The Open Inference Protocol, version 2, for clients of KServe and Triton: one input, the image file.

https://github.com/kserve/open-inference-protocol. Images are of the datatype BYTES: base64 in JSON, or the
files themselves with the binary tensor extension. Replies are JSON.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddlex_seg.inference.results import Result
from paddlex_seg.serving.answers import to_json
from paddlex_seg.serving.images import decode_base64
from paddlex_seg.serving.json_body import parse_json
from paddlex_seg.serving.problems import RequestProblem

INPUT = "image"
VERSION = "1"
# Of each output: its datatype, and the shape of one object (of one image for the first).
OUTPUTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "num_detections": ("INT32", ()),
    "boxes": ("FP32", (4,)),
    "scores": ("FP32", ()),
    "class_ids": ("INT64", ()),
    "class_names": ("BYTES", ()),
    "masks": ("BYTES", ()),
}
LENGTH_HEADER = "inference-header-content-length"
_MOST_AXES = 16
_MOST_ELEMENTS = 1_000  # more than any Serving.max_images that makes sense; 30 MB can be 7 million empty ones


@dataclass(frozen=True)
class InferRequest:
    """A request for inference: the content of image files, the outputs that are wanted, and its id."""

    images: Sequence[bytes]
    outputs: Sequence[str]
    parameters: Mapping[str, Any]
    id: str | None


def read_infer(body: bytes, header_length: str | None, max_depth: int) -> InferRequest:
    """Read a request. header_length: the header `LENGTH_HEADER`, if binary data follows the JSON.

    Raises RequestProblem.
    """
    json_bytes = len(body) if header_length is None else _length(header_length, len(body))
    data = parse_json(body[:json_bytes], max_depth)
    if not isinstance(data, Mapping):
        raise RequestProblem(400, "Expected a JSON object with the key inputs.")
    inputs = data.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], Mapping):
        raise RequestProblem(400, f"inputs: expected a list with one input named {INPUT!r}.")
    tensor = inputs[0]
    if tensor.get("name") != INPUT or tensor.get("datatype") != "BYTES":
        raise RequestProblem(
            400, f"inputs[0]: expected the name {INPUT!r} and the datatype BYTES, the content of image files."
        )
    images = _images(tensor, body[json_bytes:])
    shape = tensor.get("shape")
    if (
        not isinstance(shape, list)
        or len(shape) > _MOST_AXES  # the product of many large numbers takes seconds
        or not all(type(side) is int and side >= 0 for side in shape)
    ):
        raise RequestProblem(400, "inputs[0].shape: expected a list of numbers, such as [1].")
    if int(np.prod(shape, dtype=object)) != len(images):
        raise RequestProblem(400, f"inputs[0]: the shape is {shape}, found {len(images)} elements of data.")
    parameters = data.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise RequestProblem(400, "parameters: expected an object.")
    request_id = data.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise RequestProblem(400, "id: expected a text.")
    return InferRequest(images, _outputs(data.get("outputs")), parameters, request_id)


def _length(text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and int(text) <= most):
        raise RequestProblem(
            400, f"{LENGTH_HEADER}: expected the number of bytes of the JSON, at most {most}."
        )
    return int(text)


def _images(tensor: Mapping[str, Any], binary: bytes) -> list[bytes]:
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, Mapping) else None
    if size is not None:
        if type(size) is not int or size != len(binary):
            raise RequestProblem(
                400,
                f"inputs[0]: binary_data_size is {str(size)[:20]}, found {len(binary)} bytes after the JSON.",
            )
        return _elements(binary)
    data = tensor.get("data")
    if not isinstance(data, list) or not all(isinstance(one, str) for one in data):
        raise RequestProblem(400, "inputs[0].data: expected a list of texts, image files in base64.")
    return [decode_base64(one) for one in data]


def _elements(binary: bytes) -> list[bytes]:
    """The elements of a BYTES tensor: each after its length, four bytes, the lowest first."""
    elements: list[bytes] = []
    start = 0
    while start < len(binary):
        if len(elements) == _MOST_ELEMENTS:
            raise RequestProblem(413, f"inputs[0]: the binary data has more than {_MOST_ELEMENTS} elements.")
        if start + 4 > len(binary):
            raise RequestProblem(400, "inputs[0]: the binary data ends within a length.")
        (size,) = struct.unpack_from("<I", binary, start)
        start += 4
        if start + size > len(binary):
            raise RequestProblem(400, "inputs[0]: the binary data ends within an element.")
        elements.append(binary[start : start + size])
        start += size
    return elements


def _outputs(wanted: Any) -> list[str]:
    """The names of the outputs that are wanted; all of them by default."""
    if not wanted:
        return list(OUTPUTS)
    names = []
    for one in wanted if isinstance(wanted, list) else [None]:
        name = one.get("name") if isinstance(one, Mapping) else None
        if not isinstance(name, str) or name not in OUTPUTS:
            raise RequestProblem(400, f"outputs: expected names of {', '.join(OUTPUTS)}.")
        names.append(name)
    return names


def metadata(model_name: str, backend: str) -> dict[str, Any]:
    """The metadata of the model."""
    return {
        "name": model_name,
        "versions": [VERSION],
        "platform": f"paddlex_seg_{backend}",
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1, *shape]}
            for name, (datatype, shape) in OUTPUTS.items()
        ],
    }


def write_objects(result: Result) -> bytes:
    """The objects of one image as JSON, which `write_infer` joins to a reply."""
    boxes = result.boxes
    return to_json(
        {
            "num_detections": [len(boxes)],
            "boxes": [edge for box in boxes for edge in box["coordinate"]],
            "scores": [box["score"] for box in boxes],
            "class_ids": [box["cls_id"] for box in boxes],
            "class_names": [box["label"] for box in boxes],
            "masks": [to_json(mask).decode() for mask in result.masks_as("rle")],
        }
    )


def write_infer(asked: InferRequest, model_name: str, images: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The reply. images: what `write_objects` wrote for each image. The objects of all images follow each
    other; ``num_detections`` says how many each has. Masks are COCO's compressed RLE of the whole image.
    """
    outputs = []
    for name in asked.outputs:
        datatype, of_one = OUTPUTS[name]
        data = [value for image in images for value in image[name]]
        count = len(data) // int(np.prod(of_one, dtype=int))
        outputs.append({"name": name, "datatype": datatype, "shape": [count, *of_one], "data": data})
    reply = {"model_name": model_name, "model_version": VERSION, "outputs": outputs}
    return reply if asked.id is None else {**reply, "id": asked.id}
