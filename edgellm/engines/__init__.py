"""The engines: one file each, opened by name. This room imports a backend only when it is asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from edgellm.errors import UsageError

if TYPE_CHECKING:
    from edgellm.decision import Plan
    from edgellm.engines.base import Engine
    from edgellm.gguf import Header

Name = Literal["llama_cpp", "ctransformers", "scripted"]


def chosen(name: str) -> str:
    """Decide what `auto` means here: llama_cpp, or ctransformers where only that is installed."""
    if name != "auto":
        return name
    alone = not importlib.util.find_spec("llama_cpp") and importlib.util.find_spec("ctransformers")
    return "ctransformers" if alone else "llama_cpp"


def check(name: str, header: Header, *, gpu: bool, in_process: bool) -> None:
    """Refuse what an engine cannot do, from a model's header, before the model travels or is opened.

    Says on stderr what the legacy engine is. Raises ModelFileError, EngineMissing or UsageError.
    """
    if name != "ctransformers":
        return
    import logging

    from edgellm.engines import legacy

    if in_process:
        raise UsageError("ctransformers runs in a process of its own only: its C code is known to crash.")
    legacy.present(gpu=gpu)
    legacy.check(header)
    logging.getLogger("edgellm").warning(legacy.ABOUT)


class Begun(NamedTuple):
    """A model that is being opened."""

    finish: Callable[[], Engine]
    """Waits for it. Raises EngineMissing (not installed), EngineFailed (the library refused), UsageError (no such engine)."""
    free_bytes: Mapping[str, int]
    """What GPUs that it will use had free before, by name."""


def open(name: str, paths: Sequence[str], plan: Plan, adapters: Sequence[str] = ()) -> Engine:  # noqa: A001
    """Open a model file (all parts of it), and adapters for it, with the engine called `name`; see `Begun.finish`."""
    return begin(name, paths, plan, adapters).finish()


def begin(name: str, paths: Sequence[str], plan: Plan, adapters: Sequence[str] = ()) -> Begun:
    """Begin to open it: C reads weights in a thread of its own meanwhile, and the interpreter is free to read code."""
    if name != "llama_cpp":
        return Begun(partial(_open, name, paths, plan, adapters), {})
    from edgellm.engines.devices import free_bytes
    from edgellm.engines.loaded import Loading

    before = free_bytes() if plan.on_gpu else {}
    loading = Loading(paths, plan, adapters)

    def finish() -> Engine:
        from edgellm.engines.llama_cpp import LlamaCpp

        return LlamaCpp(paths, plan, loading=loading)

    return Begun(finish, before)


def _open(name: str, paths: Sequence[str], plan: Plan, adapters: Sequence[str]) -> Engine:
    if adapters and name != "scripted":
        raise UsageError(f"the engine {name} runs no adapters: use llama_cpp.")
    if name == "scripted":
        from edgellm.engines import scripted

        return scripted.from_environment(context=plan.context, slots=plan.slots)
    if name == "ctransformers":
        from edgellm.engines import legacy
        from edgellm.engines.ctransformers import Ctransformers

        legacy.present(gpu=plan.gpu_layers > 0)
        return Ctransformers(paths, plan)
    raise UsageError(f"unknown engine {name!r}: use llama_cpp, ctransformers or scripted.")
