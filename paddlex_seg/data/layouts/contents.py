"""What a JSON file is, seen from its begin and its end without parsing it."""

import re
from typing import Literal

JsonKind = Literal["coco", "labelme", "other"]
HEAD_BYTES = 2**20
TAIL_BYTES = 2**16

_KEY = re.compile(rb'"([A-Za-z_][\w ]{0,40})"\s*:\s*([\[{"0-9tfn-])')
_LISTS = {b"images", b"annotations", b"categories"}
_RECORD_KEYS = {b"file_name", b"image_id", b"category_id", b"supercategory"}


def json_kind(head: bytes, tail: bytes) -> JsonKind:
    """The kind of a JSON file with this begin and end.

    LabelMe files have a list ``shapes``. COCO files have two of the lists images, annotations and categories,
    or one of them and keys of their records.
    """
    found = {(key, value) for text in (_plain(head), _plain(tail)) for key, value in _KEY.findall(text)}
    if (b"shapes", b"[") in found:
        return "labelme"
    lists = {key for key, value in found if value == b"[" and key in _LISTS}
    record_keys = {key for key, _ in found} & _RECORD_KEYS
    return "coco" if len(lists) >= 2 or (lists and record_keys) else "other"


def _plain(text: bytes) -> bytes:
    """Text of an encoding with two or four bytes per character as one with one byte; keys are ASCII."""
    return text.replace(b"\0", b"") if b"\0" in text[:64] else text
