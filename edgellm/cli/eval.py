"""`edgellm eval`: how good a model's answers are, on questions with known answers; a table, or one JSON object.

Without data the questions are those that the embedded model never saw in training. Counting is `edgellm.evaluation`'s work.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgellm.cli.options import model_options, opened, sampling_options
from edgellm.cli.passkey import passkey
from edgellm.cli.tasks import read_schema
from edgellm.errors import UsageError
from edgellm.sampling import Sampling
from edgellm.tasks import extract as extraction
from edgellm.tasks import summarize as summaries
from edgellm.tasks import translate as translation

if TYPE_CHECKING:
    from edgellm.evaluation import Score, Set, Share
    from edgellm.model import Model
    from edgellm.rows import Job, TaskName

F = TypeVar("F", bound=Callable[..., Any])

_MOST_FIELDS = 12  # named in a table of their own; the embedded set has hundreds
_SHOWN_CHARS = 300


def _asking(command: F) -> F:
    """Add how many to ask and how to show what was counted."""
    for option in reversed(
        (
            click.option(
                "--limit", type=click.IntRange(1), help="Ask the first so many only; 200 of the embedded set."
            ),
            click.option("--slots", type=click.IntRange(1), default=4, show_default=True, help="Answered at once."),
            click.option("--wrong", type=click.IntRange(0), default=0, help="Show so many wrong answers of each task."),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
        )
    ):
        command = option(command)
    return command


def _data(command: F) -> F:
    told = 'JSONL of {"text": ..., "expected": ...}, or "facts": [texts] to be kept; else the embedded set.'
    return click.option("--data", type=click.Path(path_type=Path), help=told)(command)


@click.group("eval", invoke_without_command=True)
@_asking
@model_options
@click.pass_context
def evaluate(verb: click.Context, /, limit: int | None, slots: int, wrong: int, as_json: bool, **load: Any) -> None:
    """Measure answers against known ones: exact matches, fields, chrF, facts kept.

    Without a task, all three tasks are measured on questions that the embedded model never saw in training. Exact
    answers come with a margin: half of the 95 % interval.
    """
    if verb.invoked_subcommand is not None:
        typed = click.core.ParameterSource.COMMANDLINE
        if early := [one.opts[-1] for one in verb.command.params if verb.get_parameter_source(one.name or "") is typed]:
            raise UsageError(f"options go behind the task: `edgellm eval {verb.invoked_subcommand} {early[0]} ...`.")
        return
    from edgellm.evaluation import embedded

    names: tuple[Any, ...] = ("extract", "translate", "summarize")
    _perform([embedded(name, limit or 200) for name in names], slots, wrong, as_json, load)


@evaluate.command()
@_data
@click.option("--fields", help="Short form of a schema; else that of the expected values.")
@click.option("--schema", type=click.Path(path_type=Path), help="A JSON Schema file.")
@click.option("--verbatim", is_flag=True, help="Texts in the answer are literal pieces of the given text.")
@_asking
@sampling_options(extraction.GREEDY)
@model_options
def extract(
    data: Path | None, fields: str | None, schema: Path | None, verbatim: bool, sampling: Sampling, **rest: Any
) -> None:
    """Measure extraction: whole values that are right, and each field."""
    if fields is not None and schema is not None:
        raise UsageError("give --fields or --schema, one of the two.")
    wanted = extraction.fields(fields) if fields is not None else read_schema(schema) if schema else None
    _one("extract", data, rest, sampling, {"--fields": fields, "--schema": schema}, wanted, verbatim=verbatim)


@evaluate.command()
@_data
@click.option("--to", help="Target language: fr, fr-FR or French.")
@click.option("--from", "source", help="Source language, where it is known.")
@_asking
@sampling_options(translation.GREEDY)
@model_options
def translate(data: Path | None, to: str | None, source: str | None, sampling: Sampling, **rest: Any) -> None:
    """Measure translation: answers that are right word for word, and chrF (with the extra `eval`)."""
    _one("translate", data, rest, sampling, {"--to": to, "--from": source}, to=to, source=source)


@evaluate.command()
@_data
@click.option("--sentences", type=click.IntRange(1), help="Exactly so many sentences; 2 without a length.")
@click.option("--words", type=click.IntRange(1), help="At most so many words.")
@_asking
@sampling_options(summaries.GREEDY)
@model_options
def summarize(data: Path | None, sentences: int | None, words: int | None, sampling: Sampling, **rest: Any) -> None:
    """Measure summaries: facts that are kept, and answers that are right word for word."""
    asked = {"--sentences": sentences, "--words": words}
    _one("summarize", data, rest, sampling, asked, sentences=sentences, words=words)


@evaluate.command()
@_data
@click.option("-s", "--system", help="A system prompt.")
@_asking
@sampling_options(Sampling(temperature=0.0))
@model_options
def chat(data: Path | None, system: str | None, sampling: Sampling, **rest: Any) -> None:
    """Measure answers to any questions of your own: right word for word, or with the facts that they must have."""
    if data is None:
        raise UsageError("eval chat needs --data: there are no questions of ours for it.")
    _one("chat", data, rest, sampling, {}, system=system)


evaluate.add_command(passkey)


def _one(
    task: TaskName,
    data: Path | None,
    rest: dict[str, Any],
    sampling: Sampling,
    asked: Mapping[str, Any],
    schema: Any = None,
    **options: Any,
) -> None:
    """Measure one task, over a user's rows or the embedded set, whose questions say all that `asked` could."""
    from edgellm.evaluation import embedded, given
    from edgellm.rows import Job

    how = {name: rest.pop(name) for name in ("limit", "slots", "wrong", "as_json")}
    limit = how.pop("limit")

    def job(found: Mapping[str, Any] | None) -> Job:
        return Job(task=task, sampling=sampling, schema=schema or found, **options)

    if data is None:
        if idle := [name for name, value in asked.items() if value]:
            raise UsageError(f"the embedded set asks its own questions: {idle[0]} is for --data.")
        verbatim = bool(options.get("verbatim"))
        cases = embedded(task, limit or 200, sampling=sampling, verbatim=verbatim)  # type: ignore[arg-type]  # no chat
    else:
        cases = given(_rows(data)[:limit], task, job)
    _perform([cases], load=rest, **how)


def _rows(path: Path) -> list[Any]:
    from edgellm.batch import reading

    try:
        with open(path, "rb") as file:
            return list(reading.read(file, "jsonl"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}.") from error


def _perform(sets: list[Set], slots: int, wrong: int, as_json: bool, load: dict[str, Any]) -> None:
    from edgellm.evaluation import measure

    for note in (note for one in sets for note in one.notes):
        click.echo(note[:_SHOWN_CHARS], err=True)
    with opened(slots=slots, **load) as model:
        scores = [_watched(measure, model, one) for one in sets]
        name = model.name
    missing = any(score.pairs for score in scores) and not _has_chrf()
    if as_json:
        click.echo(json.dumps({"model": name, "scores": [score.as_dict() for score in scores]}, ensure_ascii=False))
    else:
        _table(name, scores, chrf=not missing)
        for score in scores:
            _show_wrong(score, wrong)
    if missing:
        click.echo("chrF is left out: pip install 'edgellm[eval]' brings it.", err=True)


def _watched(measure: Callable[..., Score], model: Model, cases: Set) -> Score:
    """Measure, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not Console(stderr=True).is_terminal) as bar:
        task = bar.add_task(cases.task, total=len(cases))
        return measure(model, cases, watch=lambda done: bar.update(task, completed=done))


def _has_chrf() -> bool:
    import importlib.util

    return importlib.util.find_spec("sacrebleu") is not None


def _table(name: str, scores: list[Score], *, chrf: bool) -> None:
    """Print what was counted: one row a task, and one a field where they are few."""
    from rich.console import Console
    from rich.table import Table

    from edgellm.text import plain

    columns: dict[str, Callable[[Score], str]] = {
        "exact": lambda score: _share(score.exact),
        "fields": lambda score: _share(score.parts, margin=False),
        "facts": lambda score: _share(score.kept, margin=False),
        "chrF": lambda score: f"{found:.1f}" if chrf and (found := score.chrf()) is not None else "",
        "failed": lambda score: str(score.failed.total() or ""),
    }
    filled = {title: [tell(score) for score in scores] for title, tell in columns.items()}
    kept = [title for title, cells in filled.items() if any(cells)]
    table = Table("task", "cases", *kept, "seconds", title=plain(name), title_justify="left")
    for number, score in enumerate(scores):
        table.add_row(score.task, str(score.cases), *(filled[title][number] for title in kept), f"{score.seconds:.1f}")
    Console().print(table)
    for score in scores:
        if score.failed:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in score.failed.most_common())
            click.echo(f"Failed, and counted as wrong: {kinds} ({score.task}).", err=True)
    for score in scores:
        if 1 < len(score.fields) <= _MOST_FIELDS:
            each = Table("field", "right")
            for field, share in score.fields.items():
                each.add_row(plain(field), _share(share))
            Console().print(each)


def _share(share: Share, *, margin: bool = True) -> str:
    """A share, with its margin where every one of its questions stands for itself."""
    told = f"{share.value:.3f}" if share.all else ""
    return f"{told} ±{share.margin:.2f}" if told and margin else told


def _show_wrong(score: Score, count: int) -> None:
    """Show the first wrong answers, whatever they say."""
    from edgellm.text import plain

    for one in score.wrong[:count]:
        for title, said in zip(("asked", "wanted", "got"), one, strict=True):
            click.echo(f"  {title:<7}{plain(said)[:_SHOWN_CHARS]!r}")


eval = evaluate  # noqa: A001 - the verb's name
