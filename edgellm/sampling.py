"""How the next token is chosen from a row of logits: one dataclass of options, one function.

Knows numbers only: no text, no engine, no grammar (a constraint has already set refused logits to -inf).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgellm.errors import NoWayOut, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_PENALTY_LAST = 64  # llama.cpp common/common.h, common_params_sampling::penalty_last_n


def _option(default: Any, help: str, range: tuple[float, float]) -> Any:  # noqa: A002 - the names of the metadata
    return field(default=default, metadata={"help": help, "range": range})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Generation options and their defaults: the one place they are written. CLI flags are derived from these fields.

    Raises UsageError when a value is of the wrong type, not finite or out of its range.
    """

    temperature: float = _option(0.7, "0 always takes the likeliest token", (0.0, 10.0))
    top_k: int = _option(40, "keep the K likeliest tokens; 0 keeps all", (0, 2**31 - 1))
    top_p: float = _option(0.95, "keep the smallest set with this probability", (0.0, 1.0))
    min_p: float = _option(0.05, "drop tokens below this fraction of the best", (0.0, 1.0))
    repeat_penalty: float = _option(1.0, "above 1 discourages repeated tokens", (0.01, 10.0))
    max_tokens: int = _option(512, "longest answer, in tokens", (1, 2**31 - 1))
    seed: int | None = _option(None, "same seed, same text", (0, 2**63 - 1))
    stop: tuple[str, ...] = field(default=(), metadata={"help": "end the answer before this text; repeatable"})

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            if "range" in option.metadata:
                _check(option, getattr(self, option.name))
        object.__setattr__(self, "stop", _stops(self.stop))


def _check(option: dataclasses.Field[Any], value: Any) -> None:
    if value is None and option.default is None:
        return
    low, high = option.metadata["range"]
    kind, noun = ((int, float), "a number") if isinstance(low, float) else ((int,), "a whole number")
    if isinstance(value, bool) or not isinstance(value, kind):
        raise UsageError(f"{option.name} is {value!r}, which is not {noun}: give one from {low:,} to {high:,}.")
    if not (math.isfinite(value) and low <= value <= high):
        raise UsageError(f"{option.name} is {value!r}: give {noun} from {low:,} to {high:,}.")


def _stops(stop: Any) -> tuple[str, ...]:
    texts = (stop,) if isinstance(stop, str) else stop
    if not isinstance(texts, (tuple, list)) or not all(isinstance(text, str) and text for text in texts):
        raise UsageError(f"stop is {stop!r}: give a text, or a list of texts that are not empty.")
    return tuple(texts)


ONE_ANSWER = Sampling(temperature=0.0)
ONE_LONG_ANSWER = Sampling(temperature=0.0, max_tokens=1024)
"""For tasks with one right answer."""


def generator(seed: int | None) -> np.random.Generator:
    """Start the random numbers of one answer; None takes a fresh seed from the system."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(seed))


def choose(
    logits: npt.NDArray[np.float32], sampling: Sampling, rng: np.random.Generator | None, recent: Sequence[int] = ()
) -> int:
    """Choose the next token id from one row of logits; -inf marks a refused token. The row may be modified.

    `recent` is the answer so far; `rng` may be None at temperature 0, where nothing is drawn. The order is llama.cpp's: repeat
    penalty, top-k, top-p, min-p, then temperature; of equal logits the lower id comes first. Raises NoWayOut when every token
    is refused.
    """
    import numpy as np

    if sampling.repeat_penalty != 1.0 and recent:
        _penalize(logits, list(recent[-_PENALTY_LAST:]), sampling.repeat_penalty)
    best = int(logits.argmax())
    top = float(logits[best])
    if not math.isfinite(top):
        raise NoWayOut(f"no token can be chosen: the largest logit is {top}.")
    if sampling.temperature == 0.0:
        return best
    ids = _candidates(logits, top, sampling)
    with np.errstate(over="ignore"):  # a temperature near 0: the others get -inf, and are never drawn
        sums = np.exp((logits[ids].astype(np.float64) - top) / sampling.temperature).cumsum()
    assert rng
    drawn = int(sums.searchsorted(rng.random() * sums[-1], side="right"))
    return int(ids[min(drawn, ids.size - 1)])


def _penalize(logits: npt.NDArray[np.float32], recent: list[int], penalty: float) -> None:
    """Divide positive logits and multiply negative ones, once per id (llama.cpp, llama_sampler_penalties_apply)."""
    import numpy as np

    ids = np.unique(np.asarray(recent))
    found = logits[ids]
    logits[ids] = np.where(found > 0, found / np.float32(penalty), found * np.float32(penalty))


def _candidates(logits: npt.NDArray[np.float32], top: float, sampling: Sampling) -> npt.NDArray[np.intp]:
    """Ids that survive top-k, top-p and min-p."""
    import numpy as np

    if sampling.top_k:
        ids = _near(logits, top, lambda near: near.size >= sampling.top_k)
        ids = _largest(logits, ids, sampling.top_k)
    else:
        ids = np.flatnonzero(logits > -np.inf)
    if sampling.top_p < 1.0:
        ids = _top_p(logits, ids, top, sampling.top_p)
    if sampling.min_p > 0.0:
        ids = ids[logits[ids] >= np.float32(top + math.log(sampling.min_p))]
    return ids


def _top_p(logits: npt.NDArray[np.float32], ids: npt.NDArray[np.intp], top: float, mass: float) -> npt.NDArray[np.intp]:
    """The smallest set of likeliest ids whose probability reaches `mass`; at least one."""
    import numpy as np

    found = logits[ids]
    weights = np.exp(found.astype(np.float64) - top)
    wanted = mass * weights.sum()
    # Sort only those near the top, when they hold the wanted mass; and values, not ids: that is 10 times faster.
    near = _near(found, top, lambda near: weights[near].sum() >= wanted)
    falling = np.sort(found[near])[::-1]
    count = np.exp(falling.astype(np.float64) - top).cumsum().searchsorted(wanted) + 1
    return _largest(logits, ids[near], int(count))


def _largest(logits: npt.NDArray[np.float32], ids: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    """The `count` ids with the largest logits; of equal ones at the edge, the lower."""
    import numpy as np

    if ids.size <= count:
        return ids
    found = logits[ids]
    edge = np.partition(found, ids.size - count)[ids.size - count]
    above = ids[found > edge]
    return np.concatenate((above, ids[found == edge][: count - above.size]))


def _near(
    values: npt.NDArray[np.float32], top: float, enough: Callable[[npt.NDArray[np.intp]], bool]
) -> npt.NDArray[np.intp]:
    """Indices of the values within a distance of the top that is enough, or of all that are not refused."""
    import numpy as np

    for distance in (6.0, 14.0):
        near = np.flatnonzero(values >= np.float32(top - distance))
        if enough(near):
            return near
    return np.flatnonzero(values > -np.inf)
