"""How an adapter is trained: one dataclass, from which flags, run notes and cards are derived."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from edgellm.errors import UsageError


def _told(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of a training run. Raises UsageError for values that make no sense."""

    rank: int = _told(16, "rank of the update: parameters grow with it")
    alpha: float = _told(32.0, "strength of the update: it is scaled by alpha / rank")
    dropout: float = _told(0.05, "share of the adapter's inputs left out while training")
    targets: tuple[str, ...] = _told(
        ("q_proj", "v_proj"), "layers that get an update, with commas between; all for every one"
    )
    epochs: float = _told(3.0, "how often every row is seen")
    steps: int | None = _told(None, "so many steps, instead of epochs")
    rate: float = _told(2e-4, "learning rate at its highest")
    warmup: float = _told(0.05, "share of the steps in which the rate rises; then it falls to zero")
    batch: int = _told(4, "rows computed at once")
    accumulate: int = _told(1, "batches in one step")
    max_length: int = _told(2048, "tokens of the longest row, or of a block of text")
    validation_share: float = _told(0.1, "share of the rows kept for validation, where there is no file for it")
    seed: int = _told(0, "of everything that is drawn")
    layout: Literal["auto", "chat", "raw"] = _told("auto", "auto, chat (by the base's template) or raw (as written)")
    four_bit: bool = _told(False, "hold the base in 4 bits (NF4; NVIDIA and bitsandbytes)")
    device: Literal["auto", "cpu", "cuda", "mps"] = _told("auto", "auto, cpu, cuda or mps")
    threads: int | None = _told(None, "CPU threads; else all, but one for a tiny model")
    checkpoint_every: int = _told(50, "steps between two checkpoints")
    validate_every: int | None = _told(None, "steps between two looks at the validation rows; else before and after")

    def __post_init__(self) -> None:
        for name in ("rank", "batch", "accumulate", "checkpoint_every", "steps", "validate_every", "threads"):
            _range(name, getattr(self, name), 1, None)
        _range("max-length", self.max_length, 8, None)
        for name, most in (("alpha", None), ("epochs", None), ("rate", 1.0)):
            _range(name, getattr(self, name), 0, most, open_low=True)
        for name in ("dropout", "warmup", "validation_share"):
            _range(name, getattr(self, name), 0, 0.9)
        if not self.targets or not all(self.targets):
            raise UsageError("--targets names no layer: the usual ones are q_proj,v_proj.")

    def facts(self) -> dict[str, Any]:
        """As plain data, for notes and cards."""
        return {one.name: getattr(self, one.name) for one in dataclasses.fields(self)} | {"targets": list(self.targets)}


_ANY = ("checkpoint_every", "validate_every", "device", "threads")


def identity(facts: dict[str, Any]) -> dict[str, Any]:
    """What must stay the same for a run to be gone on with."""
    return {name: value for name, value in facts.items() if name not in _ANY}


def _range(name: str, value: float | None, low: float, most: float | None, *, open_low: bool = False) -> None:
    if value is None:
        return
    fits = (value > low if open_low else value >= low) and (most is None or value <= most)
    if not fits:  # also NaN
        least = f"more than {low:g}" if open_low else f"at least {low:g}"
        raise UsageError(
            f"--{name.replace('_', '-')} is {least}{f' and at most {most:g}' if most else ''}, not {value:g}."
        )
