"""The contract of every engine: tokens in, logits out. It knows no text format, no sampling, no JSON.

`Engine` and `Vocab` are protocols: `llama_cpp` and `scripted` implement them, and so may a test.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Logits: TypeAlias = "npt.NDArray[np.float32]"
"""Shape (rows, vocabulary)."""


class Feed(NamedTuple):
    """What one slot gets in this step."""

    slot: int
    tokens: Sequence[int]  # appended to what the slot holds
    logits: int  # rows wanted, counted from the end: 0 while prefilling, 1, or all rows of a draft


class Worn(NamedTuple):
    """An adapter in use: which of those opened with the model, and how strongly."""

    number: int
    scale: float


class Vocab(Protocol):
    """The engine's vocabulary, as bytes."""

    @property
    def pieces(self) -> Sequence[bytes]:
        """Bytes that each token id stands for; b"" for control tokens."""

    @property
    def ends(self) -> Set[int]:
        """Ids that end a turn."""

    @property
    def bos(self) -> int | None:
        """Id that must stand first in every prompt, or None where the model wants none."""

    @property
    def specials(self) -> dict[str, int]:
        """Text of every control or user-defined token, and its id."""

    @property
    def strips(self) -> frozenset[int]:
        """Special tokens that swallow the blanks to their right."""

    def encode(self, text: str) -> list[int]:
        """Turn text into ids; never into special tokens, whatever the text says."""


class Engine(Protocol):
    """One loaded model with a few slots, each holding one sequence of tokens."""

    @property
    def vocab(self) -> Vocab:
        """The vocabulary."""

    @property
    def context(self) -> int:
        """Tokens one slot may hold."""

    @property
    def cells(self) -> int:
        """Tokens all slots together may hold; a prefix shared between slots counts once."""

    @property
    def slots(self) -> int:
        """Sequences at once; 1 is a perfectly good number."""

    @property
    def batch(self) -> int:
        """Tokens one `decode` may carry."""

    @property
    def drafts(self) -> int:
        """Rows of logits that one `decode` may give beside one for each slot; 0 where `keep` cannot take tokens back."""

    @property
    def even(self) -> bool:
        """Whether a step is one pass over the weights only where every slot gets as many tokens."""

    @property
    def breaks_off(self) -> bool:
        """Whether `stop` ends a `decode` that is under way; a GPU computes what it was given to its end."""

    @property
    def likeness(self) -> str:
        """What a saved state depends on, as a key: equal for two engines that may restore each other's states."""

    def decode(self, feeds: Sequence[Feed]) -> Sequence[Logits]:
        """Append tokens to slots and compute.

        Returns one array per feed that asked for logits, in order, of shape (rows, vocabulary). They may be views into
        the engine's memory, valid until the next call, and may be written to. Raises `Stopped` when `stop` was called.
        """

    def keep(self, slot: int, length: int) -> int:
        """Forget all but the first `length` tokens of a slot; returns how many it still holds.

        Fewer than `length` where the model's memory cannot be rolled back (recurrent layers, a pruned sliding window).
        """

    def share(self, source: int, target: int, length: int) -> int:
        """Make `target` hold the first `length` tokens of `source`; returns how many it holds, as `keep` does."""

    def save(self, slot: int) -> bytearray:
        """Return the state of a slot, to be restored by an engine of the same likeness; empty where that is impossible."""

    def restore(self, slot: int, state: bytearray) -> int:
        """Make a slot hold what `save` returned; returns how many tokens it holds then: 0 when the state was refused.

        Only for bytes that are known to be whole, from an engine of the same likeness: C code believes all of them.
        """

    def wear(self, worn: Worn | None) -> None:
        """Compute with this adapter, or with none, from the next `decode` on; slots keep what they hold.

        What a slot holds was computed with the adapter of its time: continuing it with another is the caller's mistake.
        """

    def stop(self) -> None:
        """Abort a running `decode` from another thread, within 0.2 s; or the next one, where it cannot break off."""

    def close(self) -> None:
        """Free everything; may be called twice."""


class Stopped(Exception):
    """`decode` was aborted: slots hold what they held before the call, but those in `lost` hold nothing any more.

    That happens where the model's memory cannot be rolled back.
    """

    def __init__(self, lost: Collection[int] = ()) -> None:
        super().__init__()
        self.lost = lost
