"""A comparison written down: Markdown, HTML, JSON lines. Whatever a prompt or a model says stays text in all of them."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgellm.compare.score import means
from edgellm.compare.side import Side
from edgellm.text import plain

if TYPE_CHECKING:
    from edgellm.compare import Row, Said

# What means something to Markdown within a line, what makes links of bare addresses, and what begins a block.
_MARKED = re.compile(r"([\\`*_{}\[\]|~$@]|:(?=//)|(?<=www)\.|^[#+=-]|(?<=\d)[.)](?=\s))", re.IGNORECASE)

_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2rem;color:#222}table{border-collapse:collapse;width:100%}"
    "th,td{border:1px solid #ccc;padding:.5rem .7rem;text-align:left;vertical-align:top;white-space:pre-wrap;"
    "overflow-wrap:anywhere}th{background:#f2f2f2}tr.differs td:nth-child(3){background:#eef8ee}.error{color:#a00}"
    "td:first-child{color:#777}"
)


def titles(a: Side, b: Side) -> tuple[str, str]:
    """Headings that differ: names, and where they are the same the parameters too."""
    if a.name != b.name:
        return a.name, b.name
    return f"{a.name}, {a.parameters}", f"{b.name}, {b.parameters}"


def markdown(rows: Sequence[Row], a: Side, b: Side) -> str:
    """As a Markdown table, with parameters and scores below."""
    lines = [f"| # | prompt | {' | '.join(map(_md, titles(a, b)))} |", "|---|---|---|---|"]
    for number, row in enumerate(rows, 1):
        lines.append(f"| {number} | {_md(row.case.shown)} | {_md(row.a.text)} | {_md(row.b.text)} |")
    told = [f"{_md(side.name)}: {_md(side.parameters)}  " for side in (a, b)]
    return "\n".join([*lines, "", *told, "", *map(_md, summary(rows))]) + "\n"


def page(rows: Sequence[Row], a: Side, b: Side) -> str:
    """As a page of HTML that needs nothing else and runs nothing."""
    title = html.escape(plain(f"{a.name} and {b.name}"))
    head = "".join(f"<th>{html.escape(plain(text))}</th>" for text in ("#", "prompt", *titles(a, b)))
    body = "\n".join(_tr(number, row) for number, row in enumerate(rows, 1))
    told = "".join(f"<p><b>{html.escape(plain(side.name))}</b>: {html.escape(side.parameters)}</p>" for side in (a, b))
    said = "".join(f"<p>{html.escape(line)}</p>" for line in summary(rows))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><h1>{title}</h1>{told}\n"
        f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>\n{said}</body></html>\n"
    )


def lines(rows: Sequence[Row], a: Side, b: Side) -> str:
    """As JSON lines, one for each prompt."""
    parameters = {"a": a.parameters, "b": b.parameters}
    models = {"a": a.name, "b": b.name}
    found = [
        {
            "prompt": row.case.shown,
            "line": row.case.line,
            "reference": row.case.reference,
            "a": _said(row.a, row.scores[0]),
            "b": _said(row.b, row.scores[1]),
            "differs": row.differs,
            "models": models,
            "parameters": parameters,
        }
        for row in rows
    ]
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found)


def summary(rows: Sequence[Row]) -> list[str]:
    """What the whole says, in sentences."""
    different, failed = sum(row.differs for row in rows), sum(bool(row.a.error or row.b.error) for row in rows)
    said = [f"{different:,} of {len(rows):,} answers differ."]
    if failed:
        said.append(f"{failed:,} prompts could not be answered by both.")
    before, after = (means([row.scores[place] for row in rows]) for place in (0, 1))
    count = sum(row.case.reference is not None for row in rows)
    if before:
        told = ", ".join(f"{name} {before[name]:.2f} → {after[name]:.2f}" for name in before)
        said.append(f"Against {count:,} reference{'s' if count > 1 else ''}: {told}.")
    return said


def _said(said: Said, scores: dict[str, float]) -> dict[str, object]:
    if said.error:
        return {"error": said.error}
    return {"text": said.answer, "finish": said.finish, "tokens": said.tokens, "scores": scores}


def _md(text: str) -> str:
    """Text for a cell: nothing in it is Markdown or HTML."""
    escaped = html.escape(plain(text), quote=False)
    return "<br>".join(_MARKED.sub(r"\\\1", line) for line in escaped.splitlines()) or " "


def _tr(number: int, row: Row) -> str:
    cells = [f"<td>{number}</td><td>{html.escape(plain(row.case.shown))}</td>"]
    for said in (row.a, row.b):
        mark = ' class="error"' if said.error else ""
        cells.append(f"<td{mark}>{html.escape(plain(said.text))}</td>")
    kind = ' class="differs"' if row.differs else ""
    return f"<tr{kind}>{''.join(cells)}</tr>"
