"""Make small fonts whose letters are easy to tell apart, so that tests need no font of the system."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection, TTFont

from paddlex_seg import fonts

EM, WIDTH = 1000, 600


def make_font(path: Path, characters: str) -> Path:
    """A font with these characters. Each is a black block; the first is the highest, the last the lowest."""
    heights = {one: 800 * (len(characters) - i) // len(characters) for i, one in enumerate(characters)}
    names = {one: f"u{ord(one):05X}" for one in characters}
    builder = FontBuilder(EM, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap({ord(one): name for one, name in names.items()})
    glyphs = {".notdef": _block(0)} | {names[one]: _block(height) for one, height in heights.items()}
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics({name: (WIDTH, 0) for name in glyphs})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def make_collection(path: Path, *characters: str) -> Path:
    """A collection with one font for each text."""
    collection = TTCollection()
    for number, one in enumerate(characters):
        collection.fonts.append(TTFont(make_font(path.with_name(f"part {number}.ttf"), one)))
    collection.save(path)
    for number in range(len(characters)):
        path.with_name(f"part {number}.ttf").unlink()
    return path


@contextmanager
def only_fonts(*files: Path) -> Iterator[None]:
    """A system that has no fonts but these, beside the bundled font."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fonts.font_manager, "findSystemFonts", lambda: [str(file) for file in files])
        forget_fonts()
        yield
    forget_fonts()


def forget_fonts() -> None:
    """Search the folders of the system again."""
    for function in (fonts._faces, fonts._runs, fonts._missing):
        function.cache_clear()


def _block(height: int) -> object:
    pen = TTGlyphPen(None)
    if height:
        pen.moveTo((0, 0))
        pen.lineTo((0, height))
        pen.lineTo((WIDTH, height))
        pen.lineTo((WIDTH, 0))
        pen.closePath()
    return pen.glyph()
