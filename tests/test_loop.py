"""The loop's promises, on an engine that says what it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from edgellm.engines.base import Feed, Logits, Stopped
from edgellm.engines.scripted import Rule, Script, Scripted
from edgellm.errors import EmptyText, EngineFailed, NoWayOut, PromptTooLong
from edgellm.lookup import Pace
from edgellm.loop import Loop
from edgellm.prompt import Event, Reply
from edgellm.sampling import Sampling
from edgellm.sequence import Sequence
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


@pytest.mark.parametrize("priority", [0, 1], ids=["a document", "a turn of a chat"])
def test_the_last_of_a_batch_close_ranks_over_documents_but_not_over_a_conversation(priority: int) -> None:
    class Moving(Watched):
        def share(self, source: int, target: int, length: int) -> int:
            said = self._said[source]
            super().share(source, target, length)
            self._said[target] = said  # what moves goes on where it was
            return length

    engine = Moving(slots=3)
    engine.even = True
    loop = Loop(engine)
    for number, words in enumerate((40, 1, 40)):
        loop.add(sequence(number, f"<{'abc'[number]}> {'x' * 40}", Sampling(temperature=0.0, max_tokens=words)))
    loop._admit()
    first, middle, last = loop._running
    middle.priority = priority
    while len(loop._running) == 3:
        loop.step()
    left = bytes(loop.slots.held[1])
    loop.step()
    assert (first.slot, last.slot) == (0, 2 if priority else 1)
    assert bytes(loop.slots.held[last.slot]).startswith(b"<c>")
    assert (bytes(loop.slots.held[1]) == left) == bool(priority)
    ends = [event.reply.text for _ in range(100) if not loop.idle for event in loop.step() if event.reply]
    assert ends == ["answer a " * 3, "answer c " * 3]


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


@pytest.mark.parametrize(("breaks_off", "most"), [(True, 512), (False, 150)], ids=["a processor", "a GPU"])
def test_where_a_step_cannot_be_broken_off_prompts_are_read_in_short_ones(breaks_off: bool, most: int) -> None:
    engine = Watched(context=8192, batch=512)
    engine.breaks_off = breaks_off
    loop = Loop(engine, pace=Pace({1: 0.001, 16: 0.016}))  # a millisecond a token
    loop.add(sequence(0, "<a>" + "x" * 2000))
    loop.step()
    assert len(engine.fed[0][0].tokens) == most


def test_counts_and_times_are_told() -> None:
    [reply] = run(Watched(), [sequence(0, "<a>")]).values()
    assert (reply.prompt_tokens, reply.finish) == (3, "stop")
    assert reply.tokens == len(RULES[0].say)
    assert 0 <= reply.first_token_s <= reply.total_s


def test_who_wants_only_the_reply_gets_nothing_on_its_way() -> None:
    loop, silent = Loop(Watched()), sequence(0, "<a>")
    silent.silent = True
    loop.add(silent)
    events = [event for _ in range(100) if not loop.idle for event in loop.step()]
    assert [event.reply.text for event in events if event.reply] == [RULES[0].say]
    assert len(events) == 1


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


class Poisoned(Watched):
    """Cannot compute a prompt with an exclamation mark."""

    def decode(self, feeds: list[Feed]) -> list[Logits]:
        if any(ord("!") in self._held[feed.slot] + list(feed.tokens) for feed in feeds):
            raise EngineFailed("out of luck")
        return super().decode(feeds)


def test_a_failed_step_fails_only_who_provokes_it_and_the_next_works() -> None:
    loop = Loop(Poisoned(slots=4))
    for number, text in enumerate(("<a>", "<b>!", "<c>", "!")):
        loop.add(sequence(number, text))
    events: list[Event] = []
    while not loop.idle:
        events += loop.step()
    assert {event.id: str(event.error) for event in events if event.error} == dict.fromkeys((1, 3), "out of luck")
    assert {event.id: event.reply.text for event in events if event.reply} == {0: RULES[0].say, 2: RULES[2].say}
    loop.add(sequence(4, "<d>"))
    assert finished(loop)[4].text == RULES[3].say


class Digits:
    """Allows digits only, forces two zeros after each, and is complete after six characters."""

    def __init__(self) -> None:
        self.said: list[int] = []

    def mask(self, logits: Logits) -> None:
        logits[: ord("0")] = logits[ord("9") + 1 :] = float("-inf")

    def allows(self, token: int) -> bool:
        return ord("0") <= token <= ord("9")

    def agrees(self, tokens: list[int]) -> int:
        return 0

    def prepare(self) -> None:
        pass

    def accept(self, token: int) -> None:
        assert ord("0") <= token <= ord("9")
        self.said.append(token)

    def forced(self) -> list[int]:
        self.said += b"00"
        return list(b"00")

    def affords(self, room: int) -> bool:
        return True

    def closing(self) -> list[int]:
        return []

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


def test_where_steps_must_be_even_forced_tokens_go_with_the_others_words() -> None:
    engine = Watched(slots=2)
    engine.even = True
    replies = run(engine, [sequence(number, f"<{number}>", constraint=Digits()) for number in range(2)])
    uneven = run(Watched(slots=2), [sequence(number, f"<{number}>", constraint=Digits()) for number in range(2)])
    assert [one.text for one in replies.values()] == [one.text for one in uneven.values()]
    assert all(len(feed.tokens) == 1 for feeds in engine.fed[2:] for feed in feeds)
    alone = Watched(slots=2)
    alone.even = True
    run(alone, [sequence(0, "<a>", constraint=Digits())])
    assert [len(feeds[0].tokens) for feeds in alone.fed] == [3, 3]  # nobody else: they ride


class Movable(Watched):
    """Goes on with its answer in the slot that a whole conversation was copied to."""

    def share(self, source: int, target: int, length: int) -> int:
        said = self._said[source]
        kept = super().share(source, target, length)
        self._said[target] = said
        return kept


def test_where_neighbours_are_computed_together_the_last_move_into_the_gaps() -> None:
    def answers(engine: Watched) -> dict[int, Reply]:
        lengths = (9, 3, 9, 4, 9, 5)
        return run(
            engine, [sequence(n, f"<{n}>", Sampling(temperature=0, max_tokens=m)) for n, m in enumerate(lengths)]
        )

    even, loose = Movable(slots=6), Watched(slots=6)
    even.even = True
    assert [one.text for one in answers(even).values()] == [one.text for one in answers(loose).values()]
    for feeds in even.fed:
        slots = sorted(feed.slot for feed in feeds)
        assert slots == list(range(slots[0], slots[0] + len(slots)))
    assert any(slots[-1] - slots[0] >= len(slots) for slots in (sorted(f.slot for f in feeds) for feeds in loose.fed))


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


class Chain(Watched):
    """What it says next follows from the last three tokens alone, but for a whim now and then: it repeats itself a lot."""

    whim = 17

    def __init__(self, drafts: int = 15, **options: int) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.drafts = drafts

    def _rows(self, slot: int, rows: int) -> Logits:
        held = self._held[slot]
        logits = np.zeros((rows, len(self.vocab.pieces)), np.float32)
        for row, end in enumerate(range(len(held) - rows + 1, len(held) + 1)):
            a, b, c = held[end - 3 : end]
            step = 5 if end % self.whim == 0 else 1
            favourite = ord("a") + (a * 3 + b * 5 + c * 7 + step) % 9
            logits[row, favourite], logits[row, ord("a") + (favourite + 1) % 26] = 8.0, 6.5
        return logits


class Eager(Pace):
    """Believes that rows cost nothing."""

    def length(self, matches: object, plain: int, room: int) -> int:
        return room


HOT = Sampling(temperature=0.8, seed=5, max_tokens=120)


@pytest.mark.parametrize("sampling", [Sampling(temperature=0, max_tokens=150), HOT], ids=["greedy", "seeded"])
@pytest.mark.parametrize("constraint", [None, Digits], ids=["free", "forced"])
def test_drafts_change_nothing_but_the_steps(sampling: Sampling, constraint: type[Digits] | None) -> None:
    def texts(engine: Chain) -> dict[int, Reply]:
        loop = Loop(engine, pace=Eager())
        for number in range(3):
            one = constraint() if constraint else None
            loop.add(sequence(number, f"the prompt {number} aabbcc", sampling, one))
        replies = finished(loop)
        for held in engine._held:
            assert len(held) <= 19 + 150
        return replies

    plain, drafting = Chain(drafts=0, context=512), Chain(drafts=15, context=512)
    expected, found = texts(plain), texts(drafting)
    assert {n: (r.text, r.finish, r.tokens) for n, r in found.items()} == {
        n: (r.text, r.finish, r.tokens) for n, r in expected.items()
    }
    if constraint is None:
        assert len(drafting.fed) < 0.9 * len(plain.fed)
        assert all(0 < reply.accepted_tokens <= reply.drafted_tokens for reply in found.values())


@pytest.mark.parametrize("max_tokens", range(1, 40))
def test_drafts_respect_the_budget_and_stop_texts(max_tokens: int) -> None:
    sampling = Sampling(temperature=0, max_tokens=max_tokens, stop=("hd",))
    for text in ("the prompt aabbcc", "another prompt"):
        expected = run(Chain(drafts=0), [sequence(0, text, sampling)])[0]
        loop = Loop(Chain(), pace=Eager())
        loop.add(sequence(0, text, sampling))
        found = finished(loop)[0]
        assert (found.text, found.finish, found.tokens) == (expected.text, expected.finish, expected.tokens)


class CannotTakeBack(Chain):
    """Forgets everything when it should forget a little."""

    def keep(self, slot: int, length: int) -> int:
        if 0 < length < len(self._held[slot]):
            length = 0
        return super().keep(slot, length)


def test_an_engine_that_forgets_more_than_the_draft_is_fed_again() -> None:
    sampling = Sampling(temperature=0, max_tokens=60)
    expected = run(Chain(drafts=0), [sequence(0, "the prompt", sampling)])[0].text
    loop = Loop(CannotTakeBack(), pace=Eager())
    loop.add(sequence(0, "the prompt", sampling))
    assert finished(loop)[0].text == expected


def test_nobody_drafts_beside_a_prompt_that_is_read_or_among_many() -> None:
    engine = Chain(slots=8, context=512)
    loop = Loop(engine, pace=Eager())
    for number in range(8):
        loop.add(sequence(number, f"prompt {number}", Sampling(temperature=0, max_tokens=30)))
    finished(loop)
    assert all(feed.logits <= 1 for feeds in engine.fed for feed in feeds if len(feeds) > 4)


def test_a_constraint_cuts_the_draft() -> None:
    class OnlyTwo(Digits):
        def agrees(self, tokens: list[int]) -> int:
            return min(2, len(tokens))

        def allows(self, token: int) -> bool:
            return True

        def accept(self, token: int) -> None:
            pass

        def forced(self) -> list[int]:
            return []

        complete = False

    engine = Chain()
    loop = Loop(engine, pace=Eager())
    loop.add(sequence(0, "the prompt", Sampling(temperature=0, max_tokens=100), OnlyTwo()))
    finished(loop)
    assert max(feed.logits for feeds in engine.fed for feed in feeds) == 3


class Dear(Digits):
    """Remembers on which thread its masks were made."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead: list[str] = []

    def prepare(self) -> None:
        self.ahead.append(threading.current_thread().name)


@pytest.mark.parametrize(("sampling", "ahead"), [(HOT, True), (GREEDY, True), (Sampling(temperature=0), False)])
def test_masks_that_will_be_needed_are_made_while_the_engine_computes(sampling: Sampling, ahead: bool) -> None:
    class Never(Dear):  # the likeliest token is never allowed
        complete = False

        def forced(self) -> list[int]:
            return []

    class Always(Never):
        def allows(self, token: int) -> bool:
            return True

        def accept(self, token: int) -> None:
            pass

    engine = Watched()
    engine._script = Script(rules=RULES, step_s=0.005)
    constraint = Never() if ahead else Always()
    loop = Loop(engine)
    loop.add(sequence(0, "<a>", replace(sampling, max_tokens=8), constraint))
    finished(loop)
    assert bool(constraint.ahead) == ahead
    assert threading.current_thread().name not in constraint.ahead


def test_a_higher_priority_is_admitted_first_and_the_lower_goes_on_afterwards() -> None:
    engine = Watched(slots=1)
    loop = Loop(engine)
    batch, chat = sequence(0, "<a>"), sequence(1, "<b>")
    chat.priority = 1
    loop.add(batch)
    loop.add(sequence(2, "<c>"))
    said = [event.text for _ in range(3) for event in loop.step()]
    loop.add(chat)
    order, texts = [], {0: "".join(said), 1: "", 2: ""}
    while not loop.idle:
        for event in loop.step():
            texts[event.id] += event.text
            if event.reply:
                order.append(event.id)
    assert order == [1, 0, 2]
    assert texts[1] == RULES[1].say


def test_a_suspended_answer_goes_on_where_it_was() -> None:
    sampling = Sampling(temperature=0, max_tokens=60)
    expected = run(Chain(drafts=0, slots=1), [sequence(0, "the prompt", sampling)])[0].text
    loop = Loop(Chain(drafts=0, slots=1))
    loop.add(sequence(0, "the prompt", sampling))
    for _ in range(20):
        loop.step()
    chat = sequence(1, "something else", sampling)
    chat.priority = 1
    loop.add(chat)
    assert finished_any(loop)[0].text == expected


def finished_any(loop: Loop) -> dict[int, Reply]:
    replies = {}
    while not loop.idle:
        replies |= {event.id: event.reply for event in loop.step() if event.reply}
    return replies


def test_nobody_is_suspended_for_one_that_still_would_not_fit() -> None:
    loop = Loop(Watched(slots=3, context=100, cells=100))
    high, low, next_ = (
        sequence(n, f"<{c}>", Sampling(temperature=0, max_tokens=m))
        for n, c, m in ((0, "a", 60), (1, "b", 20), (2, "c", 90))
    )
    high.priority = next_.priority = 1
    loop.add(high)
    loop.add(low)
    loop.step()
    loop.add(next_)
    events = [event for _ in range(25) for event in loop.step()]
    assert [event.id for event in events if event.reply] == [1]


class Slow(Watched):
    """Takes a millisecond for each token."""

    def decode(self, feeds: list[Feed]) -> list[Logits]:
        time.sleep(0.001 * sum(len(feed.tokens) for feed in feeds))
        return super().decode(feeds)


def test_a_reader_of_lower_priority_leaves_most_of_the_time_to_the_answer() -> None:
    engine = Slow(slots=2, context=4096)
    loop = Loop(engine)
    chat = sequence(0, "<a>", Sampling(temperature=0, max_tokens=5))
    chat.priority = 1
    loop.add(chat)
    loop.add(sequence(1, "<b>" + "x" * 3000))
    while not any(event.reply for event in loop.step()):
        pass
    sizes = [len(feed.tokens) for feeds in engine.fed for feed in feeds if feed.slot == 1]
    assert sizes[0] <= 128  # nothing is known yet
    assert 16 <= max(sizes[1:]) <= 300
    loop.step()
    assert len(engine.fed[-1][0].tokens) > 300


class Pieces(Watched):
    """Knows in which pieces its only slot was filled; may only be cut between them."""

    def __init__(self) -> None:
        super().__init__(slots=1, context=1024)
        self.pieces: list[tuple[list[int], int]] = []

    def decode(self, feeds: list[Feed]) -> list[Logits]:
        [feed] = feeds
        self.pieces.append((list(feed.tokens), feed.logits))
        return super().decode(feeds)

    def keep(self, slot: int, length: int) -> int:
        while sum(len(tokens) for tokens, _ in self.pieces) > length:
            self.pieces.pop()
        kept = super().keep(slot, length)
        assert sum(len(tokens) for tokens, _ in self.pieces) == kept
        return kept


def test_deterministic_computes_a_request_in_the_same_pieces_whatever_ran_before() -> None:
    text = "<a>" + "a long prompt " * 50
    answers = []
    for before in ([], ["<b>", text + " and more", "<c>" + text], [text], [text[:300], text[:600] + "<d>"]):
        engine = Pieces()
        loop = Loop(engine, deterministic=True)
        for number, one in enumerate([*before, text]):
            loop.add(sequence(number, one, Sampling(temperature=0, max_tokens=10)))
        reply = finished(loop)[len(before)]
        answers.append((reply.text, [tokens for tokens, _ in engine.pieces]))
    assert answers == [answers[0]] * 4
    assert [len(tokens) for tokens in answers[0][1]] == [128] * 5 + [len(text) - 640] + [1] * 9
    assert reply.shared_tokens == 512


def test_a_stopped_engine_says_so() -> None:
    engine = Scripted(Script())
    engine.stop()
    with pytest.raises(Stopped):
        engine.decode([Feed(0, [1], 1)])
