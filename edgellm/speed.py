"""How fast a plan will answer, as far as memory decides it: every token reads all weights that it uses once.

A pure bound from bytes and bandwidths; it knows nothing of how either was found, and of computing only that reading
is what a single answer waits for (prompts, and many answers at once, are bound by arithmetic instead).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgellm.decision import Plan
from edgellm.sizes import Anatomy, anatomy, is_expert

if TYPE_CHECKING:
    from edgellm.gguf import Header, Tensor

REACHED = 0.75
"""The share of the bandwidth that llama.cpp reaches while answering: 68 to 86 % in its users' published measurements
(13900K 68 %, M1 78 %, Threadripper 3970X 81 %, RTX 4080 81 %, DGX Spark 86 %)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Bytes of weights that one token of an answer reads."""

    ram_bytes: int
    gpu_bytes: int

    def tokens_per_s(self, ram_bytes_s: float, gpu_bytes_s: float = 0.0) -> float | None:
        """Expected tokens a second of one answer; None where a bandwidth that matters is 0, meaning unknown."""
        most = self.most_per_s(ram_bytes_s, gpu_bytes_s)
        return REACHED * most if most else None

    def most_per_s(self, ram_bytes_s: float, gpu_bytes_s: float = 0.0) -> float | None:
        """Tokens a second if a step did nothing but read, at the whole bandwidth; None where that is unknown."""
        if (self.ram_bytes and not ram_bytes_s) or (self.gpu_bytes and not gpu_bytes_s):
            return None
        spent_s = self.ram_bytes / (ram_bytes_s or 1) + self.gpu_bytes / (gpu_bytes_s or 1)
        return 1 / spent_s if spent_s else None


def reading(header: Header, plan: Plan) -> Reading:
    """Count what one token reads under a plan: of routed experts only those it goes through, of the input one row."""
    body, ram, gpu = anatomy(header), 0, 0
    for tensor, on_gpu in _placed(body, plan):
        used = body.experts_used / body.experts if is_expert(tensor.name) and body.experts else 1.0
        share = int(tensor.bytes * used)
        ram, gpu = (ram, gpu + share) if on_gpu else (ram + share, gpu)
    return Reading(ram, gpu)


def _placed(body: Anatomy, plan: Plan) -> Iterator[tuple[Tensor, bool]]:
    """Every tensor that a token reads whole, and whether it lies on a GPU: the last `gpu_layers` layers do."""
    kept = [re.compile(pattern) for pattern, _ in plan.tensor_overrides]
    first = len(body.layers) + 1 - plan.gpu_layers
    for index, tensors in enumerate((*body.body, body.output)):
        for tensor in tensors:
            yield tensor, index >= first and not any(one.search(tensor.name) for one in kept)
