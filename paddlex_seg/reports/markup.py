"""Pieces of HTML, the page around them and its style. Texts are escaped here."""

import base64
import html
from collections.abc import Mapping, Sequence

from paddlex_seg.data.findings import Severity


def section(name: str, heading: str, *parts: str) -> str:
    """A part of the page with an anchor. Parts are HTML."""
    return f'<section id="{name}"><h2>{heading}</h2>\n' + "\n".join(parts) + "</section>"


def navigation(*names: str) -> str:
    """Links to the sections of these names, which are their headings in lower case."""
    links = " ".join(f'<a href="#{name}">{name.capitalize()}</a>' for name in names)
    return f'<nav aria-label="Sections">{links}</nav>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] | None = None) -> str:
    """Cells are HTML. numbers: the columns to align right; all but the first unless told."""
    right = set(range(1, len(head)) if numbers is None else numbers)
    kinds = [' class="n"' if i in right else "" for i in range(len(head))]
    titles = "".join(f'<th scope="col"{kind}>{cell}</th>' for kind, cell in zip(kinds, head, strict=True))
    lines = [
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    ]
    return (
        f'<div class="scroll" role="region" aria-label="Table" tabindex="0"><table>'
        f"<thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def legend(splits: Sequence[str]) -> str:
    """Which colour is which split."""
    items = [
        f'<span><i class="{colour}"></i>{text(split)}</span>'
        for colour, split in zip(COLOURS, splits, strict=False)
    ]
    return f'<p class="legend">{"".join(items)}</p>'


def tag(severity: Severity) -> str:
    """A severity as a coloured label."""
    return f'<span class="tag {severity}">{severity}</span>'


def nothing(text: str) -> str:
    """A line in place of a table or a chart that would be empty."""
    return f'<p class="muted">{text}</p>'


def text(value: str, limit: int = 200) -> str:
    """The text for HTML, between tags or in an attribute, cut to ``limit`` characters."""
    return html.escape(shorten(value, limit))


def shorten(value: str, limit: int) -> str:
    """On one line; a long text loses its middle, since file names often differ at their ends."""
    value = " ".join(value.split())
    if len(value) <= limit:
        return value
    tail = limit // 3
    return f"{value[: limit - tail - 1]}…{value[-tail:]}"


def number(value: int) -> str:
    """With narrow spaces that do not break between the thousands."""
    return f"{value:,}".replace(",", "\u202f")


def decimal(value: float | None) -> str:
    """A number in short; a dash for none."""
    if value is None:
        return "&ndash;"
    return f"{value:.1f}" if value < 10 and value != round(value) else number(round(value))


def percent(share: float) -> str:
    """A share of 1 in percent."""
    return f"{100 * share:.0f}\u202f%" if share >= 0.1 or share == 0 else f"{100 * share:.1f}\u202f%"


def spread(summary: Mapping[str, float | None]) -> str:
    """The numbers of a summary with slashes between them."""
    return " / ".join(decimal(value) for value in summary.values())


def size(width: int, height: int) -> str:
    """Width by height."""
    return f"{number(width)}&nbsp;&times;&nbsp;{number(height)}"


def noun(noun: str, count: int) -> str:
    """The word in the number that goes with ``count``."""
    return noun if count == 1 else {"info": "infos", "class": "classes"}.get(noun, f"{noun}s")


def data_url(data: bytes, kind: str) -> str:
    """Bytes embedded as an address of a MIME type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


BROKEN = '<div class="broken">The picture cannot be read</div>'
COLOURS = ("s0", "s1", "s2", "s3")  # classes of the style sheet, in the order of the splits

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c2329; --muted: #59646e; --line: #d8dee4;
  --card: #f6f8fa; --link: #0b5cad; --error: #b3261e; --warning: #8a5200; --info: #2a5d9f; --good: #1a7336;
  --s0: #2f6db3; --s1: #d5851a; --s2: #7a52b3; --s3: #2d8a6e; }
@media (prefers-color-scheme: dark) { :root { --back: #14181c; --text: #e3e8ec; --muted: #9ba6b0;
  --line: #323a42; --card: #1c2227; --link: #82b7f5; --error: #ff8f85; --warning: #f0b55c; --info: #8fb9f2;
  --good: #72c98a; --s0: #6aa5e6; --s1: #efac4e; --s2: #b695e8; --s3: #66c2a4; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 24px 20px 64px; background: var(--back);
  color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 12px; }
h2 { font-size: 21px; margin: 48px 0 12px; padding-top: 12px; border-top: 1px solid var(--line); }
h3 { font-size: 16px; margin: 20px 0 8px; }
p { margin: 0 0 8px; }
a { color: var(--link); }
code { font: 0.93em ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; }
.muted, figcaption .muted { color: var(--muted); font-size: 13px; }
header > .muted { margin: 0; }
.verdict { display: inline-block; font-size: 20px; font-weight: 600; padding: 4px 14px; border-radius: 6px;
  border: 2px solid; }
.passed { color: var(--good); } .failed { color: var(--error); }
.tiles { list-style: none; display: flex; flex-wrap: wrap; gap: 10px; margin: 10px 0 18px; padding: 0; }
.tile { padding: 6px 16px; border: 1px solid var(--line); border-left: 4px solid; border-radius: 6px;
  background: var(--card); }
.tile b { font-size: 20px; margin-right: 4px; }
.error { color: var(--error); } .warning { color: var(--warning); } .info { color: var(--info); }
.none { color: var(--muted); }
nav { display: flex; flex-wrap: wrap; gap: 6px 18px; margin-top: 16px; }
.scroll { overflow: auto; max-height: 460px; margin: 0 0 14px; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 5px 16px 5px 0; border-bottom: 1px solid var(--line);
  overflow-wrap: normal; }
td { min-width: 3em; } td:last-child, th:last-child { padding-right: 4px; }
th { font-weight: 600; color: var(--muted); font-size: 13px; position: sticky; top: 0;
  background: var(--back); }
.n { text-align: right; white-space: nowrap; } th.n { white-space: normal; }
.tag { display: inline-block; font-size: 12px; font-weight: 600; padding: 0 7px; border: 1px solid;
  border-radius: 10px; }
.kind { color: var(--text); border: 1px solid var(--line); border-left: 4px solid var(--info);
  border-radius: 6px; padding: 12px 16px; margin: 16px 0; }
.kind.error { border-left-color: var(--error); } .kind.warning { border-left-color: var(--warning); }
.kind h3 { margin: 0 0 6px; } .count { color: var(--muted); font-weight: 400; }
.repair { color: var(--good); }
.cards { list-style: none; display: grid; align-items: start; gap: 12px; margin: 12px 0; padding: 0;
  grid-template-columns: repeat(auto-fill, minmax(min(240px, 100%), 1fr)); }
.cards.plain { grid-template-columns: 1fr; gap: 4px; }
.card { background: var(--card); border-radius: 6px; padding: 10px; font-size: 14px; }
.card p { margin: 6px 0 0; }
img { max-width: 100%; height: auto; display: block; border-radius: 4px; }
.card img { margin: 0 auto; }
.broken { display: flex; align-items: center; justify-content: center; min-height: 120px; padding: 12px;
  color: var(--muted); border: 1px dashed var(--muted); border-radius: 4px; text-align: center; }
details { margin: 8px 0; } summary { cursor: pointer; color: var(--link); }
details ol { max-height: 420px; overflow: auto; font-size: 13px; padding-left: 34px; }
figure { margin: 0; } figcaption { font-size: 13px; margin-top: 5px; }
.samples { display: grid; gap: 18px 14px;
  grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); }
.samples img { width: 100%; max-height: 420px; object-fit: contain; background: var(--card); }
.legend { display: flex; gap: 18px; font-size: 14px; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 6px; }
.bars { display: grid; gap: 6px 14px; grid-template-columns: fit-content(36%) 1fr; font-size: 14px; }
.bar-name { text-align: right; align-self: center; line-height: 1.25; }
.bar { display: flex; align-items: center; gap: 6px; height: 15px; font-size: 12px; color: var(--muted); }
.bar i { height: 11px; border-radius: 0 2px 2px 0; }
.s0 { background: var(--s0); fill: var(--s0); } .s1 { background: var(--s1); fill: var(--s1); }
.s2 { background: var(--s2); fill: var(--s2); } .s3 { background: var(--s3); fill: var(--s3); }
.charts { display: grid; gap: 20px 28px; margin: 8px 0 18px;
  grid-template-columns: repeat(auto-fit, minmax(min(360px, 100%), 1fr)); }
.chart figcaption { font-size: 14px; font-weight: 600; margin: 0 0 4px; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--muted); font-size: 11.5px; } .x { text-anchor: middle; } .y { text-anchor: end; }
.grid { stroke: var(--line); } .mark { stroke: var(--muted); stroke-dasharray: 3 3; }
@media (max-width: 560px) { #findings > .scroll :is(th, td):last-child { display: none; }
  svg text { font-size: 15px; } .m { font-size: 13px; } }
.heats { display: flex; flex-wrap: wrap; gap: 28px; }
.heat figcaption { display: flex; justify-content: space-between; gap: 12px; width: 260px; }
.ramp { display: flex; align-items: center; gap: 5px; color: var(--muted); }
.ramp img { width: 90px; height: 10px; border-radius: 2px; }
"""
