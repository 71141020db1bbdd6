"""`edgellm compare A B --prompts FILE`: the before/after table, drawn on the terminal or written to a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm import outputs
from edgellm.errors import UsageError
from edgellm.text import plain

if TYPE_CHECKING:
    from edgellm.compare import Row, Side
    from edgellm.rows import Job

PARTIAL = 3
"""The exit code when some prompt could not be answered."""

_SUFFIXES = {".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html", ".jsonl": "jsonl"}


@click.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--prompts", type=click.Path(path_type=Path), required=True, help="JSONL, JSON, CSV, or a prompt per line."
)
@click.option("--template", type=click.Path(path_type=Path), help="template.json that makes prompts of the rows.")
@click.option("-s", "--system", help="A system prompt for all.")
@click.option("--set", "both", multiple=True, metavar="NAME=VALUE", help="A generation option of both; repeatable.")
@click.option("--set-a", multiple=True, metavar="NAME=VALUE", help="A generation option of A; repeatable.")
@click.option("--set-b", multiple=True, metavar="NAME=VALUE", help="A generation option of B; repeatable.")
@click.option(
    "--task", type=click.Choice(["chat", "translate", "summarize", "extract"]), default="chat", show_default=True
)
@click.option("--to", help="Target language of --task translate.")
@click.option("--fields", help="Short form of a schema for --task extract.")
@click.option("--schema", type=click.Path(path_type=Path), help="A JSON Schema file for --task extract.")
@click.option("--sentences", type=click.IntRange(1), help="Length for --task summarize.")
@click.option("--words", type=click.IntRange(1), help="Length for --task summarize.")
@click.option("--raw", is_flag=True, help="Continue the prompts as they are, without a chat template.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many prompts.")
@click.option("--format", type=click.Choice(["table", "markdown", "html", "jsonl"]), help="Else by the name of --out.")
@click.option("--out", type=click.Path(path_type=Path), help="Write to a file.")
@click.option("--gpu-layers", default="auto", show_default=True, help="auto, all, or a number.")
@click.option("--context", type=click.IntRange(1), help="Tokens of prompt and answer together.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.")
@click.option("--chat-template", help="Chat format, for files that carry none: mistral, solar, chatml, ...")
@click.option("--engine", type=click.Choice(["auto", "llama_cpp", "scripted"]), default="auto", hidden=True)
@click.option("--offline", is_flag=True, help="Use no network at all.")
def compare(
    a: str,
    b: str,
    prompts: Path,
    template: Path | None,
    system: str | None,
    both: tuple[str, ...],
    set_a: tuple[str, ...],
    set_b: tuple[str, ...],
    limit: int | None,
    format: str | None,  # noqa: A002 - the name of the flag
    out: Path | None,
    task: Any,
    raw: bool,
    chat_template: str | None,
    gpu_layers: str,
    to: str | None,
    fields: str | None,
    schema: Path | None,
    sentences: int | None,
    words: int | None,
    **load: Any,
) -> int:
    """Ask two models the same prompts and lay the answers side by side: before and after.

    A and B are MODEL, or MODEL+adapter.gguf[:scale]. Both answer without chance (temperature 0) unless told otherwise.
    Where prompts have a reference, the answers are measured against it. Exit code 3 when a prompt could not be answered.
    """
    from edgellm import compare as comparing
    from edgellm.cli.options import layers
    from edgellm.compare import cases, side

    form = format or (_SUFFIXES.get(out.suffix.lower()) if out else "table")
    if form is None or (form == "table" and out):
        raise UsageError("--out ends in .md, .html or .jsonl, or say --format.")
    if out:
        outputs.check(out, source=prompts)
    job = _job(task, raw, to=to, sentences=sentences, words=words, schema=_schema(fields, schema))
    asked = cases.read(prompts, template=template, system=system)[:limit]
    one, other = (side.read(text, [*both, *own], job.chosen) for text, own in ((a, set_a), (b, set_b)))
    options = comparing.Options(job=job, raw=raw, template=chat_template, gpu_layers=layers(gpu_layers), **load)
    rows = _watched(one, other, asked, options)
    if form == "table":
        _draw(rows, one, other)
    elif out:
        outputs.write(out, _written(form, rows, one, other).encode())
    else:
        click.echo(_written(form, rows, one, other), nl=False)
    return PARTIAL if any(row.a.error or row.b.error for row in rows) else 0


def _job(task: Any, raw: bool, **options: Any) -> Job:
    from edgellm.rows import Job

    if raw and task != "chat":
        raise UsageError(f"--raw continues prompts as they are: leave out --task {task}.")
    return Job(task=task, **options)


def _schema(fields: str | None, schema: Path | None) -> Any:
    from edgellm.cli.tasks import read_schema
    from edgellm.tasks import extract

    if fields is not None and schema is not None:
        raise UsageError("give --fields or --schema, not both.")
    return extract.fields(fields) if fields is not None else read_schema(schema) if schema else None


def _watched(a: Side, b: Side, asked: Sequence[Any], options: Any) -> list[Row]:
    """Ask, with what is downloaded and how far it is on stderr."""
    from rich.console import Console
    from rich.progress import Progress

    from edgellm import compare as comparing
    from edgellm.cli.options import announce
    from edgellm.cli.progress import bar

    for name in dict.fromkeys((a.model, b.model)):
        announce(name, offline=options.offline)
    console = Console(stderr=True)
    with bar() as progress, Progress(console=console, transient=True, disable=not console.is_terminal) as drawing:
        answers = drawing.add_task("answers", total=2 * len(asked))
        loud = dataclasses.replace(options, progress=progress)
        return comparing.over(a, b, asked, loud, watch=lambda: drawing.advance(answers))


def _written(form: str, rows: Sequence[Row], a: Side, b: Side) -> str:
    from edgellm.compare import table

    return {"markdown": table.markdown, "html": table.page, "jsonl": table.lines}[form](rows, a, b)


def _draw(rows: Sequence[Row], a: Side, b: Side) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from edgellm.compare.table import summary, titles

    drawn = Table(show_lines=True)
    drawn.add_column("#", style="dim", no_wrap=True)
    for title in ("prompt", *titles(a, b)):
        drawn.add_column(Text(plain(title)), ratio=1, overflow="fold")
    for number, row in enumerate(rows, 1):
        after = Text(plain(row.b.text), style="red" if row.b.error else "green" if row.differs else "")
        before = Text(plain(row.a.text), style="red" if row.a.error else "")
        drawn.add_row(str(number), Text(plain(row.case.shown)), before, after)
    console = Console()
    console.print(drawn)
    for side in (a, b):
        console.print(Text(plain(f"{side.name}: {side.parameters}"), style="dim"))
    for line in summary(rows):
        console.print(Text(line))
