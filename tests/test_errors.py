"""Errors keep their kind, words and facts on their way out of the worker's process."""

from __future__ import annotations

import json

from edgellm import errors


def test_every_error_is_drawn_in_the_tree() -> None:
    kinds = [
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.EdgeError)
    ]
    assert [name for name in kinds if name not in str(errors.__doc__)] == []


def test_an_error_crosses_the_boundary_whole() -> None:
    sent = errors.PromptTooLong("too long", 9, 8)
    got = errors.from_wire(json.loads(json.dumps(errors.to_wire(sent))))
    assert isinstance(got, errors.PromptTooLong)
    assert (str(got), got.tokens, got.context) == ("too long", 9, 8)


def test_an_unknown_kind_keeps_its_words() -> None:
    got = errors.from_wire({"kind": "FromTheFuture", "message": "words", "facts": {}})
    assert type(got) is errors.EngineFailed
    assert str(got) == "words"


def test_a_file_error_names_path_field_and_offset() -> None:
    error = errors.ModelFileError("x.gguf", "bad", offset=1024, field="general.alignment")
    assert str(error) == "x.gguf, field 'general.alignment', offset 1,024: bad"
