"""An annotation file under repair: each record before and after, with the codes of its changes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddlex_seg.data.checking.measures import Measures, measure
from paddlex_seg.data.coco.read import ParsedCoco, parse_coco
from paddlex_seg.data.coco.records import id_or_none
from paddlex_seg.structures import Id

# Codes whose removed records are in the file a second time: nothing is lost.
_REPEATED = ("annotation_id_duplicate", "file_name_duplicate", "image_id_duplicate")


@dataclass
class Slot:
    """A record of a list, before and after the repair."""

    position: int  # in the list in the file
    before: Any
    after: Any
    codes: list[str] = field(default_factory=list)
    is_removed: bool = False

    def id(self, key: str = "id") -> Id | None:
        """The id under ``key``; None if the record has none."""
        return id_or_none(self.after.get(key))

    def change(self, code: str, **values: Any) -> None:
        """Replace the values of some keys."""
        self._note(code)
        self.after = {**self.after, **values}

    def remove(self, code: str) -> None:
        """Remove the record from the list."""
        self._note(code)
        self.after, self.is_removed = None, True

    def _note(self, code: str) -> None:
        if code not in self.codes:
            self.codes.append(code)


class Draft:
    """An annotation file whose records can be changed. Each change has the code of its finding."""

    def __init__(self, path: Path, document: Any) -> None:
        self.path = path
        self.document = document if isinstance(document, dict) else {}
        self.original = document
        self.images, self.annotations = (
            [Slot(i, entry, entry) for i, entry in enumerate(list_of(self.document, key))]
            for key in ("images", "annotations")
        )
        self.categories: list[Any] = list(list_of(self.document, "categories"))
        self.category_codes: list[str] = []
        self.image_files: dict[str, str] = {}  # file_name in the copy -> name of the file, where they differ
        self.spare_images: set[str] = set()  # files that may be meant by a file_name; a person decides
        self.doubtful_sizes: set[Id] = set()  # images whose listed size is wrong, and stays

    def records(self, kind: str) -> Iterator[Slot]:
        """The slots whose record is a JSON object and not removed."""
        return (slot for slot in getattr(self, kind) if isinstance(slot.after, dict))

    def current(self) -> Any:
        """The document as it is now."""
        if not isinstance(self.original, dict):
            return self.original
        lists = {
            "images": [slot.after for slot in self.images if not slot.is_removed],
            "categories": self.categories,
            "annotations": [slot.after for slot in self.annotations if not slot.is_removed],
        }
        return {
            key: lists[key] if isinstance(value, list) and key in lists else value
            for key, value in self.document.items()
        }

    def parse(self) -> tuple[ParsedCoco, Measures, list[Slot]]:
        """The valid records, their measures, and the slot of each annotation."""
        document = self.current()
        slots = [slot for slot in self.annotations if not slot.is_removed]
        parsed = parse_coco(
            {**document, "annotations": list(document.get("annotations") or [])}
            if isinstance(document, dict)
            else {},
            self.path,
        )
        return parsed, measure(parsed.coco), [slots[position] for position in parsed.positions]

    @property
    def counts(self) -> Counter[str]:
        """Number of changed records for each code."""
        slots = [*self.images, *self.annotations]
        return Counter(code for slot in slots for code in slot.codes) + Counter(self.category_codes)

    def removed(self, kind: str) -> tuple[Counter[str], int]:
        """Number of removed records for each code, and of those that are still there a second time."""
        codes = [slot.codes[-1] for slot in getattr(self, kind) if slot.is_removed]
        lost = [code for code in codes if code not in _REPEATED]
        return Counter(lost), len(codes) - len(lost)

    def changes(self, digest: str) -> dict[str, Any]:
        """The log entry of this file."""
        changes: list[dict[str, Any]] = []
        if self.category_codes:
            before = list_of(self.document, "categories")
            changes.append(
                {
                    "list": "categories",
                    "codes": self.category_codes,
                    "before": before,
                    "after": self.categories,
                }
            )
        for name, slots in (("images", self.images), ("annotations", self.annotations)):
            changes += [
                {
                    "list": name,
                    "position": slot.position,
                    "codes": slot.codes,
                    "before": slot.before,
                    "after": slot.after,
                }
                for slot in slots
                if slot.codes
            ]
        return {"blake2b": digest, "changes": changes}


def highest_number(ids: Iterable[Id | None]) -> int:
    """The highest id that is a number; 0 if there is none."""
    return max((id for id in ids if isinstance(id, int)), default=0)


def list_of(document: Mapping[str, Any], key: str) -> list[Any]:
    """The list under ``key``; an empty list if there is none."""
    value = document.get(key)
    return value if isinstance(value, list) else []
