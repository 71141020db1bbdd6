"""JSON Schema enforced while decoding: which tokens may come next, which must, and when the value is finished.

Wraps llguidance, which lets no invalid token pass, and fails closed where the library's error state would allow an end.
Knows bytes and token ids; no model, no prompt. Finished text looks like `json.dumps(value, ensure_ascii=False)`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence, Set
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from edgellm.constraint import keywords, library, verbatim
from edgellm.constraint.budget import REACH_BYTES, Budget
from edgellm.constraint.closing import Place, begin, shortest
from edgellm.constraint.plain import made_plain
from edgellm.constraint.refusal import blame, words
from edgellm.constraint.vocabulary import Vocab, Writer, tokenizer, writer
from edgellm.errors import NoWayOut, SchemaUnsupported

Logits = npt.NDArray[np.float32]

# Row b holds, for the 8 ids of mask byte b, the highest logit each may keep. One pass over the row, whatever the mask.
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_CEILING = np.where(_BITS == 1, np.float32(np.inf), np.float32(-np.inf))


class Grammar:
    """A compiled schema: expensive once, cheap to start for every sequence."""

    def __init__(
        self, matcher: Any, ends: Set[int], text: str = "", writer: Writer | None = None, schema: Any = None
    ) -> None:
        self._matcher, self._ends = matcher, ends
        self._text, self._writer, self._schema = text, writer, schema

    @classmethod
    def compile(
        cls, schema: Mapping[str, Any] | bool, vocab: Vocab, *, lead: str = "", quotes: str | None = None
    ) -> Grammar:
        """Compile a JSON Schema for a vocabulary; `lead` may come before the value, as some chat formats want a blank.

        With `quotes`, every text that the schema leaves free is a verbatim piece of it. Raises SchemaUnsupported, with a
        JSON pointer, when a keyword cannot be enforced while decoding, or when no finite value satisfies the schema.
        """
        wanted, known = made_plain(schema), tokenizer(vocab)
        keywords.check(wanted)
        text = library.json_grammar(wanted)
        matcher = library.matcher(text, known)
        if matcher.get_error():
            raise blame(wanted, matcher.get_error())
        if quotes is not None:
            text = verbatim.grammar(wanted, quotes, lead)
            matcher = _checked(library.matcher(text, known))
        elif lead:
            text = library.lark_grammar(f"start: {library.literal(lead)}? value\nvalue: {library.embedded(wanted)}")
            matcher = _checked(library.matcher(text, known))
        grammar = cls(matcher, vocab.ends, text, writer(vocab), wanted)
        try:
            trial = Constraint(matcher.deep_copy(), vocab.ends)
            trial.allowed()
            trial.forced()
            trial.allowed()
        except NoWayOut as error:
            raise SchemaUnsupported(f"no JSON value within reach satisfies this schema ({error}).") from error
        return grammar

    def start(self) -> Constraint:
        """Begin a sequence."""
        budget = Budget(lambda: self._place, lambda: self.least, self._writer) if self._writer else None
        return Constraint(self._matcher.deep_copy(), self._ends, budget)

    @cached_property
    def least(self) -> int | None:
        """Tokens of the shortest value, None when none is found within reach."""
        end = shortest(self._place, REACH_BYTES) if self._place else None
        spelled = self._writer.spell(end) if end is not None and self._writer else None
        return len(spelled) if spelled is not None else None

    @cached_property
    def _place(self) -> Place | None:
        return begin(self._text, self._schema)


class Constraint:
    """One sequence on its way through a grammar. Every method raises NoWayOut instead of letting an error pass."""

    def __init__(self, matcher: Any, ends: Set[int], budget: Budget | None = None) -> None:
        self._matcher, self._ends, self._budget = matcher, ends, budget
        self._bits: npt.NDArray[np.uint8] | None = None

    def mask(self, logits: Logits) -> None:
        """Set the logits of refused ids to -inf, in place; `logits` is one row of the vocabulary's size."""
        ceiling = _CEILING.take(self._mask(), axis=0).reshape(-1)[: logits.size]
        np.minimum(logits[: ceiling.size], ceiling, out=logits[: ceiling.size])
        logits[ceiling.size :] = -np.inf
        if logits.max() == -np.inf:
            raise NoWayOut("the grammar allows no token of this vocabulary.")

    def allowed(self) -> npt.NDArray[np.intp]:
        """Ids that may come next, ascending; end tokens are among them when the value may end here."""
        found = np.flatnonzero(np.unpackbits(self._mask(), bitorder="little").view(np.bool_))
        if not found.size:
            raise NoWayOut("the grammar allows no token of this vocabulary.")
        return found

    def allows(self, token: int) -> bool:
        """Say whether one id may come next: a fraction of the cost of `mask`, enough for a greedy choice."""
        ok = self._matcher.validate_tokens([token]) == 1
        self._check()
        return bool(ok) or (token in self._ends and self._accepting())

    def agrees(self, tokens: Sequence[int]) -> int:
        """Count how many of these could come next, one after another; end tokens never."""
        count = int(self._matcher.validate_tokens(list(tokens)))
        self._check()
        return count

    def prepare(self) -> None:
        """Make the next mask ahead, in any thread, while nobody else asks; what is wrong is raised when it is used."""
        with contextlib.suppress(NoWayOut):
            self._mask()

    def accept(self, token: int) -> None:
        """Take a chosen token. Raises NoWayOut when the grammar refuses it."""
        self._bits = None
        if not self._matcher.consume_token(token):
            raise NoWayOut(f"the grammar refuses token {token}: {words(self._matcher.get_error())}.")
        if self._budget:
            self._budget.note(token)

    def forced(self) -> list[int]:
        """Tokens that the grammar leaves no choice about, already accepted here; the caller only feeds them. Often [].

        Chosen as the tokenizer would write the forced text, short of a last token that could merge with what follows.
        """
        tokens = list(self._matcher.compute_ff_tokens())
        tokens = tokens[: self._matcher.validate_tokens(tokens)] if tokens else []
        self._check()
        if tokens:
            self._bits = None
            if not self._matcher.consume_tokens(tokens):
                raise NoWayOut(f"the grammar refuses its own tokens: {words(self._matcher.get_error())}.")
            if self._budget:
                self._budget.note(*tokens)
        return tokens

    def affords(self, room: int) -> bool:
        """Whether the value can still be finished in `room` more tokens.

        When it cannot, `closing` has the tokens that finish it in place of those accepted since this was asked last.
        """
        return self._budget is None or self._budget.affords(room)

    def closing(self) -> list[int]:
        """Tokens that finish the value as `affords` says; they need not be accepted."""
        return self._budget.closing if self._budget else []

    @property
    def complete(self) -> bool:
        """The value is finished, and nothing but an end token may follow."""
        self._check()
        if self._matcher.is_stopped():
            return True
        return self._accepting() and all(token in self._ends for token in self.allowed().tolist())

    def _mask(self) -> npt.NDArray[np.uint8]:
        """One bit per id, least significant first; computed once per state."""
        if self._bits is None:
            raw = self._matcher.compute_bitmask()
            self._check()  # an error state still returns a mask: one that allows the end
            self._bits = np.frombuffer(raw, np.uint8)
        return self._bits

    def _accepting(self) -> bool:
        return bool(self._matcher.is_accepting())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise NoWayOut(f"the grammar has stopped: {words(self._matcher.get_error())}.")


def _checked(matcher: Any) -> Any:
    """A grammar of our own writing; what the library says against it is about its size."""
    if matcher.get_error():
        raise SchemaUnsupported(f"the schema cannot be enforced like this: {words(matcher.get_error())}.")
    return matcher
