"""The engines: one file each, opened by name. This room imports a backend only when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgellm.engines.base import Engine
from edgellm.errors import EngineMissing, UsageError
from edgellm.plan import Plan

Name = Literal["llama_cpp", "scripted"]


def open(name: str, paths: Sequence[str], plan: Plan) -> Engine:  # noqa: A001 - `engines.open` reads as what it does
    """Open a model file (all parts of it) with the engine called `name`.

    Raises EngineMissing (not installed), EngineFailed (the library refused) or UsageError (no such engine).
    """
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

        return LlamaCpp(paths, plan)
    raise UsageError(f"unknown engine {name!r}: use llama_cpp or scripted.")
