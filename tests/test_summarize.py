"""A summary has the length that was asked for, or says what it has; every part of a long text is in it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given as supposing
from hypothesis import settings
from hypothesis import strategies as st
from plays import content, given, play

import edgellm
from edgellm.errors import InvalidOutput, PromptTooLong, TruncatedOutput
from edgellm.prompt import Prompt, Task
from edgellm.sampling import Sampling
from edgellm.tasks.summarize import Options, Summary, ask, summarized

SMALL = Sampling(temperature=0, max_tokens=150)


def run(
    text: str, answer: Callable[[Prompt], Any], *, context: int = 1024, **options: Any
) -> tuple[Summary, list[Prompt]]:
    return play(summarized(text, sampling=SMALL, options=Options(**options)), answer, context=context)


def watched(task: Task[Any], rounds: list[list[Prompt]]) -> Task[Any]:
    """The same task, with what it asks together written down."""
    try:
        prompts = next(task)
        while True:
            rounds.append(prompts)
            prompts = task.send((yield prompts))
    except StopIteration as done:
        return done.value


def marks(prompt: Prompt) -> str:
    """Summarize into the marks that a text holds."""
    return " ".join(re.findall(r"mark\d+", given(prompt))) + "."


def marked(count: int) -> str:
    return " ".join(f"This is a longer sentence with mark{n} in it, and not much else." for n in range(count))


def test_a_short_text_is_asked_in_the_words_the_embedded_model_was_taught() -> None:
    found, asked = run("It rained. We left.", lambda prompt: "Rain.")
    assert content(asked[0]) == ("Summarize this text in exactly 2 short sentences.\n\nText: It rained. We left.")
    assert len(asked) == 1  # without a length there is none to miss
    assert found == Summary(text="Rain.", sentences=1, words=1)
    assert found.facts() == {"sentences": 1, "words": 1, "chunks": 1, "retries": 0, "warnings": []}


@pytest.mark.parametrize(
    ("length", "answers", "kept", "warning"),
    [
        ({"sentences": 2}, ["One. Two.", "never"], "One. Two.", None),
        ({"sentences": 2}, ["One.", "One. Two."], "One. Two.", None),
        ({"sentences": 2}, ["One.", "A. very. bad. one."], "One.", "it has 1 sentence, not 2"),
        ({"sentences": 3}, ["1. One\n2. Two\n3. Three", "never"], "1. One\n2. Two\n3. Three", None),
        ({"sentences": 1}, ["Mr. Smith paid $3.50, i.e. a lot.", "never"], "Mr. Smith paid $3.50, i.e. a lot.", None),
        ({"words": 3}, ["one two three", "never"], "one two three", None),
        (
            {"words": 3},
            ["one two three four five", "one two three four"],
            "one two three four",
            "it has 4 words, more than 3",
        ),
        ({"sentences": 1}, ["", ""], "", "it has 0 sentences, not 1"),
    ],
)
def test_a_length_is_counted_asked_for_once_more_and_reported(
    length: dict[str, int], answers: list[str], kept: str, warning: str | None
) -> None:
    left = iter(answers)
    found, asked = run("A text.", lambda prompt: next(left), **length)
    assert (found.text, found.warnings) == (kept, (warning,) if warning else ())
    assert found.retries == len(asked) - 1
    if len(asked) > 1:
        assert "The last answer was wrong: it has" in content(asked[1])


def test_strict_raises_and_carries_the_text() -> None:
    with pytest.raises(InvalidOutput, match="it has 1 sentence, not 2") as error:
        run("A text.", lambda prompt: "One.", sentences=2, strict=True)
    assert error.value.text == "One."


@pytest.mark.parametrize("count", [20, 200, 1000])
def test_every_part_of_a_long_text_reaches_the_summary(count: int) -> None:
    found, asked = run(marked(count), lambda prompt: marks(prompt)[:140].rsplit(" ", 1)[0] + ".")
    assert found.chunks > 1
    parts = asked[: found.chunks]
    read = [mark for part in parts for mark in re.findall(r"mark\d+", given(part))]
    assert read == [f"mark{n}" for n in range(count)]  # each sentence once, whole, in order
    below = " ".join(given(prompt) for prompt in asked[found.chunks :])
    assert all(re.findall(r"mark\d+", given(part))[0] in below for part in parts)
    assert all(len(content(prompt)) < 1024 for prompt in asked)


def test_parts_are_asked_together_and_are_of_about_one_size() -> None:
    rounds: list[list[Prompt]] = []
    found, _ = play(watched(summarized(marked(100), sampling=SMALL), rounds), lambda prompt: "Short.", context=1024)
    answered = [prompts for prompts in rounds if not prompts[0].count]
    assert [len(prompts) for prompts in answered] == [found.chunks, 1]
    sizes = [len(given(prompt)) for prompt in answered[0]]
    assert min(sizes) > max(sizes) * 0.6


def test_a_summary_of_a_part_that_was_cut_is_told() -> None:
    found, _ = run(marked(100), lambda prompt: "word " * 60 if "mark" in given(prompt) else "Done.")
    assert found.text == "Done."
    assert "the summary of part 1 of" in found.warnings[0]


def test_a_model_that_makes_nothing_shorter_is_stopped() -> None:
    with pytest.raises((InvalidOutput, TruncatedOutput)):
        run(marked(100), given)


def test_a_text_without_any_blank_is_read_whole() -> None:
    found, asked = run("x" * 5000, lambda prompt: "X.")
    assert sum(len(given(prompt)) for prompt in asked[: found.chunks]) == 5000
    with pytest.raises(PromptTooLong):
        run("x" * 5000, lambda prompt: "X.", context=50)


@settings(max_examples=40)
@supposing(
    st.lists(st.sampled_from(["word", " ", "\n\n", ". ", "。", "日本", "x" * 40]), min_size=1, max_size=600).map(
        "".join
    )
)
def test_any_text_is_read_whole(text: str) -> None:
    if not text.strip():
        return
    found, asked = run(text, lambda prompt: "A.", context=400)
    read = "".join(given(prompt) for prompt in (asked[: found.chunks] if found.chunks > 1 else asked[:1]))
    assert "".join(read.split()) == "".join(text.split())


def test_every_part_is_in_what_the_scripted_engine_sums_up(script: Any) -> None:
    text = " ".join(f"Sentence {n} says mark{n} and so on, as long as it must be." for n in range(200))
    script(rules=[{"when": f"mark{n} ", "say": f"said {n}."} for n in range(200)], otherwise="All of it.")
    rounds: list[list[Prompt]] = []
    with edgellm.load("demo", engine="scripted") as model:
        found = model.run(watched(summarized(text, options=Options(sentences=1)), rounds))
        assert model.summarize([text, "Short."], sentences=1) == ["All of it.", "All of it."]
    parts, last = [prompts for prompts in rounds if not prompts[0].count]
    firsts = [re.findall(r"mark(\d+) ", given(prompt))[0] for prompt in parts]
    assert given(last[0]) == "\n".join(f"said {n}." for n in firsts)
    assert (found.text, found.chunks, found.warnings) == ("All of it.", len(parts), ())
    assert found.chunks > 5


def test_the_embedded_model_reads_any_length() -> None:
    report = "The meeting began at nine. Anna spoke about the budget. The team agreed to meet again on Monday. "
    rounds: list[list[Prompt]] = []
    with edgellm.load("demo") as model:
        try:
            assert (
                model.run(watched(summarized(report * 60, sampling=SMALL, options=Options(sentences=2)), rounds)).chunks
                > 1
            )
        except TruncatedOutput:  # it is tiny: what it makes of its own summaries may have no end
            assert not rounds[-1][0].count
        sizes = [model.count([{"role": "user", "content": content(prompt)}]) for one in rounds for prompt in one]
        asked = [size for size, prompt in zip(sizes, itertools.chain(*rounds), strict=True) if not prompt.count]
        assert len(asked) >= 2
        assert max(asked) < model.plan.context
    assert content(ask("t")).startswith("Summarize this text in exactly 2")
