"""The output file as a ledger: which rows are done, from which job and model, and one new line for each row that ends.

Rows may be computed twice when a run is killed; they are recorded once. Beside OUT are OUT.meta.json (what it was made
from), OUT.lock (while a run writes it) and OUT.retry (failed rows that were tried again, until they take their places).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from edgellm import outputs
from edgellm.batch.disk import Appender, cut_torn_line, replacing, told, write_json
from edgellm.batch.writing import Entry, entry
from edgellm.errors import OutputFailed, ResumeRefused, UsageError
from edgellm.rows.ids import mark

_ANEW = "To begin anew, delete it or name another one."
# Of a failed row one may raise it, which is the cure of an answer that was cut.
_MAY_CHANGE = "job.sampling.max_tokens"


class Lock(Protocol):
    """What keeps two runs apart."""

    def release(self) -> None: ...


class Ledger:
    """One output file, from being opened to being closed; only one run at a time has it. A context manager."""

    def __init__(self, path: Path, job: Mapping[str, Any], *, retry: bool = False) -> None:
        """Lock and mend the output, and refuse to go on with another job. Raises ResumeRefused, UsageError, OutputFailed."""
        self.path, self.retry = Path(os.path.realpath(path)), retry
        self.torn_bytes = 0
        self._job = json.loads(json.dumps(job))
        self._appender: Appender | None = None
        self._lock = _locked(self.path)
        try:
            self._fresh = not self.path.exists() or self.path.stat().st_size == 0
            self._meta = None if self._fresh else self._read_meta()
            self._compare("job", self._job)
            self._mend()
        except BaseException:
            self.close()
            raise

    @property
    def begun(self) -> Mapping[str, Any] | None:
        """What the meta file tells about the beginning, or None when this is the beginning."""
        about = (self._meta or {}).get("about")
        return about if isinstance(about, dict) else None

    def entries(self) -> Iterator[Entry]:
        """Every finished row, in the order of the file. Raises ResumeRefused where it is damaged."""
        if self._fresh:
            return
        with told(self.path), open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                yield self._entry(line, number)

    def bind(self, model: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Refuse to go on with another model; note what a new output is made from, before its first row."""
        model = json.loads(json.dumps(model))
        self._compare("model", model)
        about = self.begun or about
        fresh = {"format": 1, "job": self._job, "model": model, "about": about}
        if fresh != self._meta:
            write_json(self._beside("meta.json"), fresh)
            self._meta = fresh

    def record(self, line: bytes, *, again: bool = False) -> None:
        """Add the line of a row; `again` for a row that has one already, which it replaces at the next `settle`."""
        if self._appender is None:
            self._appender = Appender(self._beside("retry") if again else self.path)
        self._appender.append(line)

    def settle(self) -> None:
        """Put the rows that were tried again into their places, and turn to those that come after them."""
        self._close_file()
        self._merge()
        self._appender = Appender(self.path)

    def close(self) -> None:
        """Have everything on the disk, and let others write."""
        try:
            self._close_file()
        finally:
            # Removed while it is still ours; who already waits for it finds that it is gone, and tells its user so.
            with suppress(OSError):
                self._beside("lock").unlink()
            self._lock.release()

    def _mend(self) -> None:
        """Make the file whole again."""
        if self._fresh:
            self._beside("retry").unlink(missing_ok=True)
        else:
            self.torn_bytes = cut_torn_line(self.path)
            self._merge()

    def _merge(self) -> None:
        side = self._beside("retry")
        if not side.exists():
            return
        cut_torn_line(side)
        places = _places(side)
        with open(side, "rb") as found, open(self.path, "rb") as old, replacing(self.path) as new:
            shutil.copymode(self.path, new.name)
            for number, line in enumerate(old, 1):
                known = self._entry(line, number)
                place = places.get(mark(known.id)) if known.failed else None
                if place is None:
                    new.write(line)
                else:
                    found.seek(place)
                    new.write(found.readline())
        with told(side):
            side.unlink()

    def _entry(self, line: bytes, number: int) -> Entry:
        try:
            return entry(line)
        except ValueError as error:
            raise ResumeRefused(
                f"line {number:,} of {self.path} is damaged: nobody but a batch should write there. {_ANEW}"
            ) from error

    def _read_meta(self) -> dict[str, Any]:
        path = self._beside("meta.json")
        try:
            meta = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise ResumeRefused(
                f"{self.path} is not the output of a batch: there is no {path.name} beside it. Name another file."
            ) from error
        except (OSError, ValueError) as error:
            raise ResumeRefused(f"{path} cannot be read, so {self.path.name} cannot be continued. {_ANEW}") from error
        if not isinstance(meta, dict) or meta.get("format") != 1:
            raise ResumeRefused(f"{path} is of another version, so {self.path.name} cannot be continued. {_ANEW}")
        return meta

    def _compare(self, part: str, now: Mapping[str, Any]) -> None:
        if self._meta is None:
            return
        changes = dict(_changes(part, self._meta.get(part), now))
        if self.retry:
            changes.pop(_MAY_CHANGE, None)
        if changes:
            raise ResumeRefused(f"{self.path} was begun otherwise: {'; '.join(changes.values())}. {_ANEW}")

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")

    def _close_file(self) -> None:
        appender, self._appender = self._appender, None
        if appender:
            appender.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _locked(path: Path) -> Lock:
    from filelock import FileLock, Timeout

    outputs.check(path)
    place = path.with_name(path.name + ".lock")
    lock = FileLock(place)
    busy = f"another run is writing {path}: wait for it, or stop it. If there is none, delete {place}."
    with told(path):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            if not place.exists():
                raise OutputFailed(f"cannot create {place}: name an output in another folder.") from error
            raise UsageError(busy) from error
        if not place.exists():  # the other run ended between our opening the file and our having it
            lock.release()
            raise UsageError(busy)
        if path.exists() and not os.access(path, os.W_OK):
            lock.release()
            raise OutputFailed(f"{path} is not yours to write: change its permissions, or name another file.")
    return lock


def _places(side: Path) -> dict[int, int]:
    """Where in the side file the last line of each row begins."""
    places = {}
    with open(side, "rb") as file:
        start = 0
        for line in file:
            places[mark(entry(line).id)] = start
            start += len(line)
    return places


def _changes(name: str, before: Any, now: Any) -> Iterator[tuple[str, str]]:
    """Say what differs, by name, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _changes(f"{name}.{key}", before.get(key), now.get(key))
    elif before != now:
        yield name, f"{_TITLES.get(name, name.split('.', 1)[1])} was {_short(before)} and is {_short(now)}"


_TITLES = {
    "job.wording": "how the task is put into words",
    "job.edgellm": "the major version of edgellm",
    "model.files": "the model's file",
    "model.adapters": "the model's adapters",
    "model.template": "the model's chat template",
}


def _short(value: Any) -> str:
    told = "unset" if value is None else json.dumps(value, ensure_ascii=False)
    return told if len(told) <= 80 else told[:77] + "..."
