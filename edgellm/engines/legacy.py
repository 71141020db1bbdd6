"""What can be said about ctransformers without running it: whether it can run a model, and whether it can be loaded.

It carries llama.cpp of September 2023. Reads headers and looks for libraries; the engine itself is `ctransformers`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm.errors import EngineMissing, ModelFileError

if TYPE_CHECKING:
    from edgellm.gguf import Header

ABOUT = (
    "engine ctransformers: llama.cpp of September 2023, one prompt at a time, llama-family files only; "
    "nothing in it has been fixed since. llama-cpp-python is the engine to prefer."
)
# ggml.h of that time: F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K.
_TYPES = frozenset({"F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"})


def check(header: Header) -> None:
    """Raise ModelFileError for a model that this library cannot run, with the reason and the cure."""
    if why := refusal(header):
        raise ModelFileError(header.path, f"ctransformers cannot run this model: {why}. Use --engine llama_cpp.")


def refusal(header: Header) -> str | None:
    """Say why this library cannot run a model, from its header alone; None where it can."""
    data, kind = header.metadata, header.architecture
    if kind != "llama":
        return f"it is of the {kind} architecture, and only llama is known to it"
    if data.get("tokenizer.ggml.model") != "llama":
        return f"its tokenizer is {data.get('tokenizer.ggml.model')!r}, and only SentencePiece is known to it"
    if data.get("llama.expert_count"):
        return "it is a mixture of experts, which came three months later"
    if str(data.get("llama.rope.scaling.type", "none")) != "none" or _has(header, "rope_freqs.weight"):
        return "it stretches its context by RoPE scaling, which this library would leave out"
    if header.key_length != header.embedding // max(1, header.heads[0]):
        return "its attention heads have a size of their own"
    if not _has(header, "output.weight"):
        return "its output shares the weights of its input, which came later"
    odd = sorted({tensor.type_name for tensor in header.tensors} - _TYPES)
    if odd:
        return f"its weights are of type {', '.join(odd)}, which came later"
    return None


def _has(header: Header, name: str) -> bool:
    return any(tensor.name == name for tensor in header.tensors)


def present(*, gpu: bool) -> None:
    """Look for the library, without loading it. Raises EngineMissing with the cure where something is missing."""
    if not importlib.util.find_spec("ctransformers"):
        raise EngineMissing("ctransformers is not installed: pip install 'edgellm[ctransformers]'.")
    missing = [name for name in ("cudart", "cublas") if gpu and sys.platform != "darwin" and not _cuda(name)]
    if missing:
        raise EngineMissing(
            f"ctransformers computes layers on a GPU with CUDA 12, and {' and '.join(f'lib{one}' for one in missing)} "
            "cannot be found: pip install 'ctransformers[cuda]', or use --gpu-layers 0."
        )


def _cuda(name: str) -> bool:
    """Look where ctransformers looks (ctransformers/lib.py, load_cuda), and where the system does."""
    from ctypes.util import find_library

    package = importlib.util.find_spec("nvidia")
    for place in (package.submodule_search_locations or ()) if package else ():
        if any(Path(place).glob(f"*/*/*{name}*12*")):
            return True
    return find_library(name) is not None


def library(*, gpu: bool) -> Any:
    """Load the shared library. Raises EngineMissing where that fails."""
    from ctransformers import llm

    try:
        return llm.load_library(gpu=gpu)
    except OSError as error:
        raise EngineMissing(f"ctransformers' library cannot be loaded: {error}.") from error
