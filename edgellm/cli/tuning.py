"""`edgellm tune`: what runs a model fastest here, measured once, shown, and forgotten again."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from edgellm.errors import ModelUnknown, UsageError

if TYPE_CHECKING:
    from edgellm import tune as rooms


@click.command()
@click.argument("model", required=False)
@click.option("--show", is_flag=True, help="Show what is known, and measure nothing; of all models without MODEL.")
@click.option("--forget", is_flag=True, help="Forget what is known; of all models without MODEL.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--offline", is_flag=True, help="Use no network at all.")
def tune(model: str | None, show: bool, forget: bool, as_json: bool, offline: bool) -> None:
    """Measure what runs a model fastest here: threads, repacked weights, tokens at once. Takes 20 seconds at most.

    Every later load of a model of this shape uses it; --threads and the like still win. Measure on an idle machine.
    """
    from edgellm import source
    from edgellm import tune as room

    if show and forget:
        raise UsageError("--show or --forget, one of the two.")
    if model is None and (show or forget):
        _everything(forget=forget, as_json=as_json)
        return
    found = source.find(model or source.default()[0], offline=offline)
    header = found.header(offline=offline)
    if forget:
        click.echo(f"{found.name}: {'forgotten' if room.forget(header) else 'nothing was known'}.")
        return
    tunings = [room.known(header, gpu=gpu) for gpu in (False, True)] if show else [_measured(found)]
    measured = [one for one in tunings if one]
    if not measured:
        raise ModelUnknown(f"nothing was measured for {found.name} here: edgellm tune {found.name}")
    _print(measured, as_json=as_json)


def _measured(found: object) -> rooms.Tuning:
    """Measure a model that is here, and remember it."""
    from edgellm import gguf, source
    from edgellm import tune as room
    from edgellm.plan import Wish, fit
    from edgellm.route import machine
    from edgellm.tune import search
    from edgellm.worker import Worker

    assert isinstance(found, source.Source)
    if found.here is None:
        raise ModelUnknown(f"{found.name} is not on this machine: edgellm pull {found.name}")
    header = gguf.read(found.here[0])
    worker = Worker()
    try:
        here = machine(worker)
    finally:
        worker.close()
    plan = fit(header, here, Wish(slots=1))
    click.echo(f"Measuring {found.name}, {search.LONGEST_S:.0f} seconds at most.", err=True)
    tuning = search.measure(header, found.here, plan, here, lambda line: click.echo(f"  {line}", err=True))
    room.remember(header, tuning, gpu=plan.on_gpu)
    if room.known(header, gpu=plan.on_gpu) is None:
        click.echo("It could not be kept for later loads: the user's cache folder cannot be written.", err=True)
    return tuning


def _everything(*, forget: bool, as_json: bool) -> None:
    from edgellm import tune as room

    if forget:
        click.echo(f"{room.forget():,} forgotten.")
        return
    found = list(room.every().values())
    if not found and not as_json:
        click.echo("Nothing was measured yet: edgellm tune MODEL", err=True)
        return
    _print(found, as_json=as_json)


def _print(found: list[rooms.Tuning], *, as_json: bool) -> None:
    if as_json:
        plain = [dataclasses.asdict(one) for one in found]
        click.echo(json.dumps(plain[0] if len(plain) == 1 else plain))
        return
    from edgellm.text import plain as safe

    for one in found:
        click.secho(safe(f"{one.model} ({one.day}, measured in {one.took_s:.0f} s)"), bold=True)
        threads = f"{one.threads} for answers, {one.threads_batch} for prompts"
        click.echo(f"- threads: {threads}")
        faster = [str(slots) for slots in (1, 2, 4, 8, 16) if one.repacks(slots)]
        how = f"repacked where {', '.join(faster)} answer at once" if faster else "as they are in the file"
        click.echo(f"- weights: {how}")
        if one.ubatch:
            click.echo(f"- tokens at once: {one.ubatch}")
        rates = ", ".join(f"{width} {width / seconds:,.0f}" for width, seconds in sorted(one.costs.items()))
        click.echo(f"- tokens/s by tokens in a step: {rates}")
        for note in one.notes:
            click.echo(safe(f"- {note}"))
