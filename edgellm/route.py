"""The way from a name to an open model: `source.find → header → hardware.detect → plan.fit → source.fetch → worker.open`.

It knows which rooms to walk through, and nothing of what happens inside them: no tokens, no C, no terminal.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgellm import engines, gguf, hardware, source, tune
from edgellm.opening import Opening
from edgellm.plan import fit
from edgellm.worker import Worker

if TYPE_CHECKING:
    from edgellm.adapter import Choice, Given
    from edgellm.decision import Plan, Wish
    from edgellm.here import Here
    from edgellm.model import Model


def opened(
    model: str | os.PathLike[str] | source.Source | None,
    worker: Worker | Here,
    *,
    wish: Wish,
    engine: str,
    template: str | None,
    adapter: Given,
    deterministic: bool,
    offline: bool,
    progress: source.Progress | None,
) -> Model:
    """Open a model in this worker; see `loading.load`. A failure ends the worker."""
    tuned = None
    try:
        found = model if isinstance(model, source.Source) else _found(model, offline=offline)
        header = found.header(offline=offline)
        # Before the download: what does not fit must not travel.
        here, runner = machine(worker), engines.chosen(engine)
        wish = _possible(wish, runner)
        engines.check(runner, header, gpu=wish.gpu_layers != 0, in_process=not isinstance(worker, Worker))
        chosen = _adapters(found.entry.adapter if adapter is None and found.entry else adapter, header)
        plan, paths = fit(_with(chosen, header), here, wish), found.here
        if paths is None:
            paths = found.fetch(progress=progress)
            header = gguf.read(paths[0])
        margin_keys: dict[str, str] = {}
        if runner == "llama_cpp":
            tuned = tune.known(header, gpu=plan.on_gpu)
            if plan.on_gpu:
                plan, margin_keys = _on_gpus(plan, header, chosen, here, wish, paths[0])
        plan = tune.applied(plan, tuned, wish, here)
        opening = Opening(
            engine=runner,
            paths=paths,
            plan=_noted(plan, chosen),
            metadata=_small(header.metadata, without="tokenizer.chat_template" if template else ""),
            template_hint=template or (found.entry.template if found.entry else None),
            margin_keys=margin_keys,
            adapters=chosen,
            deterministic=deterministic,
            costs=tune.costs(tuned, wish, plan),
        )
        # Its code is read while the child reads weights.
        threading.Thread(target=importlib.import_module, args=("edgellm.model",)).start()
        worker.open(opening)
    except BaseException:
        worker.close()
        raise
    from edgellm.model import Model

    return Model(found, header, opening.plan, worker, opening)


# Rooms that most loads do not need are opened where one does: reading their code is half of a small model's start.


def _adapters(given: Given, header: gguf.Header) -> tuple[Choice, ...]:
    if given is None:
        return ()
    from edgellm import adapter

    return adapter.choose(given, header)


def _with(chosen: tuple[Choice, ...], header: gguf.Header) -> gguf.Header:
    """The header, heavier by the adapters."""
    if not chosen:
        return header
    from edgellm import adapter

    return adapter.weighed(header, [one.path for one in chosen])


def _noted(plan: Plan, chosen: tuple[Choice, ...]) -> Plan:
    """The plan, with what adapters take among its reasons."""
    if not chosen:
        return plan
    from edgellm import forecast

    return forecast.noted(plan, chosen)


def _on_gpus(
    plan: Plan, header: gguf.Header, chosen: tuple[Choice, ...], here: hardware.Machine, wish: Wish, path: str
) -> tuple[Plan, dict[str, str]]:
    """Let llama.cpp weigh a plan that is tight; returns it, and under which names what drivers take beside it is noted.

    What they take beside an estimate is not known: nothing is noted then.
    """
    from edgellm import forecast, margins

    planned = _with(chosen, header)
    if forecast.roomy(plan, planned):
        return plan, {}
    plan = forecast.settled(plan, planned, here, wish, path, base=header)
    return plan, {device.name: margins.key(device) for device in here.devices}


def _possible(wish: Wish, runner: str) -> Wish:
    """What the legacy engine can be asked for at all."""
    if runner != "ctransformers":
        return wish
    return replace(wish, gpu_layers=0 if wish.gpu_layers == "auto" else wish.gpu_layers, slots=1, kv_type="f16")


def _found(model: str | os.PathLike[str] | None, *, offline: bool) -> source.Source:
    return source.find(os.fspath(model or source.default()[0]), offline=offline)


def machine(worker: Worker | Here) -> hardware.Machine:
    """Look at the machine, with the GPUs that the installed build can use."""
    seen = worker.devices()
    found = hardware.detect(seen.devices, seen.offload)
    if not found.devices:
        return found
    from edgellm import margins

    return margins.known(found)


def _small(metadata: Mapping[str, Any], *, without: str) -> dict[str, Any]:
    """The file's metadata without its arrays: what a template needs, and little enough for a pipe."""
    return {key: value for key, value in metadata.items() if isinstance(value, str | int | float) and key != without}
