"""What ``/openapi.json`` says about each path."""

from typing import Any

from paddlex_seg.serving.inference_protocol import INPUT, OUTPUTS

_NUMBER = {"type": "number"}
_TEXT = {"type": "string"}
_SCORE = {"type": "number", "minimum": 0, "maximum": 1}
_THRESHOLD = {
    "description": "Objects with a higher score are found: a number, or class names with numbers.",
    "anyOf": [_SCORE, {"type": "object", "additionalProperties": _SCORE}, {"type": "null"}],
}
_MASK_FORMAT = {"type": "string", "enum": ["rle", "full_rle", "polygon", "png", "none"], "default": "rle"}
_IMAGE = {"type": "string", "description": "The image file in base64, or its URL if the service allows that."}
_OPTIONS = {
    "threshold": _THRESHOLD,
    "visualize": {"type": ["boolean", "null"], "description": "Whether the reply has the drawing."},
    "maskFormat": _MASK_FORMAT,
    "labelme": {"type": ["boolean", "null"], "description": "Whether the reply has a LabelMe file."},
    "logId": {"type": ["string", "null"]},
}
_JSON_REQUEST = {
    "type": "object",
    "properties": {"image": _IMAGE, "images": {"type": "array", "items": _IMAGE, "minItems": 1}, **_OPTIONS},
    "oneOf": [{"required": ["image"]}, {"required": ["images"]}],
}
_FILE = {"type": "string", "format": "binary"}
_TEXT_OPTIONS = {
    "threshold": {"type": "string", "description": "A number from 0 to 1."},
    "visualize": {"type": "string", "enum": ["true", "false"]},
    "maskFormat": _MASK_FORMAT,
    "labelme": {"type": "string", "enum": ["true", "false"]},
}
_PREDICT_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": _JSON_REQUEST},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"image": _FILE, **_TEXT_OPTIONS},
                "required": ["image"],
            }
        },
        "application/octet-stream": {"schema": _FILE},
    },
}
_MASK = {
    "type": "object",
    "properties": {
        "rleResult": {"type": "string", "description": "COCO's compressed RLE"},
        "polygons": {"type": "array", "items": {"type": "array", "items": _NUMBER}},
        "png": _TEXT,
        "size": {"type": "array", "items": {"type": "integer"}, "description": "height and width"},
        "offset": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "x and y of its top left corner",
        },
    },
    "required": ["size", "offset"],
}
_RESULT = {
    "type": "object",
    "properties": {
        "size": {"type": "array", "items": {"type": "integer"}},
        "instances": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "bbox": {"type": "array", "items": _NUMBER, "description": "x1, y1, x2, y2"},
                    "categoryId": {"type": "integer"},
                    "categoryName": _TEXT,
                    "score": _NUMBER,
                    "mask": _MASK,
                },
                "required": ["bbox", "categoryId", "categoryName", "score"],
            },
        },
        "image": {"type": "string", "description": "The drawing as a JPEG in base64"},
        "labelme": {"type": "object"},
        "results": {"type": "array", "items": {"type": "object"}, "description": "Of several images"},
    },
}
_ENVELOPE = {"logId": _TEXT, "errorCode": {"type": "integer"}, "errorMsg": _TEXT}
_SUCCESS = {
    "type": "object",
    "properties": {**_ENVELOPE, "result": _RESULT},
    "required": ["logId", "errorCode", "errorMsg", "result"],
}
_STATE = {"type": "object", "properties": _ENVELOPE, "required": list(_ENVELOPE)}
_V2_ERROR = {"type": "object", "properties": {"error": _TEXT}, "required": ["error"]}
_TENSOR = {
    "name": _TEXT,
    "shape": {"type": "array", "items": {"type": "integer"}},
    "datatype": _TEXT,
    "data": {"type": "array", "items": {}},
}
_INFER_REQUEST = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"const": INPUT},
                    "datatype": {"const": "BYTES"},
                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
                    "data": {"type": "array", "items": _IMAGE},
                },
                "required": ["name", "datatype", "shape"],
            },
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"enum": list(OUTPUTS)}},
                "required": ["name"],
            },
        },
        "parameters": {"type": "object", "properties": {"threshold": _THRESHOLD}},
    },
    "required": ["inputs"],
}
_INFER_REPLY = {
    "type": "object",
    "properties": {
        "model_name": _TEXT,
        "model_version": _TEXT,
        "id": _TEXT,
        "outputs": {"type": "array", "items": {"type": "object", "properties": _TENSOR}},
    },
    "required": ["model_name", "outputs"],
}
_ERRORS = {
    400: "Not valid: JSON, base64, form or image",
    401: "The API key is missing or wrong",
    408: "The request did not arrive in time",
    413: "The request or the image is too large",
    415: "Not an image, or a Content-Type that is not known",
    422: "A field is missing or wrong",
    429: "The queue is full; see Retry-After",
    503: "Stopping, or too late; see Retry-After",
}
_QUERY = [
    {"name": name, "in": "query", "required": False, "schema": schema}
    for name, schema in _TEXT_OPTIONS.items()
]


def describe(method: str, path: str) -> dict[str, Any]:
    """The arguments of FastAPI's ``add_api_route`` that describe a path."""
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT}
        for name in ("name", "version")
        if f"{{{name}}}" in path
    ]
    extra: dict[str, Any] = {"parameters": parameters} if parameters else {}
    v2 = path.startswith("/v2")
    good: dict[str, Any] = {"type": "object"} if v2 or path == "/info" else _STATE
    codes = [401]
    if method == "POST":
        good = _INFER_REPLY if v2 else _SUCCESS
        codes = list(_ERRORS)
        body = {"required": True, "content": {"application/json": {"schema": _INFER_REQUEST}}}
        extra = {"parameters": parameters if v2 else _QUERY, "requestBody": body if v2 else _PREDICT_BODY}
    if path.endswith("ready"):
        codes = [*codes, 503]
    responses: dict[int | str, dict[str, Any]] = {
        200: {"description": "Success", "content": {"application/json": {"schema": good}}}
    }
    if path == "/metrics":
        responses[200] = {"description": "Success", "content": {"text/plain": {"schema": _TEXT}}}
    error = _V2_ERROR if v2 else _STATE
    for code in codes:
        responses[code] = {"description": _ERRORS[code], "content": {"application/json": {"schema": error}}}
    if parameters:
        responses[404] = {
            "description": "No such model",
            "content": {"application/json": {"schema": error}},
        }
    return {"responses": responses, "openapi_extra": extra, "response_model": None}
