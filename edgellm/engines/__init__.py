"""The engines: one file each, opened by name. This room imports a backend only when it is asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from edgellm.engines.base import Engine
from edgellm.errors import EngineMissing, UsageError
from edgellm.plan import Plan

if TYPE_CHECKING:
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


def open(  # noqa: A001 - `engines.open` reads as what it does
    name: str, paths: Sequence[str], plan: Plan, adapters: Sequence[str] = ()
) -> Engine:
    """Open a model file (all parts of it), and adapters for it, with the engine called `name`.

    Raises EngineMissing (not installed), EngineFailed (the library refused) or UsageError (no such engine).
    """
    if adapters and name not in ("llama_cpp", "scripted"):
        raise UsageError(f"the engine {name} runs no adapters: use llama_cpp.")
    if name == "scripted":
        from edgellm.engines import scripted

        return scripted.from_environment(context=plan.context, slots=plan.slots)
    if name == "llama_cpp":
        from edgellm.engines.devices import low_level

        try:
            low_level()
        except (ImportError, OSError, RuntimeError) as error:  # not there, or its shared library cannot be loaded
            raise EngineMissing(
                f"llama-cpp-python cannot be used ({error}). Install it: pip install llama-cpp-python "
                "(compiles for some minutes), or from conda-forge, where it is prebuilt."
            ) from error
        from edgellm.engines.llama_cpp import LlamaCpp

        return LlamaCpp(paths, plan, adapters)
    if name == "ctransformers":
        from edgellm.engines import legacy
        from edgellm.engines.ctransformers import Ctransformers

        legacy.present(gpu=plan.gpu_layers > 0)
        return Ctransformers(paths, plan)
    raise UsageError(f"unknown engine {name!r}: use llama_cpp, ctransformers or scripted.")
