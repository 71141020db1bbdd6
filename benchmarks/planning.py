"""How exact the planner is, how full it fills a card, and what other planners would have placed on it.

    python benchmarks/planning.py exact     planned bytes against what llama.cpp's allocator sees, on virtual GPUs
    python benchmarks/planning.py fill      300 random cards and wishes: overfilled? how much stays unused?
    python benchmarks/planning.py rivals    layers placed on cards of 2 to 24 GiB, beside the rules of other programs
    python benchmarks/planning.py real      planned bytes against what llama.cpp allocates on this machine's own GPUs

But for the last, no GPU is needed: virtual ones are registered in llama.cpp, and models are headers with holes for weights. Every
figure about planning in RESULTS.md is printed here.
"""

from __future__ import annotations

import random
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent / "tests")]

import ggufs
import shapes
import virtual_gpu
from virtual_gpu import Case

from edgellm import gguf, plan, sizes
from edgellm.engines import devices, dry_run, parameters
from edgellm.engines.virtual import Card
from edgellm.gguf import Header
from edgellm.hardware import Device, Machine
from edgellm.plan import Plan, Wish

TIB, GIB, MIB = 1 << 40, 1 << 30, 1 << 20
CARDS = [Card(f"VGPU{number}", TIB) for number in range(2)]
REAL = ("mistral-7b", "mixtral-8x7b", "solar-10.7b", "qwen2.5-7b", "gemma3-4b")


def machine(rooms: list[int], backend: str = "virtual") -> Machine:
    """A machine with cards of these sizes and plenty of RAM."""
    devices = tuple(Device(f"VGPU{at}", "virtual", "gpu", room, room, backend) for at, room in enumerate(rooms))
    return Machine(devices, TIB, TIB, 1, 1, 1, "Linux", "x86_64", offload=True)


# -- exact -------------------------------------------------------------------------------------------------------------


def exact() -> int:
    """Load small models of every architecture for real, and compare every byte with the settled plan."""
    with tempfile.TemporaryDirectory() as folder:
        grid = [(path, made) for name in shapes.MODELS for path, made in _grid(Path(folder), name)]
        dry = virtual_gpu.ask(CARDS, [_case(path, made, dry=True) for path, made in grid], timeout_s=900)
        settled = [_with(made, answer) for (_, made), answer in zip(grid, dry, strict=True)]
        real = virtual_gpu.ask(CARDS, [_case(path, made, decode=8) for path, made in grid], timeout_s=900)
    off = [_difference(made, answer) for made, answer in zip(settled, real, strict=True)]
    estimate = [_estimate_error(made, answer) for (_, made), answer in zip(grid, real, strict=True)]
    print(
        f"{len(grid)} cases: {len(shapes.MODELS)} architectures x layers x cache type x context x slots x 1 or 2 GPUs,"
    )
    print("loaded and run for real on virtual GPUs.")
    print(f"settled plan (what `load` and `plan` use on Linux): largest difference {max(off)} bytes per GPU and kind")
    print(f"closed form: weights and cache off by {max(weights for weights, _ in estimate)} bytes at most;")
    extra = sorted(compute for _, compute in estimate)
    print(
        f"             work space too low in {sum(one < 0 for one in extra)} cases, median {statistics.median(extra):+.1%}"
    )
    return int(max(off) > 0 or extra[0] < 0)


def _grid(folder: Path, name: str, most: int = 2) -> Iterator[tuple[Path, Plan]]:
    path = shapes.write(folder, name, running=True)
    header = gguf.read(str(path))
    here = [TIB] * most
    for layers in (1, 3, "all"):
        for kind in ("f16", "q8_0"):
            for context, slots in ((512, 1), (2048, 4)):
                for rooms in (here[: count + 1] for count in range(most)):
                    wish = Wish(
                        gpu_layers=layers,  # type: ignore[arg-type]
                        kv_type=kind,  # type: ignore[arg-type]
                        context=context,
                        slots=slots,
                        threads=1,
                        margin_bytes=0,
                    )
                    if kind == "f16" or not header.key_length % 32:
                        yield path, plan.fit(header, machine(rooms), wish)


def _case(path: Path, made: Plan, *, dry: bool = False, decode: int = 0) -> Case:
    return Case(str(path), asdict(made), list(range(len(made.devices))), dry=dry, decode=decode)


def _with(made: Plan, answer: dict) -> Plan:  # type: ignore[type-arg]
    measured = {
        one.device: tuple((device["told"] or {"weights": 0, "kv": 0, "compute": 0}).values())
        for one, device in zip(made.devices, answer["devices"], strict=True)
    }
    found = plan.weighed(made, measured)  # type: ignore[arg-type]
    assert found
    return found


def _difference(made: Plan, answer: dict) -> int:  # type: ignore[type-arg]
    pairs = zip(made.devices, answer["devices"], strict=True)
    return max(
        abs(mine - seen)
        for one, device in pairs
        for mine, seen in zip(
            (one.weights_bytes, one.kv_bytes, one.compute_bytes), device["seen"].values(), strict=True
        )
    )


def _estimate_error(made: Plan, answer: dict) -> tuple[int, float]:  # type: ignore[type-arg]
    worst, compute = 0, []
    for one, device in zip(made.devices, answer["devices"], strict=True):
        seen = device["seen"]
        worst = max(worst, abs(one.weights_bytes - seen["weights"]), abs(one.kv_bytes - seen["kv"]))
        compute += [one.compute_bytes / seen["compute"] - 1] if seen["compute"] else []
    return worst, min(compute, default=0.0)


# -- real --------------------------------------------------------------------------------------------------------------


def real() -> int:
    """Load small models of every architecture on the first GPU that is here, and compare every byte with the dry run."""
    found = devices.look().devices
    if not found:
        sys.exit("There is no GPU here that the installed llama.cpp can use.")
    card, lib, off, failed = found[0], devices.low_level(), list[int](), list[str]()
    devices.hush(lib)
    with tempfile.TemporaryDirectory() as folder:
        grid = [(path, made) for name in shapes.MODELS for path, made in _grid(Path(folder), name, most=1)]
        for path, made in grid:
            told, seen = (_loaded(lib, str(path), made, dry=dry) for dry in (True, False))
            if isinstance(told, str) or isinstance(seen, str):
                failed.append(f"{path.stem}: {told if isinstance(told, str) else seen}")
                continue
            off.append(max((abs(a - b) for a, b in zip(_on(card, told), _on(card, seen), strict=True)), default=0))
    for words in failed:
        print(words)
    print(
        f"{len(grid)} cases on {card.description}: {len(shapes.MODELS)} architectures x layers x cache type x context x slots,"
    )
    print(f"loaded and run for real; not possible: {len(failed)}")
    print(f"largest difference between dry run and allocation: {max(off)} bytes per kind")
    return max(off) + len(failed)


def _on(card: Device, rows: list[dry_run.Bytes]) -> list[int]:
    mine = [row for row in rows if row.buffer == card.name]
    return [sum(getattr(row, kind) for row in mine) for kind in ("weights_bytes", "kv_bytes", "compute_bytes")]


def _loaded(lib: Any, path: str, made: Plan, *, dry: bool) -> list[dry_run.Bytes] | str:
    """Load a model, let it read a prompt and say a token, and return what llama.cpp then holds; dry, what it would hold."""
    keep: list[Any] = []
    if dry:
        model = dry_run.dry_model(lib, path, asdict(made), keep)
    else:
        model = lib.llama_model_load_from_file(path.encode(), parameters.model_parameters(lib, asdict(made), keep))
    if not model:
        return "the model could not be loaded"
    context = lib.llama_init_from_model(model, parameters.context_parameters(lib, asdict(made)))
    if not context:
        lib.llama_model_free(model)
        return "no context could be made"
    tokens, status = (lib.llama_token * 12)(*range(3, 15)), 0
    for count in (12, 1) if not dry else ():
        status = status or lib.llama_decode(context, lib.llama_batch_get_one(tokens, count))
        lib.llama_synchronize(context)
    rows = dry_run.breakdown(lib, context)
    lib.llama_free(context)
    lib.llama_model_free(model)
    return rows if not status else f"it could not be run (code {status})"


# -- fill --------------------------------------------------------------------------------------------------------------


def fill() -> int:
    """Fill 300 random cards with models of real shapes, weighed by llama.cpp's dry run."""
    dice, over, used, idle = random.Random(7), 0, list[float](), 0
    with tempfile.TemporaryDirectory() as folder:
        for name in REAL:
            path = ggufs.write_shape(Path(folder, f"{name}.gguf"), name)
            header = gguf.read(str(path))
            for _ in range(60):
                room = int(dice.uniform(GIB, header.tensor_bytes * 1.1))
                wish = Wish(
                    context=dice.choice([512, 2048, 4096]), slots=dice.choice([1, 4]), threads=1, margin_bytes=0
                )
                made = dry_run.settle(header, machine([room]), wish, weigh=_weigher(path))
                left = room - made.devices[0].used_bytes
                over += left < 0
                if made.gpu_layers <= header.layers or made.tensor_overrides:
                    used.append(1 - left / room)
                    idle += left >= _smallest_unit(header, made)
    print(f"300 cards of 1 GiB to 1.1 times the model, {', '.join(REAL)}:")
    print(f"out of memory: {over}")
    print(
        f"cards too small for the model: {len(used)}, median use {statistics.median(used):.2%}, least {min(used):.2%}"
    )
    print(f"cards with room left for the smallest layer or tensor that is still in RAM: {idle}")
    return over + idle


def _weigher(path: Path) -> dry_run.Weigh:
    def weigh(made: Plan) -> list[dry_run.Bytes]:
        (answer,) = virtual_gpu.ask(CARDS, [_case(path, made, dry=True)])
        told = answer["devices"][0]["told"] or {"weights": 0, "kv": 0, "compute": 0}
        return [dry_run.Bytes("VGPU0", False, *told.values())]

    return weigh


def _smallest_unit(header: Header, made: Plan) -> int:
    """Bytes of the smallest thing in RAM that could still move: a layer with its cache, a single tensor, the output."""
    body = sizes.anatomy(header)
    cache = sizes.kv_token_bytes(body, made.kv_type) // max(1, len(body.layers)) * made.cells
    first = len(body.layers) + 1 - made.gpu_layers
    units = [sum(tensor.bytes for tensor in layer) + cache for layer in body.body[:first]]
    kept = [re.compile(pattern) for pattern, _ in made.tensor_overrides]
    tensors = [*body.output, *(tensor for layer in body.body[first:] for tensor in layer)]
    return min(units + [tensor.bytes for tensor in tensors if any(one.search(tensor.name) for one in kept)])


# -- rivals ------------------------------------------------------------------------------------------------------------


def rivals() -> int:
    """Print the table; returns the number of rows in which another rule places more layers."""
    behind = 0
    print(
        "Layers on the GPU (of all, the output counted as one), context 4,096, one conversation, 16-bit cache for others."
    )
    print(f"{'model':<14}{'card':>7}  {'edgellm':>9}{'fit rule':>10}{'old ollama':>12}{'koboldcpp':>11}")
    with tempfile.TemporaryDirectory() as folder:
        for name in REAL[:4]:
            header = gguf.read(str(ggufs.write_shape(Path(folder, f"{name}.gguf"), name)))
            for card in (2, 3, 4, 6, 8, 10, 12, 16, 20, 24):
                ours = _layers(header, card * GIB, Wish(context=4096, slots=1, threads=1))
                others = [rule(header, card * GIB) for rule in (fit_rule, old_ollama, koboldcpp)]
                behind += ours < max(others)
                row = "".join(f"{count:>{width}}" for count, width in zip(others, (10, 12, 11), strict=True))
                print(f"{name:<14}{card:>3} GiB  {ours:>5}/{header.layers + 1:<3}{row}")
    print(f"rows in which another rule places more: {behind}")
    return behind


def _layers(header: Header, room: int, wish: Wish) -> int:
    return plan.fit(header, machine([room], "CUDA"), wish).gpu_layers


def fit_rule(header: Header, room: int) -> int:
    """llama.cpp --fit (common/fit.cpp): 1 GiB stays free, the cache stays at 16 bits, the micro-batch at 512.

    Generous to it: placed by our own planner, which also moves single tensors of dense models.
    """
    wish = Wish(context=4096, slots=1, threads=1, kv_type="f16", ubatch=512, margin_bytes=GIB)
    return _layers(header, room, wish)


def old_ollama(header: Header, room: int) -> int:
    """ollama's estimate until 2026 (fs/ggml/ggml.go GraphSize, llm/memory.go), for llama-family models."""
    context, batch, width = 4096, 512, header.embedding
    heads, kv_heads = max(header.heads), max(header.kv_heads)
    head, vocab = header.key_length, header.vocab_size
    full = max(4 * batch * (1 + 4 * width + context * (1 + heads)), 4 * batch * (width + vocab))
    partial = 4 * batch * width + max(
        4 * batch * (1 + width + max(context, width))
        + width**2 * 9 // 16
        + 4 * context * (batch * heads + head * kv_heads),
        4 * batch * (width + vocab) + width * vocab * 105 // 128,
    )
    body = sizes.anatomy(header)
    gates = [tensor.bytes for tensor in body.body[0] if tensor.name.endswith("ffn_gate_exps.weight")]
    if gates:
        ffn = int(header.metadata[f"{header.architecture}.feed_forward_length"])
        partial = max(
            3 * gates[0] + 4 * batch * (2 * ffn + kv_heads + width + context + head * kv_heads),
            4 * (context * batch * heads + context * head * kv_heads + batch * 1024 + head * kv_heads * batch),
        )
    cache = context * 2 * head * kv_heads * 2
    layers = [sum(tensor.bytes for tensor in layer) + cache for layer in body.body]
    output = sum(tensor.bytes for tensor in body.output)
    least = 457 * MIB
    if room < max(partial, full) + least + 2 * layers[0]:
        return 0
    if sum(layers) + output + full + least <= room:
        return header.layers + 1
    return _taken(layers[::-1], room - least - partial)


def koboldcpp(header: Header, room: int) -> int:
    """koboldcpp's autoset_gpu_layers (koboldcpp.py), batch 512, no flash-attention discount."""
    context, size, layers = 4096, header.file_bytes, header.layers
    heads, head = max(header.kv_heads), header.key_length
    ratio = room / (size * 1.2 * 1.6)
    first, second = layers * 4 * head * context * 4 * 1.45, layers * heads * head * context * 4 * 1.15
    ratio = max(ratio, (room - 1.25 * GIB - first) / (size + second))
    count = min(int(ratio * layers), layers + 1)
    return 0 if count <= 2 else count


def _taken(costs: list[int], room: int) -> int:
    count = 0
    for cost in costs:
        room -= cost
        if room < 0:
            break
        count += 1
    return count


COMMANDS: dict[str, Callable[[], int]] = {"exact": exact, "fill": fill, "rivals": rivals, "real": real}

if __name__ == "__main__":
    if sys.argv[1:2] == [] or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    sys.exit(COMMANDS[sys.argv[1]]() and 1)
