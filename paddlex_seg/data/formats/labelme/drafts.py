"""Reads LabelMe files as they are, before their images are located and their shapes are checked."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from paddlex_seg.data.conversion_errors import ERRORS_FILE
from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.foreign import LABELME_XML, is_labelme_xml, kind_of_json
from paddlex_seg.data.formats.name_index import NameIndex
from paddlex_seg.data.formats.source_files import decode_text, files_below
from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Draft:
    """The content of a LabelMe file. Shapes are not validated yet, and the image file is not located yet."""

    shapes: list[Any]
    image: str  # imagePath with slashes
    embedded: str | None  # imageData
    listed_hw: tuple[int, int] | None


@dataclass(slots=True)
class Drafts:
    """The LabelMe files of a data set, by their path relative to the root."""

    listed: bool = False  # whether list files name the members
    files: dict[str, Draft] = field(default_factory=dict)
    members: dict[str, list[str]] = field(default_factory=dict)  # names by split, as listed
    others: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # by kind, "" if unknown
    findings: list[Finding] = field(default_factory=list)


def read_all(root: Path, split: str) -> Drafts:
    """The LabelMe files in ``root`` and its folders, as the only split. Unreadable files become findings."""
    drafts = Drafts()
    for name in annotation_names(root):
        draft = _read_or_report(root, name, drafts.findings)
        if isinstance(draft, Draft):
            drafts.files[name] = draft
        elif draft is not None:
            drafts.others[draft].append(name)
    drafts.members[split] = list(drafts.files)
    for name in files_below(root, (".xml",)):
        if is_labelme_xml(root / name):
            drafts.others[LABELME_XML].append(name)
    drafts.findings += _others_left_out(drafts.others)
    return drafts


def read_listed(root: Path, lists: Mapping[str, Sequence[str]], list_files: Mapping[str, str]) -> Drafts:
    """The LabelMe files in the lists, by split. ``list_files`` has the file name of each list.

    Lines that lead nowhere, files that are not LabelMe, and LabelMe files in no list become findings.
    """
    drafts = Drafts(listed=True)
    existing = annotation_names(root)
    index = NameIndex(existing)
    tried: set[str] = set()
    for split, lines in lists.items():
        named = {line: os.path.normpath(_file_of_line(line)) for line in lines}
        places = {line: name if (root / name).is_file() else index.find(name) for line, name in named.items()}
        drafts.findings += _leading_nowhere(places, list_files[split])
        names = list(dict.fromkeys(name for name in places.values() if name is not None))
        for name in names:
            if name in tried:
                continue
            tried.add(name)
            draft = _read_or_report(root, name, drafts.findings)
            if isinstance(draft, Draft):
                drafts.files[name] = draft
            elif draft is not None:
                message = "the file has no list 'shapes', so it is not a LabelMe file"
                drafts.findings.append(finding("source_unreadable", name, message))
        drafts.members[split] = [name for name in names if name in drafts.files]
    rest = [name for name in existing if name not in tried]
    drafts.findings += _unlisted(root, rest, list(list_files.values()))
    return drafts


def annotation_names(root: Path) -> list[str]:
    """All JSON files, except those that a conversion writes."""
    return [name for name in files_below(root, (".json",)) if not _is_written(name)]


def describe_others(others: Mapping[str, Sequence[str]]) -> str:
    """What the files of other formats are, as the end of a message; empty if there are none."""
    parts = [
        f"{len(names)} {kind or 'other JSON'} file{'s' * (len(names) > 1)} ({names[0]})"
        for kind, names in others.items()
    ]
    return f" Found instead: {', '.join(parts)}." if parts else ""


def _is_written(name: str) -> bool:
    return name == ERRORS_FILE or PurePosixPath(name).match("annotations/instance_*.json")


def _file_of_line(line: str) -> str:
    """The LabelMe file in a line of a list; of the image in it, if there is none, the file of that name."""
    line = line.replace("\\", "/")
    found = _IMAGE_AND_MORE.fullmatch(line)
    if found is None:
        return line
    second = (found[2] or "").strip("\"'")
    return second if second.lower().endswith(".json") else f"{os.path.splitext(found[1])[0]}.json"


# An image, and what is behind it, such as the annotation.
_IMAGE_AND_MORE = re.compile(
    rf"[\"']?(.+?(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))}))[\"']?(?:[\s,;]+(.*))?", re.IGNORECASE
)


def _leading_nowhere(places: Mapping[str, str | None], list_file: str) -> list[Finding]:
    missing = [line for line, name in places.items() if name is None]
    if not missing:
        return []
    message = f"{len(missing)} of {len(places)} lines lead to no file; the first is {missing[0]!r}"
    return [finding("list_entry_missing", list_file, message)]


def _unlisted(root: Path, rest: Sequence[str], list_files: Sequence[str]) -> list[Finding]:
    """A finding about the LabelMe files among ``rest``, which are in no list."""
    names = [name for name in rest if isinstance(_read_or_report(root, name, []), Draft)]
    if not names:
        return []
    shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    message = f"{len(names)} LabelMe files are in no list ({', '.join(list_files)}): {shown}"
    return [finding("source_unlisted", names[0], message)]


def _others_left_out(others: Mapping[str, Sequence[str]]) -> list[Finding]:
    found = []
    for kind, names in others.items():
        count = f"{len(names)} file{'s' * (len(names) > 1)}"
        if kind:
            message = f"{count} of the format {kind}, which is not read here; the first is {names[0]}"
            hint = "Ignore this if it repeats the LabelMe files." if kind == "COCO" else None
            found.append(finding("source_unsupported", names[0], message, hint=hint))
        else:
            message = f"{count} without the list 'shapes' of LabelMe; the first is {names[0]}"
            found.append(finding("source_skipped", names[0], message))
    return found


def _read_or_report(root: Path, name: str, findings: list[Finding]) -> Draft | str | None:
    """The LabelMe file, or the kind of another JSON file, empty if unknown; None when it cannot be read."""
    try:
        document = _load(root / name)
    except DatasetError as error:
        findings.append(finding("source_unreadable", name, str(error).rstrip(".")))
        return None
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        return kind_of_json(document) or ""
    image, embedded = document.get("imagePath"), document.get("imageData")
    return Draft(
        shapes=document["shapes"],
        image=image.replace("\\", "/") if isinstance(image, str) else "",
        embedded=embedded if isinstance(embedded, str) and embedded else None,
        listed_hw=_listed_size(document.get("imageHeight"), document.get("imageWidth")),
    )


def _load(path: Path) -> Any:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise DatasetError(f"the file cannot be read ({error.strerror})") from error
    try:
        return json.loads(content)
    except UnicodeDecodeError:
        return _parse(decode_text(content, path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"not JSON ({error})") from error


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"not JSON ({error})") from error


def _listed_size(height: Any, width: Any) -> tuple[int, int] | None:
    sides = [int(side) for side in (height, width) if type(side) in (int, float) and 0 < side < 1e6]
    return (sides[0], sides[1]) if len(sides) == 2 else None
