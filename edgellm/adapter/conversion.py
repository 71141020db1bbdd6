"""From a PEFT folder to a GGUF adapter for one base file: names, shapes and the order of rows, as llama.cpp wants them.

The base is a header; no weight of it is read, and nothing of it is merged or quantized again. What the runtime would
refuse is refused before a byte is written.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgellm import gguf, outputs
from edgellm.adapter.file import Adapter, check, read
from edgellm.adapter.peft import Pair
from edgellm.adapter.peft import read as read_peft
from edgellm.errors import AdapterRefused, DiskFull, EngineMissing, OutputFailed

# llama.cpp's converter reorders the rows of q and k for these, from halves to neighbours (conversion/llama.py, permute);
# the attention of the others turns halves, as the Hugging Face models do.
_TURNED = frozenset({"llama", "granite"})
_AS_THEY_ARE = frozenset({"qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3"})
_LAYER = re.compile(r"blk\.(\d+)\.")
_MODULE_LAYER = re.compile(r"\.layers\.(\d+)\.")
_EXPERT = re.compile(r"\.experts\.")
_HEADER_BYTES = 64 << 10  # a generous header, beside the matrices


def convert(peft_dir: Path, base: Path | gguf.Header, out: Path, *, overwrite: bool = False) -> Adapter:
    """Write the LoRA in a PEFT folder as a GGUF adapter (F32) for the model whose file or header is `base`.

    The file is written beside `out`, checked against the base as the runtime would, and put in place at once. Raises
    AdapterRefused for an adapter that this base cannot run, UsageError, ModelFileError, DiskFull, and EngineMissing where
    the extra `adapter` is not installed.
    """
    header = gguf.read(base) if isinstance(base, Path) else base
    out = Path(out)
    outputs.check(out, overwrite=overwrite)
    rename = _renamer(header)
    pairs = _mapped(Path(peft_dir), read_peft(Path(peft_dir)), header, rename)
    outputs.check_room(out, sum(pair.a.nbytes + pair.b.nbytes for pair in pairs.values()) + _HEADER_BYTES)
    alpha, tensors = _arranged(pairs, header)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            part = Path(folder, "part.gguf")
            _write(part, header, Path(peft_dir).resolve().name, alpha, tensors)
            check(read(part), header)
            os.replace(part, out)
    except OSError as error:
        if isinstance(error, DiskFull):
            raise
        raise OutputFailed(f"cannot write {out}: {error.strerror or error}.") from error
    return read(out)


def permuted(rows: Any, heads: int) -> Any:
    """Reorder the rows of q or k from halves to neighbours: arch `llama` rotates neighbouring pairs."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def _renamer(header: gguf.Header) -> Callable[[str], str | None]:
    """Return a function from a PyTorch module to the tensor in this base, or None."""
    if header.architecture not in _TURNED | _AS_THEY_ARE:
        known = ", ".join(sorted(_TURNED | _AS_THEY_ARE))
        raise AdapterRefused(
            f"{header.path} is of the architecture {header.architecture!r}: whether the rows of its attention must be "
            f"reordered is not known here, and a guess would answer nonsense. Known: {known}."
        )
    try:
        import gguf as library
    except ImportError as error:
        raise EngineMissing("converting adapters needs two small libraries: pip install 'edgellm[adapter]'.") from error
    kind = next(kind for kind, name in library.MODEL_ARCH_NAMES.items() if name == header.architecture)
    names = library.get_tensor_name_map(kind, header.layers)

    def rename(module: str) -> str | None:
        plain = module.replace("model.language_model.", "model.").removeprefix("language_model.")
        found: str | None = names.get_name(plain + ".weight", try_suffixes=(".weight",))
        return found

    return rename


def _mapped(
    folder: Path, pairs: Mapping[str, Pair], header: gguf.Header, rename: Callable[[str], str | None]
) -> dict[str, Pair]:
    """Name the pairs as the base does, and hold their shapes against it."""
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    mapped: dict[str, Pair] = {}
    for module, pair in pairs.items():
        name = rename(module)
        if name is None or name not in shapes:
            raise AdapterRefused(f"{folder}: {module} {_why_not(module, name, header)}")
        if name in mapped:
            raise AdapterRefused(f"{folder}: {module} is the second to change {name}.")
        outputs, inputs = pair.shape
        if shapes[name] != (inputs, outputs):
            wanted = " x ".join(f"{length:,}" for length in reversed(shapes[name]))
            raise AdapterRefused(
                f"{folder}: {module} changes a weight of {outputs:,} x {inputs:,}, and {name} of {header.name} is "
                f"{wanted}: it was trained on another base."
            )
        mapped[name] = pair
    return {name: mapped[name] for name in shapes if name in mapped}  # safetensors has no order worth keeping


def _why_not(module: str, name: str | None, header: gguf.Header) -> str:
    if _EXPERT.search(module):
        return "changes single experts, which cannot be converted here: train attention (q, k, v, o) only."
    layer = _MODULE_LAYER.search(module)
    if layer and int(layer[1]) >= header.layers:
        return f"is in layer {layer[1]}, and {header.name} has {header.layers}: it was trained on another base."
    if name is None:
        return f"is no part of a {header.architecture} model: it was trained on another kind of base."
    if name == "output.weight":
        return f"changes the output layer, and {header.name} has none of its own (it uses its embedding): leave lm_head out."
    return f"would change {name}, which {header.name} does not have: it was trained on another kind of base."


def _arranged(pairs: Mapping[str, Pair], header: gguf.Header) -> tuple[float, dict[str, Any]]:
    """Return alpha and the tensors in llama.cpp's order.

    It multiplies each pair by alpha / rank, one alpha for all (src/llama-adapter.h, get_scale): where modules were trained
    with alphas of their own, the difference goes into b.
    """
    alphas = {name: pair.scale * pair.rank for name, pair in pairs.items()}
    alpha = next(iter(alphas.values()))
    tensors = {}
    for name, pair in pairs.items():
        a, b = pair.a, pair.b
        if alphas[name] != alpha:
            b = b * b.dtype.type(alphas[name] / alpha)
        if header.architecture in _TURNED and (layer := _LAYER.match(name)):
            number = int(layer[1])
            if name.endswith(".attn_q.weight"):
                b = permuted(b, header.heads[number])
            elif name.endswith(".attn_k.weight"):
                b = permuted(b, header.kv_heads[number])
        tensors[f"{name}.lora_a"] = (
            a.T if pair.embedding else a
        )  # src/llama-graph.cpp, build_inp_embd: rows are looked up
        tensors[f"{name}.lora_b"] = b
    return alpha, tensors


def _write(path: Path, header: gguf.Header, name: str, alpha: float, tensors: Mapping[str, Any]) -> None:
    """Write the keys that llama.cpp asks for (src/llama-adapter.cpp), and what the adapter is for."""
    import gguf as library
    import numpy as np

    out = library.GGUFWriter(path, header.architecture)
    out.add_type(library.GGUFType.ADAPTER)
    out.add_string(library.Keys.Adapter.TYPE, "lora")
    out.add_float32(library.Keys.Adapter.LORA_ALPHA, alpha)
    out.add_name(name)
    out.add_base_model_count(1)
    out.add_base_model_name(0, header.name)
    for tensor, array in tensors.items():
        out.add_tensor(tensor, np.ascontiguousarray(array))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
