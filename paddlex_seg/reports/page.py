"""Renders a page as one HTML file that works offline. Templates have the markup, Python gives plain values.

Jinja2 escapes every value that is inserted into a page, except values of type Markup. Only two places create
Markup: the style sheets in this file, and the SVG charts in `chart_svg`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from paddlex_seg.reports import text

_FOLDER = Path(__file__).parent


def render_page(template: str, *, styles: Sequence[str], **values: Any) -> bytes:
    """The page as UTF-8.

    template: a file in ``templates``. styles: files in ``static``, which are embedded in the page. A single
    surrogate becomes a question mark. Paths that are not UTF-8 contain them.
    """
    page = _environment().get_template(template).render(**values, style=_style(styles))
    return page.encode("utf-8", "replace")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (text.shorten, text.number, text.decimal, text.percent, text.noun, text.counted)
    environment.filters |= {function.__name__: function for function in filters}
    return environment


def _style(files: Sequence[str]) -> Markup:
    return Markup("".join((_FOLDER / "static" / file).read_text(encoding="utf-8") for file in files))
