"""From BASE and DATA to a folder with an adapter, a card and a curve: the whole of `finetune train`, without its looks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgellm.errors import UsageError
from edgellm.finetune import card, checkpoint, curve, data, rows, train
from edgellm.finetune.base import Base
from edgellm.finetune.data import Data
from edgellm.finetune.rows import Rows
from edgellm.finetune.settings import Settings, identity
from edgellm.finetune.train import Run, Step
from edgellm.finetune.vocab import Pieces


@dataclass(frozen=True, slots=True)
class Ready:
    """Data laid out for a base: ready to be trained on."""

    base: Base
    data: Data
    settings: Settings
    train: Rows
    validation: Rows
    chat: bool  # laid out by the base's template, not as written

    @property
    def steps(self) -> int:
        """How many there will be."""
        return train.steps_of(self.settings, len(self.train.samples))


def prepare(base: Base, given: Data, settings: Settings) -> Ready:
    """Lay data out in the base's tokens. Raises DataRefused and UsageError before anything is computed."""
    given.check()
    layout = base.layout(settings.layout)
    vocab = base.pieces()
    learn, held = data.split(given, settings.validation_share, settings.seed)
    _agree(base, vocab, learn)
    laid = rows.lay_out(learn, layout, vocab, settings.max_length)
    if not laid.samples:
        raise UsageError(f"{given.files[0].name} has no token to learn from.")
    kept = rows.lay_out(held, layout, vocab, settings.max_length)
    return Ready(base, given, settings, laid, kept, layout.template is not None and given.kind != "text")


def perform(
    ready: Ready, out: Path, *, fresh: bool = False, tell: Callable[[Step], None] | None = None
) -> dict[str, Any]:
    """Train, or go on where an earlier run was stopped; returns the card. `tell` hears of every step."""
    base, settings = ready.base, ready.settings
    begun = {
        "base": base.fingerprint(),
        "data": ready.data.sha256,
        "template": [ready.data.form.prompt, ready.data.form.completion] if ready.data.form else None,
        **identity(settings.facts()),
    }
    checkpoint.begin(out, begun, fresh=fresh)
    run = Run(base, settings, ready.train, ready.validation, out)
    for step in run.go():
        if tell:
            tell(step)
    found = card.facts(base, ready.data, settings, ready.train, ready.validation, run)
    losses = {"train": run.curve.train, "validation": {str(at): loss for at, loss in run.curve.validation.items()}}
    checkpoint.write(out / "losses.json", json.dumps(losses).encode() + b"\n")
    if picture := curve.png(run.curve):
        checkpoint.write(out / "curve.png", picture)
    checkpoint.write(out / "README.md", card.markdown(found, out.name).encode())
    checkpoint.finish(out, found)
    return found


def _agree(base: Base, vocab: Pieces, examples: tuple[data.Example, ...], sample: int = 32) -> None:
    """Refuse a GGUF whose tokens would be others when it answers than while it learns."""
    if not base.is_gguf:
        return
    from edgellm.finetune.layout import Layout

    texts = [data.Example(one.file, one.line, text=one.whole) for one in examples[:sample]]
    learned = [len(Layout().encode(one, vocab, vocab.ends).ids) for one in texts]
    with base.count(Layout()) as count:
        asked = [length.total for length in count(texts)]
    for one, here, there in zip(texts, learned, asked, strict=True):
        if here != there:
            raise UsageError(
                f"{base.name} cannot be trained on from its GGUF file: transformers reads {here:,} tokens where llama.cpp "
                f"reads {there:,} ({one.file}, line {one.line:,}). Name its original weights, user/repo, instead."
            )
