"""llama-cpp-python's own class, for `compare.py` and for scripts whose start it times: this module imports little."""

from __future__ import annotations

import os
from typing import Any


def llama(path: str, **options: Any) -> Any:
    """The peer's own class, with repacked weights unless they kill it: llama.cpp's AMX kernels end in SIGILL on some CPUs."""
    import llama_cpp

    if os.environ.get("COMPARE_REPACK") == "0":
        default = llama_cpp.llama_cpp.llama_model_default_params

        def plain() -> Any:
            params = default()
            params.use_extra_bufts = False
            return params

        llama_cpp.llama_cpp.llama_model_default_params = llama_cpp.llama_model_default_params = plain
    if os.environ.get("COMPARE_GPU") == "1":
        options.setdefault("n_gpu_layers", -1)
    return llama_cpp.Llama(path, verbose=False, **options)
