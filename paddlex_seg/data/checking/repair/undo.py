"""Undo a repair: restore the annotation files from the repair log."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paddlex_seg.data.coco.read import load_document
from paddlex_seg.errors import DatasetError

LOG_NAME = "repair_log.json"


def undo_repair(repaired: Path) -> dict[str, Any]:
    """The JSON content of the annotation files before the repair, by file name.

    Raises DatasetError when ``repaired`` has no readable log.
    """
    log = read_log(repaired)
    if log is None:
        raise DatasetError(f"{repaired}: has no readable {LOG_NAME}. Give the folder of a repaired copy.")
    return {
        name: _undo(load_document(repaired / "annotations" / name), entry["changes"])
        for name, entry in log["files"].items()
    }


def read_log(target: Path) -> Any:
    """The log in the repaired copy ``target``; None if there is no readable log."""
    try:
        return json.loads((target / LOG_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _undo(document: Any, changes: Sequence[Mapping[str, Any]]) -> Any:
    restored = dict(document) if isinstance(document, dict) else document
    for name in ("images", "annotations"):
        of_position = {change["position"]: change for change in changes if change["list"] == name}
        if of_position:
            restored[name] = _undo_list(document[name], of_position)
    for change in changes:
        if change["list"] == "categories":
            restored["categories"] = change["before"]
    return restored


def _undo_list(entries: Sequence[Any], changes: Mapping[int, Mapping[str, Any]]) -> list[Any]:
    restored: list[Any] = []
    remaining = iter(entries)
    total = len(entries) + sum(change["after"] is None for change in changes.values())
    for position in range(total):
        change = changes.get(position)
        if change is None or change["after"] is not None:
            entry = next(remaining)
        restored.append(entry if change is None else change["before"])
    return restored
