"""Make a deeper model from a GGUF file, as SOLAR 10.7B was made from Mistral 7B: depth up-scaling (arXiv:2312.15166).

    python examples/depth_upscale.py [IN.gguf OUT.gguf] [-m 8]

Two copies of the n layers are stacked, without the last m of the first copy and the first m of the second: with 32 layers
and m = 8, the layers 0-23 and 8-31 make 48. Nothing is computed, so the file keeps its quantization; it is a start for further
training, not a better model. Without arguments it shows all that on the embedded model, with m a quarter of its layers.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf

import edgellm


def order(layers: int, m: int) -> list[int]:
    """Which layer of the old model each layer of the new one is."""
    if not 0 <= m < layers:
        raise SystemExit(f"m must be from 0 to {layers - 1}, not {m}: the model has {layers} layers.")
    return [*range(layers - m), *range(m, layers)]


def upscale(source: Path, target: Path, m: int) -> list[int]:
    """Write the deeper model, tensor by tensor: never more than one of them is in memory."""
    if target.exists():
        raise SystemExit(f"{target} is there already.")
    reader = gguf.GGUFReader(source)
    if "split.count" in reader.fields and reader.fields["split.count"].contents() > 1:
        raise SystemExit(f"{source} is one of several parts: join them first (llama-gguf-split --merge).")
    architecture = reader.fields["general.architecture"].contents()
    layers = reader.fields[f"{architecture}.block_count"].contents()
    chosen = order(layers, m)
    tensors = list(arranged(reader.tensors, chosen))
    needed = sum(int(tensor.n_bytes) for _, tensor in tensors) + source.stat().st_size // 8
    if (free := shutil.disk_usage(target.parent).free) < needed:
        raise SystemExit(f"{target} needs about {needed:,} bytes, and {free:,} are free.")

    part = target.with_name(f".{target.name}.part")
    writer = gguf.GGUFWriter(part, architecture)
    describe(reader, writer, architecture, chosen)
    for name, tensor in tensors:
        writer.add_tensor_info(name, tensor.data.shape, tensor.data.dtype, tensor.data.nbytes, tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, tensor in tensors:
        writer.write_tensor_data(tensor.data)
    writer.close()
    part.replace(target)
    return chosen


def arranged(tensors: list[Any], chosen: list[int]) -> Any:
    """Every tensor of the new model with its new name: what stands before the layers, the layers, what follows them."""
    by_layer: dict[int, list[Any]] = {}
    rest = []
    for tensor in tensors:
        head, _, tail = tensor.name.partition(".")
        by_layer.setdefault(int(tail.split(".")[0]), []).append(tensor) if head == "blk" else rest.append(tensor)
    yield from ((tensor.name, tensor) for tensor in rest)
    for new, old in enumerate(chosen):
        for tensor in by_layer[old]:
            yield tensor.name.replace(f"blk.{old}.", f"blk.{new}.", 1), tensor


def describe(reader: Any, writer: Any, architecture: str, chosen: list[int]) -> None:
    """Copy the metadata; counts of layers grow, and lists with one value per layer follow the new order."""
    layers = reader.fields[f"{architecture}.block_count"].contents()
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        kind, value = field.types[0], field.contents()
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        if key == f"{architecture}.block_count":
            value = len(chosen)
        elif key == "general.name":
            value = f"{value} ({len(chosen)} layers)"
        elif inner and key.startswith(f"{architecture}.") and len(value) == layers:
            value = [value[old] for old in chosen]
        writer.add_key_value(key, value, kind, sub_type=inner)


def show(path: Path) -> None:
    """Open the deeper model: its plan, and that it runs."""
    with edgellm.load(path) as model:
        print(*model.plan.reasons, sep="\n")
        reply = model.chat([{"role": "user", "content": "Good morning"}], sampling=edgellm.Sampling(max_tokens=16))
        print(f"It runs: {reply.tokens} tokens, {reply.tokens_per_s:.0f} a second. What it says needs training first.")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Depth up-scaling of a GGUF file.")
    parser.add_argument("source", nargs="?", type=Path)
    parser.add_argument("target", nargs="?", type=Path)
    parser.add_argument("-m", type=int, help="layers left out of each copy; 8 is what SOLAR did with 32")
    given = parser.parse_args()
    if (given.source is None) != (given.target is None):
        sys.exit("give both files, or none for the demonstration.")
    with tempfile.TemporaryDirectory() as folder:
        if given.source is None:
            with edgellm.load("demo") as demo:
                given.source, layers = Path(demo.header.path), demo.header.layers
            given.target, given.m = Path(folder, "deeper.gguf"), layers // 4 if given.m is None else given.m
        chosen = upscale(given.source, given.target, 8 if given.m is None else given.m)
        print(f"{given.target.name}: {len(chosen)} layers, made of {', '.join(map(str, chosen))}.")
        show(given.target)


if __name__ == "__main__":
    main()
