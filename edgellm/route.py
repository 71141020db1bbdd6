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

from edgellm import adapter as loras
from edgellm import engines, forecast, gguf, hardware, margins, source, tune
from edgellm.here import Here
from edgellm.opening import Opening
from edgellm.plan import Wish, fit
from edgellm.worker import Worker

if TYPE_CHECKING:
    from edgellm.model import Model


def opened(
    model: str | os.PathLike[str] | source.Source | None,
    worker: Worker | Here,
    *,
    wish: Wish,
    engine: str,
    template: str | None,
    adapter: loras.Given,
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
        engines.check(runner, header, gpu=wish.gpu_layers != 0, in_process=isinstance(worker, Here))
        chosen = loras.choose(found.entry.adapter if adapter is None and found.entry else adapter, header)
        weights = [one.path for one in chosen]
        plan, paths = fit(loras.weighed(header, weights), here, wish), found.here
        if paths is None:
            paths = found.fetch(progress=progress)
            header = gguf.read(paths[0])
        planned = loras.weighed(header, weights)
        roomy = forecast.roomy(plan, planned)
        if runner == "llama_cpp":
            tuned = tune.known(header)
            if not roomy:
                plan = forecast.settled(plan, planned, here, wish, paths[0], base=header)
        plan = tune.applied(plan, tuned, wish, here)
        opening = Opening(
            engine=runner,
            paths=paths,
            plan=forecast.noted(plan, chosen),
            metadata=_small(header.metadata, without="tokenizer.chat_template" if template else ""),
            template_hint=template or (found.entry.template if found.entry else None),
            # What a driver takes beside an estimate is not known: only beside what llama.cpp itself has counted.
            margin_keys={} if roomy else {device.name: margins.key(device) for device in here.devices},
            adapters=chosen,
            deterministic=deterministic,
            costs=tune.costs(tuned, wish, plan),
        )
        # 75 ms of reading code, while the child reads weights.
        threading.Thread(target=importlib.import_module, args=("edgellm.model",)).start()
        worker.open(opening)
    except BaseException:
        worker.close()
        raise
    from edgellm.model import Model

    return Model(found, header, opening.plan, worker, opening)


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
    return margins.known(hardware.detect(seen.devices, seen.offload))


def _small(metadata: Mapping[str, Any], *, without: str) -> dict[str, Any]:
    """The file's metadata without its arrays: what a template needs, and little enough for a pipe."""
    return {key: value for key, value in metadata.items() if isinstance(value, str | int | float) and key != without}
