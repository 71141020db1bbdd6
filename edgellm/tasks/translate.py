"""Translation: text and a language in, the same text in that language out, with everything in it that must not change.

Knows how to ask, how to cut what is long, and what to do when the answer lost something: ask once more, naming it; when
lines were lost, line by line. What is then still missing is told in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

from edgellm.errors import EmptyText, InvalidOutput, TruncatedOutput, UsageError
from edgellm.prompt import Message, Prompt, Reply, Task
from edgellm.sampling import ONE_LONG_ANSWER, Sampling
from edgellm.tasks import glossary as terms
from edgellm.tasks import layout, markup, sentences, subtitles
from edgellm.tasks.chunks import COUNTED_BYTES, SURE_BYTES, counted, cut, halves, packed, refuse_hopeless, sizes
from edgellm.tasks.keep import Loss, losses, spans
from edgellm.tasks.languages import SPACELESS, language
from edgellm.tasks.layout import Layout, Unit, joined
from edgellm.tasks.sentences import split
from edgellm.tasks.together import together
from edgellm.thoughts import spoken

GREEDY = ONE_LONG_ANSWER

Format: TypeAlias = Literal["text", "markdown", "srt"]
READERS: dict[Format, Callable[[str], Layout]] = {
    "text": layout.lines,
    "markdown": markup.blocks,
    "srt": subtitles.cues,
}
"""What a text may be written in."""

# Languages differ in how many tokens they need: an answer is given this many times the tokens of its text.
_ROOM = 2
# An answer that ends for want of room although it is so many times longer than all it was asked is out of its mind.
_RAVING = 3
# Sentences of a long text that may stay as they are, and be reported: hours of work are not lost over one. With more of
# them, it is the model.
_MOST_GAPS = 5
_MOST_LINES = 24  # in one prompt: with more, models lose count
_CONTEXT_CHARS = 240  # of the text before a part, which is shown with it
_COUNTS = ("line", "sentence")
_NAMED = 12  # losses that a second try is told of


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a text is written in, what its terms are called, and whether a loss is an error."""

    format: Format = "text"
    glossary: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False

    def __post_init__(self) -> None:
        if self.format not in READERS:
            raise UsageError(f"a text is in one of the formats {', '.join(READERS)}, not {self.format!r}.")


PLAIN = Options()


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A translation, and what became of the things in it that had to survive."""

    text: str
    kept: int  # placeholders, tags, addresses, code spans, numbers, glossary terms
    lost: tuple[Loss, ...] = ()
    parts: int = 1  # prompts for different stretches of the text
    retries: int = 0  # prompts that were asked again
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of the translation must know, one sentence each."""
        return (*map(str, self.lost), *self.notes)

    def facts(self) -> dict[str, Any]:
        """All but the text, as plain data."""
        plain = {name: value for name, value in asdict(self).items() if name not in ("text", "notes")}
        return {**plain, "lost": list(plain["lost"]), "warnings": list(self.warnings)}


def ask(
    text: str, to: str, source: str | None = None, *, sampling: Sampling = GREEDY, hints: str = "", before: str = ""
) -> Prompt:
    """Build the prompt; `to` and `source` in any form that `language` reads.

    `hints` are further sentences about how, `before` is what stands before the text, for its context.
    """
    pair = f"from {language(source)} to {language(to)}" if source else f"to {language(to)}"
    context = f"The text before it, only for context: {before}\n\n" if before else ""
    question = f"Translate this text {pair}. Reply with the translation only.{hints}\n\n{context}Text: {text.strip()}"
    return Prompt(messages=(Message("user", question),), sampling=sampling)


def translate(
    text: str,
    to: str,
    source: str | None = None,
    *,
    sampling: Sampling = GREEDY,
    options: Options = PLAIN,
) -> Task[str]:
    """Translate one text, as `translated` does, and return the text alone."""
    found = yield from translated(text, to, source, sampling=sampling, options=options)
    return found.text


def translated(
    text: str,
    to: str,
    source: str | None = None,
    *,
    sampling: Sampling = GREEDY,
    options: Options = PLAIN,
) -> Task[Translation]:
    """Translate one text of any length, and tell what was kept and what was lost.

    Plain text comes back without blanks at its ends, the other formats as they were. Raises EmptyText, UsageError
    (unknown language or format), PromptTooLong, TruncatedOutput when a sentence was not finished (of a long text: more
    than a few, which else stay as they are), and InvalidOutput when something is lost and the options are strict.
    """
    if not text.strip():
        raise EmptyText("there is no text to translate.")
    ask("", to, source)  # refuses a language that nobody knows
    work = _Work(to, source, sampling, options)
    found = READERS[options.format](text)
    if not found.units:
        return Translation(text=text, kept=0, parts=0, notes=("there is nothing to translate in it",))
    groups = yield from work.plan(found.units)
    before = ["", *(_tail(group) for group in groups)]
    work = replace(work, gaps=[] if len(groups) > 1 else None)
    parts = yield from together([work.said(*pair) for pair in zip(groups, before, strict=False)])
    units = tuple(unit for group in groups for unit in group)
    whole = replace(found, units=units).fill([line for part in parts for line in part.lines])
    changed = markup.changes(text, whole) if options.format == "markdown" else None
    told = Translation(
        text=whole.strip() if options.format == "text" else whole,
        kept=sum(part.kept for part in parts),
        lost=(*(loss for part in parts for loss in part.lost), *((Loss("structure", changed),) if changed else ())),
        parts=len(parts),
        retries=sum(part.retries for part in parts),
        notes=found.skipped,
    )
    return _complete(told) if options.strict else told


def _complete(told: Translation) -> Translation:
    """Refuse a translation that lost something."""
    if told.lost:
        named = "; ".join(map(str, told.lost[:_NAMED]))
        more = f" and {len(told.lost) - _NAMED} more" if len(told.lost) > _NAMED else ""
        raise InvalidOutput(f"the translation does not keep what it must: {named}{more}.", told.text)
    return told


@dataclass(frozen=True, slots=True)
class _Part:
    """What was said about some units: one line for each."""

    lines: list[str]
    kept: int = 0
    lost: tuple[Loss, ...] = ()
    retries: int = 0


@dataclass(frozen=True, slots=True)
class _Work:
    """What is wanted of every part of a text."""

    to: str
    source: str | None
    sampling: Sampling
    options: Options
    gaps: list[str] | None = None  # what could not be translated of a long text; of a short one that is an error

    # Planning: which units are asked about together.

    def plan(self, units: Sequence[Unit]) -> Task[list[Sequence[Unit]]]:
        """Put units into groups that have room for their answer; units that have none alone are cut."""
        size = len(joined(units).encode("utf-8", "replace"))
        if size <= SURE_BYTES:
            return [units]
        if size <= COUNTED_BYTES and len(units) <= _MOST_LINES:
            whole = yield from counted(self._ask(units))
            if whole.prompt_tokens <= self._limit(whole.context_tokens):
                return [units]
        empty = yield from counted(self._ask([Unit("")]))
        refuse_hopeless(empty)
        limit = max(16, self._limit(empty.context_tokens - empty.prompt_tokens))
        groups = yield from self._groups(units, limit)
        return (yield from self._fitting(groups, empty.context_tokens))

    def _limit(self, room: int) -> int:
        """Tokens that a text may have, so that its answer has room too."""
        return min(self.sampling.max_tokens // _ROOM, room // (1 + _ROOM))

    def _groups(self, units: Sequence[Unit], limit: int) -> Task[list[Sequence[Unit]]]:
        counts = yield from sizes([unit.text for unit in units])
        long = [unit for unit, count in zip(units, counts, strict=True) if count > limit]
        cuts = iter((yield from together([cut(unit.text, limit) for unit in long])))
        groups: list[Sequence[Unit]] = []
        run: list[tuple[Unit, int]] = []
        for unit, count in zip(units, counts, strict=True):
            if count <= limit:
                run.append((unit, count))
                continue
            groups += _packed(run, limit)
            groups += [[self._glued(piece)] for piece in layout.pieces(unit, next(cuts))]
            run = []
        return [*groups, *_packed(run, limit)]

    def _glued(self, piece: Unit) -> Unit:
        """A piece of a line with the blank before it that the other language wants."""
        if not piece.part or "\n" in piece.before:
            return piece
        return replace(piece, before="" if language(self.to) in SPACELESS else piece.before or " ")

    def _fitting(self, groups: list[Sequence[Unit]], context: int) -> Task[list[Sequence[Unit]]]:
        """Count the prompts as they will be asked, and cut those that are too long after all."""
        while True:
            before = ["", *(_tail(group) for group in groups)]
            asked = [replace(self._ask(*pair), count=True) for pair in zip(groups, before, strict=False)]
            replies = yield asked
            tight = [reply.prompt_tokens >= context for reply in replies]
            smaller = [
                part
                for group, over in zip(groups, tight, strict=True)
                for part in (_halved(group) if over and len(joined(group)) > 1 else [group])
            ]
            if len(smaller) == len(groups):
                return groups
            groups = smaller

    # Asking, and asking again.

    def said(self, units: Sequence[Unit], before: str = "") -> Task[_Part]:
        """Translate neighbours in one prompt; in several when the answer shows that one is too few."""
        wanted = terms.occurring(self.options.glossary, joined(units))
        [reply] = yield [self._ask(units, before)]
        if reply.finish != "stop":
            return (yield from self._smaller(units, reply))
        first = self._read(units, spoken(reply.text), wanted)
        if not first.lost:
            return first
        if any(loss.kind in ("line", "sentence") for loss in first.lost) and _divisible(units):
            return (yield from self._several(units, _apart(units)))
        [reply] = yield [self._ask(units, before, again=first.lost)]
        second = self._read(units, spoken(reply.text), wanted)
        better = reply.finish == "stop" and len(second.lost) < len(first.lost)
        return replace(second if better else first, retries=1)

    def _ask(self, units: Sequence[Unit], before: str = "", again: Sequence[Loss] = ()) -> Prompt:
        text = joined(units)
        hints = _wording(terms.occurring(self.options.glossary, text), again)
        if len(units) > 1 and self.options.format != "text":
            hints += f" Translate each of the {len(units)} lines on a line of its own."
        return ask(text, self.to, self.source, sampling=self.sampling, hints=hints, before=before)

    def _read(self, units: Sequence[Unit], answer: str, wanted: Mapping[str, str]) -> _Part:
        """Compare an answer with what it must hold."""
        text = joined(units)
        lines = [match.text for match in layout.lines(answer, fences=False).units]
        lost = [*losses(text, answer), *terms.missing(wanted, answer)]
        if len(lines) != len(units):
            lost.append(Loss("line", "", len(units), len(lines)))
        missing = sum(max(0, loss.wanted - loss.found) for loss in lost if loss.kind not in _COUNTS)
        stated, said = sentences.count(text), sentences.count(answer)
        if said * 2 < stated or said > stated * 2 + 2:
            lost.append(Loss("sentence", "", stated, said))
        if len(units) == 1:
            lines = [answer.strip() if self.options.format == "text" else " ".join(lines)]
        return _Part(lines, len(spans(text)) + len(wanted) - missing, tuple(lost))

    def _smaller(self, units: Sequence[Unit], reply: Reply) -> Task[_Part]:
        """Translate two halves, where there was too little room for the whole."""
        raving = reply.tokens >= _RAVING * reply.prompt_tokens
        if _divisible(units) and not (raving and self.gaps is None):
            return (yield from self._several(units, _apart(units) if raving else _halved(units)))
        text = joined(units)
        if self.gaps is None or len(self.gaps) >= _MOST_GAPS:
            raise TruncatedOutput(
                f"the translation was cut after {reply.tokens} tokens: raise --max-tokens or --context.", reply.text
            )
        self.gaps.append(text)
        return _Part([unit.text for unit in units], lost=(Loss("translation", text),))

    def _several(self, units: Sequence[Unit], groups: Sequence[Sequence[Unit]]) -> Task[_Part]:
        """Translate units in smaller groups, one prompt for each."""
        asked = [group for group in groups if _spoken(group)]
        said = iter((yield from together([self.said(group) for group in asked])))
        parts = [next(said) if _spoken(group) else _Part([unit.text for unit in group]) for group in groups]
        lines = [line for part in parts for line in part.lines]
        if len(units) == 1:
            glue = "" if language(self.to) in SPACELESS else " "
            lines = [glue.join(line.strip() for line in lines)]
        retries = len(asked) + sum(part.retries for part in parts)
        return _Part(
            lines, sum(part.kept for part in parts), tuple(loss for part in parts for loss in part.lost), retries
        )


def _packed(run: Sequence[tuple[Unit, int]], limit: int) -> list[Sequence[Unit]]:
    """Groups of neighbours, none longer than the limit."""
    ranges = packed([count for _, count in run], limit, _MOST_LINES)
    return [[unit for unit, _ in run[start:end]] for start, end in ranges]


def _divisible(units: Sequence[Unit]) -> bool:
    return len(units) > 1 or len(split(units[0].text)) > 1


def _halved(units: Sequence[Unit]) -> list[Sequence[Unit]]:
    """Cut units in two, between paragraphs near the middle, or one unit between its sentences."""
    if len(units) == 1:
        return [[piece] for piece in layout.pieces(units[0], halves(units[0].text))]
    middle = len(units) // 2
    near = [place for place in range(1, len(units)) if units[place].far and abs(place - middle) <= len(units) // 4]
    place = min(near, key=lambda one: abs(one - middle), default=middle)
    return [units[:place], units[place:]]


def _apart(units: Sequence[Unit]) -> list[Sequence[Unit]]:
    """Paragraphs alone; lines alone where there is one paragraph, and sentences where there is one line."""
    if len(units) == 1:
        return [[piece] for piece in layout.pieces(units[0], split(units[0].text))]
    parts = layout.paragraphs(units)
    return parts if len(parts) > 1 else [[unit] for unit in units]


def _spoken(units: Sequence[Unit]) -> bool:
    return any(any(map(str.isalpha, unit.text)) for unit in units)


def _tail(units: Sequence[Unit]) -> str:
    """The last sentences of a part, which the next one is shown."""
    found = ""
    for sentence in reversed(split(joined(units))):
        if len(found) + len(sentence) > _CONTEXT_CHARS:
            break
        found = sentence + found
    return " ".join(found.split())


def _wording(wanted: Mapping[str, str], again: Sequence[Loss]) -> str:
    """Say which terms to use, and what an earlier answer lost."""
    hints = ""
    if wanted:
        hints += " Use these terms: " + "; ".join(f"{term} = {target}" for term, target in wanted.items()) + "."
    lost = [loss for loss in again if loss.kind not in (*_COUNTS, "term")][:_NAMED]
    if kept := [loss.text for loss in lost if loss.wanted]:
        hints += " Keep these exactly as they are: " + ", ".join(kept) + "."
    if added := [loss.text for loss in lost if not loss.wanted]:
        hints += " Do not write: " + ", ".join(added) + "."
    for loss in again:
        if loss.kind in _COUNTS:
            hints += f" Write exactly {loss.wanted} {loss.kind}{'s' if loss.wanted > 1 else ''}."
    if missed := [loss.text for loss in again if loss.kind == "term"]:
        hints += " The answer must contain: " + ", ".join(missed) + "."
    return hints
