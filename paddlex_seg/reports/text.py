"""Numbers and names as text that people read, in pages and charts. Nothing here is HTML."""

import re
from collections import Counter
from collections.abc import Mapping

NOTHING = "–"  # in place of a number that there is not
# Halves of surrogate pairs and control characters, which neither XML nor a font knows.
_UNREADABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def shorten(value: str, limit: int = 200) -> str:
    """On one line; a long text loses its middle, since file names often differ at their ends."""
    value = " ".join(value.split())
    if len(value) <= limit:
        return value
    tail = limit // 3
    return f"{value[: limit - tail - 1]}…{value[-tail:]}"


def legible(value: str) -> str:
    """The text with a replacement character for each one that cannot be part of an XML file."""
    return _UNREADABLE.sub("\ufffd", value)


def number(value: int) -> str:
    """With narrow spaces that do not break between the thousands."""
    return f"{value:,}".replace(",", "\u202f")


def decimal(value: float | None) -> str:
    """A number in short; a dash for none."""
    if value is None:
        return NOTHING
    return f"{value:.1f}" if value < 10 and value != round(value) else number(round(value))


def percent(share: float) -> str:
    """A share of 1 in percent."""
    return f"{100 * share:.0f}\u202f%" if share >= 0.1 or share == 0 else f"{100 * share:.1f}\u202f%"


def spread(summary: Mapping[str, float | None]) -> str:
    """The numbers of a summary with slashes between them."""
    return " / ".join(decimal(value) for value in summary.values())


def size(width: int, height: int) -> str:
    """Width by height."""
    return f"{number(width)}\u00a0×\u00a0{number(height)}"


def noun(noun: str, count: int) -> str:
    """The word in the number that goes with ``count``."""
    return noun if count == 1 else {"info": "infos", "class": "classes"}.get(noun, f"{noun}s")


def counted(count: int, word: str) -> str:
    """A count with its word: "1 class", "2 classes"."""
    return f"{number(count)} {noun(word, count)}"


def describe_objects(counts: Counter[str]) -> str:
    """Numbers of objects by name of their class, the six most frequent by name."""
    named = [f"{number(count)} {shorten(name, 40)}" for name, count in counts.most_common(6)]
    unnamed = len(counts) - len(named)
    more = f" and {number(unnamed)} more {noun('class', unnamed)}" if unnamed else ""
    return (", ".join(named) or "no objects") + more
