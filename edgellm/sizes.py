"""How many bytes llama.cpp will allocate for a model, and where: weights, KV cache, compute buffers, in closed form.

Every formula names the llama.cpp source it mirrors (the version that `pyproject.toml` pins); the tests hold it against
llama.cpp's own allocator. It knows sizes only: what to choose is decided in `plan`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from edgellm.decision import DRAFTS

if TYPE_CHECKING:
    from edgellm.gguf import Header, Tensor
    from edgellm.machine import Device

KV_BYTES = {"f16": (2, 1), "q8_0": (34, 32), "q4_0": (18, 32)}
"""Bytes of a block and elements in it: ggml-common.h, block_q8_0 and block_q4_0."""

_LAYER = re.compile(r"^blk\.(\d+)\.")
_INPUT = ("token_embd.weight", "position_embd.", "token_types.", "per_layer_token_embd.")  # LLM_TENSOR_LAYER_INPUT
_EXPERT = re.compile(r"\.ffn_(up|down|gate|gate_up)_(ch|)exps\.")
_PLAIN_TYPES = frozenset({0, 1, 24, 25, 26, 27, 28, 30})  # ggml.h: F32, F16, I8, I16, I32, I64, F64, BF16: never padded
_PASSING_INPUTS_BYTES = 32 * 1024  # measured with small models: inputs that are copied along, 12 KiB at most
_OFFLOAD_TOKENS = 32  # ggml-cuda.cu, op_offload_min_batch_size: from here on, the GPU computes what lies in RAM too
_HOST_ALIGNMENT = 32  # ggml.c, tensors inside a mapped file

# Every how many layers one attends to everything, and whether the first one does: src/models/*.cpp, load_swa_pattern.
_SWA_PERIOD = {
    "afmoe": (4, False),
    "cohere2": (4, False),
    "exaone4": (4, False),
    "exaone-moe": (4, False),
    "gemma2": (2, False),
    "gemma3": (6, False),
    "gemma3n": (5, False),
    "gpt-oss": (2, False),
    "llama4": (4, False),
    "mellum": (4, False),
    "olmo2": (4, False),
    "plamo3": (8, False),
    "smallthinker": (4, True),
}
_SWA_WINDOW = {"gemma2": 4096, "llama4": 8192, "exaone-moe": 128, "smallthinker": 4096}  # what the code sets by itself
_SWA_BY_ARRAY = frozenset({"gemma4", "granite-swa", "mimo2", "step35"})
# Layers whose key and value heads are 0 keep a state of fixed size instead: src/models/*.cpp, is_recr_impl.
_RECURRENT_WITHOUT_HEADS = frozenset(
    {"jamba", "granitehybrid", "lfm2", "lfm2moe", "plamo2", "nemotron_h", "nemotron_h_moe"}
)
_RECURRENT_BY_INTERVAL = frozenset({"qwen3next", "qwen35", "qwen35moe"})
_RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv7", "rwkv6qwen2", "arwkv7"})


def padded(count: int, step: int) -> int:
    """Round up to a multiple of `step`."""
    return -(-count // step) * step


@dataclass(frozen=True, slots=True)
class Layout:
    """The choices that decide how much memory a context takes."""

    cells: int  # tokens the cache holds, for all slots together; a multiple of 256
    slots: int
    ubatch: int  # tokens computed at once
    kv_type: str
    swa_full: bool = True

    @property
    def tokens(self) -> int:
        """Tokens in the biggest graph, as many for each slot: src/llama-context.cpp, sched_reserve and graph_reserve."""
        return padded(min(self.cells, self.ubatch), self.slots)

    def window_cells(self, window: int) -> int:
        """Return the cells of the sliding-window layers: src/llama-kv-cache-iswa.cpp."""
        if self.swa_full:
            return self.cells
        return padded(min(self.cells, window * self.slots + self.ubatch), 256)


@dataclass(frozen=True, slots=True)
class Layer:
    """One repeating layer, as far as memory is concerned."""

    heads: int
    kv_heads: int
    key: int  # elements of one key
    value: int  # 0: the values are part of the keys (MLA)
    windowed: bool
    attends: bool  # keeps keys and values of its own
    state: tuple[int, int]  # elements of the recurrent state; (0, 0) for none
    dense: int  # width of the feed-forward part that every token goes through
    routed: int  # width of one expert
    biased: bool
    returning: int  # elements a token that go back to a cache in RAM: keys and values, with the queries where fused


@dataclass(frozen=True)
class Anatomy:
    """What a model's header says about its memory."""

    architecture: str
    embedding: int
    vocab: int
    window: int  # 0: none
    layers: tuple[Layer, ...]
    experts: int
    experts_used: int
    input: tuple[Tensor, ...]
    body: tuple[tuple[Tensor, ...], ...]  # one entry a layer
    output: tuple[Tensor, ...]
    shared: tuple[Tensor, ...]  # copied to wherever a layer that uses them lies

    @cached_property
    def kinds(self) -> tuple[int, ...]:
        """For every layer, the first layer that is like it: sums over a hundred layers become sums over two or three."""
        first: dict[Layer, int] = {}
        return tuple(first.setdefault(layer, index) for index, layer in enumerate(self.layers))

    @cached_property
    def home(self) -> Mapping[str, int]:
        """The layer of every tensor in a layer."""
        return {tensor.name: index for index, tensors in enumerate(self.body) for tensor in tensors}

    @cached_property
    def widest(self) -> tuple[int, ...]:
        """Bytes of the biggest tensor of every layer."""
        return tuple(max((tensor.bytes for tensor in tensors), default=0) for tensors in self.body)

    @cached_property
    def scales(self) -> dict[tuple[int, bool], Scale]:
        """What tensors take in buffers of a kind, remembered."""
        return {}

    def scale(self, alignment_bytes: int, row_padding: bool) -> Scale:
        """Weigh all tensors for buffers of this kind."""
        key = (alignment_bytes, row_padding)
        if key not in self.scales:
            tensors = [*self.input, *self.output, *self.shared, *(t for layer in self.body for t in layer)]
            each = {tensor.name: tensor_bytes(tensor, alignment_bytes, row_padding) for tensor in tensors}
            self.scales[key] = Scale(each, tuple(sum(each[t.name] for t in layer) for layer in self.body))
        return self.scales[key]

    def count(self, layers: Iterable[int]) -> Counter[int]:
        """Count layers by kind."""
        return Counter(self.kinds[index] for index in layers)


class Scale(NamedTuple):
    """Bytes in buffers of one kind."""

    tensors: Mapping[str, int]
    layers: tuple[int, ...]


def anatomy(header: Header) -> Anatomy:
    """Sort a header's tensors into the parts that llama.cpp places: src/llama-arch.cpp, LLM_TENSOR_INFOS."""
    body: list[list[Tensor]] = [[] for _ in range(header.layers)]
    inputs, outputs, shared = [], [], []
    # LFM2 calls its last norm token_embd_norm; elsewhere it is the first one.
    first = ("per_layer_",) if header.architecture.startswith("lfm2") else ("token_embd_norm.", "per_layer_")
    for tensor in header.tensors:
        match = _LAYER.match(tensor.name)
        if match and int(match[1]) < header.layers:
            body[int(match[1])].append(tensor)
        elif tensor.name.startswith(_INPUT):
            inputs.append(tensor)
        elif tensor.name.startswith("rope_f"):
            shared.append(tensor)
        elif tensor.name.startswith(first) and body:
            body[0].append(tensor)  # "do the norms on the first layer (not the input layer)"
        else:
            outputs.append(tensor)
    if not any(tensor.name == "output.weight" for tensor in outputs):
        # Tied embeddings: the output layer gets a copy of its own.
        outputs += [tensor for tensor in inputs if tensor.name == "token_embd.weight"]
    return Anatomy(
        architecture=header.architecture,
        embedding=header.embedding,
        vocab=header.vocab_size,
        window=_window(header),
        layers=tuple(_layers(header, body)),
        experts=header.experts,
        experts_used=header.experts_used,
        input=tuple(inputs),
        body=tuple(map(tuple, body)),
        output=tuple(outputs),
        shared=tuple(shared),
    )


def _key(header: Header, name: str, default: Any = 0) -> Any:
    return header.metadata.get(f"{header.architecture}.{name}", default)


def _window(header: Header) -> int:
    """Return the sliding window in tokens, 0 where the architecture's code ignores or lacks it."""
    name, said = header.architecture, header.sliding_window or 0
    if name == "llama4":
        return 0 if _key(header, "attention.sliding_window", None) == 0 else 8192
    if name == "exaone4":
        return (said or 4096) if header.layers == 64 else 0
    if name in _SWA_BY_ARRAY or name in ("gemma2", "exaone-moe"):
        return said or _SWA_WINDOW.get(name, 0)
    if name in _SWA_PERIOD and said:
        return _SWA_WINDOW.get(name, said)
    return 0


def _windowed(header: Header, index: int) -> bool:
    """Say whether a layer attends to the window only: src/llama-hparams.cpp, set_swa_pattern."""
    if not _window(header):
        return False
    pattern = _key(header, "attention.sliding_window_pattern", None)
    if isinstance(pattern, Sequence) and not isinstance(pattern, str):
        return index < len(pattern) and bool(pattern[index])
    period, dense_first = _SWA_PERIOD.get(header.architecture, (1, False))
    period = pattern if isinstance(pattern, int) and not isinstance(pattern, bool) else period
    if period == 0:
        return True
    return index % period != 0 if dense_first else index % period < period - 1


def _layers(header: Header, body: Sequence[Sequence[Tensor]]) -> Iterable[Layer]:
    name = header.architecture
    with_cache = _layers_with_cache(header)
    mla = bool(_key(header, "attention.key_length_mla") and _key(header, "attention.value_length_mla"))
    key, value, heads, kv_heads = header.key_length, header.value_length, header.heads, header.kv_heads
    for index in range(header.layers):
        windowed = _windowed(header, index)
        recurrent, tensors = _recurrent(header, index), body[index]
        own_key = _key(header, "attention.key_length_swa", key) if windowed else key
        own_value = 0 if mla else _key(header, "attention.value_length_swa", value) if windowed else value
        fused = [tensor.shape[1] for tensor in tensors if tensor.name.endswith(".attn_qkv.weight")]
        yield Layer(
            heads=heads[index],
            kv_heads=kv_heads[index],
            key=own_key,
            value=own_value,
            windowed=windowed,
            attends=index < with_cache and (not recurrent or name == "falcon-h1"),
            state=_state(header) if recurrent else (0, 0),
            dense=_ffn_width([tensor for tensor in tensors if not is_expert(tensor.name)]),
            routed=_ffn_width([tensor for tensor in tensors if is_expert(tensor.name)]),
            biased=any(tensor.name.endswith(".bias") for tensor in tensors),
            returning=max([kv_heads[index] * (own_key + own_value), *fused]),
        )


def _layers_with_cache(header: Header) -> int:
    """Return how many layers keep keys and values; the rest reuse theirs, or only predict further tokens (MTP)."""
    if header.architecture == "gemma3n":
        return 20
    if header.architecture == "gemma4":
        return header.layers - int(_key(header, "attention.shared_kv_layers"))
    return header.layers - int(_key(header, "nextn_predict_layers"))


def _recurrent(header: Header, index: int) -> bool:
    name = header.architecture
    if name in _RECURRENT or name == "falcon-h1":
        return True
    if name in _RECURRENT_WITHOUT_HEADS:
        ff = _key(header, "feed_forward_length")
        idle = name.startswith("nemotron") and (ff[index] if isinstance(ff, Sequence) else ff)
        return header.kv_heads[index] == 0 and not idle
    if name in _RECURRENT_BY_INTERVAL:
        return bool((index + 1) % int(_key(header, "full_attention_interval", 4)))
    return False


def _state(header: Header) -> tuple[int, int]:
    """Return the elements of a recurrent layer's two states: src/llama-hparams.cpp, n_embd_r and n_embd_s."""
    if head := int(_key(header, "wkv.head_size")):
        return int(_key(header, "token_shift_count", 2)) * header.embedding, header.embedding * head
    if cache := int(_key(header, "shortconv.l_cache")):
        return header.embedding * (cache - 1), 0
    inner, state = int(_key(header, "ssm.inner_size")), int(_key(header, "ssm.state_size"))
    groups, conv = int(_key(header, "ssm.group_count")), int(_key(header, "ssm.conv_kernel"))
    return max(0, conv - 1) * (inner + 2 * groups * state), state * inner


# -- weights -----------------------------------------------------------------------------------------------------------


def tensor_bytes(tensor: Tensor, alignment_bytes: int, row_padding: bool) -> int:
    """Return what a tensor takes in a buffer: ggml-alloc.c pads it, ggml-cuda.cu lengthens quantised rows to 512."""
    size, width = tensor.bytes, tensor.shape[0]
    if row_padding and tensor.type not in _PLAIN_TYPES and width % 512:
        elements = width
        for count in tensor.shape[1:]:
            elements *= count
        size += tensor.bytes * (512 - width % 512) // elements
    return padded(size, alignment_bytes)


def is_expert(name: str) -> bool:
    """Say whether a tensor belongs to a mixture's routed experts, of which each token uses a few only."""
    return bool(_EXPERT.search(name))


def weights_bytes(
    body: Anatomy, layers: Iterable[int], others: Iterable[Tensor], without: Set[str], scale: Scale
) -> int:
    """Return the bytes of one buffer with these layers and other tensors; the same tensor twice counts once."""
    held = set(layers)
    total = sum(scale.layers[index] for index in held)
    total -= sum(scale.tensors[name] for name in without if body.home.get(name) in held)
    return total + sum(scale.tensors[name] for name in {tensor.name for tensor in others} - without)


# -- the KV cache ------------------------------------------------------------------------------------------------------


def _row_bytes(kv_type: str, elements: int) -> int:
    block, count = KV_BYTES[kv_type]
    return elements * block // count


# Passing over a cell of another slot takes about 0.9 ns for each head and layer, a byte of Q4_K weights about 18 ps a row in
# steps of 16 (`benchmarks/cache.py`): from this many bytes on, it takes a third of what the weights take.
_CELL_WEIGHTS = 150


def parts_pay(body: Anatomy, layout: Layout) -> bool:
    """Whether a cache in as many parts as there are slots is faster than one pool: the same cells, none of them foreign.

    In one pool, what a schema forces and prompts ride along in every step; so passing over the cells of others must take a
    good part of what the weights take. Only for layers that attend to all of a conversation.
    """
    part = layout.cells // layout.slots
    plain = all(layer.attends and not layer.windowed and layer.state == (0, 0) for layer in body.layers)
    if layout.slots < 2 or part % 256 or layout.cells != part * layout.slots or not plain:
        return False
    weights_bytes = sum(tensor.bytes for tensors in (*body.body, body.output) for tensor in tensors)
    return sum(layer.heads for layer in body.layers) * (layout.cells - part) * _CELL_WEIGHTS > weights_bytes


def kv_token_bytes(body: Anatomy, kv_type: str) -> int:
    """Return what one more token of context costs, over all layers without a window."""
    return sum(
        _row_bytes(kv_type, layer.key * layer.kv_heads) + _row_bytes(kv_type, layer.value * layer.kv_heads)
        for layer in body.layers
        if layer.attends and not layer.windowed
    )


def kv_bytes(body: Anatomy, index: int, layout: Layout, alignment_bytes: int = 1) -> int:
    """Return the cache of one layer: src/llama-kv-cache.cpp and src/llama-memory-recurrent.cpp.

    One stream of `cells` rows (kv_unified), K and V one tensor each, every tensor padded to the buffer's alignment.
    """
    layer, total = body.layers[index], 0
    if layer.attends:
        cells = layout.window_cells(body.window) if layer.windowed else layout.cells
        for elements in (layer.key, layer.value):
            total += padded(cells * _row_bytes(layout.kv_type, elements * layer.kv_heads), alignment_bytes)
    return total + sum(padded(4 * elements * layout.slots, alignment_bytes) for elements in layer.state)


# -- compute buffers ---------------------------------------------------------------------------------------------------
#
# llama.cpp computes a graph in one scratch buffer per device, and its allocator (ggml-alloc.c) reuses memory tensor by
# tensor. The bounds below are the widest moments of that reuse, for the architectures in the tests; llama.cpp's own dry
# run (engines.dry_run) gives the exact number.


def compute_bytes(body: Anatomy, layout: Layout, layers: Iterable[int], *, output: bool, copies: int = 1) -> int:
    """Return an upper bound of the scratch memory for computing these layers on one device.

    `copies` is 4 where llama.cpp pipelines batches through several GPUs: ggml-backend.cpp, GGML_SCHED_MAX_COPIES.
    """
    tokens, outputs = layout.tokens, min(layout.tokens, layout.slots + DRAFTS)
    stream = 4 * tokens * body.embedding
    peak = 2 * stream + 4 * outputs * (body.vocab + 4 * body.embedding) if output else stream
    for index in body.count(layers):
        peak = max(peak, _attention_bytes(body, index, layout), _feed_forward_bytes(body, index, layout))
    return copies * _inputs_bytes(body, layout) + (copies - 1) * stream + peak


def _inputs_bytes(body: Anatomy, layout: Layout) -> int:
    """Return what a graph's inputs take: masks in f16 (two with a sliding window), positions, row numbers."""
    tokens = layout.tokens
    kinds = [layout.cells] + ([layout.window_cells(body.window)] if body.window else [])
    rotations = 0
    if layout.kv_type != "f16":  # quantised caches are rotated first: src/llama-kv-cache.cpp, attn_rot_k
        widest = max((max(layer.key, layer.value) for layer in body.layers), default=0)
        rotations = 2 * len(kinds) * 4 * widest * widest
    return sum(2 * tokens * cells + 16 * tokens for cells in kinds) + 8 * tokens + rotations + 8 * layout.slots + 4096


def _attention_bytes(body: Anatomy, index: int, layout: Layout) -> int:
    """Return the widest moment of attention: the stream, its norm, queries before and after, keys and values."""
    layer, tokens = body.layers[index], layout.tokens
    wide = 3 * body.embedding + 3 * layer.heads * max(layer.key, layer.value)
    wide += 2 * layer.kv_heads * (layer.key + layer.value)
    if state := sum(layer.state):  # a convolution widens the stream by three, and drags the slots' states along
        return 4 * tokens * (wide + 8 * body.embedding) + 8 * layout.slots * state
    return 4 * tokens * wide


def _feed_forward_bytes(body: Anatomy, index: int, layout: Layout) -> int:
    """Return the widest moment of the feed-forward part: gate, up, their product, the stream and its norm."""
    layer, width = body.layers[index], body.embedding
    before = max(width, layer.heads * layer.key)  # a hole that attention leaves and nothing fits into
    around = 2 * width + before * (1 + (layout.kv_type != "f16") + layer.biased)
    mixed = body.experts_used * (3 * layer.routed + width) + 4 * body.experts if layer.routed else 0
    return 4 * layout.tokens * (max(3 * layer.dense, mixed) + around)


def _ffn_width(tensors: Sequence[Tensor]) -> int:
    """Return the width of a layer's feed-forward part, in elements a token and expert, of which three live at once.

    Without a gate of its own, the widest matrix holds both or there is none: twice its width is the most that lives.
    """
    ups = [t.shape[1] for t in tensors if ".ffn_" in t.name and "_up" in t.name and len(t.shape) > 1]
    gated = any(".ffn_gate." in t.name or ".ffn_gate_exps." in t.name for t in tensors)
    return max(ups, default=0) if gated else -(-2 * max(ups, default=0) // 3)


def _passing_bytes(body: Anatomy, place: Placement, layout: Layout) -> int:
    """Return room for what passes through a GPU on behalf of layers in RAM: ggml-backend.cpp, op_offload.

    For batches of 32 tokens and more, weights that lie in RAM are copied to the GPU one by one and multiplied there;
    and so is the cache of a layer in RAM, whole.
    """
    if layout.tokens < _OFFLOAD_TOKENS:
        return 0
    here = [index for index in range(len(body.layers)) if index not in place.placed]
    scale = body.scale(1, False)
    moved = [scale.tensors[name] for name in place.in_ram if name in body.home]
    weights = max([*moved, *(body.widest[index] for index in here)], default=0)
    cache = max((kv_bytes(body, index, layout) for index in body.count(here)), default=0)
    return weights + weights // 4 + cache + cache // 2 + _PASSING_INPUTS_BYTES  # and room for the holes they leave


# -- everything together -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placement:
    """Where everything goes: layers per device, the output layer's device, and tensors kept in RAM all the same."""

    layers: tuple[tuple[int, ...], ...]
    output: int | None = None  # index of a device; None: in RAM
    in_ram: frozenset[str] = frozenset()
    op_offload: bool = True  # GPUs also compute long batches of what lies in RAM

    @cached_property
    def placed(self) -> frozenset[int]:
        """Layers on any GPU."""
        return frozenset(index for layers in self.layers for index in layers)

    @property
    def helper(self) -> int | None:
        """The GPU that computes long batches of what stays in RAM: the first one (ggml-backend.cpp, op_offload)."""
        return 0 if self.layers and self.op_offload else None

    def complete(self, body: Anatomy) -> bool:
        """Say whether every layer and the output are on GPUs."""
        return self.output is not None and len(self.placed) == len(body.layers)


@dataclass(frozen=True, slots=True)
class Share:
    """What one buffer's owner must hold."""

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes


def device_share(body: Anatomy, layout: Layout, place: Placement, number: int, device: Device) -> Share:
    """Return what one GPU must hold under this placement."""
    layers, has_output = place.layers[number], place.output == number
    others = (*(body.shared if layers else ()), *(body.output if has_output else ()))
    busy = set(layers) | (
        {len(body.layers) - 1} if has_output else set()
    )  # the output draws the last layer's end along
    if number == place.helper:  # the first GPU also computes for what lies in RAM
        busy |= _in_ram(body, place)
    pipelined = len(place.layers) > 1 and place.complete(body) and not place.in_ram
    compute = 0
    if busy or has_output:
        compute = compute_bytes(body, layout, busy, output=has_output, copies=4 if pipelined else 1)
        compute += 4 * layout.tokens * body.embedding if place.in_ram else 0
        compute += _passing_bytes(body, place, layout) if number == place.helper else _beside(body, place, layout)
    if device.row_padding and layout.kv_type != "f16":  # ggml-cuda/fattn.cu: attention wants one layer's cache in f16
        f16 = replace(layout, kv_type="f16")
        compute += max((kv_bytes(body, index, f16) for index in body.count(busy)), default=0)
    return Share(
        weights_bytes(body, layers, others, place.in_ram, body.scale(device.alignment_bytes, device.row_padding)),
        sum(n * kv_bytes(body, index, layout, device.alignment_bytes) for index, n in body.count(layers).items()),
        compute,
    )


def host_share(body: Anatomy, layout: Layout, place: Placement) -> Share:
    """Return what RAM must hold: weights (pages of the file), cache and scratch of the layers that stay there."""
    here = [index for index in range(len(body.layers)) if index not in place.placed]
    others = [*body.input, *(body.shared if here else ())]
    others += [tensor for tensor in body.output if place.output is None or tensor.name in place.in_ram]
    scale = body.scale(_HOST_ALIGNMENT, False)
    moved = sum(scale.tensors[name] for name in place.in_ram if body.home.get(name) in place.placed)
    return Share(
        weights_bytes(body, here, others, frozenset(), scale) + moved,
        sum(n * kv_bytes(body, index, layout, _HOST_ALIGNMENT) for index, n in body.count(here).items()),
        _host_compute_bytes(body, layout, place, sorted(_in_ram(body, place))),
    )


def _beside(body: Anatomy, place: Placement, layout: Layout) -> int:
    """Return room for the cache of a neighbour in RAM, whose attention a GPU draws to itself in mixed models."""
    if place.op_offload or not any(sum(layer.state) for layer in body.layers):
        return 0
    return max((kv_bytes(body, index, layout) for index in body.count(_in_ram(body, place))), default=0)


def _in_ram(body: Anatomy, place: Placement) -> set[int]:
    """Return the layers of which at least a tensor lies in RAM."""
    homes = {body.home[name] for name in place.in_ram if name in body.home}
    return homes | set(range(len(body.layers))) - place.placed


def _host_compute_bytes(body: Anatomy, layout: Layout, place: Placement, here: Sequence[int]) -> int:
    """Return an upper bound of the CPU's scratch memory; the GPU's inputs are prepared in it too."""
    stream = 4 * layout.tokens * body.embedding
    if place.helper is None or layout.tokens < _OFFLOAD_TOKENS:
        return compute_bytes(body, layout, here, output=place.output is None) + 2 * stream
    # Long batches are computed on the GPU; what returns is the keys and values of layers whose cache is in RAM.
    rows = max((body.layers[index].returning for index in here), default=0)
    states = max((sum(body.layers[index].state) for index in here), default=0)
    rows += 4 * body.embedding if states else 0
    few = replace(layout, ubatch=min(layout.ubatch, max(_OFFLOAD_TOKENS, layout.slots)))
    short = compute_bytes(body, few, here, output=place.output is None)
    long = _inputs_bytes(body, layout) + 4 * layout.tokens * rows + 8 * states * layout.slots
    return long + short + 2 * stream
