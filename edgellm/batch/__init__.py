"""Thousands of rows through one of the tasks: `run` for programs, `Batch` from file to file, where it can be resumed.

The output file is the ledger. Rows may be computed twice when a run is killed, and are recorded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgellm.batch import sweep
from edgellm.batch.files import Batch, Options
from edgellm.batch.job import Job, TaskName
from edgellm.batch.reading import given
from edgellm.batch.row import Result, Row
from edgellm.errors import UsageError
from edgellm.sampling import Sampling
from edgellm.tasks import extract as extraction

__all__ = ["Batch", "Job", "Options", "Result", "Row", "run"]


def run(
    model: sweep.Driver,
    task: TaskName,
    rows: Iterable[str | Mapping[str, Any]],
    *,
    to: str | None = None,
    source: str | None = None,
    sentences: int | None = None,
    words: int | None = None,
    schema: Mapping[str, Any] | None = None,
    fields: str | None = None,
    examples: Sequence[tuple[str, Any]] = (),
    system: str | None = None,
    sampling: Sampling | None = None,
    text_column: str = "text",
    id_column: str | None = None,
    ordered: bool = True,
    timeout_s: float | None = None,
) -> Iterator[Result]:
    """Ask one task about any number of rows, texts or mappings; yields a Result for each, in order or as they finish.

    Rows are pulled only as slots free up. A row that fails is a Result with an error. Raises UsageError for options that
    the task does not have, before any row is pulled, and EngineFailed when the engine does not come back.
    """
    if fields is not None:
        if schema is not None:
            raise UsageError("give a schema or fields, not both.")
        schema = extraction.fields(fields)
    job = Job(
        task=task,
        to=to,
        source=source,
        sentences=sentences,
        words=words,
        schema=schema,
        examples=examples,
        system=system,
        sampling=sampling,
        text_column=text_column,
    )
    asked = given(rows, text_column=text_column, id_column=id_column)
    return sweep.over(model, asked, job.ask, ordered=ordered, timeout_s=timeout_s)
