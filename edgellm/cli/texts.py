"""The verbs for whole documents: translate and summarize. A text or a file in; a text out, and on stderr what it lost."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_args

import click

from edgellm import outputs
from edgellm.cli.options import beside, given_text, model_options, opened, read_file, sampling_options, text_options
from edgellm.errors import EmptyText
from edgellm.prompt import Prompt, Reply, Task
from edgellm.sampling import Sampling
from edgellm.tasks import glossary as terms
from edgellm.tasks import summarize as summaries
from edgellm.tasks import translate as translation
from edgellm.tasks.languages import language

_FORMATS: dict[str, translation.Format] = {".md": "markdown", ".markdown": "markdown", ".srt": "srt", ".vtt": "srt"}
_SHOWN = 20  # warnings; --json has them all
_LONG_CHARS = 2000  # from here on a text may need several prompts, which are then decoded together
_SLOTS = 4


class Told(Protocol):
    """A text with its report: a Translation or a Summary."""

    @property
    def text(self) -> str: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...
    @property
    def parts(self) -> int: ...
    def facts(self) -> dict[str, Any]: ...


T = TypeVar("T")
_output_option = click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write the answer to this file instead."
)
_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object with the model, the time and the report."
)


@click.command()
@text_options
@click.option("--to", required=True, help="Target language: fr, fr-FR or French.")
@click.option("--from", "source", help="Source language, where it is known.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["auto", *get_args(translation.Format)]),
    default="auto",
    help="What stays as it is: auto goes by the name of the file; srt is for subtitles.",
)
@click.option("--glossary", type=click.Path(path_type=Path), help="CSV of terms and their translations.")
@click.option("--strict", is_flag=True, help="Fail when something is lost that must survive.")
@_output_option
@_json_option
@sampling_options(translation.GREEDY)
@model_options
def translate(
    text: str | None,
    file: Path | None,
    to: str,
    source: str | None,
    form: str,
    glossary: Path | None,
    strict: bool,
    output: Path | None,
    as_json: bool,
    sampling: Sampling,
    **load: Any,
) -> None:
    """Translate TEXT, a file, or what is piped in.

    Placeholders, tags, addresses, code, numbers and lines are checked in the answer; it is asked again for what it lost,
    and what is still missing is told on stderr. Markdown and subtitles keep their structure.
    """
    for spoken in filter(None, (to, source)):
        language(spoken)  # refuse it before a model is loaded
    options = translation.Options(
        format=_format(form, file),
        glossary=read_glossary(glossary) if glossary else {},
        strict=strict,
    )
    _perform(
        "translate",
        given_text(text, file),
        lambda one: translation.translated(one, to, source, sampling=sampling, options=options),
        _Target(file, output, as_json),
        load,
    )


def read_glossary(path: Path) -> dict[str, str]:
    """Read a glossary. Raises UsageError naming the file and the line."""
    return terms.read(read_file(path), str(path))


class _Target:
    """Where an answer goes, and in which form."""

    def __init__(self, file: Path | None, output: Path | None, as_json: bool) -> None:
        self.output, self._as_json = output, as_json
        if output:
            outputs.check(output, source=file)

    def write(self, text: str, record: dict[str, Any]) -> None:
        """Write the text, or the whole record as one object, to the file or to stdout."""
        from edgellm.text import plain

        line = json.dumps(record, ensure_ascii=False) if self._as_json else text
        if self.output is None:
            click.echo(plain(line) if sys.stdout.isatty() else line, nl=not line.endswith("\n"))
        else:
            outputs.write(self.output, (line + ("\n" if self._as_json else "")).encode())


def _perform(verb: str, text: str, task: Callable[[str], Task[Any]], target: _Target, load: dict[str, Any]) -> None:
    if not text.strip():
        raise EmptyText("the text is empty.")
    with opened(**load, slots=_SLOTS if len(text) > _LONG_CHARS else 1) as model:
        start = time.monotonic()
        told: Told = model.bound(verb).run(_watched(task(text)))
        seconds = round(time.monotonic() - start, 3)
    if told.parts > 1:
        click.echo(f"It was read in {told.parts:,} parts.", err=True)
    _warn(told.warnings)
    ended = told.text + ("\n" if target.output and text.endswith("\n") and not told.text.endswith("\n") else "")
    target.write(
        ended, {"model": model.name, **beside(model), "result": told.text, "seconds": seconds, "report": told.facts()}
    )


def _warn(warnings: tuple[str, ...]) -> None:
    from edgellm.text import plain

    for warning in warnings[:_SHOWN]:
        click.echo(f"Warning: {plain(warning)}.", err=True)
    if len(warnings) > _SHOWN:
        click.echo(f"Warning: {len(warnings) - _SHOWN:,} more like these: --json lists them all.", err=True)


def _watched(task: Task[T]) -> Task[T]:
    """Show on a terminal how far a task is that asks many prompts at once; they go down a few at a time."""
    from edgellm.cli.progress import parts

    replies: list[Reply] | None = None
    with parts() as progress:
        while True:
            try:
                prompts = next(task) if replies is None else task.send(replies)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]  # the T of the task
            replies = yield from _by_turns(prompts, progress)


def _by_turns(prompts: list[Prompt], progress: Callable[[int, int], None]) -> Task[list[Reply]]:
    turn = 8 * _SLOTS
    if len(prompts) <= turn or all(prompt.count for prompt in prompts):
        return (yield prompts)
    replies: list[Reply] = []
    while len(replies) < len(prompts):
        progress(len(replies), len(prompts))
        replies += yield prompts[len(replies) : len(replies) + turn]
    progress(len(prompts), len(prompts))
    return replies


def _format(form: str, file: Path | None) -> translation.Format:
    if form == "auto":
        return _FORMATS.get(file.suffix.lower(), "text") if file else "text"
    return form  # type: ignore[return-value]  # click checked the choice


@click.command()
@text_options
@click.option("--sentences", type=click.IntRange(1), help="Exactly so many sentences; 2 without a length.")
@click.option("--words", type=click.IntRange(1), help="At most so many words.")
@click.option("--strict", is_flag=True, help="Fail when the summary has another length.")
@_output_option
@_json_option
@sampling_options(summaries.GREEDY)
@model_options
def summarize(
    text: str | None,
    file: Path | None,
    sentences: int | None,
    words: int | None,
    strict: bool,
    output: Path | None,
    as_json: bool,
    sampling: Sampling,
    **load: Any,
) -> None:
    """Summarize TEXT, a file, or what is piped in. Of any length: what does not fit is read in parts."""
    options = summaries.Options(sentences=sentences, words=words, strict=strict)
    _perform(
        "summarize",
        given_text(text, file),
        lambda one: summaries.summarized(one, sampling=sampling, options=options),
        _Target(file, output, as_json),
        load,
    )
