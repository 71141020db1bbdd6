"""One batch from file to file: rows read, asked, written, and picked up again where an earlier run ended."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from edgellm.batch import reading
from edgellm.batch.disk import told
from edgellm.batch.ledger import Ledger
from edgellm.batch.resume import Resume
from edgellm.batch.writing import Writer
from edgellm.errors import SchemaUnsupported, UsageError
from edgellm.model import Model
from edgellm.rows import Job, Result, Row, receipted, sweep
from edgellm.rows import receipt as receipts

# So many rows without the text's column are no accident.
_FIRST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a batch is read, run and written."""

    format: reading.Format | None = None  # None: by the name of the input
    id_column: str | None = None
    keep_text: bool = False
    ordered: bool = True
    retry_failed: bool = False
    receipt: bool = False
    timeout_s: float | None = None


class Batch:
    """A batch that is ready to run: input and output are open, and agree. A context manager.

    `-` is standard input or output. An output that is no regular file is written and never resumed. Raises UsageError,
    ResumeRefused and OutputFailed before a model is opened; a changed model is refused by `results`.
    """

    def __init__(self, job: Job, source: str, target: str, options: Options | None = None) -> None:
        self.job, self.options = job, options or Options()
        self.size_bytes: int | None = None  # of the input, where it is known
        self._ledger: Ledger | None = None
        self._stream: BinaryIO | None = None
        self._open = ExitStack()
        try:
            rows = self._rows(source)
            self._take(source, target)
            self._resume = self._compare(rows)
        except BaseException:
            self._open.close()
            raise

    @property
    def resumable(self) -> bool:
        """Whether the output remembers what is done."""
        return self._ledger is not None

    @property
    def done(self) -> int:
        """Rows that earlier runs have finished."""
        return self._resume.done

    @property
    def failed(self) -> int:
        """Of these, those that failed and are not tried again."""
        return self._resume.failed

    @property
    def torn_bytes(self) -> int:
        """What was cut off the output: the beginning of a line that an earlier run could not finish."""
        return self._ledger.torn_bytes if self._ledger else 0

    def results(self, model: Model) -> Generator[Result]:
        """Ask about every row that is left; each result is recorded before it is yielded.

        Raises ResumeRefused for another model, SchemaUnsupported, OutputFailed, and EngineFailed when the engine does not
        come back. Whatever ends it, the same batch can be run again and goes on.
        """
        model = model.bound(self.job.task)
        about = self._bound(model)
        writer = Writer(
            model=model.name,
            created=int(about["begun"]),
            dropped=None if self.options.keep_text else self.job.text_column,
            ascii=self._stream is not None and self._stream.isatty(),
        )
        if self._ledger:
            if self.options.retry_failed:
                for result in self._ask(model, self._resume.again(), about):
                    self._ledger.record(writer.line(result), again=True)
                    yield result
            self._ledger.settle()
        for result in self._ask(model, self._resume.rest(), about):
            self._write(writer.line(result))
            yield result

    def close(self) -> None:
        """Have everything on the disk, and let others write."""
        self._open.close()

    def __enter__(self) -> Batch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Before the model: the input, the output, and what they have in common.

    def _rows(self, source: str) -> Iterator[Row]:
        form = self.options.format or reading.format_of(source)
        file = self._input(source)
        read = reading.read(file, form, text_column=self.job.text_column, id_column=self.options.id_column)
        rows = _told(read if self.size_bytes is None else _steady(read, file, source), source)
        # Whoever writes into a pipe waits for answers before they write on: of that, nothing is read ahead.
        return rows if self.size_bytes is None else self._plausible(rows)

    def _input(self, source: str) -> BinaryIO:
        if source == "-":
            if sys.stdin is None:
                raise UsageError("there is no standard input.")
            return sys.stdin.buffer
        try:
            file: BinaryIO = self._open.enter_context(open(source, "rb"))  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"cannot read {source}: {error.strerror or error}.") from error
        about = os.fstat(file.fileno())
        self.size_bytes = about.st_size if stat.S_ISREG(about.st_mode) else None
        return file

    def _plausible(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Refuse an input of which nothing can be asked, before a model is opened for it."""
        first = list(islice(rows, _FIRST))
        readable = [row for row in first if not row.error]
        if readable and not any(map(self.job.finds_text, readable)):
            names = ", ".join(map(str, readable[0].values)) or "none"
            raise UsageError(
                f"the first rows have no column {self.job.text_column!r}, only {names}: name it with --text-column."
            )
        return chain(first, rows)

    def _take(self, source: str, target: str) -> None:
        """Open the output: a ledger, or a stream that remembers nothing."""
        if source != "-" and os.path.exists(target) and os.path.samefile(source, target):
            raise UsageError(f"{target} is both input and output: name another output.")
        options = self.options
        if target == "-" or (os.path.exists(target) and not os.path.isfile(target) and not os.path.isdir(target)):
            if options.retry_failed:
                raise UsageError("--retry-failed needs an output file, which remembers what failed.")
            self._stream = self._output(target)
            return
        shape = {"ordered": options.ordered, "keep_text": options.keep_text, "id_column": options.id_column}
        facts = {**self.job.facts(), **shape, "receipt": options.receipt}
        self._ledger = self._open.enter_context(Ledger(Path(target), facts, retry=options.retry_failed))

    def _output(self, target: str) -> BinaryIO:
        if target == "-":
            return sys.stdout.buffer
        with told(target):
            return self._open.enter_context(open(target, "ab", buffering=0))

    def _compare(self, rows: Iterator[Row]) -> Resume:
        entries = self._ledger.entries() if self._ledger else ()
        resume = Resume(rows, entries, ordered=self.options.ordered, retry=self.options.retry_failed)
        if not self.options.retry_failed:
            for _ in resume.again():  # nothing to try again: this walks along, and refuses another input
                pass
        return resume

    # With the model.

    def _bound(self, model: Model) -> Mapping[str, Any]:
        """Bind the ledger to the model, or be refused; returns what was noted when the output was begun."""
        about: dict[str, Any] = {"begun": int(time.time())}
        if self.options.receipt:
            about["receipt"] = receipts.about(model.name, model.opening)
        if self._ledger:
            self._ledger.bind(receipts.identity(model.opening), about)
        begun = (self._ledger.begun if self._ledger else None) or {}
        return {**about, "begun": begun.get("begun", about["begun"])}

    def _ask(self, model: Model, rows: Iterable[Row], about: Mapping[str, Any]) -> Iterator[Result]:
        options = self.options
        asked = sweep.over(model, rows, self.job.ask, ordered=options.ordered, timeout_s=options.timeout_s)
        with receipted(asked, about["receipt"], self.job) if options.receipt else asked as results:
            for result in results:
                if isinstance(result.error, SchemaUnsupported) and self.job.schema is not None:
                    raise result.error  # it is the schema of all rows
                yield result

    def _write(self, line: bytes) -> None:
        if self._ledger:
            self._ledger.record(line)
            return
        assert self._stream
        with told("the output"):
            rest = memoryview(line)
            while rest:
                rest = rest[self._stream.write(rest) :]
            self._stream.flush()


def _steady(rows: Iterator[Row], file: BinaryIO, source: str) -> Iterator[Row]:
    """Stop where a file is changed while it is read: half of it would be of before, half of after, and nobody would know."""

    def stamp() -> tuple[int, int]:
        about = os.fstat(file.fileno())
        return about.st_size, about.st_mtime_ns

    before = stamp()
    row = next(rows, None)
    while stamp() == before:
        if row is None:
            return
        yield row
        row = next(rows, None)
    raise UsageError(
        f"{source} was changed while it was read. What is written is whole: run the same command again, which goes on if "
        "the rows that are done are still the same."
    )


def _told(rows: Iterator[Row], source: str) -> Iterator[Row]:
    try:
        yield from rows
    except OSError as error:
        raise UsageError(f"cannot read on in {source}: {error.strerror or error}.") from error
