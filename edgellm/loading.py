"""`load(name) -> Model`: the door of the house for programs.

It starts the worker's process before it reads any code of its own: the two processes read theirs at the same time.
"""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING, Literal

from edgellm import spawn

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from edgellm.adapter import Given
    from edgellm.here import Here
    from edgellm.model import Model
    from edgellm.source import Progress, Source


def load(
    model: str | os.PathLike[str] | Source | None = None,
    *,
    gpu_layers: int | Literal["auto", "all"] = "auto",
    context: int | None = None,
    slots: int = 4,
    threads: int | None = None,
    engine: Literal["auto", "llama_cpp", "ctransformers", "scripted"] = "auto",
    template: str | None = None,
    adapter: Given = None,
    deterministic: bool = False,
    offline: bool = False,
    in_process: bool = False,
    progress: Progress | None = None,
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
    process = None if in_process else spawn.start()

    worker: Worker | Here
    with _no_garbage():
        from edgellm.worker import Worker

        if process:
            worker = Worker(process)
        else:
            from edgellm.here import Here

            worker = Here()

        from edgellm import route
        from edgellm.decision import Wish

    return route.opened(
        model,
        worker,
        wish=Wish(gpu_layers=gpu_layers, context=context, slots=1 if deterministic else slots, threads=threads),
        engine=engine,
        template=template,
        adapter=adapter,
        deterministic=deterministic,
        offline=offline,
        progress=progress,
    )


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """While code is read nothing is garbage: looking for it would take some percent of a start."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
