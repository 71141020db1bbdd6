"""The loop's promises, on an engine that says what it is told."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from edgellm.engines.base import Feed, Logits, Stopped
from edgellm.engines.scripted import Rule, Script, Scripted
from edgellm.errors import EmptyText, EngineFailed, NoWayOut, PromptTooLong
from edgellm.loop import Loop, Sequence
from edgellm.prompt import Event, Reply
from edgellm.sampling import Sampling
from edgellm.text import TextStream

RULES = tuple(Rule(when=f"<{name}>", say=f"answer {name} " * 3) for name in "abcdefghijklmnop")
GREEDY = Sampling(temperature=0.0)


class Watched(Scripted):
    """Remembers what it was fed, and refuses to hold more than its cells."""

    def __init__(self, *, slots: int = 4, context: int = 256, cells: int | None = None, batch: int = 512) -> None:
        super().__init__(Script(rules=RULES), context=context, slots=slots)
        self.cells, self.batch = cells or context * slots, batch
        self.fed: list[list[Feed]] = []

    def decode(self, feeds: list[Feed]) -> list[Logits]:
        self.fed.append(list(feeds))
        rows = super().decode(feeds)
        assert sum(map(len, self._held)) <= self.cells
        assert sum(len(feed.tokens) for feed in feeds) <= self.batch
        return rows


def sequence(number: int, text: str, sampling: Sampling = GREEDY, constraint: object = None) -> Sequence:
    return Sequence(
        id=number,
        prompt=list(text.encode()),
        sampling=sampling,
        text=TextStream(stop=sampling.stop),
        constraint=constraint,  # type: ignore[arg-type]
    )


def finished(loop: Loop) -> dict[int, Reply]:
    replies, texts = {}, dict[int, str]()
    while not loop.idle:
        for event in loop.step():
            texts[event.id] = texts.get(event.id, "") + event.text
            if event.reply:
                replies[event.id] = event.reply
                assert event.reply.text == texts[event.id]
            assert event.error is None
    return replies


def run(engine: Scripted, sequences: Iterable[Sequence]) -> dict[int, Reply]:
    loop = Loop(engine)
    for one in sequences:
        loop.add(one)
    return finished(loop)


@pytest.mark.parametrize("slots", [1, 2, 4, 16])
def test_any_number_of_slots_gives_the_same_texts(slots: int) -> None:
    replies = run(Watched(slots=slots), [sequence(i, f"<{name}> question {i}") for i, name in enumerate("abcdefghij")])
    assert [replies[i].text for i in range(10)] == [f"answer {name} " * 3 for name in "abcdefghij"]


def test_a_long_prompt_is_fed_in_chunks_beside_running_answers() -> None:
    engine = Watched(context=2048, batch=64)
    replies = run(engine, [sequence(0, "<a> short"), sequence(1, "<b>" + "x" * 1000)])
    assert replies[0].text == RULES[0].say
    assert replies[1].text == RULES[1].say
    mixed = [feeds for feeds in engine.fed if len(feeds) == 2]
    assert any({len(feed.tokens) for feed in feeds} == {1, 63} for feeds in mixed)


def test_counts_and_times_are_told() -> None:
    [reply] = run(Watched(), [sequence(0, "<a>")]).values()
    assert (reply.prompt_tokens, reply.finish) == (3, "stop")
    assert reply.tokens == len(RULES[0].say)
    assert 0 <= reply.first_token_s <= reply.total_s


def test_max_tokens_and_stop_strings_end_an_answer() -> None:
    cut, stopped = run(
        Watched(),
        [
            sequence(0, "<a>", Sampling(temperature=0, max_tokens=5)),
            sequence(1, "<a>", Sampling(temperature=0, stop=("r a",))),
        ],
    ).values()
    assert (cut.text, cut.finish, cut.tokens) == ("answe", "length", 5)
    assert (stopped.text, stopped.finish) == ("answe", "stop")


def test_a_stop_text_within_the_budget_is_a_stop_even_if_a_longer_one_had_begun() -> None:
    sampling = Sampling(temperature=0, max_tokens=4, stop=("answer", "sw"))
    [reply] = run(Watched(), [sequence(0, "<a>", sampling)]).values()
    assert (reply.text, reply.finish) == ("an", "stop")


def test_the_context_ends_an_answer_as_length() -> None:
    [reply] = run(Watched(context=16), [sequence(0, "<a> 67890")]).values()
    assert (reply.finish, reply.prompt_tokens + reply.tokens) == ("length", 16)


def test_a_prompt_as_long_as_the_context_is_refused_with_both_numbers() -> None:
    loop = Loop(Watched(context=16))
    with pytest.raises(PromptTooLong, match="16 tokens and the context 16"):
        loop.add(sequence(0, "x" * 16))
    assert loop.idle


def test_a_prompt_one_shorter_than_the_context_gets_one_token() -> None:
    [reply] = run(Watched(context=16), [sequence(0, "<a>" + "x" * 12)]).values()
    assert (reply.finish, reply.tokens, reply.text) == ("length", 1, "a")


def test_an_empty_prompt_is_refused() -> None:
    loop = Loop(Watched())
    with pytest.raises(EmptyText):
        loop.add(sequence(0, ""))
    assert loop.idle


def test_the_next_turn_prefills_only_what_is_new() -> None:
    engine, loop = Watched(), None
    loop = Loop(engine)
    loop.add(sequence(0, "<a> and a long history"))
    finished(loop)
    engine.fed.clear()
    loop.add(sequence(1, "<a> and a long history, continued"))
    [reply] = finished(loop).values()
    assert reply.shared_tokens == len("<a> and a long history")
    assert engine.fed[0][0].tokens == list(b", continued")


def test_a_short_task_beside_a_conversation_does_not_make_it_be_read_again() -> None:
    loop = Loop(Watched(slots=2, context=2048))
    history = "<a>" + "a long conversation " * 30
    for number, text in enumerate((history, "<a>b another task", history + "goes on")):
        loop.add(sequence(number, text))
        replies = finished(loop)
    assert replies[2].shared_tokens >= len(history)


def test_a_shared_prefix_is_computed_once() -> None:
    engine = Watched(slots=4, context=512)
    prefix = "the same long instruction for every document: " * 3
    replies = run(engine, [sequence(i, f"{prefix}<{name}>") for i, name in enumerate("abcdefgh")])
    assert [replies[i].text for i in range(8)] == [rule.say for rule in RULES[:8]]
    prompts = sum(len(feed.tokens) for feeds in engine.fed for feed in feeds) - sum(
        r.tokens - 1 for r in replies.values()
    )
    assert prompts < len(prefix) + 8 * 20


def test_slots_never_hold_more_than_the_cells() -> None:
    engine = Watched(slots=8, context=128, cells=256)
    sampling = Sampling(temperature=0, max_tokens=60)
    replies = run(
        engine, [sequence(i, f"<{name}>{'y' * 40}{i}", sampling) for i, name in enumerate("abcdefghijklmnop")]
    )
    assert [replies[i].text for i in range(16)] == [rule.say for rule in RULES]


def test_cancel_keeps_what_was_said_and_frees_the_slot() -> None:
    loop = Loop(Watched(slots=1))
    loop.add(sequence(0, "<a>"))
    loop.add(sequence(1, "<b>"))
    said = "".join(event.text for _ in range(4) for event in loop.step())
    event = loop.cancel(0)
    assert event is not None
    assert event.reply is not None
    assert (event.reply.finish, event.reply.text) == ("cancelled", said)
    assert finished(loop)[1].text == RULES[1].say


def test_cancelling_the_waiting_and_the_unknown() -> None:
    loop = Loop(Watched())
    loop.add(sequence(0, "<a>"))
    event = loop.cancel(0)
    assert event is not None
    assert event.reply is not None
    assert event.reply.finish == "cancelled"
    assert loop.cancel(0) is None
    assert loop.idle


def test_a_stop_interrupts_the_step_and_nothing_is_lost() -> None:
    engine = Watched()
    loop = Loop(engine)
    loop.add(sequence(0, "<a>"))
    engine.stop()
    assert loop.step() == []
    assert finished(loop)[0].text == RULES[0].say


class Forgetful(Watched):
    """Loses all that its slots hold when it is stopped, as recurrent state does."""

    def decode(self, feeds: list[Feed]) -> list[Logits]:
        self._stop = len(self.fed) in (1, 5, 9)
        try:
            return super().decode(feeds)
        except Stopped:
            for feed in feeds:
                super().keep(feed.slot, 0)
            raise Stopped([feed.slot for feed in feeds]) from None


def test_what_a_stop_costs_an_engine_is_fed_again() -> None:
    engine = Forgetful(slots=2, batch=16)
    prompts = [sequence(0, "<a> and a prompt of several batches"), sequence(1, "<b>")]
    loop = Loop(engine)
    for one in prompts:
        loop.add(one)
    while not loop.idle:
        loop.step()
        for one in prompts:
            held = engine._held[one.slot] if one.slot >= 0 else []
            assert held == (one.prompt + one.answer)[: len(held)]
            assert not one.pending or held + one.pending == one.prompt + one.answer


class Failing(Watched):
    def decode(self, feeds: list[Feed]) -> list[Logits]:
        if any(feed.slot == 1 for feed in feeds) and len(self.fed) == 3:
            self.fed.append([])
            raise EngineFailed("out of luck")
        return super().decode(feeds)


def test_a_failed_step_ends_its_sequences_with_the_error_and_the_next_works() -> None:
    loop = Loop(Failing(slots=2))
    loop.add(sequence(0, "<a>"))
    loop.add(sequence(1, "<b>"))
    events: list[Event] = []
    while not loop.idle:
        events += loop.step()
    assert [str(event.error) for event in events if event.error] == ["out of luck"] * 2
    loop.add(sequence(2, "<c>"))
    assert finished(loop)[2].text == RULES[2].say


class Digits:
    """Allows digits only, forces two zeros after each, and is complete after six characters."""

    def __init__(self) -> None:
        self.said: list[int] = []

    def mask(self, logits: Logits) -> None:
        logits[: ord("0")] = logits[ord("9") + 1 :] = float("-inf")

    def allows(self, token: int) -> bool:
        return ord("0") <= token <= ord("9")

    def accept(self, token: int) -> None:
        assert ord("0") <= token <= ord("9")
        self.said.append(token)

    def forced(self) -> list[int]:
        self.said += b"00"
        return list(b"00")

    @property
    def complete(self) -> bool:
        return len(self.said) >= 6


class Nothing(Digits):
    def mask(self, logits: Logits) -> None:
        raise NoWayOut("no token fits")


def test_forced_tokens_ride_along_and_a_complete_value_ends_without_an_end_token() -> None:
    engine = Watched()
    [reply] = run(engine, [sequence(0, "<a>", constraint=Digits())]).values()
    assert (reply.text[1:3], reply.text[4:6], reply.tokens, reply.finish) == ("00", "00", 6, "stop")
    assert [len(feeds[0].tokens) for feeds in engine.fed] == [3, 3]


def test_forced_tokens_do_not_pass_the_budget() -> None:
    [reply] = run(Watched(), [sequence(0, "<a>", Sampling(temperature=0, max_tokens=5), Digits())]).values()
    assert (reply.tokens, reply.finish) == (5, "length")


def test_an_error_of_one_sequence_never_touches_another() -> None:
    loop = Loop(Watched())
    loop.add(sequence(0, "<a>", constraint=Nothing()))
    loop.add(sequence(1, "<b>"))
    events: list[Event] = []
    while not loop.idle:
        events += loop.step()
    assert [type(event.error) for event in events if event.id == 0] == [NoWayOut]
    assert next(event.reply for event in events if event.reply).text == RULES[1].say  # type: ignore[union-attr]


def test_same_seed_same_text_whatever_else_runs() -> None:
    hot = Sampling(temperature=9.0, top_k=0, top_p=1.0, min_p=0.0, seed=7, max_tokens=40)
    alone = run(Watched(), [sequence(0, "<a>", hot)])[0].text
    crowded = run(Watched(), [sequence(1, "<b>"), sequence(0, "<a>", hot), sequence(2, "<c>", hot)])[0].text
    assert alone == crowded
    assert alone != RULES[0].say[:40]


def test_a_stopped_engine_says_so() -> None:
    engine = Scripted(Script())
    engine.stop()
    with pytest.raises(Stopped):
        engine.decode([Feed(0, [1], 1)])
