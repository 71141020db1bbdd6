"""Extraction: text and a schema in, a value that parses and validates out, with evidence where it is asked for.

A pure conversation; enforcing the schema while decoding is `constraint`'s work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from edgellm.errors import EmptyText, InvalidOutput, SchemaUnsupported, TruncatedOutput
from edgellm.prompt import Message, Prompt, Reply, Task
from edgellm.sampling import ONE_ANSWER, Sampling
from edgellm.tasks.answer import read as read
from edgellm.tasks.answer import valid
from edgellm.tasks.evidence import Extracted, Quote, leaves, located, quoted, refuse_strict, without
from edgellm.tasks.question import Schema, question
from edgellm.tasks.question import dump as dump
from edgellm.tasks.quoting import unquoted
from edgellm.tasks.shape import shape as shape
from edgellm.tasks.short_form import fields as fields

Examples: TypeAlias = Sequence[tuple[str, Any]]
Evidence: TypeAlias = bool | Literal["strict"]
GREEDY = ONE_ANSWER
# Examples leave the answer this part of the context, when its own limit is higher.
_FOR_ANSWER = 4


def ask(
    text: str,
    schema: Schema,
    *,
    examples: Examples = (),
    sampling: Sampling = GREEDY,
    verbatim: bool = False,
) -> Prompt:
    """Build the prompt: the wanted keys in schema order, earlier examples as turns, the text last."""
    if not isinstance(schema, Mapping):
        raise SchemaUnsupported(f"a JSON Schema is an object, not {type(schema).__name__}.")
    turns = [
        message
        for given, wanted in examples
        for message in (Message("user", question(given, schema)), Message("assistant", dump(wanted)))
    ]
    return Prompt(
        messages=(*turns, Message("user", question(text, schema))),
        sampling=sampling,
        schema=schema,
        quotes=text.strip() if verbatim else None,
    )


def extract(
    text: str,
    schema: Schema,
    *,
    examples: Examples = (),
    sampling: Sampling = GREEDY,
    verbatim: bool = False,
) -> Task[Any]:
    """Extract from one text; returns the parsed value, and is otherwise as `extracted`."""
    found = yield from extracted(text, schema, examples=examples, sampling=sampling, verbatim=verbatim)
    return found.value


def extracted(
    text: str,
    schema: Schema,
    *,
    examples: Examples = (),
    sampling: Sampling = GREEDY,
    verbatim: bool = False,
    evidence: Evidence = False,
) -> Task[Extracted]:
    """Extract from one text. Returns the parsed value, its evidence, and how many examples the context had room for.

    With `verbatim`, texts that the schema leaves free (no enum, const, pattern or format) are literally in the text, or
    empty. With `evidence`, each leaf has a quote with its place in the text, or None; `"strict"` takes values without one
    out. Raises EmptyText, SchemaUnsupported, TruncatedOutput (the token budget ended first) or InvalidOutput.
    """
    if not text.strip():
        raise EmptyText("there is no text to extract from.")
    if evidence == "strict":
        refuse_strict(schema)
    prompts = [
        ask(text, schema, examples=examples[:count], sampling=sampling, verbatim=verbatim)
        for count in range(len(examples), -1, -1)
    ]
    shown = len(examples) - ((yield from _first_that_fits(prompts)) if examples else 0)
    [reply] = yield [prompts[len(examples) - shown]]
    value = read(reply, schema)
    if verbatim and (path := unquoted(value, schema, text)):
        raise InvalidOutput(f"the answer's {path} is not literally in the text.", reply.text)
    found = Extracted(value=value, examples=shown, warnings=_left_out(shown, len(examples)))
    return (yield from _proven(found, text, schema, sampling, strict=evidence == "strict")) if evidence else found


def _first_that_fits(prompts: list[Prompt]) -> Task[int]:
    """Which prompt is the first to leave room for an answer; the last one, when none does."""
    counts = yield [dataclasses.replace(prompt, count=True) for prompt in prompts]
    for index, (prompt, count) in enumerate(zip(prompts, counts, strict=True)):
        answer = min(prompt.sampling.max_tokens, count.context_tokens // _FOR_ANSWER)
        if count.prompt_tokens + answer <= count.context_tokens:
            return index
    return len(prompts) - 1


def _left_out(shown: int, given: int) -> tuple[str, ...]:
    if shown == given:
        return ()
    return (f"the context has room for {shown} of the {given} examples: the last were left out.",)


def _proven(found: Extracted, text: str, schema: Schema, sampling: Sampling, *, strict: bool) -> Task[Extracted]:
    """Find each value in the text; let the model quote what it goes by where the value is a judgement."""
    evidence, choices = located(found.value, text), list(_choices(schema))
    claims = {one.pointer: one.value for one in leaves(found.value)}
    judged = [
        pointer
        for pointer, quote in evidence.items()
        if quote is None and (isinstance(claims[pointer], bool) or claims[pointer] in choices)
    ]
    if judged:
        replies = yield [_for_quote(text, pointer, claims[pointer], sampling) for pointer in judged]
        evidence |= {pointer: _quote(reply, text) for pointer, reply in zip(judged, replies, strict=True)}
    found = dataclasses.replace(found, evidence=evidence)
    return _strict(found, claims, schema) if strict and found.unproven else found


def _strict(found: Extracted, claims: Mapping[str, Any], schema: Schema) -> Extracted:
    """Take out what has no evidence; what is left keeps its quotes, in the same order."""
    value = without(found.value, found.unproven)
    valid(dump(value), schema)
    kept = [quote for quote in found.evidence.values() if quote]
    return dataclasses.replace(
        found,
        value=value,
        evidence={one.pointer: quote for one, quote in zip(leaves(value), kept, strict=True)},
        warnings=(
            *found.warnings,
            *(f"{pointer} was {dump(claims[pointer])} and had no evidence: taken out." for pointer in found.unproven),
        ),
    )


def _for_quote(text: str, pointer: str, value: Any, sampling: Sampling) -> Prompt:
    says = f"the words which say that {pointer.rpartition('/')[2] or 'the value'} is {dump(value)}"
    quote = {"type": ["string", "null"], "description": says}
    return ask(text, {**fields("quote"), "properties": {"quote": quote}}, sampling=sampling, verbatim=True)


def _quote(reply: Reply, text: str) -> Quote | None:
    """What the model quoted; a quote that was cut, or is none, is no evidence."""
    try:
        return quoted(read(reply, fields("quote?"))["quote"], text)
    except (TruncatedOutput, InvalidOutput):
        return None


def _choices(part: Any) -> Iterator[Any]:
    """Every value that some enum or const of a schema names."""
    if isinstance(part, Mapping):
        yield from part.get("enum", ())
        if "const" in part:
            yield part["const"]
        for one in part.values():
            yield from _choices(one)
    elif isinstance(part, list | tuple):
        for one in part:
            yield from _choices(one)
