"""`edgellm batch TASK IN OUT`: thousands of rows, resumable; progress and a summary on stderr.

Exit code 3 when any row failed. What a batch is, and how it survives being killed, is `edgellm.batch`'s work.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from edgellm.cli.options import model_options, opened, sampling_options
from edgellm.cli.tasks import read_examples, read_schema
from edgellm.cli.texts import read_glossary
from edgellm.errors import UsageError
from edgellm.sampling import Sampling
from edgellm.tasks import extract as extraction
from edgellm.tasks import summarize as summaries
from edgellm.tasks import translate as translation

if TYPE_CHECKING:
    from edgellm.batch import Batch
    from edgellm.rows import Result

F = TypeVar("F", bound=Callable[..., Any])

PARTIAL = 3
"""The exit code of a batch that is done, with rows that failed."""

# Without a terminal, a line of progress now and then is enough for a log.
_LOG_S = 60.0


@click.group()
def batch() -> None:
    """Run one task over thousands of rows. The same command again goes on where it was stopped.

    IN is JSON lines, CSV or plain lines of text, told by its name (or --format); - is stdin. OUT gets one JSON line per
    row: its id, its other columns, `result` or `error`, and tokens; - is stdout, which cannot be resumed. A row that
    fails never ends the run: exit code 3 says that there are such rows, --retry-failed tries them again.
    """


def _rows(command: F) -> F:
    """Add IN, OUT and how to read and write them; the command gets all of it as one `rows` argument."""
    import functools

    columns = ("text_column", "id_column", "keep_text")
    names = ("source", "target", "format", *columns, "unordered", "retry_failed", "receipt", "timeout", "slots")

    @functools.wraps(command)
    def gathered(**given: Any) -> Any:
        return command(rows={name: given.pop(name) for name in names}, **given)

    for option in reversed(
        (
            click.argument("source", metavar="IN"),
            click.argument("target", metavar="OUT"),
            click.option(
                "--format",
                type=click.Choice(["jsonl", "csv", "tsv", "txt"]),
                help="Of IN, where its name does not tell.",
            ),
            click.option("--text-column", default="text", show_default=True, help="The column with the text."),
            click.option("--id-column", help="The column with the id; else `custom_id`, `id`, or a hash of the row."),
            click.option("--keep-text", is_flag=True, help="Keep the text in OUT, as the other columns are."),
            click.option("--unordered", is_flag=True, help="Write rows as they finish, not in the order of IN."),
            click.option(
                "--retry-failed", is_flag=True, help="Try the failed rows of OUT again; --max-tokens may be another."
            ),
            click.option("--receipt", is_flag=True, help="Note model, sha256, engine and sampling in every row."),
            click.option(
                "--timeout",
                type=click.FloatRange(0, min_open=True),
                help="Seconds without a finished row, then the engine is killed and its rows tried again.",
            ),
            click.option(
                "--slots", type=click.IntRange(1), default=4, show_default=True, help="Rows that are answered at once."
            ),
        )
    ):
        gathered = option(gathered)
    return gathered  # type: ignore[return-value]  # wraps keeps the signature that click reads


@batch.command()
@_rows
@click.option("--to", required=True, help="Target language: fr, fr-FR or French.")
@click.option("--from", "source_language", help="Source language, where it is known.")
@click.option("--text-format", type=click.Choice(get_args(translation.Format)), help="Of the texts; else plain text.")
@click.option("--glossary", type=click.Path(path_type=Path), help="CSV of terms and their translations.")
@click.option("--strict", is_flag=True, help="What is lost that must survive is an error of its row, not a warning.")
@sampling_options(translation.GREEDY)
@model_options
def translate(
    rows: dict[str, Any],
    to: str,
    source_language: str | None,
    text_format: Any,
    glossary: Path | None,
    strict: bool,
    sampling: Sampling,
    **load: Any,
) -> int:
    """Translate every row of IN. What must survive is checked; what did not is told in `warnings`."""
    words = read_glossary(glossary) if glossary else None
    asked = {"to": to, "source": source_language, "text_format": text_format, "glossary": words, "strict": strict}
    return _perform("translate", rows, load, sampling=sampling, **asked)


@batch.command()
@_rows
@click.option("--sentences", type=click.IntRange(1), help="Exactly so many sentences; 2 without a length.")
@click.option("--words", type=click.IntRange(1), help="At most so many words.")
@click.option("--strict", is_flag=True, help="Another length is an error of its row, not a warning.")
@sampling_options(summaries.GREEDY)
@model_options
def summarize(
    rows: dict[str, Any], sentences: int | None, words: int | None, strict: bool, sampling: Sampling, **load: Any
) -> int:
    """Summarize every row of IN. A length that is missed is told in `warnings`."""
    return _perform("summarize", rows, load, sentences=sentences, words=words, strict=strict, sampling=sampling)


@batch.command()
@_rows
@click.option("--fields", help="Short form of a schema: 'name, age int, email?, tags [str]'.")
@click.option("--schema", type=click.Path(path_type=Path), help="A JSON Schema file.")
@click.option("--examples", type=click.Path(path_type=Path), help='JSONL of {"input": text, "output": value}.')
@click.option("--verbatim", is_flag=True, help="Texts in the answer are literal pieces of the row's text.")
@click.option(
    "--evidence", is_flag=True, help="For each value, the words of the text and their place; null without any."
)
@click.option("--strict-evidence", is_flag=True, help="The same, and values without evidence are taken out.")
@sampling_options(extraction.GREEDY)
@model_options
def extract(
    rows: dict[str, Any],
    fields: str | None,
    schema: Path | None,
    examples: Path | None,
    verbatim: bool,
    evidence: bool,
    strict_evidence: bool,
    sampling: Sampling,
    **load: Any,
) -> int:
    """Extract JSON from every row of IN. The schema is enforced, and every answer validated."""
    if (fields is None) == (schema is None):
        raise UsageError("give --fields or --schema, one of the two.")
    wanted = extraction.fields(fields) if fields is not None else read_schema(schema)
    shown = read_examples(examples) if examples else []
    proof = "strict" if strict_evidence else evidence
    asked = {"schema": wanted, "examples": shown, "verbatim": verbatim, "evidence": proof}
    return _perform("extract", rows, load, sampling=sampling, **asked)


@batch.command()
@_rows
@click.option("-s", "--system", help="A system prompt, for rows that bring none.")
@sampling_options(Sampling(temperature=0.0))
@model_options
def chat(rows: dict[str, Any], system: str | None, sampling: Sampling, **load: Any) -> int:
    """Answer every row of IN: a text, a column `messages`, or a line of the OpenAI batch API, answered in its shape."""
    return _perform("chat", rows, load, system=system, sampling=sampling)


def _perform(task: Any, rows: dict[str, Any], load: dict[str, Any], **asked: Any) -> int:
    from edgellm.batch import Batch, Options
    from edgellm.rows import Job

    job = Job(task=task, text_column=rows["text_column"], **asked)
    options = Options(
        format=rows["format"],
        id_column=rows["id_column"],
        keep_text=rows["keep_text"],
        ordered=not rows["unordered"],
        retry_failed=rows["retry_failed"],
        receipt=rows["receipt"],
        timeout_s=rows["timeout"],
    )
    with Batch(job, rows["source"], rows["target"], options) as ready:
        _announce(ready)
        with (
            opened(slots=rows["slots"], **load) as model,
            _counted(ready) as count,
            closing(ready.results(model)) as results,
        ):
            for result in results:
                count(result)
        return PARTIAL if count.failed + ready.failed else 0


def _announce(ready: Batch) -> None:
    if ready.torn_bytes:
        click.echo(f"Cut off {ready.torn_bytes:,} bytes: the beginning of a line that was never finished.", err=True)
    if ready.done:
        click.echo(f"{ready.done:,} rows are done already.", err=True)


class _Count:
    """What has happened so far, and how fast."""

    def __init__(self, ready: Batch) -> None:
        self._ready = ready
        self._start = time.monotonic()
        self._first_bytes: int | None = None  # where in the input this run began
        self.rows = self.tokens = self.warned = self.end_bytes = 0
        self.errors: Counter[str] = Counter()
        self.show: Callable[[], None] = lambda: None

    def __call__(self, result: Result) -> None:
        self.rows += 1
        self.tokens += result.tokens
        self.warned += bool(result.warnings)
        self.end_bytes = max(self.end_bytes, result.row.end_bytes)
        if self._first_bytes is None:
            self._first_bytes = self.end_bytes
        if result.error:
            self.errors[type(result.error).__name__] += 1
        self.show()

    @property
    def failed(self) -> int:
        """Rows of this run that failed."""
        return self.errors.total()

    @property
    def speed(self) -> str:
        """Rows and tokens per second."""
        seconds = self._seconds
        return f"{self.rows / seconds:,.1f} rows/s, {self.tokens / seconds:,.0f} tokens/s"

    @property
    def left(self) -> str:
        """How long the rest of the input will take, by its bytes."""
        walked = self.end_bytes - (self._first_bytes or 0)
        if not self._ready.size_bytes or walked <= 0:
            return ""
        seconds = self._seconds * (self._ready.size_bytes - self.end_bytes) / walked
        return f", {timedelta(seconds=round(seconds))} left"

    def line(self) -> str:
        """Everything in one line."""
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"{self._ready.done + self.rows:,} rows{failed}, {self.speed}{self.left}"

    def summary(self) -> str:
        """The closing sentences."""
        good, failed, before = self.rows - self.failed, self.failed, self._ready.failed
        said = f"{self.rows:,} rows in {self._seconds:,.1f} s ({self.speed}): {good:,} ok, {failed:,} failed."
        if not self.rows:
            said = "No row was left to do." if self._ready.done else "No row was done."
        if self.errors:
            said += " Failed: " + ", ".join(f"{count:,} {name}" for name, count in self.errors.most_common()) + "."
        if self.warned:
            said += f" With warnings: {self.warned:,}."
        if self._ready.done:
            said += f" Done before: {self._ready.done:,}" + (f", of which {before:,} failed." if before else ".")
        return said + (" --retry-failed tries the failed ones again." if failed + before else "")

    @property
    def _seconds(self) -> float:
        return max(time.monotonic() - self._start, 1e-9)


@contextmanager
def _counted(ready: Batch) -> Iterator[_Count]:
    """Count results; show progress on stderr meanwhile, and sum up at the end, however it ends."""
    count = _Count(ready)
    try:
        with _shown(count, ready):
            yield count
    except BaseException as error:
        if isinstance(error, UsageError) and not count.rows:  # refused, not stopped
            raise
        click.echo(f"Stopped. {count.summary()}", err=True)
        if not isinstance(error, UsageError) and ready.resumable:
            click.echo("The same command goes on from here.", err=True)
        raise
    click.echo(count.summary(), err=True)


@contextmanager
def _shown(count: _Count, ready: Batch) -> Iterator[None]:
    """Draw a bar on a terminal that shows nothing else; write a line now and then into a log."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        count.show = _logging(count)
        yield
    elif not ready.resumable and sys.stdout.isatty():
        yield
    else:
        from rich.progress import BarColumn, Progress, TextColumn

        with Progress(BarColumn(), TextColumn("{task.description}", markup=False), console=console) as progress:
            task = progress.add_task("", total=ready.size_bytes)
            count.show = lambda: progress.update(task, completed=count.end_bytes, description=count.line())
            yield


def _logging(count: _Count) -> Callable[[], None]:
    last = time.monotonic()

    def show() -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_S:
            last = time.monotonic()
            click.echo(count.line(), err=True)

    return show
