"""Reads the labels of LabelMe shapes: which text is meant, and what was odd about it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paddlex_seg.data.findings import Finding, finding


@dataclass(slots=True)
class _Oddity:
    """Labels that were read as another text than stands in the files."""

    code: str
    written: str
    read_as: str
    num_shapes: int = 0
    files: set[str] = field(default_factory=set)


class LabelReader:
    """Reads the labels of a data set. Labels that are read as another text are counted over all files."""

    def __init__(self) -> None:
        self._oddities: dict[tuple[str, str], _Oddity] = {}

    def read(self, shape: Any, file: str) -> str:
        """The label, without blanks around it. A number is read as its text.

        Raises ValueError, with the end of a sentence about the shape, when there is no usable label.
        """
        if not isinstance(shape, Mapping):
            raise ValueError(f"is {_shortened(shape)}; expected an object with label and points")
        label: Any = shape.get("label")
        if isinstance(label, str):
            text = label.strip()
            if text != label:
                self._note("label_padded", repr(label), text, file)
        elif type(label) in (int, float) and math.isfinite(label):
            text = str(int(label)) if label == int(label) else str(label)
            self._note("label_not_text", _shortened(label), text, file)
        elif label is None and "label" not in shape:
            raise ValueError("has no label")
        else:
            raise ValueError(f"has the label {_shortened(label)}; expected text, the name of the class")
        if not text:
            raise ValueError(f"has the empty label {label!r}; expected the name of the class")
        return text

    def findings(self) -> list[Finding]:
        """One finding for each odd label."""
        found = []
        for item in self._oddities.values():
            first = min(item.files)
            where = f"{item.num_shapes} shapes in {len(item.files)} files"
            message = f"{where} have the label {item.written}, which was read as {item.read_as!r}"
            found.append(finding(item.code, first, message))
        return found

    def _note(self, code: str, written: str, read_as: str, file: str) -> None:
        item = self._oddities.setdefault((code, written), _Oddity(code, written, read_as))
        item.num_shapes += 1
        item.files.add(file)


def unknown_label(label: str, count: int, known: Sequence[str], file: str) -> Finding:
    """The finding that ``count`` shapes of a file have a label that is not in the list of classes."""
    message = f"{count} shapes have the label {label!r}, which is not listed"
    alike = [name for name in known if name.casefold() == label.casefold()]
    hint = f"The list has {alike[0]!r}. Write the label and the list in the same way." if alike else None
    return finding("label_unknown", file, message, hint=hint)


def _shortened(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}..."
