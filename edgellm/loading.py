"""`load(name) -> Model`: from a name to an open model.

Opening is `source.find → header → hardware.detect → plan.fit → source.fetch → worker.open`. It knows which rooms to walk
through, and nothing of what happens inside them: no tokens, no C, no terminal.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from edgellm import adapter as loras
from edgellm import engines, forecast, gguf, hardware, margins, source, tune
from edgellm.here import Here
from edgellm.opening import Opening, longest_step_s
from edgellm.plan import Wish, fit
from edgellm.worker import Worker

if TYPE_CHECKING:
    from edgellm.model import Model


def load(
    model: str | os.PathLike[str] | source.Source | None = None,
    *,
    gpu_layers: int | Literal["auto", "all"] = "auto",
    context: int | None = None,
    slots: int = 4,
    threads: int | None = None,
    engine: Literal["auto", "llama_cpp", "ctransformers", "scripted"] = "auto",
    template: str | None = None,
    adapter: loras.Given = None,
    deterministic: bool = False,
    offline: bool = False,
    in_process: bool = False,
    progress: source.Progress | None = None,
) -> Model:
    """Open a model by catalogue name, `user/repo[:QUANT][@revision]`, path or Source; without one, the default model.

    `context` is in tokens, `slots` is how many prompts are answered at once, `in_process` runs C in this process (a
    crash of the library then takes it along). `template` names the chat format of a file that carries none, or the
    wrong one: a key of `formats.FORMATS`. `adapter` is a LoRA as `FILE[:SCALE]`, used by every request; or several,
    as a list or under names in a dict, of which each request chooses one (`Model.using`); one named translate,
    summarize or extract is used by that task. `deterministic` gives the same bits for the same greedy or seeded
    request, at a cost: one prompt at a time, and less is remembered. Downloads only a model that was named. Raises
    ModelUnknown, DownloadFailed, ModelFileError, AdapterRefused, DoesNotFit, EngineMissing, EngineFailed.
    """
    worker, tuned = _worker(in_process=in_process), None
    try:
        found = model if isinstance(model, source.Source) else _found(model, offline=offline)
        header = found.header(offline=offline)
        # Before the download: what does not fit must not travel.
        here, runner = machine(worker), engines.chosen(engine)
        wish = Wish(gpu_layers=gpu_layers, context=context, slots=1 if deterministic else slots, threads=threads)
        wish = _possible(wish, runner)
        engines.check(runner, header, gpu=wish.gpu_layers != 0, in_process=in_process)
        chosen = loras.choose(found.entry.adapter if adapter is None and found.entry else adapter, header)
        weights = [one.path for one in chosen]
        plan, paths = fit(loras.weighed(header, weights), here, wish), found.here
        if paths is None:
            paths = found.fetch(progress=progress)
            header = gguf.read(paths[0])
        planned = loras.weighed(header, weights)
        if runner == "llama_cpp":
            plan, tuned = forecast.settled(plan, planned, here, wish, paths[0], base=header), tune.known(header)
        plan = tune.applied(plan, tuned, wish, here)
        opening = Opening(
            engine=runner,
            paths=paths,
            plan=forecast.noted(plan, chosen),
            metadata=_small(header.metadata, without="tokenizer.chat_template" if template else ""),
            template_hint=template or (found.entry.template if found.entry else None),
            margin_keys={device.name: margins.key(device) for device in here.devices},
            adapters=chosen,
            deterministic=deterministic,
            costs=tune.costs(tuned, wish, plan),
        )
        worker.open(opening)
    except BaseException:
        worker.close()
        raise
    return _opened(found, header, worker, opening)


def _worker(*, in_process: bool) -> Worker | Here:
    longest_step_s()  # a bad limit is refused here, where somebody reads it
    worker = Here() if in_process else Worker()
    import edgellm.model  # noqa: F401 - 75 ms of reading code, while the child reads its own

    return worker


def _opened(found: source.Source, header: gguf.Header, worker: Worker | Here, opening: Opening) -> Model:
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
