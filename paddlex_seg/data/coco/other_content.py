"""JSON files that are not COCO files with masks: what they are instead."""

from collections.abc import Iterator
from typing import Any

from paddlex_seg.data.coco.wrong_value import kind_of_value, shown

_LISTS = ("images", "annotations", "categories")
# Lists and objects of other formats, by a key of theirs.
_OF_LISTS = {
    "score": "a list of results of a model",
    "completions": "Label Studio's own JSON",
    "data": "Label Studio's own JSON",
    "segmentation": "a list of annotations alone",
}
_OF_OBJECTS = {
    "shapes": "a LabelMe file",
    "_via_img_metadata": "a project of VIA",
    "features": "a GeoJSON file",
    "segments_info": "a panoptic file",
}
# Annotations of other tasks, by the key that they have in the place of a mask.
_OF_ANNOTATIONS = {
    "segments_info": "a panoptic file: its masks are in PNG files",
    "caption": "a file of captions: its annotations are texts without masks",
    "keypoints": "a file of key points: its annotations have no masks",
}


def other_content(document: Any) -> str | None:
    """What a JSON document is instead of a COCO file with masks; None if it is one, or a damaged one.

    The text is a sentence without a full stop.
    """
    if isinstance(document, dict):
        if not any(key in document for key in _LISTS):
            names = [f"{name}, " for key, name in _OF_OBJECTS.items() if key in document]
            keys = shown(list(document))
            return f"the file is {names[0] if names else ''}an object with the keys {keys}; {_EXPECTED}"
        found = next((key for key in _OF_ANNOTATIONS if _is_of_another_task(document, key)), None)
        return None if found is None else f"the file is {_OF_ANNOTATIONS[found]}"
    entries = [entry for entry in document if isinstance(entry, dict)] if isinstance(document, list) else []
    names = [name for key, name in _OF_LISTS.items() if entries and key in entries[0]]
    return f"the file is {names[0] if names else kind_of_value(document)}; {_EXPECTED}"


_EXPECTED = "expected an object with images, annotations and categories"


def _is_of_another_task(document: dict[str, Any], key: str) -> bool:
    """Whether there are annotations, all with ``key`` and none with a mask."""
    return any(True for _ in _annotations(document)) and all(
        key in entry and "segmentation" not in entry for entry in _annotations(document)
    )


def _annotations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    entries = document.get("annotations")
    return (entry for entry in entries if isinstance(entry, dict)) if isinstance(entries, list) else iter(())
