"""The search for listed images that do not exist, and what the check says about each."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

from paddlex_seg.data.image_facts import ImageFacts
from paddlex_seg.data.image_search import Found, ImageIndex, find_missing
from paddlex_seg.files.names import is_utf8, printable

NOT_THERE = ("image_missing", "file_name_outside")
_SHOWN = 3


def search_missing(image_dir: Path, facts: Mapping[str, ImageFacts]) -> dict[str, Found]:
    """What was found for each listed name without an image file. ``facts``: of all listed names."""
    missing = [name for name, fact in facts.items() if fact.problem in NOT_THERE]
    present = [name for name, fact in facts.items() if fact.problem not in NOT_THERE]
    return find_missing(ImageIndex(image_dir), missing, present) if missing else {}


def with_search(
    facts: Mapping[str, ImageFacts], found: Mapping[str, Found], folder: str
) -> dict[str, ImageFacts]:
    """The facts, with what `search_missing` found in ``folder`` in the messages about missing images."""
    return {
        name: _told(fact, name, found[name], folder) if name in found else fact
        for name, fact in facts.items()
    }


def _told(fact: ImageFacts, name: str, found: Found, folder: str) -> ImageFacts:
    files = [f"{folder}/{file}" for file in found.candidates[:_SHOWN]]
    more = len(found.candidates) - len(files)
    listed = printable(", ".join(files) + (f" and {more} more" if more else ""))
    if found.name is not None:
        verb = "exists" if fact.problem == "file_name_outside" else "does"
        text = f", but {listed} {verb}{_difference(name, found.name)}"
        hint = "Correct file_name, or let CheckDataset.fix.enable=True do it in a copy."
        return replace(fact, message=fact.message + text, hint=hint)
    if found.rivals and found.rivals[0] in found.candidates:
        return replace(fact, message=f"{fact.message}; {listed} is listed itself")
    if found.rivals:
        others = printable(", ".join(found.rivals))
        return replace(fact, message=f"{fact.message}; {listed} may be meant, but also by file_name {others}")
    return replace(fact, message=f"{fact.message}; {listed} may be meant") if files else fact


def _difference(name: str, file: str) -> str:
    """What tells two names apart that look alike on the screen."""
    if file != name and normalize("NFC", file) == normalize("NFC", name):
        return ", with its letters in another Unicode form"
    return "" if is_utf8(file) else ", with a name that is not UTF-8"
