"""Training data: files in, examples out, and one sentence with its line for everything that cannot be learned from.

Takes {instruction, context, response} through a template, {prompt, completion}, {messages}, {text}, tables and plain text.
Knows no tokens: lengths are `lengths`, how an example is laid out for a model is `layout`.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgellm import form, records
from edgellm.errors import DataRefused, UsageError
from edgellm.form import Form
from edgellm.prompt import Message
from edgellm.records import Record, kind

Kind = Literal["instructions", "conversations", "text"]

_VALIDATION = ("validation", "valid", "val")
_TEMPLATE = "template.json"
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Example:
    """Something to learn from: a conversation whose answers count for the loss, or a text that counts as a whole."""

    file: str
    line: int
    messages: tuple[Message, ...] = ()  # ends with the assistant's
    text: str = ""
    # An instruction as it was written, before the blanks around it were taken off for a chat.
    raw: tuple[str, str] | None = None

    @property
    def whole(self) -> str:
        """All of its words, for comparing."""
        return self.text or "\n".join(message.content for message in self.messages)

    @property
    def asked(self) -> str:
        """What comes before the answer; for a text, the text."""
        return self.text or "\n".join(message.content for message in self.messages[:-1])


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that cannot be learned from."""

    file: str
    line: int
    reason: str  # continues "line 7 "

    def __str__(self) -> str:
        return f"{self.file}, line {self.line:,} {self.reason}."


@dataclass(frozen=True, slots=True)
class Data:
    """What was read: examples, faults, and where it came from."""

    kind: Kind
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    faults: tuple[Fault, ...]
    files: tuple[Path, ...]
    form: Form | None = None
    notes: tuple[str, ...] = ()
    sha256: str = ""  # of all files, names left out

    def check(self) -> None:
        """Raise DataRefused with the first faults, when there are any."""
        refuse(self.faults)


def refuse(faults: Sequence[Fault]) -> None:
    """Raise DataRefused with the first of the faults, when there are any."""
    if faults:
        more = f"\n... and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
        raise DataRefused("\n".join(map(str, faults[:_SHOWN])) + more, len(faults))


@dataclass(slots=True)
class _Reading:
    """What is known while the files are read."""

    form: Form | None
    notes: list[str]
    faults: list[Fault] = field(default_factory=list)
    kind: Kind | None = None
    keys: str = ""
    first: str = ""

    def examples(self, path: Path) -> list[Example]:
        """Read one file; its faults are noted."""
        found, lines = list[Example](), 0
        table = path.suffix.lower() in (".csv", ".tsv")
        for record in records.read(path):
            lines += 1
            try:
                found.append(self._example(path, record, table))
            except ValueError as error:
                self.faults.append(Fault(path.name, record.line, str(error)))
        if not lines:
            raise UsageError(f"{path.name} is empty: there is nothing to learn from.")
        return found

    def _example(self, path: Path, record: Record, table: bool) -> Example:
        if record.fault:
            raise ValueError(record.fault)
        read, keys, sort = self._reader(record.values, table)
        if self.kind is None:
            self.kind, self.keys, self.first = sort, keys, f"line {record.line:,} of {path.name}"
        elif keys != self.keys:
            raise ValueError(f"has {keys}, and {self.first} {self.keys}: all rows must be of one kind")
        messages, text, raw = read(record.values)
        return Example(path.name, record.line, messages, text, raw)

    def _reader(self, row: Mapping[str, Any], table: bool) -> tuple[Callable[..., _Read], str, Kind]:
        """Choose how to read a row by its keys; also those keys in words."""
        if self.form:
            needed = self.form.fields
            if missing := [name for name in needed if name not in row]:
                raise ValueError(f"has no {missing[0]!r}, which the template names ({_listed(row)})")
            return self._formed(self.form), " and ".join(needed), "instructions"
        if "messages" in row:
            return _conversation, "messages", "conversations"
        if "prompt" in row or "completion" in row:
            return _pair, "prompt and completion", "instructions"
        if "instruction" in row or "response" in row:
            _note(self.notes, "No template.json: a prompt is the instruction, a blank line and the context.")
            return _instruction, "instruction and response", "instructions"
        if "text" in row:
            return _text("text"), "text", "text"
        if table and row:
            column = next(iter(row))
            _note(self.notes, f"No column is named text: the first one, {column!r}, is taken.")
            return _text(column), f"the column {column}", "text"
        raise ValueError(
            f"has none of messages, prompt and completion, instruction and response, or text ({_listed(row)})"
        )

    def _formed(self, template: Form) -> Callable[[Mapping[str, Any]], _Read]:
        def read(row: Mapping[str, Any]) -> _Read:
            values = {name: _string(row, name, empty=name == "context") for name in template.fields}
            return _turn(*template.fill(values))

        return read


_Read = tuple[tuple[Message, ...], str, tuple[str, str] | None]


def read(source: Path, *, template: Path | None = None, validation: Path | None = None) -> Data:
    """Read a file, or a folder with train.*, perhaps validation.* and template.json.

    Raises UsageError for files that cannot be read at all; rows that cannot are `faults`.
    """
    train, held, notes = _files(source)
    if validation is not None:
        held = validation
    beside = train.parent / _TEMPLATE
    chosen = template or (beside if source.is_dir() and beside.exists() else None)
    reading = _Reading(form.read(chosen) if chosen else None, notes)
    found = tuple(reading.examples(train))
    kept = tuple(reading.examples(held)) if held else ()
    files = tuple(filter(None, (train, held, chosen)))
    if not (found or reading.faults):
        raise UsageError(f"{train.name} is empty: there is nothing to learn from.")
    return Data(
        kind=reading.kind or "text",
        train=found,
        validation=kept,
        faults=tuple(reading.faults),
        files=files,
        form=reading.form,
        notes=tuple(notes),
        sha256=_sha256(files),
    )


def split(data: Data, share: float, seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Keep a share of the examples for validation, where no file was given for it; twins stay on one side.

    Paragraphs of one text are not torn apart: its end is kept. Raises UsageError when nothing would be left to learn from.
    """
    if data.validation or share <= 0:
        return data.train, data.validation
    groups: dict[str, list[Example]] = {}
    for example in data.train:
        groups.setdefault(normal(example.asked), []).append(example)
    keys = list(groups)
    if not (data.kind == "text" and _flows(data.train)):
        random.Random(seed).shuffle(keys)  # noqa: S311 - which rows are held out is no secret
    count = max(1, round(len(keys) * share))
    if len(keys) < 2:
        raise UsageError("there is only one row to learn from: give at least two, or a --validation file.")
    held = set(keys[-count:])
    return (
        tuple(example for example in data.train if normal(example.asked) not in held),
        tuple(example for example in data.train if normal(example.asked) in held),
    )


def _flows(examples: Sequence[Example]) -> bool:
    return bool(examples) and Path(examples[0].file).suffix.lower() in (".txt", ".md")


def normal(text: str) -> str:
    """A text for comparing: blanks and case do not count."""
    return " ".join(text.split()).casefold()


def _files(source: Path) -> tuple[Path, Path | None, list[str]]:
    if not source.exists():
        raise UsageError(f"there is no {source}.")
    if not source.is_dir():
        return source, None, []
    here = sorted(path for path in source.iterdir() if path.suffix.lower() in records.SUFFIXES and path.is_file())
    candidates = [path for path in here if path.name != _TEMPLATE and path.stem.lower() not in ("readme", "license")]
    train = _one([path for path in candidates if path.stem.lower() == "train"], source)
    held = _one([path for path in candidates if path.stem.lower() in _VALIDATION], source)
    if train is None:
        rest = [path for path in candidates if path != held]
        if len(rest) != 1:
            said = ", ".join(path.name for path in rest) or "nothing that could be one"
            raise UsageError(f"{source} has no train.jsonl, .json, .csv or .txt; it has {said}.")
        train = rest[0]
    left = [path.name for path in candidates if path not in (train, held)]
    return train, held, [f"Not read: {', '.join(left)}."] if left else []


def _one(paths: Sequence[Path], source: Path) -> Path | None:
    if len(paths) > 1:
        raise UsageError(f"{source} has both {paths[0].name} and {paths[1].name}: keep one.")
    return paths[0] if paths else None


def _note(notes: list[str], note: str) -> None:
    if note not in notes:
        notes.append(note)


def _listed(row: Mapping[str, Any]) -> str:
    names = ", ".join(list(map(str, row))[:8])
    return f"it has {names[:200]}" if names else "it is empty"


def _string(row: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    if name not in row:
        raise ValueError(f"has no {name!r} ({_listed(row)})")
    return _checked(row[name], name, empty=empty)


def _checked(value: Any, name: str, *, empty: bool = False) -> str:
    if not isinstance(value, str):
        raise ValueError(f"has {kind(value)} as {name!r}, not a text")  # noqa: TRY004 - a wrong value of a file
    if not empty and not value.strip():
        raise ValueError(f"has nothing in {name!r}")
    if "\0" in value:
        raise ValueError(f"has a zero character in {name!r}: this is not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"has half a surrogate pair in {name!r}, at character {error.start + 1:,}") from error
    return value


def _turn(prompt: str, completion: str) -> _Read:
    for text, name in ((prompt, "prompt"), (completion, "completion")):
        if not text.strip():
            raise ValueError(f"has nothing in its {name}")
    return (Message("user", prompt.strip()), Message("assistant", completion.strip())), "", (prompt, completion)


def _pair(row: Mapping[str, Any]) -> _Read:
    return _turn(_string(row, "prompt"), _string(row, "completion"))


def _instruction(row: Mapping[str, Any]) -> _Read:
    context = _checked(row.get("context", ""), "context", empty=True)
    return _turn(*form.PLAIN.fill({**_strings(row, "instruction", "response"), "context": context}))


def _strings(row: Mapping[str, Any], *names: str) -> dict[str, str]:
    return {name: _string(row, name) for name in names}


def _text(column: str) -> Callable[[Mapping[str, Any]], _Read]:
    return lambda row: ((), _string(row, column), None)


def _conversation(row: Mapping[str, Any]) -> _Read:
    turns = row["messages"]
    if not isinstance(turns, list) or not turns:
        raise ValueError(
            f"has {kind(turns) if turns or not isinstance(turns, list) else 'an empty list'} as 'messages'"
        )
    messages = tuple(_message(turn, number) for number, turn in enumerate(turns, 1))
    spoken = [message.role for message in messages[messages[0].role == "system" :]]
    for place, (role, wanted) in enumerate(zip(spoken, itertools.cycle(("user", "assistant")), strict=False)):
        if role != wanted:
            raise ValueError(
                f"has {role} where {wanted} should speak (message {place + 1 + len(messages) - len(spoken)})"
            )
    if not spoken or spoken[-1] != "assistant":
        raise ValueError("ends without an answer of the assistant: there is nothing to learn")
    return messages, "", None


def _message(turn: Any, number: int) -> Message:
    if not isinstance(turn, dict):
        raise ValueError(f"has {kind(turn)} as message {number}, not an object")  # noqa: TRY004
    role = turn.get("role")
    if role not in ("system", "user", "assistant"):
        raise ValueError(f"has the role {role!r} in message {number}: known are system, user and assistant")
    if strange := sorted(set(turn) - {"role", "content"}):
        raise ValueError(f"has {strange[0]!r} in message {number}, which cannot be learned: only role and content")
    if "content" not in turn:
        raise ValueError(f"has no 'content' in message {number}")
    return Message(role, _checked(turn["content"], f"content of message {number}"))


def _sha256(files: Sequence[Path]) -> str:
    whole = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
