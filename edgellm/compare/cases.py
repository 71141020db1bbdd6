"""Prompts to compare on, read from a file, with their references where it has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from edgellm import form, records
from edgellm.errors import UsageError
from edgellm.form import Form
from edgellm.prompt import Message, Role
from edgellm.records import Record, kind

_REFERENCES = ("reference", "completion", "response", "answer")


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt: as a conversation, as raw text, and what would be a right answer."""

    line: int
    messages: tuple[Message, ...]
    written: str
    reference: str | None = None

    @property
    def shown(self) -> str:
        """The prompt for a table: its last question."""
        return self.messages[-1].content


def read(path: Path, *, template: Path | None = None, system: str | None = None) -> list[Case]:
    """Read prompts: a line each of a text, or rows {prompt}, {instruction, context} or {messages}, perhaps with a reference.

    A reference is called reference, completion, response or answer, or is the last turn of a conversation. Raises
    UsageError that names the line of the first row that cannot be asked.
    """
    chosen = form.read(template) if template else None
    found = []
    for record in _records(path):
        try:
            found.append(_case(record, chosen, system))
        except ValueError as error:
            raise UsageError(f"{path.name}, line {record.line:,} {error}.") from error
    if not found:
        raise UsageError(f"{path.name} is empty: there is nothing to ask.")
    return found


def _records(path: Path) -> list[Record]:
    """A plain text has a prompt on each line."""
    read = list(records.read(path))
    if path.suffix.lower() not in (".txt", ".md"):
        return read
    found = []
    for record in read:
        lines = str(record.values.get("text", "")).splitlines()
        found += [Record(record.line + place, {"prompt": line}) for place, line in enumerate(lines)] or [record]
    return found


def _case(record: Record, template: Form | None, system: str | None) -> Case:
    row = record.values
    if record.fault:
        raise ValueError(record.fault)
    if "messages" in row:
        turns = _conversation(row["messages"])
        reference = turns.pop().content if turns[-1].role == "assistant" else _reference(row)
        if not turns or turns[-1].role != "user":
            raise ValueError("has no question at the end of its messages")
        written = "\n\n".join(turn.content for turn in turns)
    else:
        written, reference = _question(row, template), _reference(row)
        turns = [Message("user", written.strip())]
    if system and turns[0].role != "system":
        turns.insert(0, Message("system", system))
    return Case(record.line, tuple(turns), written, reference)


def _question(row: Mapping[str, Any], template: Form | None) -> str:
    if template:
        given = {name: str(row.get(name, "")) for name in template.fields}
        if missing := [name for name in template.fields if name in template.prompt and name not in row]:
            raise ValueError(f"has no {missing[0]!r}, which the template names")
        return template.fill(given)[0]
    if "prompt" in row:
        return _text(row, "prompt")
    if "instruction" in row:
        context = _text(row, "context", empty=True) if "context" in row else ""
        return form.PLAIN.fill({"instruction": _text(row, "instruction"), "context": context, "response": ""})[
            0
        ].strip()
    names = ", ".join(list(map(str, row))[:8])
    raise ValueError(f"has neither prompt, instruction nor messages (it has {names[:200] or 'nothing'})")


def _reference(row: Mapping[str, Any]) -> str | None:
    name = next((name for name in _REFERENCES if row.get(name) is not None), None)
    return None if name is None else _text(row, name, empty=True).strip()


def _text(row: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    found = row[name]
    if not isinstance(found, str):
        raise ValueError(f"has {kind(found)} as {name!r}, not a text")  # noqa: TRY004 - a wrong value of a file
    if not empty and not found.strip():
        raise ValueError(f"has nothing in {name!r}")
    return found


def _conversation(turns: Any) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        raise ValueError(f"has {kind(turns) if turns != [] else 'an empty list'} as 'messages'")
    for number, turn in enumerate(turns, 1):
        wellformed = (
            isinstance(turn, dict) and turn.get("role") in get_args(Role) and isinstance(turn.get("content"), str)
        )
        if not wellformed:
            raise ValueError(f"has a message {number} that is not {{role, content}}")
    return [Message(turn["role"], turn["content"]) for turn in turns]
