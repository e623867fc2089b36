"""Changes single annotations in the text of a COCO file. All other records stay equal to the byte."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paddlex_seg.data.coco.records import id_or_none
from paddlex_seg.structures import Id

_DECODER = json.JSONDecoder()
_BLANK = " \t\n\r"


@dataclass(frozen=True)
class _Entry:
    """A record of the list, and where its text is."""

    start: int
    end: int
    value: Any


def edit_annotations(
    text: str, *, changed: Mapping[Id, Mapping[str, Any] | None], added: Sequence[Mapping[str, Any]]
) -> str:
    """The text of a COCO file with other annotations.

    changed: by id, the keys that get other values; None removes the annotation. added: new records, put at
    the end of the list. text: a valid file, see `read_coco`. The records in between keep their text, with
    the spelling of their numbers and their unknown keys.
    """
    entries, start, end = _annotations(text)
    between = text[entries[0].end : entries[1].start] if len(entries) > 1 else ", "
    texts = []
    for entry in entries:
        id = id_or_none(entry.value.get("id"))
        change = {} if id is None or id not in changed else changed[id]
        if change is None:
            continue
        texts.append(json.dumps({**entry.value, **change}) if change else text[entry.start : entry.end])
    texts += [json.dumps(record) for record in added]
    if not entries:
        return text[:start] + between.join(texts) + text[end:]
    return text[: entries[0].start] + between.join(texts) + text[entries[-1].end :]


def _annotations(text: str) -> tuple[list[_Entry], int, int]:
    """The entries of the list of annotations, and where its inside starts and ends."""
    found: tuple[list[_Entry], int, int] | None = None
    at = _after_blank(text, _after_blank(text, 0) + 1)  # behind the brace
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        at = _after_blank(text, _after_blank(text, at) + 1)  # behind the colon
        if key == "annotations":
            start = at + 1
            entries = list(_entries(text, start))
            at = _after_blank(text, entries[-1].end if entries else start)  # the closing bracket
            found = entries, start, at
            at += 1
        else:
            _, at = _DECODER.raw_decode(text, at)
        at = _after_blank(text, at)
        if text[at] == ",":
            at = _after_blank(text, at + 1)
    assert found is not None, "a valid file has a list of annotations"
    return found


def _entries(text: str, at: int) -> Iterator[_Entry]:
    at = _after_blank(text, at)
    while text[at] != "]":
        value, end = _DECODER.raw_decode(text, at)
        yield _Entry(at, end, value)
        at = _after_blank(text, end)
        if text[at] == ",":
            at = _after_blank(text, at + 1)


def _after_blank(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _BLANK:
        at += 1
    return at
