"""Reads the labels of LabelMe shapes: which text is meant, and what was odd about it."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paddlex_seg.data.coco.categories import listed_name
from paddlex_seg.data.findings import Finding, finding


@dataclass(slots=True)
class _Oddity:
    """Texts of shapes that were read as another text than stands in the files."""

    code: str
    key: str  # of the shape
    written: str
    read_as: str
    num_shapes: int = 0
    files: set[str] = field(default_factory=set)


class LabelReader:
    """Reads the labels and kinds of the shapes of a data set.

    Those that are read as another text are counted over all files. known: the list of classes; None if there
    is none.
    """

    def __init__(self, known: Sequence[str] | None) -> None:
        self.known = known
        self._oddities: dict[tuple[str, str, str], _Oddity] = {}

    def label(self, shape: Any, file: str) -> str:
        """The label, without blanks around it, written as in the list. A number is read as its text.

        Raises ValueError, with the end of a sentence about the shape, when there is no usable label.
        """
        if not isinstance(shape, Mapping):
            raise ValueError(f"is {_shortened(shape)}; expected an object with label and points")
        label: Any = shape.get("label")
        if isinstance(label, str):
            text = label.strip()
            if text != label:
                self._note("label_padded", "label", repr(label), text, file)
        elif type(label) in (int, float) and math.isfinite(label):
            text = str(int(label)) if label == int(label) else str(label)
            self._note("label_not_text", "label", _shortened(label), text, file)
        elif label is None and "label" not in shape:
            raise ValueError("has no label")
        else:
            raise ValueError(f"has the label {_shortened(label)}; expected text, the name of the class")
        if not text:
            raise ValueError(f"has the empty label {label!r}; expected the name of the class")
        if self.known is None or (listed := listed_name(text, self.known)) in (None, text):
            return text
        self._note("label_spelling", "label", repr(text), listed, file)
        return listed

    def kind(self, shape: Mapping[str, Any], kinds: Collection[str], file: str) -> Any:
        """The ``shape_type`` as it is called in ``kinds``; polygon if there is none. Unknown ones stay."""
        written = shape.get("shape_type") or "polygon"
        if not isinstance(written, str) or (listed := listed_name(written, kinds)) in (None, written):
            return written
        self._note("label_spelling", "shape_type", repr(written), listed, file)
        return listed

    def findings(self) -> list[Finding]:
        """One finding for each odd text."""
        found = []
        for item in self._oddities.values():
            first = min(item.files)
            where = f"{item.num_shapes} shapes in {len(item.files)} files"
            message = f"{where} have the {item.key} {item.written}, which was read as {item.read_as!r}"
            found.append(finding(item.code, first, message))
        return found

    def _note(self, code: str, key: str, written: str, read_as: str, file: str) -> None:
        item = self._oddities.setdefault((code, key, written), _Oddity(code, key, written, read_as))
        item.num_shapes += 1
        item.files.add(file)


def _shortened(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}..."
