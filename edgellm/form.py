"""template.json: how a row of named texts becomes a prompt and its completion.

A prompt and a completion with `{field}` in them, as the tuning jobs of the large clouds take them. Nothing but plain field
names is filled in: no attributes, no indices, no formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from edgellm.errors import UsageError
from edgellm.records import kind, loads


@dataclass(frozen=True, slots=True)
class Form:
    """A prompt and a completion with fields in braces."""

    prompt: str
    completion: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields, each once, in order."""
        return tuple(dict.fromkeys([*_fields(self.prompt, "prompt"), *_fields(self.completion, "completion")]))

    def fill(self, values: Mapping[str, str]) -> tuple[str, str]:
        """Put a row's texts in; braces within them stay as they are."""
        return self.prompt.format(**values), self.completion.format(**values)


PLAIN = Form("{instruction}\n\n{context}", "{response}")
"""What is used for rows with an instruction and a response when there is no template."""


def read(path: Path) -> Form:
    """Read a template. Raises UsageError in one sentence for whatever is wrong with it."""
    try:
        found = loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"cannot read the template {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the template {path.name} is not UTF-8 text.") from error
    except ValueError as error:
        raise UsageError(f"the template {path.name} {error}.") from error
    if not isinstance(found, dict):
        raise UsageError(
            f'the template {path.name} is {kind(found)}, not an object {{"prompt": ..., "completion": ...}}.'
        )
    for name in ("prompt", "completion"):
        if not isinstance(found.get(name), str):
            said = f"is {kind(found[name])}, not a text" if name in found else "is missing"
            raise UsageError(f"the template {path.name} cannot be used: its {name!r} {said}.")
    if strange := sorted(set(found) - {"prompt", "completion"}):
        raise UsageError(
            f"the template {path.name} has a key {strange[0]!r}: it takes prompt and completion, nothing else."
        )
    form = Form(found["prompt"], found["completion"])
    if not form.fields or not _fields(form.completion, "completion"):
        raise UsageError(
            f"the template {path.name} has no {{field}} in its completion: every row would teach the same."
        )
    return form


def _fields(text: str, name: str) -> list[str]:
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise UsageError(
            f"the template's {name} cannot be read: {error}; a brace that is text is written twice."
        ) from error
    found = [(field, form, conversion) for _, field, form, conversion in parts if field is not None]
    for field, form, conversion in found:
        if not field.isidentifier() or form or conversion:
            written = field + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            raise UsageError(f"the template's {name} has {{{written}}}: only the name of a field may stand in braces.")
    return [field for field, _, _ in found]
