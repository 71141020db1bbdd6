"""Summaries: text of any length in, so many sentences or words out, counted.

Knows how to ask for a length, and to ask once more when it was missed. What does not fit the context is read in parts cut
at the ends of sentences; the summaries of the parts are summarized, in as many rounds as it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgellm.errors import EmptyText, InvalidOutput, TruncatedOutput, UsageError
from edgellm.prompt import Message, Prompt, Reply, Task
from edgellm.sampling import ONE_ANSWER, Sampling
from edgellm.tasks import sentences as counting
from edgellm.tasks.chunks import COUNTED_BYTES, SURE_BYTES, counted, cut, halves, refuse_hopeless
from edgellm.thoughts import spoken

GREEDY = ONE_ANSWER

# Rounds of summarizing summaries: each makes the text several times shorter, or gives up.
_ROUNDS = 12
_AGAIN_TOKENS = 64
_WORDS_A_SENTENCE = 15  # to ask parts for sentences where words are wanted
_PART_SENTENCES = range(2, 6)  # how many a part may be asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The length that is wanted, exactly so many sentences or at most so many words, and whether missing it is an error.

    Without either, two sentences are asked for, and whatever comes is taken.
    """

    sentences: int | None = None
    words: int | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if self.sentences is not None and self.words is not None:
            raise UsageError("give sentences or words, not both.")
        for name, number in (("sentences", self.sentences), ("words", self.words)):
            if number is not None and number < 1:
                raise UsageError(f"{name} must be at least 1, not {number}.")

    def miss(self, text: str) -> str | None:
        """Say how a summary misses its length; None when it does not."""
        if self.sentences is not None and (found := counting.count(text)) != self.sentences:
            return f"it has {found} sentence{'s' * (found != 1)}, not {self.sentences}"
        if self.words is not None and (found := counting.words(text)) > self.words:
            return f"it has {found} words, more than {self.words}"
        return None

    def distance(self, text: str) -> int:
        """How far a summary is from its length."""
        if self.sentences is not None:
            return abs(counting.count(text) - self.sentences)
        return max(0, counting.words(text) - self.words) if self.words is not None else 0


PLAIN = Options()


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A summary, its length, and how much was read for it."""

    text: str
    sentences: int
    words: int
    chunks: int = 1  # parts the text was read in: all of them are in the summary of summaries
    retries: int = 0
    miss: str | None = None  # how it misses the wanted length
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> int:
        """The same as `chunks`, as translations call them."""
        return self.chunks

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of the summary must know, one sentence each."""
        return (*((self.miss,) if self.miss else ()), *self.notes)

    def facts(self) -> dict[str, Any]:
        """All but the text, as plain data."""
        plain = {name: value for name, value in asdict(self).items() if name not in ("text", "notes", "miss")}
        return {**plain, "warnings": list(self.warnings)}


def ask(
    text: str,
    *,
    sentences: int | None = None,
    words: int | None = None,
    sampling: Sampling = GREEDY,
    hints: str = "",
) -> Prompt:
    """Build the prompt; without a length, two sentences. `hints` are further sentences about how."""
    Options(sentences=sentences, words=words)
    if words is not None:
        length = f"at most {words} words"
    else:
        count = sentences or 2
        length = f"exactly {count} short sentence{'s' if count > 1 else ''}"
    question = f"Summarize this text in {length}.{hints}\n\nText: {text.strip()}"
    return Prompt(messages=(Message("user", question),), sampling=sampling)


def summarize(
    text: str,
    *,
    sentences: int | None = None,
    words: int | None = None,
    sampling: Sampling = GREEDY,
    strict: bool = False,
) -> Task[str]:
    """Summarize one text, as `summarized` does, and return the text alone."""
    options = Options(sentences=sentences, words=words, strict=strict)
    found = yield from summarized(text, sampling=sampling, options=options)
    return found.text


def summarized(text: str, *, sampling: Sampling = GREEDY, options: Options = PLAIN) -> Task[Summary]:
    """Summarize one text of any length, and tell how it was read.

    Raises EmptyText, TruncatedOutput when the summary was cut, PromptTooLong when not even a sentence fits, and
    InvalidOutput when the length is missed and the options are strict, or when parts do not get shorter.
    """
    if not text.strip():
        raise EmptyText("there is no text to summarize.")
    work = _Work(sampling, options)
    chunks, notes = 1, list[str]()
    for level in range(_ROUNDS):
        parts = yield from work.parts(text)
        chunks = chunks if level else len(parts)
        if len(parts) == 1:
            break
        shorter = yield from work.shortened(parts, notes)
        if len(shorter) >= len(text):
            raise InvalidOutput(f"the summaries of {len(parts)} parts are not shorter than the parts.", shorter)
        text = shorter
    found = yield from work.final(text)
    told = replace(found, chunks=chunks, notes=tuple(notes))
    if options.strict and told.miss:
        raise InvalidOutput(
            f"the summary has another length than asked for, also when asked again: {told.miss}.", told.text
        )
    return told


@dataclass(frozen=True, slots=True)
class _Work:
    """What is wanted of a summary."""

    sampling: Sampling
    options: Options

    def parts(self, text: str) -> Task[Sequence[str]]:
        """Cut a text into parts that have room for their summary; a text that has is one part."""
        size = len(text.encode("utf-8", "replace"))
        if size <= SURE_BYTES:
            return [text]
        if size <= COUNTED_BYTES:
            whole = yield from counted(self._ask(text))
            if whole.prompt_tokens + self._room(whole.context_tokens) <= whole.context_tokens:
                return [text]
        overhead = yield from counted(self._ask(""))
        refuse_hopeless(overhead)
        context = overhead.context_tokens
        limit = max(16, context - overhead.prompt_tokens - self._room(context))
        parts = yield from cut(text, limit)
        return (yield from self._fitting(parts, context))

    def _room(self, context: int) -> int:
        """Tokens kept for the answer, and for asking once more."""
        return min(self.sampling.max_tokens, max(16, context // 4)) + min(_AGAIN_TOKENS, context // 8)

    def _fitting(self, parts: list[str], context: int) -> Task[list[str]]:
        """Count the prompts as they will be asked, and cut those that are too long after all."""
        while True:
            replies = yield [replace(self._part(part, len(parts)), count=True) for part in parts]
            smaller = [
                half
                for part, reply in zip(parts, replies, strict=True)
                for half in (halves(part) if reply.prompt_tokens >= context and len(part) > 1 else [part])
            ]
            if len(smaller) == len(parts):
                return parts
            parts = smaller

    def shortened(self, parts: Sequence[str], notes: list[str]) -> Task[str]:
        """Summarize every part; their summaries, one on each line, are the next text."""
        replies = yield [self._part(part, len(parts)) for part in parts]
        for number, reply in enumerate(replies, 1):
            if reply.finish != "stop":
                notes.append(f"the summary of part {number} of {len(parts)} was cut after {reply.tokens} tokens")
        return "\n".join(" ".join(spoken(reply.text).split()) for reply in replies)

    def final(self, text: str) -> Task[Summary]:
        """Summarize what fits, and once more when it misses the length."""
        [reply] = yield [self._ask(text)]
        first = self._read(reply)
        if first.miss is None:
            return first
        [reply] = yield [self._ask(text, f" The last answer was wrong: {first.miss}.")]
        second = self._read(reply) if reply.finish == "stop" else first
        better = self.options.distance(second.text) < self.options.distance(first.text)
        return replace(second if better else first, retries=1)

    def _read(self, reply: Reply) -> Summary:
        if reply.finish != "stop":
            raise TruncatedOutput(
                f"the summary was cut after {reply.tokens} tokens: raise --max-tokens or --context.", reply.text
            )
        text = spoken(reply.text).strip()
        return Summary(
            text=text,
            sentences=counting.count(text),
            words=counting.words(text),
            miss=self.options.miss(text),
        )

    def _ask(self, text: str, hints: str = "") -> Prompt:
        wanted = self.options
        return ask(text, sentences=wanted.sentences, words=wanted.words, sampling=self.sampling, hints=hints)

    def _part(self, text: str, count: int) -> Prompt:
        """Ask about a part: all parts together give about twice what is wanted in the end."""
        wanted = self.options.sentences or -(-(self.options.words or 30) // _WORDS_A_SENTENCE)
        each = min(max(-(-2 * wanted // count), _PART_SENTENCES[0]), _PART_SENTENCES[-1])
        return ask(text, sentences=each, sampling=self.sampling)
