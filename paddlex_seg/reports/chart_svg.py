"""Converts a Matplotlib figure to a small SVG element for a page, in the colours of the page.

Matplotlib supports fixed colours only. Figures are therefore drawn in placeholder colours, which are replaced
by CSS variables in the SVG. The same SVG then works in the light and the dark theme. Elements have no ids, so
that a page can contain several charts.
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from markupsafe import Markup
from matplotlib.figure import Figure

from paddlex_seg.reports.text import legible

NUM_SERIES = 8  # colours s0 to s7 of the style sheet
DOT_RADIUS = 2.5  # radius of all markers: `_shape` turns every marker into a circle
RC: Any = {
    "svg.fonttype": "none",  # keep text as text, in the font of the page
    "svg.hashsalt": "paddlex_seg",  # makes ids deterministic
    "text.parse_math": False,  # a class may be called "$5"
}
"""Matplotlib settings for creating and saving a figure."""

_NAMES = ("line", "muted", "text", *(f"s{i}" for i in range(NUM_SERIES)))
_STAND_INS = {name: f"#fe00{i:02x}" for i, name in enumerate(_NAMES)}
_VARIABLES = {colour: f"var(--{name})" for name, colour in _STAND_INS.items()}
_KEPT_STYLES = {
    *("fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray", "opacity"),
    "text-anchor",
}
_KEPT_ATTRIBUTES = ("x", "y", "width", "height", "transform", "href")


def colour(name: str) -> str:
    """The placeholder colour for Matplotlib. The page shows the CSS variable ``--name`` instead."""
    return _STAND_INS[name]


def figure_to_svg(
    figure: Figure, *, label: str, tips: Mapping[str, Sequence[str]], is_crisp: bool = False
) -> Markup:
    """The figure as an ``<svg>`` element; equal figures give equal bytes. Must be called with settings `RC`.

    The gid of an artist becomes the CSS class of its shapes. tips: tooltips by gid, one for each shape of the
    gid. Such a gid has the form "class|unique name". label: description for screen readers. is_crisp: show
    the pixels of images as squares, without smoothing.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Matplotlib measures text and warns about missing glyphs. The browser draws it with its own fonts.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawn = ElementTree.fromstring(buffer.getvalue())
    svg = Element("svg", {"viewBox": drawn.attrib["viewBox"], "role": "img", "aria-label": legible(label)})
    for child in drawn:
        svg.extend(_shapes(child, tips))
    for image in svg.iter("image") if is_crisp else ():
        image.set("class", "cells")
    return Markup(ElementTree.tostring(svg, encoding="unicode"))


def _shapes(element: Element, tips: Mapping[str, Sequence[str]]) -> Iterator[Element]:
    """The shapes in an element of Matplotlib's SVG, without groups, ids and default styles."""
    kind = element.tag.rpartition("}")[2]
    if kind in ("metadata", "defs"):
        return
    if kind != "g":
        yield _shape(kind, element)
        return
    shapes = [shape for child in element for shape in _shapes(child, tips)]
    gid = element.get("id", "")
    if gid in tips:
        for shape, tip in zip(shapes, tips[gid], strict=True):
            title = Element("title")
            title.text = legible(tip)
            shape.append(title)
    for shape in shapes:
        if "_" not in gid and gid:  # gids made by Matplotlib contain "_"
            attributes = {"class": gid.partition("|")[0], **shape.attrib}
            shape.attrib.clear()
            shape.attrib.update(attributes)
        yield shape


def _shape(kind: str, element: Element) -> Element:
    given = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    if kind == "use":
        shape = Element(
            "circle", {"cx": _short(given["x"]), "cy": _short(given["y"]), "r": f"{DOT_RADIUS:g}"}
        )
    else:
        shape = Element(kind)
        shape.text = element.text if kind == "text" else None
        if "d" in given:
            shape.set("d", _short(given["d"]))
        for name in _KEPT_ATTRIBUTES:
            if name in given and not given[name].startswith("rotate(-0 "):
                is_address = name == "href"
                shape.set(name, re.sub(r"\s", "", given[name]) if is_address else _short(given[name]))
        if kind == "image":
            shape.set("preserveAspectRatio", "none")
    style = _style(given.get("style", ""))
    if style:
        shape.set("style", style)
    return shape


def _style(style: str) -> str:
    pairs = [pair.partition(":")[::2] for pair in style.split(";")]
    kept = [(name.strip(), value.strip()) for name, value in pairs if name.strip() in _KEPT_STYLES]
    return "; ".join(f"{name}: {_VARIABLES.get(value, value)}" for name, value in kept)


def _short(numbers: str) -> str:
    """An attribute with its numbers rounded to two decimals, without spaces next to path letters."""
    rounded = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), numbers)
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", re.sub(r"\s+", " ", rounded)).strip()
