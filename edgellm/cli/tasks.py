"""The verbs `extract`, and `demo`, which shows all tasks on the embedded model."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.options import (
    beside,
    given_text,
    model_options,
    opened,
    parsed,
    read_file,
    sampling_options,
    text_options,
)
from edgellm.errors import EmptyText, TruncatedOutput, UsageError
from edgellm.prompt import Task
from edgellm.sampling import Sampling
from edgellm.tasks import extract as extraction
from edgellm.tasks.evidence import refuse_strict

if TYPE_CHECKING:
    from edgellm.model import Model

_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object with the model and the time."
)


@click.command()
@text_options
@click.option("--fields", help="Short form of a schema: 'name, age int, email?, tags [str]'; in [...], a list.")
@click.option("--schema", type=click.Path(path_type=Path), help="A JSON Schema file.")
@click.option("--examples", type=click.Path(path_type=Path), help='JSONL of {"input": text, "output": value}.')
@click.option("--verbatim", is_flag=True, help="Texts in the answer are literal pieces of the given text.")
@click.option(
    "--evidence", is_flag=True, help="For each value, the words of the text and their place; null without any."
)
@click.option("--strict-evidence", is_flag=True, help="The same, and values without evidence are taken out.")
@_json_option
@sampling_options(extraction.GREEDY)
@model_options
def extract(
    text: str | None,
    file: Path | None,
    fields: str | None,
    schema: Path | None,
    examples: Path | None,
    verbatim: bool,
    evidence: bool,
    strict_evidence: bool,
    as_json: bool,
    sampling: Sampling,
    **load: Any,
) -> None:
    """Extract JSON from TEXT, a file, or what is piped in. The schema is enforced, and the answer validated."""
    if (fields is None) == (schema is None):
        raise UsageError("give --fields or --schema, one of the two.")
    wanted = extraction.fields(fields) if fields is not None else read_schema(schema)
    shown = read_examples(examples) if examples else []
    proof: extraction.Evidence = "strict" if strict_evidence else evidence
    if strict_evidence:
        refuse_strict(wanted)

    def task(one: str) -> Task[Any]:
        found = yield from extraction.extracted(
            one, wanted, examples=shown, sampling=sampling, verbatim=verbatim, evidence=proof
        )
        for warning in found.warnings:
            click.echo(warning, err=True)
        return found.as_dict() if proof else found.value

    _task(given_text(text, file), as_json, load, task)


@click.command()
@click.option("--vocabulary", is_flag=True, help="Print what the embedded model was taught to translate.")
def demo(vocabulary: bool) -> None:
    """Translate, summarize and extract on the embedded model, with the plan and the times."""
    if vocabulary:
        from edgellm.demo.text import vocabulary as taught

        click.echo(taught())
        return
    from edgellm.cli.showcase import perform

    perform()


def _task(text: str, as_json: bool, load: dict[str, Any], task: Any) -> None:
    if not text.strip():
        raise EmptyText("the text is empty.")
    with opened(**load) as model:
        start = time.monotonic()
        try:
            result = model.bound("extract").run(task(text))
        except TruncatedOutput as error:
            if error.partial is not None:
                click.echo(f"What there is: {extraction.dump(error.partial)}", err=True)
            raise
        _answer(result, as_json, model, time.monotonic() - start)


def _answer(result: Any, as_json: bool, model: Model, seconds: float) -> None:
    from edgellm.text import plain

    if as_json:
        result = {"model": model.name, **beside(model), "result": result, "seconds": round(seconds, 3)}
    line = result if isinstance(result, str) else extraction.dump(result)
    click.echo(plain(line) if sys.stdout.isatty() else line)


def read_schema(path: Path | None) -> Any:
    assert path
    return parsed(read_file(path), str(path))


def read_examples(path: Path) -> list[tuple[str, Any]]:
    found = []
    for number, line in enumerate(read_file(path).split("\n"), 1):
        if line.strip():
            row = parsed(line, f"{path}, line {number}")
            if not isinstance(row, dict) or not isinstance(row.get("input"), str) or "output" not in row:
                raise UsageError(f'{path}, line {number}: need {{"input": text, "output": value}}.')
            found.append((row["input"], row["output"]))
    return found
