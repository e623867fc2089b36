"""Divides the COCO file of an export into splits. Records stay as they are, also those that are not valid."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from paddlex_seg.data.coco.read import parse_coco
from paddlex_seg.data.coco.records import id_or_none
from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.coco_export import CocoExport, entries_of
from paddlex_seg.data.formats.conversion import ALL
from paddlex_seg.data.preparation.merge import in_name_order
from paddlex_seg.structures import CocoFile

Document = Mapping[str, Any]


def with_val(
    export: CocoExport, divide: Callable[[CocoFile], dict[str, CocoFile]]
) -> tuple[dict[str, Document], list[Finding]]:
    """The documents of an export by split. One without a val split is divided; a test split stays.

    Returns a finding about that, too. ``divide`` makes parts of the valid records.
    """
    documents: dict[str, Document] = dict(export.documents)
    whole = next((split for split in (ALL, "train") if split in documents), None)
    if whole is None or "val" in documents:
        return documents, []
    document = documents.pop(whole)
    copy = {
        **document,
        "annotations": list(entries_of(document, "annotations")),
    }  # parse_coco empties the list
    coco = in_name_order(parse_coco(copy, Path(f"{whole}.json")).coco)
    parts = {name: part for name, part in divide(coco).items() if name != "test" or "test" not in documents}
    sizes = ", ".join(f"{name} {len(part.images)}" for name, part in parts.items())
    found = [finding("split_divided", "annotations", f"{len(coco.images)} images were divided: {sizes}")]
    return {**_partition(document, parts), **documents}, found if whole == "train" else []


def _partition(document: Document, parts: Mapping[str, CocoFile]) -> dict[str, Document]:
    """The records of each part. Those of no part, which are not valid, go to the first one."""
    part_of = {record.id: name for name, part in parts.items() for record in part.images}
    first = next(iter(parts))
    images: dict[str, list[Any]] = {name: [] for name in parts}
    annotations: dict[str, list[Any]] = {name: [] for name in parts}
    for key, id_key, target in (("images", "id", images), ("annotations", "image_id", annotations)):
        for entry in entries_of(document, key):
            id = id_or_none(entry.get(id_key)) if isinstance(entry, dict) else None
            target[first if id is None else part_of.get(id, first)].append(entry)
    return {name: {**document, "images": images[name], "annotations": annotations[name]} for name in parts}
