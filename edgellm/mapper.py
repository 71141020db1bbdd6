"""One task as a mapper over columns: what a cluster's `map_batches` needs, picklable, with a model of its own per process.

Made for Ray Data's actor pools; anything that hands over a dict of columns can use it. Knows no cluster library.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from edgellm import rows
from edgellm.errors import UsageError
from edgellm.loading import load
from edgellm.model import Model
from edgellm.rows.row import Result
from edgellm.sampling import Sampling
from edgellm.tasks import extract as extraction
from edgellm.tasks import translate as translation

COLUMNS = ("result", "evidence", "error", "message", "warnings", "finish", "prompt_tokens", "tokens")
"""The columns that a Mapper adds."""


class Mapper:
    """Asks one task about every row of a batch of columns; the model is loaded at the first call, in that process.

    Pickles as plain data, without the model. A call takes a mapping of columns and returns a dict with these columns and
    `result` (a text; JSON for extract), `evidence` (JSON), `error` (the class, or None) and `message`, `warnings`,
    `finish`, `prompt_tokens` and `tokens`. Rows never fail a call. Raises UsageError for options that the task cannot
    obey, when it is made, and for columns that are missing or taken. Without `threads`, it keeps to $OMP_NUM_THREADS,
    which Ray sets to an actor's CPUs.
    """

    def __init__(
        self,
        task: rows.TaskName,
        *,
        model: str | None = None,
        to: str | None = None,
        source: str | None = None,
        text_format: translation.Format | None = None,
        glossary: Mapping[str, str] | None = None,
        strict: bool = False,
        sentences: int | None = None,
        words: int | None = None,
        schema: Mapping[str, Any] | None = None,
        fields: str | None = None,
        examples: Sequence[tuple[str, Any]] = (),
        verbatim: bool = False,
        evidence: extraction.Evidence = False,
        system: str | None = None,
        sampling: Sampling | None = None,
        text_column: str = "text",
        timeout_s: float | None = None,
        gpu_layers: int | Literal["auto", "all"] = "auto",
        context: int | None = None,
        slots: int = 4,
        threads: int | None = None,
        engine: Literal["auto", "llama_cpp", "ctransformers", "scripted"] = "auto",
        template: str | None = None,
        adapter: str | None = None,
        offline: bool = False,
    ) -> None:
        if fields is not None and schema is not None:
            raise UsageError("give a schema or fields, one of the two.")
        self.job = rows.Job(
            task=task,
            to=to,
            source=source,
            text_format=text_format,
            glossary=glossary,
            strict=strict,
            sentences=sentences,
            words=words,
            schema=extraction.fields(fields) if fields is not None else schema,
            examples=tuple(examples),
            verbatim=verbatim,
            evidence=evidence,
            system=system,
            sampling=sampling,
            text_column=text_column,
        )
        self.timeout_s = timeout_s
        self._name, self._threads = model, threads
        where: dict[str, Any] = {"gpu_layers": gpu_layers, "context": context, "slots": slots, "offline": offline}
        self._load = {**where, "engine": engine, "template": template, "adapter": adapter}
        self._model: Model | None = None

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Ask about every row of the batch, decoded together; the columns come back with the answers beside them."""
        given = {str(name): batch[name] for name in batch}
        if taken := [name for name in COLUMNS if name in given]:
            raise UsageError(f"the batch has columns of ours already: rename {', '.join(taken)}.")
        if self.job.text_column not in given:
            names = ", ".join(given) or "none"
            raise UsageError(f"the batch has no column {self.job.text_column!r}, only {names}: name it as text_column.")
        texts = [{self.job.text_column: _plain(one)} for one in given[self.job.text_column]]
        with rows.answers(self._opened().bound(self.job.task), self.job, texts, timeout_s=self.timeout_s) as found:
            told = [_told(result) for result in found]
        return {**given, **{name: [one[name] for one in told] for name in COLUMNS}}

    def close(self) -> None:
        """End the model's process; the next call would load it again. Dropping the mapper does the same."""
        model, self._model = self._model, None
        if model:
            model.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_model": None}

    def _opened(self) -> Model:
        if self._model is None:
            share = os.environ.get("OMP_NUM_THREADS", "")
            threads = self._threads or (int(share) if share.isdecimal() and int(share) > 0 else None)
            self._model = load(self._name, threads=threads, **self._load)
        return self._model


def _plain(value: Any) -> Any:
    """A text as Python's own: columns of arrays hold their library's kinds."""
    return str(value) if isinstance(value, str) else value.item() if hasattr(value, "item") else value


def _told(result: Result) -> dict[str, Any]:
    """One row's answers, as texts and numbers whose kinds never change from batch to batch."""
    value = result.value
    return {
        "result": value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False),
        "evidence": json.dumps(result.evidence, ensure_ascii=False) if result.evidence is not None else None,
        "error": type(result.error).__name__ if result.error else None,
        "message": str(result.error) if result.error else None,
        "warnings": "\n".join(result.warnings) or None,
        "finish": result.finish,
        "prompt_tokens": result.prompt_tokens,
        "tokens": result.tokens,
    }
