"""Recognises annotation files of formats that this toolkit does not read in this place, to name them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

LABELME_XML = "LabelMe XML"


def kind_of_json(document: Any) -> str | None:
    """The name of the annotation format of a JSON document; None if it is no known one.

    LabelMe's own JSON is not recognised here.
    """
    if isinstance(document, list):
        return _kind_of_list(document)
    if not isinstance(document, Mapping):
        return None
    keys = set(document)
    if {"images", "annotations"} <= keys:
        return "COCO"
    if {"info", "objects"} <= keys:
        return "ISAT"
    if {"size", "objects"} <= keys:
        return "Supervisely"
    if {"categories", "items"} <= keys:
        return "Datumaro"
    if "step_1" in keys:
        return "LabelBee"
    if "_via_img_metadata" in keys or _has_regions(document.values()):
        return "VGG Image Annotator (VIA)"
    return None


def is_labelme_xml(path: Path) -> bool:
    """Whether an XML file has polygons of the old LabelMe, which CVAT exports as LabelMe 3.0."""
    try:
        content = path.read_bytes()
    except OSError:
        return False  # such as a dead link
    return b"<annotation" in content and b"<polygon>" in content


def _kind_of_list(document: list[Any]) -> str | None:
    first = document[0] if document else None
    if not isinstance(first, Mapping):
        return None
    if "data" in first and ("annotations" in first or "completions" in first):
        return "Label Studio"
    if "segmentation" in first and "category_id" in first:
        return "COCO results"
    return "VGG Image Annotator (VIA)" if _has_regions([first]) else None


def _has_regions(values: Any) -> bool:
    first = next(iter(values), None)
    return isinstance(first, Mapping) and "regions" in first and "filename" in first
