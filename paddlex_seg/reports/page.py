"""Renders a page as one HTML file that works offline. Templates have the markup, Python gives plain values.

Jinja2 escapes every value that is inserted into a page, except values of type Markup. Only two places create
Markup: the style sheets and scripts in this file, and the SVG charts in `chart_svg`. The
Content-Security-Policy of a page names its own scripts by their SHA-256, so that a browser runs no other.
"""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from paddlex_seg.reports import text

_FOLDER = Path(__file__).parent


def render_page(template: str, *, styles: Sequence[str], scripts: Sequence[str] = (), **values: Any) -> bytes:
    """The page as UTF-8.

    template: a file in ``templates``. styles, scripts: files in ``static``, which are embedded in the page. A
    single surrogate becomes a question mark. Paths that are not UTF-8 contain them.
    """
    embedded = [_static([file]) for file in scripts]
    hashes = [_hash(script) for script in embedded]
    page = (
        _environment()
        .get_template(template)
        .render(**values, style=_static(styles), scripts=embedded, script_hashes=hashes)
    )
    return page.encode("utf-8", "replace")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (
        *(text.shorten, text.number, text.decimal, text.percent, text.noun, text.counted),
        *(text.figure, text.interval, text.signed),
    )
    environment.filters |= {function.__name__: function for function in filters}
    return environment


def _static(files: Sequence[str]) -> Markup:
    return Markup("".join((_FOLDER / "static" / file).read_text(encoding="utf-8") for file in files))


def _hash(script: str) -> str:
    """The source expression of a Content-Security-Policy that allows this script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode('utf-8')).digest()).decode('ascii')}"
