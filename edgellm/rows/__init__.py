"""Any number of rows through one task: what is asked of each, how it is asked over an open model, and what became of it.

Knows no file: `batch` goes from file to file with it, `Model.batch` from a program's rows to an iterator over results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from edgellm.opening import Opening
from edgellm.rows import receipt as receipts
from edgellm.rows.given import given
from edgellm.rows.job import Job, TaskName
from edgellm.rows.row import Result, Row
from edgellm.rows.sweep import Answers, Driver, over

__all__ = ["Answers", "Job", "Result", "Row", "TaskName", "answers", "receipted"]


class Answering(Driver, Protocol):
    """What rows need of an open model."""

    @property
    def name(self) -> str: ...
    @property
    def opening(self) -> Opening: ...


def answers(
    model: Answering,
    job: Job,
    rows: Iterable[str | Mapping[str, Any]],
    *,
    id_column: str | None = None,
    ordered: bool = True,
    receipt: bool = False,
    timeout_s: float | None = None,
) -> Answers:
    """Ask about rows that a program has: texts, or mappings with a text column; yields a Result for each."""
    asked = given(rows, text_column=job.text_column, id_column=id_column)
    found = over(model, asked, job.ask, ordered=ordered, timeout_s=timeout_s)
    return receipted(found, receipts.about(model.name, model.opening), job) if receipt else found


def receipted(results: Answers, about: Mapping[str, Any], job: Job) -> Answers:
    """Make out a receipt for every result; `about` is what `receipt.about` says of the model."""
    asked = job.asked()
    return results.each(lambda one: replace(one, receipt=receipts.of(one, about, asked)))
