"""Finds fonts for any script, and draws a line of text with them.

The bundled font (DejaVu Sans) comes first, then the fonts of the system. A line may need several fonts.
libraqm, which is part of Pillow and needs FriBiDi, joins and orders letters (Arabic, Devanagari). Fonts that
contain only coloured images, as some for emoji, cannot be used.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from math import ceil
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from fontTools.ttLib import TTCollection, TTFont
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

_BUNDLED = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
# Words in file names of fonts that are less suited to short labels.
_STYLES = re.compile(
    "bold|black|heavy|light|thin|medium|italic|oblique|mono|condensed|narrow|display|(?<!sans)serif"
    "|naskh|kufi|nastaliq|looped|unjoined|math"
)
_JOINERS = "\u200c\u200d"  # invisible, but Persian and Indian scripts look different without them
_COLOURED = ("CBDT", "sbix", "COLR", "SVG ")  # tables of fonts that have images instead of outlines
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH")
_LONGEST = 1000  # characters; no image is wide enough for more
_MOST_NAMED = 5


class Face(NamedTuple):
    """A font: a file, and the position in it (a collection has several fonts)."""

    path: str
    position: int = 0


# ---- Lines of text


def line_mask(parts: Sequence[str], size: float, max_width: int) -> Image.Image | None:
    """The texts of ``parts`` from left to right as one line, an image of mode L without empty borders.

    size: of the font, pixels. The first text is shortened with "…" if the line is wider than ``max_width``
    pixels. None if it does not fit then either. All texts must be writable, see `is_writable`.
    """
    name, *others = map(_printable, parts)
    mask = _draw([name, *others], size)
    if mask.width <= max_width:
        return mask

    def width(count: int) -> int:
        return _draw([_shortened(name, count), *others], size).width

    fitting = bisect_right(range(len(name)), max_width, key=width)
    return _draw([_shortened(name, fitting - 1), *others], size) if fitting else None


def is_writable(text: str) -> bool:
    """Whether the fonts of this machine have all characters of the text, and the text is not blank."""
    return bool(_printable(text)) and _runs(_printable(text)) is not None


def unwritable_notice(names: Sequence[str]) -> str | None:
    """A sentence about class names that cannot be drawn and what to install; None if all can be drawn."""
    unwritable = {i: _printable(name) for i, name in enumerate(names) if not is_writable(name)}
    missing = {i: "".join(dict.fromkeys(map(_missing, name))) for i, name in unwritable.items()}
    packages = {_package(character) for text in missing.values() for character in text}
    if any(not text and unwritable[i] for i, text in missing.items()):
        packages.add("libfribidi0")
    if not packages:
        return None
    named = [f"{unwritable[i]} (class {i})" for i in [i for i in unwritable if unwritable[i]][:_MOST_NAMED]]
    more = len(unwritable) - len(named)
    characters = "".join(dict.fromkeys("".join(missing.values())))
    return (
        f"No font on this machine can write {', '.join(named)}"
        + (f" and {more} more class names" if more > 0 else "")
        + (f"; characters without a font: {characters[:40]}" if characters else "")
        + "; in images and image files of charts, such a class is named by its number. To see the names, "
        f"install {' and '.join(sorted(packages))} (names of Debian and Ubuntu), or another font for them."
    )


def _draw(parts: Sequence[str], size: float) -> Image.Image:
    margin, space = ceil(size), 0.35 * size  # letters may reach beyond their width
    placed, x = [], float(margin)
    for part in parts:
        for face, text in _in_visual_order(part):
            font = _font(face, size)
            placed.append((x, font, text))
            x += font.getlength(text)
        x += space
    above, below = (max(font.getmetrics()[i] for _, font, _ in placed) for i in (0, 1))
    canvas = Image.new("L", (ceil(x) + margin, above + below))
    pen = ImageDraw.Draw(canvas)
    for x, font, text in placed:
        pen.text((x, above), text, font=font, fill=255, anchor="ls")
    return canvas.crop(canvas.getbbox() or (0, 0, 1, 1))


def _in_visual_order(text: str) -> list[tuple[Face, str]]:
    """The runs of a text from left to right. libraqm orders the letters within a run."""
    runs = list(_runs(text) or [(Face(_BUNDLED), text)])
    strong = next((kind for kind in map(unicodedata.bidirectional, text) if kind in ("L", "R", "AL")), "L")
    return runs if strong == "L" else runs[::-1]


def _printable(text: str) -> str:
    """The text on one line, without invisible characters. Control characters become U+FFFD."""
    text = unicodedata.normalize("NFC", " ".join(text[: 2 * _LONGEST].split())[:_LONGEST])
    shown = (character for character in text if character in _JOINERS or not _is_invisible(character))
    return "".join("\ufffd" if unicodedata.category(one) in ("Cc", "Cs") else one for one in shown)


def _is_invisible(character: str) -> bool:
    """Whether a character only changes others: the direction of text, or a variant of a letter."""
    is_selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return is_selector or unicodedata.category(character) == "Cf"


def _shortened(text: str, count: int) -> str:
    """The first ``count`` characters and "…". A letter is not separated from its marks."""
    while count and _belongs_to_letter_before(text[count]):
        count -= 1
    return text[:count].rstrip() + "…"


def _belongs_to_letter_before(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character).startswith("M")


# ---- The fonts of a text


@lru_cache(maxsize=4096)
def _runs(text: str) -> tuple[tuple[Face, str], ...] | None:
    """The text in runs of one font each, in logical order; None if a character has no font.

    One font for all is preferred. Otherwise a run is as long as its font has the characters.
    """
    if _needs_shaping(text) and not features.check("raqm"):
        return None
    if (face := _face_for(text)) is not None:
        return ((face, text),)
    runs: list[tuple[Face, str]] = []
    for cluster in _clusters(text):
        if runs and _covers(runs[-1][0], cluster):
            runs[-1] = (runs[-1][0], runs[-1][1] + cluster)
        elif (face := _face_for(cluster)) is not None:
            runs.append((face, cluster))
        else:
            return None
    return tuple(runs)


def _clusters(text: str) -> Iterator[str]:
    """Letters with their marks."""
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or not _belongs_to_letter_before(text[end]):
            yield text[start:end]
            start = end


def _needs_shaping(text: str) -> bool:
    """Whether letters change their form or order: right-to-left scripts, and all with combining marks."""
    return any(
        unicodedata.bidirectional(character) in ("R", "AL") or unicodedata.category(character)[0] == "M"
        for character in text
    )


def _face_for(text: str) -> Face | None:
    """The first font that has all characters. In a collection, that of the region which the text is from."""
    first = next((face for face in _faces() if _covers(face, text)), None)
    if first is None or first.position == 0 and len(_faces_of(first.path)) == 1:
        return first
    names = "".join(unicodedata.name(character, "")[:3] for character in text)
    region = "KR" if "HAN" in names else "JP" if "HIR" in names or "KAT" in names else "SC"
    same_file = [face for face in _faces_of(first.path) if _covers(face, text)]
    return next((face for face in same_file if _family(face).endswith(region)), first)


def _covers(face: Face, text: str) -> bool:
    codes = np.array([ord(character) for character in text if character not in _JOINERS], np.uint32)
    there = _characters(face)
    place = np.searchsorted(there, codes).clip(max=max(len(there) - 1, 0))
    return bool(len(there)) and bool((there[place] == codes).all())


@cache
def _missing(character: str) -> str:
    """The character if no font has it, else an empty text."""
    return character if _face_for(character) is None else ""


def _package(character: str) -> str:
    if unicodedata.name(character, "").startswith(_EAST_ASIAN):
        return "fonts-noto-cjk"
    return "fonts-symbola" if unicodedata.category(character) == "So" else "fonts-noto-core"


# ---- Font files


@cache  # searching the folders takes longer than drawing
def _faces() -> tuple[Face, ...]:
    """The bundled font, then those of the system; upright fonts without serifs of normal weight first.

    Matplotlib's own list of fonts is a file that does not know fonts installed later.
    """
    files = sorted(font_manager.findSystemFonts(), key=lambda file: (_num_styles(file), file))
    usable = [file for file in files if "lastresort" not in file.lower()]  # it has only boxes
    return Face(_BUNDLED), *(face for file in usable for face in _faces_of(file))


def _num_styles(file: str) -> int:
    return len(_STYLES.findall(Path(file).stem.lower()))


@cache
def _faces_of(file: str) -> tuple[Face, ...]:
    if Path(file).suffix.lower() not in (".ttc", ".otc"):
        return (Face(file),)
    try:
        with TTCollection(file, lazy=True) as collection:
            return tuple(Face(file, position) for position in range(len(collection)))
    except Exception:  # see `_characters`
        return ()


@cache  # reading the character table of a font is slower than drawing a label
def _characters(face: Face) -> NDArray[np.uint32]:
    """The code points of a font, ascending; none if it cannot be used."""
    nothing = np.zeros(0, np.uint32)
    try:
        with TTFont(face.path, fontNumber=face.position, lazy=True) as font:
            if any(table in font for table in _COLOURED) or not {"glyf", "CFF ", "CFF2"} & set(font.keys()):
                return nothing
            _font(face, 12)
            # Matplotlib is ten times faster, but its older versions read only the first font of a collection.
            found = font.getBestCmap() if face.position else FT2Font(face.path).get_charmap()
            return np.array(sorted(found or ()), np.uint32)
    except Exception:  # fontTools raises many kinds of errors for damaged files; other fonts remain
        return nothing


@cache
def _family(face: Face) -> str:
    with TTFont(face.path, fontNumber=face.position, lazy=True) as font:
        return font["name"].getDebugName(1) or ""


@lru_cache(maxsize=64)
def _font(face: Face, size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(face.path, size, index=face.position)
    with suppress(OSError, NotImplementedError):  # not a variable font; their default may be very thin
        font.set_variation_by_name("Regular")
    return font
