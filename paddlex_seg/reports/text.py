"""Formats numbers and names for pages and charts. The results are plain text, not HTML."""

import math
import re
from collections import Counter
from collections.abc import Mapping

NOTHING = "–"  # shown if there is no number
# Control characters and single surrogates. XML does not allow them, and fonts have no glyph for them.
_UNREADABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def shorten(value: str, limit: int = 200) -> str:
    """The text on one line, at most ``limit`` characters.

    A long text is cut in the middle, because file names often differ at their ends.
    """
    value = " ".join(value.split())
    if len(value) <= limit:
        return value
    tail = limit // 3
    return f"{value[: limit - tail - 1]}…{value[-tail:]}"


def legible(value: str) -> str:
    """The text, with each character that XML does not allow replaced by U+FFFD."""
    return _UNREADABLE.sub("\ufffd", value)


def number(value: int) -> str:
    """An integer with narrow no-break spaces as thousands separators."""
    return f"{value:,}".replace(",", "\u202f")


def decimal(value: float | None) -> str:
    """A number with at most one decimal; a dash for None."""
    if value is None:
        return NOTHING
    return f"{value:.1f}" if value < 10 and value != round(value) else number(round(value))


def percent(share: float) -> str:
    """A fraction (0..1) in percent."""
    return f"{100 * share:.0f}\u202f%" if share >= 0.1 or share == 0 else f"{100 * share:.1f}\u202f%"


def figure(value: float | None) -> str:
    """A figure such as AP, with three decimals; a dash for None and NaN."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.3f}"


def signed(value: float | None) -> str:
    """A difference with its sign and three decimals; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return NOTHING
    return f"{value:+.3f}".replace("-", "\u2212") if round(value, 3) else "0.000"


def interval(ends: tuple[float, float] | None, with_sign: bool = False) -> str:
    """An interval, with three decimals; empty for None."""
    if ends is None or any(map(math.isnan, ends)):
        return ""
    write = signed if with_sign else figure
    between = " to " if with_sign else "\u2013"
    return f"{write(ends[0])}{between}{write(ends[1])}"


def spread(summary: Mapping[str, float | None]) -> str:
    """The numbers of a summary, separated by slashes."""
    return " / ".join(decimal(value) for value in summary.values())


def size(width: int, height: int) -> str:
    """Width by height."""
    return f"{number(width)}\u00a0×\u00a0{number(height)}"


def noun(noun: str, count: int) -> str:
    """The singular or plural of a noun, depending on ``count``."""
    return noun if count == 1 else {"info": "infos", "class": "classes"}.get(noun, f"{noun}s")


def counted(count: int, word: str) -> str:
    """A count with its noun: "1 class", "2 classes"."""
    return f"{number(count)} {noun(word, count)}"


def describe_objects(counts: Counter[str]) -> str:
    """The number of objects per class. Only the six most frequent classes are named."""
    named = [f"{number(count)} {shorten(name, 40)}" for name, count in counts.most_common(6)]
    unnamed = len(counts) - len(named)
    more = f" and {number(unnamed)} more {noun('class', unnamed)}" if unnamed else ""
    return (", ".join(named) or "no objects") + more
