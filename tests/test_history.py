"""A conversation that is too long is an error with both numbers, or loses its oldest turns where that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgellm
from edgellm import Message, Sampling
from edgellm.errors import PromptTooLong, UsageError
from edgellm.history import shortened
from edgellm.prompt import SAFETY, Prompt

GREEDY = Sampling(temperature=0, max_tokens=8)
roles = st.sampled_from(["system", "user", "assistant"])


@given(st.lists(roles, max_size=12), st.integers(0, 14))
def test_what_stays_is_the_system_prompts_and_the_longest_end_that_fits(said: list[str], room: int) -> None:
    messages = tuple(Message(role, str(index)) for index, role in enumerate(said))  # type: ignore[arg-type]
    left, dropped = shortened(messages, lambda some: len(some) <= room)
    assert len(left) + dropped == len(messages)
    assert [one for one in left if one.role == "system"] == [one for one in messages if one.role == "system"]
    spoken = [one for one in messages if one.role != "system"]
    rest = [one for one in left if one.role != "system"]
    assert rest == spoken[len(spoken) - len(rest) :]
    assert bool(rest) == bool(spoken)
    if dropped:
        assert len(messages) > room
        assert rest[0].role == "user" or rest == spoken


def test_it_is_asked_few_times_about_a_long_history() -> None:
    messages = [Message(("user", "assistant")[index % 2], str(index)) for index in range(2000)]
    asked: list[int] = []

    def fits(some: tuple[Message, ...]) -> bool:
        asked.append(len(some))
        return len(some) <= 100

    left, dropped = shortened(messages, fits)
    assert (len(left), dropped) == (100, 1900)
    assert len(asked) < 14


@pytest.fixture(scope="module")
def model() -> Iterator[edgellm.Model]:
    with edgellm.load("demo", slots=1, context=512) as model:
        yield model


def conversation(turns: int, system: str = "Answer in one word.") -> list[Message]:
    said = [Message("system", system)]
    for index in range(turns):
        said += [Message("user", f"Question {index}: what?"), Message("assistant", f"Answer {index}.")]
    return [*said, Message("user", "And now?")]


def test_overflow_is_an_error_with_both_counts(model: edgellm.Model) -> None:
    with pytest.raises(PromptTooLong, match=r"context 512") as caught:
        model.chat(conversation(200), sampling=GREEDY)
    assert caught.value.context == 512
    assert caught.value.tokens > 512


def test_two_hundred_turns_become_those_that_fit_and_the_reply_says_so(model: edgellm.Model) -> None:
    reply = model.chat(conversation(200), sampling=GREEDY, overflow="drop_oldest")
    assert reply.dropped_messages > 300
    assert reply.dropped_messages % 2 == 0
    assert 400 < reply.prompt_tokens <= 504
    kept = [conversation(200)[0], *conversation(200)[1 + reply.dropped_messages :]]
    assert model.chat(kept, sampling=GREEDY).text == reply.text
    assert model.count(kept) == reply.prompt_tokens
    assert model.chat(conversation(2), sampling=GREEDY, overflow="drop_oldest").dropped_messages == 0


def test_a_system_prompt_that_does_not_fit_is_never_dropped(model: edgellm.Model) -> None:
    with pytest.raises(PromptTooLong):
        model.chat(conversation(3, system="word " * 600), sampling=GREEDY, overflow="drop_oldest")


@pytest.mark.parametrize("over", [-2, -1, 0, 1, 2])
def test_at_the_edge_of_the_context_every_token_counts(model: edgellm.Model, over: int) -> None:
    text = sized(lambda some: model.count([Message("user", some)]), 512 + over)
    turns = [Message("user", text)]
    for overflow in ("error", "drop_oldest"):
        if over < 0:
            reply = model.chat(turns, sampling=Sampling(temperature=0, max_tokens=100), overflow=overflow)  # type: ignore[arg-type]
            assert reply.prompt_tokens == 512 + over
            assert reply.tokens <= -over
            assert reply.dropped_messages == 0
        else:
            with pytest.raises(PromptTooLong) as caught:
                model.chat(turns, sampling=GREEDY, overflow=overflow)  # type: ignore[arg-type]
            assert (caught.value.tokens, caught.value.context) == (512 + over, 512)


def sized(count: Callable[[str], int], tokens: int) -> str:
    """A text whose prompt has exactly so many tokens."""
    text = ""
    while (missing := tokens - count(text)) > 0:
        text += "\n" * missing if missing < 8 else "\n" * (missing - 4)
    assert count(text) == tokens
    return text


def test_the_reply_names_the_template_that_wrote_its_prompt(model: edgellm.Model) -> None:
    reply = model.chat([Message("user", "hi")], sampling=GREEDY)
    assert reply.template.startswith("the file's own, known as the embedded model's; sha256 ")
    assert model.complete("hi", sampling=GREEDY).template == ""


def test_the_safety_prompt_is_really_in_the_tokens(model: edgellm.Model) -> None:
    for turns in ([Message("user", "hi")], [Message("system", "Be brief."), Message("user", "hi")]):
        told = [Message("system", "\n\n".join([SAFETY, *(one.content for one in turns[:-1])])), turns[-1]]
        safe = model.chat(turns, sampling=GREEDY, safe=True)
        assert safe.prompt_tokens == model.count(told) > model.count(turns) + 20


def test_the_engine_reads_the_safety_prompt(script: Callable[..., None]) -> None:
    script(rules=[{"when": "with care, respect, and truth", "say": "guarded"}], otherwise="bare")
    with edgellm.load("demo", engine="scripted") as model:
        hi = [Message("user", "hi")]
        assert model.chat(hi, safe=True).text == "guarded"
        assert "".join(model.stream(hi, safe=True)) == "guarded"
        assert model.chat(hi).text == "bare"


def test_a_policy_that_nobody_knows_is_refused(model: edgellm.Model) -> None:
    with pytest.raises(UsageError, match="error, drop_oldest"):
        model.chat([Message("user", "hi")], overflow="middle")  # type: ignore[arg-type]
    assert Prompt().overflow == "error"
