"""What is said about a model: two lines when it comes, a table when someone asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgellm.repl.show import Screen, gib

if TYPE_CHECKING:
    from edgellm.model import Model

DEMO = "demo"


def introduce(screen: Screen, model: Model) -> None:
    """Say which model answers, how big it is, what is on the GPU and why."""
    plan, header = model.plan, model.header
    screen.say(
        f"{model.name} · {_count(header.parameters)} parameters, {header.quantization}, {gib(header.tensor_bytes)} · "
        f"context {plan.context:,} tokens",
        "bold",
    )
    for one in model.adapters:
        screen.note(f"With the adapter {one.label(one.scale)}" + ("." if one.default else ", when it is asked for."))
    screen.note(plan.reasons[0] if plan.reasons else f"{plan.gpu_layers} layers on the GPU")
    if model.name == DEMO:
        from edgellm.source import advice

        screen.warn(f"This tiny model is only a demonstration: it knows a few thousand words. {advice()}")


def facts(model: Model) -> Iterator[tuple[str, str]]:
    """List what is known of a model."""
    header, entry, here = model.header, model.source.entry, model.source.here
    yield "model", model.name
    if here:
        yield "file", here[0]
    yield "size", f"{_count(header.parameters)} parameters, {header.quantization}, {gib(header.tensor_bytes)}"
    yield "shape", f"{header.architecture}, {header.layers} layers, vocabulary {header.vocab_size:,}"
    yield "context", f"{model.plan.context:,} tokens here, trained with {header.context_length:,}"
    for one in model.adapters:
        yield "adapter", f"{one.name}, scale {one.scale:g}, {one.path}"
    if entry:
        use = "" if entry.commercial else " (no commercial use)"
        yield "licence", f"{entry.license or 'unknown'}{use} {entry.license_url}".rstrip()
        if entry.notes:
            yield "notes", entry.notes


def _count(parameters: int) -> str:
    if parameters >= 1_000_000_000:
        return f"{parameters / 1e9:.1f} billion"
    return f"{parameters / 1e6:.1f} million"
