"""What a reference means that is no id of the file: some write the name of the image or class."""

from collections.abc import Container, Iterable
from pathlib import PurePosixPath
from typing import Any

from paddlex_seg.data.coco.records import id_or_none
from paddlex_seg.structures import Id


def meant_ids(references: Iterable[Id], entries: Iterable[Any], name_key: str) -> dict[Id, Id]:
    """The ids of records that are meant by ``references``, which are ids of no record.

    entries: the records, as in the file. name_key: their key with a name. A reference means the only record
    of that name, or, as "000012", the record of that number. What means nothing, or several records, is left
    out.
    """
    texts = {reference for reference in references if isinstance(reference, str)}
    if not texts:
        return {}
    records = [
        (id, str(entry.get(name_key)))
        for entry in entries
        if isinstance(entry, dict) and (id := id_or_none(entry.get("id"))) is not None
    ]
    ids, ids_of = {id for id, _ in records}, ids_by_name(records, are_files=name_key == "file_name")
    meant = {text: ids_of.get(text, set()) | _as_number(text, ids) for text in texts}
    return {text: found.pop() for text, found in meant.items() if len(found) == 1}


def ids_by_name(records: Iterable[tuple[Id, str]], *, are_files: bool) -> dict[str, set[Id]]:
    """The ids of each name. Files are also named without their folder, and without their suffix."""
    ids_of: dict[str, set[Id]] = {}
    for id, name in records:
        names = {name}
        if are_files:
            path = PurePosixPath(name.replace("\\", "/"))
            names |= {path.as_posix(), path.name, path.stem}
        for one in names:
            ids_of.setdefault(one, set()).add(id)
    return ids_of


def _as_number(text: str, ids: Container[Id]) -> set[Id]:
    is_number = text.isascii() and text.isdigit() and len(text) <= 100
    return {int(text)} if is_number and int(text) in ids else set()
