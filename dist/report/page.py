"""The report's page: its style, its tables and how it writes numbers. Everything here escapes what it is given."""

import html
from collections.abc import Sequence
from typing import Any

from ...data.escaping import visible

CSS = """
:root { color-scheme: light dark; --paper: #ffffff; --card: #f6f7f9; --ink: #1d2127; --faint: #5c6470; --line: #dde1e7;
  --blue: #1a7fc9; --id: #7fb6e6; --text: #f0b25a; --sparse: #66c3a5; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --card: #1d2126; --ink: #e6e9ed; --faint: #a2abb7;
  --line: #343a43; --blue: #5cb0ee; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 2.5rem 1.5rem 5rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0; letter-spacing: -0.015em; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 3rem 0 .4rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p, figcaption { margin: .3rem 0 .9rem; max-width: 52rem; }
.faint, figcaption, caption { color: var(--faint); font-size: .92rem; }
nav { margin: 1rem 0 0; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .92rem; }
a { color: var(--blue); text-underline-offset: .15em; }
.cards { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.4rem 0 .6rem; }
.card { flex: 1 1 20rem; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.2rem; }
.card b { display: block; font-size: 2.5rem; line-height: 1.15; font-weight: 650; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums; }
.card dl { display: grid; grid-template-columns: 1fr auto; gap: .1rem 1rem; margin: .6rem 0 0; font-size: .94rem; }
dt { color: var(--faint); } dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
.facts { display: flex; flex-wrap: wrap; gap: .8rem 2.2rem; margin: 1.4rem 0 0; }
.facts dd { text-align: left; font-weight: 600; } .facts dt { font-size: .86rem; }
figure { margin: 1rem 0 .6rem; overflow-x: auto; }
figure svg { display: block; width: 100%; min-width: 720px; height: auto; }
figure svg text { font-family: inherit !important; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; margin: .4rem 0 1.4rem; }
table { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .34rem .6rem; text-align: right; white-space: nowrap; vertical-align: top; }
th { font-weight: 600; } thead th { background: var(--card); border-bottom: 1px solid var(--line); }
.word { text-align: left; } tbody th { text-align: left; }
tbody + tbody { border-top: 1px solid var(--line); } tr.sub td { color: var(--faint); }
tr.line + tr.line { border-top: 1px solid var(--line); }
.tag { font-size: .74rem; font-weight: 600; border: 1px solid currentColor; border-radius: 99px; padding: 0 .5em; margin-left: .5em;
  color: var(--blue); }
.gate { min-width: 11rem; text-align: left; } .bar { display: flex; height: .75rem; border-radius: 3px; overflow: hidden; margin: .3rem 0 .15rem; }
.bar i, .key { display: block; } .key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .35em 0 0; } .keys span + span { margin-left: 1.1em; }
.a-id { background: var(--id); } .a-text { background: var(--text); } .a-sparse { background: var(--sparse); } .a-other { background: #b9a6e0; }
.gate span { display: block; font-size: .8rem; color: var(--faint); }
details { border: 1px solid var(--line); border-radius: 8px; margin: 1rem 0; } summary { cursor: pointer; padding: .6rem 1rem; font-weight: 600; }
pre { margin: 0; padding: .8rem 1rem; overflow-x: auto; font: .84rem/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  border-top: 1px solid var(--line); tab-size: 4; }
.absent { background: var(--card); border-radius: 8px; padding: .8rem 1rem; color: var(--faint); max-width: none; }
@media print { main { max-width: none; padding: 0; } .scroll, figure { overflow: visible; } }
"""


def page(title: str, body: Sequence[str]) -> str:
    """A complete HTML document around parts of a body, which are HTML already."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def text(value: Any) -> str:
    """Any value as text that is safe in an element or a quoted attribute."""
    return html.escape(visible(str(value), keep="\n\t"))


def section(anchor: str, title: str, *parts: str) -> str:
    """A section; ``parts`` are HTML already."""
    return f'<section id="{anchor}">\n<h2>{text(title)}</h2>\n' + "\n".join(parts) + "\n</section>"


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph of plain words."""
    return f'<p class="{kind}">{text(words)}</p>' if kind else f"<p>{text(words)}</p>"


def absent(words: str) -> str:
    """A note in place of a part that is not there."""
    return paragraph(words, "absent")


def figure(svg: str, caption: str) -> str:
    """A figure of `report_plots`."""
    return f'<figure tabindex="0">\n{svg}\n<figcaption>{text(caption)}</figcaption>\n</figure>'


def scroll(table: str, label: str) -> str:
    """A box in which a wide table scrolls on its own."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label)}">\n{table}\n</div>'


def table(label: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain words: the first column names the row, the others are numbers."""
    head = "".join(_head(name, first=i == 0) for i, name in enumerate(header))
    lines = [
        f'<tr class="line"><th scope="row">{text(row[0])}</th>'
        + "".join(f"<td>{text(c)}</td>" for c in row[1:])
        + "</tr>"
        for row in rows
    ]
    return scroll(f"<table><thead><tr>{head}</tr></thead>\n<tbody>{''.join(lines)}</tbody></table>", label)


def grouped_table(
    label: str, header: Sequence[str], groups: Sequence[tuple[str, Sequence[Sequence[str]]]], tags: Sequence[str] = ()
) -> str:
    """A table of plain words whose rows come in named groups: a name, a kind of row, then numbers.

    ``tags`` holds a small mark per group, or "".
    """
    head = "".join(_head(name, first=i < 2) for i, name in enumerate(header))
    bodies = []
    for (name, rows), tag in zip(groups, tags or [""] * len(groups), strict=True):
        mark = f'<span class="tag">{text(tag)}</span>' if tag else ""
        lines = []
        for i, row in enumerate(rows):
            named = f'<th scope="rowgroup" rowspan="{len(rows)}">{text(name)}{mark}</th>' if i == 0 else ""
            cells = "".join(f"<td>{text(cell)}</td>" for cell in row[1:])
            lines.append(f'<tr class="{"sub" if i else ""}">{named}<td class="word">{text(row[0])}</td>{cells}</tr>')
        bodies.append(f"<tbody>{''.join(lines)}</tbody>")
    return scroll(f"<table><thead><tr>{head}</tr></thead>\n" + "\n".join(bodies) + "</table>", label)


def _head(name: str, first: bool) -> str:
    return f'<th scope="col"{" class=" + chr(34) + "word" + chr(34) if first else ""}>{text(name)}</th>'


def listing(items: Sequence[tuple[str, str]], kind: str) -> str:
    """Names and values, e.g. ``kind="facts"``."""
    body = "".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in items)
    return f'<dl class="{kind}">{body}</dl>'


def fold(title: str, content: str) -> str:
    """Long plain text, folded away."""
    return f"<details><summary>{text(title)}</summary><pre>{text(content)}</pre></details>"


def number(value: float | None, digits: int = 4) -> str:
    """``0.7312``, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def count(value: float | None) -> str:
    """``1,234,567``, or a dash."""
    return "–" if value is None else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """``42 s``, ``12 min 5 s`` or ``3 h 7 min``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
