"""A plan as llama.cpp's parameters: written once, for the engine that loads by it and for the dry run that weighs it."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

from edgellm.decision import DRAFTS
from edgellm.engines.devices import symbol

KV_TYPES = {"f16": 1, "q4_0": 2, "q8_0": 8}  # ggml.h, enum ggml_type


def model_parameters(lib: Any, plan: Mapping[str, Any], keep: list[Any]) -> Any:
    """Fill llama_model_params from a plan's fields; `keep` holds what C only points to."""
    params = lib.llama_model_default_params()
    params.n_gpu_layers = plan["gpu_layers"]
    # Repacking weights costs a second copy in memory and seconds of loading; mmap starts at once.
    params.use_extra_bufts = plan["repack"]
    if plan["tensor_split"]:
        keep.append((ctypes.c_float * lib.llama_max_devices())(*plan["tensor_split"]))
        params.tensor_split = keep[-1]
    if plan["tensor_overrides"]:
        keep.append(_overrides(lib, plan["tensor_overrides"]))
        params.tensor_buft_overrides = ctypes.cast(keep[-1], ctypes.c_void_p)
    return params


def context_parameters(lib: Any, plan: Mapping[str, Any]) -> Any:
    """Fill llama_context_params from a plan's fields."""
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = plan["cells"], plan["batch"], plan["ubatch"]
    params.n_seq_max, params.kv_unified = plan["slots"], plan["kv_unified"]
    # One row per slot, and some to check drafts. The default reserves one for every token: 300 MB at a vocabulary of 150k.
    params.n_outputs_max = plan["slots"] + DRAFTS
    params.n_threads, params.n_threads_batch = plan["threads"], plan["threads_batch"]
    # Never "auto": where llama.cpp then finds one layer's attention on another device, it turns flash attention off for
    # all of them, and needs gigabytes for the scores.
    params.flash_attn_type = int(plan["flash_attention"])
    params.type_k = params.type_v = KV_TYPES[plan["kv_type"]]
    params.swa_full, params.op_offload = plan["swa_full"], plan["op_offload"]
    return params


def _overrides(lib: Any, wanted: Sequence[Sequence[str]]) -> Any:
    """Build llama.cpp's null-terminated list of (tensor pattern, buffer type); only RAM is named here."""

    class Override(ctypes.Structure):  # llama.h, struct llama_model_tensor_buft_override
        _fields_ = (("pattern", ctypes.c_char_p), ("buffer", ctypes.c_void_p))

    host = symbol(lib, "ggml_backend_cpu_buffer_type", ctypes.c_void_p)()
    rows = [Override(pattern.encode(), host) for pattern, _ in wanted]
    return (Override * (len(rows) + 1))(*rows, Override(None, None))
