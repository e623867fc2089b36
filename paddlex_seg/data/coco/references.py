"""What a reference means that is no id of the file: some write the name of the image or class."""

from collections.abc import Iterable
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
    texts = [reference for reference in references if isinstance(reference, str)]
    if not texts:
        return {}
    records = [
        (id, str(entry.get(name_key)))
        for entry in entries
        if isinstance(entry, dict) and (id := id_or_none(entry.get("id"))) is not None
    ]
    meant: dict[str, set[Id]] = {text: set() for text in texts}
    ids = {id for id, _ in records}
    for text in texts:
        if text.isascii() and text.isdigit() and len(text) <= 100 and int(text) in ids:
            meant[text].add(int(text))
    for id, name in records:
        names = {name}
        if name_key == "file_name":
            path = PurePosixPath(name.replace("\\", "/"))
            names |= {path.as_posix(), path.name, path.stem}
        for known in names & meant.keys():
            meant[known].add(id)
    return {text: found.pop() for text, found in meant.items() if len(found) == 1}
