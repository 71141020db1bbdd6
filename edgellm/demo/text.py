"""Everything the embedded model is taught and asked: one generator of examples, deterministic for a seed.

An example is a conversation and its answer. Evaluation uses values, sentences and phrasings that training never sees.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from edgellm.demo import lexicon, text_chat, text_extract, text_summary, text_translate, values
from edgellm.prompt import Message
from edgellm.tasks import extract, summarize, translate

TASKS = {"extract": 47, "spoken": 4, "translate": 12, "summarize": 17, "chat": 6, "copy": 12, "talk": 2}
"""Kinds of examples, and how many of a hundred they are."""
_TRAIN_NAMES = tuple(name for name in values.FIRST_NAMES if not values.held(name))
_HELD_NAMES = tuple(name for name in values.FIRST_NAMES if values.held(name))


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation up to a user's turn, and the answer to it."""

    task: str
    messages: tuple[Message, ...]
    answer: str
    schema: dict[str, Any] | None = None
    facts: tuple[str, ...] = ()  # what a summary must keep


def examples(
    seed: int, *, evaluation: bool = False, pieces: Sequence[str] = (), tasks: dict[str, int] | None = None
) -> Iterator[Example]:
    """Yield examples for ever; `pieces` are strings of which nonsense to copy is made."""
    random = Random(seed) if evaluation else values.Repeating(seed)
    weights = tasks or TASKS
    while True:
        if isinstance(random, values.Repeating):
            random.begin()
        task = random.choices(list(weights), list(weights.values()))[0]
        yield example(random, task, evaluation=evaluation, pieces=pieces)


def example(random: Random, task: str, *, evaluation: bool = False, pieces: Sequence[str] = ()) -> Example:
    """One example of a task."""
    if task in ("extract", "spoken"):
        case = (text_extract.case if task == "extract" else text_extract.spoken_case)(random, evaluation=evaluation)
        return Example(task, case.messages, extract.dump(case.answer), case.schema)
    if task == "translate":
        return _translation(random, evaluation)
    if task == "summarize":
        return _summary(random, evaluation)
    if task == "talk":
        return _talk(random, evaluation)
    if task == "chat":
        messages, answer = text_chat.conversation(random, evaluation=evaluation)
        return Example(task, messages, answer)
    return _copy(random, evaluation, pieces)


def _talk(random: Random, evaluation: bool) -> Example:
    """A longer conversation about different things: what a chat becomes when people try one task after another."""
    messages: tuple[Message, ...] = ()
    kinds = ("chat", "chat", "translate", "translate", "spoken", "extract", "summarize")
    turns = [example(random, random.choice(kinds), evaluation=evaluation) for _ in range(random.randint(2, 7))]
    for one in turns:
        said = one.messages if not messages else tuple(each for each in one.messages if each.role != "system")
        messages += (*said, Message("assistant", one.answer))
    return Example("talk", messages[:-1], turns[-1].answer)


def held_sentence(text: str) -> bool:
    """Whether an English sentence is for evaluation only."""
    return zlib.crc32(text.encode()) % 16 == 0


def _translation(random: Random, evaluation: bool) -> Example:
    triple = text_translate.passage(random, _HELD_NAMES if evaluation and random.random() < 0.5 else _TRAIN_NAMES)
    for _ in range(200):
        if held_sentence(triple.en) == evaluation or triple.en in text_translate.COURTESY:
            break
        triple = text_translate.passage(random, _TRAIN_NAMES)
    to = random.choice(("fr", "es"))
    prompt = translate.ask(triple.en, to, random.choice((None, None, "en")))
    return Example("translate", prompt.messages, triple.fr if to == "fr" else triple.es)


def _summary(random: Random, evaluation: bool) -> Example:
    report = text_summary.report(random, evaluation=evaluation)
    style = random.random()
    count = random.choice((1, 2))
    if style < 0.75:
        prompt = summarize.ask(report.text, sentences=count)
    else:
        words = random.randint(12, 60)
        count = 2 if words >= 40 else 1
        prompt = summarize.ask(report.text, words=words)
        if len(report.summary(count).split()) > words:
            prompt = summarize.ask(report.text, sentences=count)
    return Example(
        "summarize", prompt.messages, report.summary(count), facts=report.facts + (report.more if count == 2 else ())
    )


def _copy(random: Random, evaluation: bool, pieces: Sequence[str]) -> Example:
    """Nonsense to repeat, or to find behind a key: what teaches to copy anything."""
    style = random.random()
    if style < 0.15:
        text = _figures(random, evaluation)
    elif style < 0.4 or not pieces:
        words = [values.anything(random, evaluation) for _ in range(random.randint(1, 4))]
        text = " ".join(words)
    else:
        text = _nonsense(random, pieces, random.randint(3, 14))
    if random.random() < 0.4:
        return Example("copy", (Message("user", f"Repeat this text: {text}"),), text)
    return _nonsense_case(random, evaluation, pieces) if evaluation else _nonsense_record(random, pieces)


def _nonsense(random: Random, pieces: Sequence[str], count: int) -> str:
    made = ""
    for _ in range(count):
        made += random.choice(pieces).replace("▁", " ")
        if random.random() < 0.2:
            made += " "
    return " ".join(made.split()) or "a"


def _figures(random: Random, evaluation: bool) -> str:
    """Digits and codes full of repetitions, which must be copied by place and not by neighbourhood."""
    style = random.random()
    if style < 0.4:
        return values.phone(random, evaluation)
    if style < 0.55:
        return values.code(random, evaluation)
    few = random.sample("0123456789", random.randint(2, 5))
    made = "".join(
        random.choice(few) + (random.choice(" -.") if random.random() < 0.3 else "")
        for _ in range(random.randint(4, 12))
    )
    return made.strip(" -.") or "0"


def _nonsense_case(random: Random, evaluation: bool, pieces: Sequence[str]) -> Example:
    def value() -> str:
        if random.random() < 0.3:
            return _figures(random, evaluation)
        if pieces and random.random() < 0.75:
            return _nonsense(random, pieces, random.randint(1, 6)).strip(" ,.;:\"'{}[]") or "a"
        return str(values.anything(random, evaluation))

    keys = random.sample(text_extract.ANY_KEYS, random.randint(1, 4))
    answer = {key: value() for key in keys}
    lines = [f"{key}: {answer[key]}" for key in random.sample(keys, len(keys))]
    form = random.choice(("\n", "\n", "; "))
    schema = extract.fields(", ".join(keys))
    prompt = extract.ask(form.join(lines), schema)
    return Example("copy", prompt.messages, extract.dump(answer), schema)


def _nonsense_record(random: Random, pieces: Sequence[str]) -> Example:
    """As `_nonsense_case`, for training only: with lists and numbers, up to six keys, and some that the text is silent on."""

    def value() -> str:
        style = random.random()
        if style < 0.2:
            return _figures(random, False)
        if pieces and style < 0.6:
            return _nonsense(random, pieces, random.randint(1, 6)).strip(" ,.;:\"'{}[]") or "a"
        if style < 0.75:
            return values.common(random, False, values.PRODUCT_NOUNS, 0.8)
        return str(values.anything(random, False))

    keys = random.sample(text_extract.ANY_KEYS, random.randint(1, 6))
    answer: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    for key in keys:
        style = random.random()
        if style < 0.35:
            items = (value().replace(",", "") for _ in range(random.randint(2, 5)))
            answer[key], kinds[key] = list(dict.fromkeys(filter(None, items))) or ["a"], "array"
        elif style < 0.5:
            answer[key], kinds[key] = (
                random.choice((random.randint(1, 9999), random.randint(100, 99999) / 100)),
                "number",
            )
        else:
            answer[key], kinds[key] = value(), "string"
    between = random.choice((": ", ": ", " = ", " - ", ":", " is "))
    dress = random.choice((str, str, str.capitalize, str.upper))
    lines = [
        f"{dress(key)}{between}{text_extract.spoken(random, answer[key])}" for key in random.sample(keys, len(keys))
    ]
    absent = (
        [key for key in random.sample(text_extract.ANY_KEYS, 2) if key not in answer] if random.random() < 0.15 else []
    )
    wanted = random.sample([*keys, *absent], len(keys) + len(absent))
    facts = {key: text_extract.Fact(key, values.anything, "", kind=kinds.get(key, "string")) for key in wanted}
    schema = text_extract.schema_of(
        {key: text_extract.property_of(random, fact, nullable=bool(absent)) for key, fact in facts.items()}
    )
    prompt = extract.ask(random.choice(("\n", "\n", "; ", ". ", " ", ", ")).join(lines), schema)
    return Example("copy", prompt.messages, extract.dump({key: answer.get(key) for key in wanted}), schema)


def vocabulary() -> str:
    """Say what the embedded model can translate: its words and its sentence shapes."""
    kinds: dict[str, list[str]] = {}
    for noun in lexicon.NOUNS:
        kinds.setdefault(noun.kind, []).append(noun.en)
    lines = ["The embedded model translates English into French and Spanish within these words and shapes."]
    lines += [f"Nouns ({kind}): {', '.join(words)}." for kind, words in kinds.items()]
    lines.append(f"Adjectives: {', '.join(one.en for one in lexicon.ADJECTIVES)}.")
    lines.append(f"Verbs: {', '.join(one.en for one in lexicon.VERBS)}; be, have, like, live, go, want to, can, must.")
    lines += text_translate.describe()
    return "\n".join(lines)
