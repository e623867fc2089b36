"""Replaces annotations in a COCO file and leaves every other byte of it as it is."""

import codecs
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from paddlex_seg.data.coco.read import collector_paused, parse_coco, read_coco, read_text
from paddlex_seg.data.coco.records import id_or_none
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Id

_SPACE = re.compile(r"[ \t\n\r]*")
_Span = tuple[int, int]


class AnnotationFile:
    """The text of an annotation file without problems, and where in it the record of each annotation is."""

    def __init__(self, path: Path) -> None:
        """Raises DatasetError for a file with problems, and for one that is not UTF-8."""
        self.coco, self._path = read_coco(path), path
        text, encoding = read_text(path)
        if encoding != "utf-8":
            raise DatasetError(
                f"{path}: the file is {encoding.upper()} text. Only UTF-8 can be changed in place. "
                "Save it as UTF-8, and make a new review."
            )
        self._text = text
        with collector_paused():
            self._start, self._end, self._spans = _spans_of_list(text, "annotations")
            entries = [json.loads(text[start:end]) for start, end in self._spans]
        self.ids = [_id(entry["id"]) for entry in entries]
        self.has_text_ids = bool(entries) and all(isinstance(entry["id"], str) for entry in entries)
        self._positions: dict[Id, list[int]] = defaultdict(list)
        for position, entry in enumerate(entries):
            self._positions[_id(entry["image_id"])].append(position)

    def of_image(self, image_id: Id) -> dict[Id, str]:
        """The records of an image by the ids of the annotations, as they stand in the file, in its order."""
        return {self.ids[i]: self._record(i) for i in self._positions.get(image_id, ())}

    def with_records(self, records: Mapping[Id, Mapping[Id, str]]) -> bytes:
        """The content of the file with other annotations for some images.

        records: by image id all annotations that it then has, as `of_image`. Records that are not named are
        removed, new ones stand behind the last one of their image, or at the end of the list. Raises
        DatasetError when the result would not be a file without problems.
        """
        before: dict[int, str | None] = {}  # the new text of a record; None: removed
        behind: dict[int, list[str]] = defaultdict(list)
        for image_id, wanted in records.items():
            positions = self._positions.get(image_id, [])
            before |= {i: wanted.get(self.ids[i]) for i in positions}
            known = {self.ids[i] for i in positions}
            last = positions[-1] if positions else len(self._spans) - 1
            behind[last] += [text for id, text in wanted.items() if id not in known]
        text = "".join(self._pieces(before, behind))
        mark = codecs.BOM_UTF8 if self._path.read_bytes().startswith(codecs.BOM_UTF8) else b""
        problems = [
            one for one in parse_coco(json.loads(text), self._path).log.kept if one.severity == "error"
        ]
        if problems:
            raise DatasetError(
                f"{self._path}: the corrections would make a file with problems. {problems[0]}"
            )
        return mark + text.encode("utf-8", "backslashreplace")

    def _pieces(self, before: Mapping[int, str | None], behind: Mapping[int, list[str]]) -> Iterator[str]:
        """The text in parts. What stands between two records stays before the second one."""
        first = self._spans[0][0] if self._spans else self._start
        usual = self._between(1) if len(self._spans) > 1 else ", "
        items: list[tuple[str, str]] = [(usual, text) for text in behind.get(-1, ())]
        for position in range(len(self._spans)):
            text = before.get(position, self._record(position))
            if text is not None:
                items.append((self._between(position) if position else usual, text))
            items += [(usual, text) for text in behind.get(position, ())]
        yield self._text[:first]
        for number, (gap, text) in enumerate(items):
            yield gap * (number > 0) + text
        yield self._text[self._spans[-1][1] if self._spans else self._end :]

    def _record(self, position: int) -> str:
        start, end = self._spans[position]
        return self._text[start:end]

    def _between(self, position: int) -> str:
        return self._text[self._spans[position - 1][1] : self._spans[position][0]]


def _id(value: object) -> Id:
    id = id_or_none(value)
    assert id is not None, "the file was read without a problem"
    return id


def _spans_of_list(text: str, key: str) -> tuple[int, int, list[_Span]]:
    """Where the content of the list under a key of a JSON object starts and ends, and each of its entries.

    text: valid JSON with such a list. Of a repeated key, the last one counts, as for Python.
    """
    decoder = json.JSONDecoder()
    found: tuple[int, int, list[_Span]] = (0, 0, [])
    place = _skip(text, _skip(text, 0) + 1)
    while text[place] != "}":
        name, place = decoder.raw_decode(text, place)
        place = _skip(text, _skip(text, place) + 1)  # the colon
        if name == key and text[place] == "[":
            start = place + 1
            spans = []
            place = _skip(text, start)
            while text[place] != "]":
                _, end = decoder.raw_decode(text, place)
                spans.append((place, end))
                place = _skip(text, end)
                if text[place] == ",":
                    place = _skip(text, place + 1)
            found = (start, place, spans)
            place += 1
        else:
            _, place = decoder.raw_decode(text, place)
        place = _skip(text, place)
        if text[place] == ",":
            place = _skip(text, place + 1)
    return found


def _skip(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    assert match is not None
    return match.end()
