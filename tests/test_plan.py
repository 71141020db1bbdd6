"""A plan fits or is refused: every byte accounted for, every choice explained, every pin obeyed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import ggufs
import pytest
import shapes
from hypothesis import given, settings
from hypothesis import strategies as st

from edgellm import gguf, plan, sizes
from edgellm.errors import DoesNotFit, UsageError
from edgellm.gguf import Header
from edgellm.hardware import Device, Machine
from edgellm.plan import Plan, Wish

GIB, MIB = 1 << 30, 1 << 20


def header(made: ggufs.Gguf) -> Header:
    """Read a header from memory."""
    raw = made.header()
    size = len(raw) + sum(ggufs.pad(block.size, made.alignment) for block in made.tensors.values())
    return gguf.read_from(lambda offset, length: raw[offset : offset + length].ljust(length, b"\0"), size, "model.gguf")


MISTRAL = header(ggufs.shaped("mistral-7b"))
MIXTRAL = header(shapes.header(shapes.MODELS["mixtral"]))
GEMMA = header(shapes.header(shapes.MODELS["gemma3"]))
LFM = header(shapes.header(shapes.MODELS["lfm2"]))
SMALL = header(ggufs.model(layers=4, context=512))
EVERY = [MISTRAL, MIXTRAL, GEMMA, LFM, SMALL]


def gpu(gib: float, **changes: Any) -> Device:
    size = int(gib * GIB)
    return replace(Device("CUDA0", "RTX", "gpu", size, size, "CUDA", row_padding=True), **changes)


def machine(*gpus: Device, ram: float = 64, **changes: Any) -> Machine:
    size = int(ram * GIB)
    facts = {"physical_cores": 8, "logical_cores": 16, "performance_cores": 6, "system": "Linux", "machine": "x86_64"}
    return Machine(tuple(gpus), size, size, **(facts | {"offload": bool(gpus)} | changes))


def text(made: Plan) -> str:
    return " ".join(made.reasons)


# -- no GPU ------------------------------------------------------------------------------------------------------------


def test_without_a_gpu_everything_runs_on_the_fast_cores() -> None:
    made = plan.fit(MISTRAL, machine())
    assert (made.gpu_layers, made.threads, made.threads_batch, made.devices) == (0, 6, 6, ())
    assert (made.context, made.cells, made.slots, made.kv_type) == (4096, 4096, 4, "f16")
    assert not made.op_offload
    assert "Everything runs on the processor with 6 threads: no GPU that llama.cpp can use." in made.reasons
    assert plan.fit(MISTRAL, machine(performance_cores=0)).threads == 1


def test_a_gpu_that_the_build_cannot_use_is_not_planned_for() -> None:
    assert plan.fit(MISTRAL, machine(gpu(24), offload=False)).gpu_layers == 0


def test_the_words_explain_the_cache() -> None:
    said = text(plan.fit(MISTRAL, machine()))
    assert "Each token of context costs 128 KiB of memory" in said
    assert "the conversation has said so far" in said
    assert "4,096 tokens, about 3,072 words (the model was trained for 32,768)" in said
    assert "The context" not in text(plan.fit(SMALL, machine()))
    assert "trained for" not in text(plan.fit(SMALL, machine()))


def test_weights_in_ram_are_counted_as_the_file_has_them() -> None:
    made = plan.fit(MISTRAL, machine())
    assert made.host_weights_bytes == sum(tensor.bytes for tensor in MISTRAL.tensors)
    assert made.host_bytes > made.host_weights_bytes + 4096 * 128 * 1024


def test_too_little_ram_is_refused_with_both_numbers_and_the_nearest_wish() -> None:
    with pytest.raises(DoesNotFit) as caught:
        plan.fit(MISTRAL, machine(ram=4.75), Wish(context=32768))
    assert caught.value.needed_bytes > caught.value.available_bytes == int(4.75 * GIB)
    assert re.search(r"needs 6\.\d GiB of RAM, and 4\.8 GiB are free", str(caught.value))
    nearest = re.search(r"It would fit with a context of ([\d,]+) tokens", str(caught.value))
    assert nearest
    assert plan.fit(MISTRAL, machine(ram=4.75), Wish(context=int(nearest[1].replace(",", ""))))


def test_a_hopeless_model_is_said_to_be_hopeless() -> None:
    with pytest.raises(DoesNotFit, match="choose a smaller model or quantization"):
        plan.fit(MISTRAL, machine(ram=2))


def test_fewer_slots_are_offered_when_that_is_what_helps() -> None:
    with pytest.raises(DoesNotFit, match="It would fit with a context of 512 tokens and 1 slot"):
        plan.fit(MISTRAL, machine(ram=4.4), Wish(context=512, slots=200, cells=20000))


def test_an_eight_bit_cache_is_tried_only_when_sixteen_bits_do_not_fit() -> None:
    made = plan.fit(MISTRAL, machine(ram=7), Wish(context=32768))
    assert made.kv_type == "q8_0"
    assert "kept in 8 bits instead of 16" in text(made)
    assert plan.fit(MISTRAL, machine(ram=12), Wish(context=32768)).kv_type == "f16"
    with pytest.raises(DoesNotFit, match="kv_type q8_0"):
        plan.fit(MISTRAL, machine(ram=7), Wish(context=32768, kv_type="f16"))


def test_a_pinned_cache_type_is_obeyed() -> None:
    assert plan.fit(MISTRAL, machine(), Wish(kv_type="q4_0")).kv_type == "q4_0"


def test_a_cache_row_that_cannot_be_cut_into_blocks_stays_at_sixteen_bits() -> None:
    odd = header(ggufs.model(layers=8, embedding=96, heads=4, kv_heads=4))
    kinds = []
    for model in (MISTRAL, odd):
        case = plan._Case(model, sizes.anatomy(model), machine(), Wish(cells=32768))
        kinds.append({layout.kv_type for layout in case.layouts()})
    assert kinds == [{"f16", "q8_0"}, {"f16"}]


def test_a_processor_gives_up_the_caches_precision_last_and_says_what_it_costs() -> None:
    """Attention over 8 bits takes several times as long there; on a GPU it does not."""
    wish = Wish(cells=32768)
    plans = [plan.fit(MISTRAL, machine(), wish)]
    while plans[-1].kv_type == "f16":
        plans.append(plan.fit(MISTRAL, machine(ram=(plans[-1].host_bytes - 1) / GIB), wish))
    assert [(one.kv_type, one.ubatch) for one in plans] == [("f16", 512), ("f16", 256), ("f16", 128), ("q8_0", 128)]
    assert any("long prompts are read several times more slowly" in reason for reason in plans[-1].reasons)
    card = plan.fit(MISTRAL, machine(gpu(64)), wish).devices[0]
    tight = plan.fit(MISTRAL, machine(gpu((card.used_bytes + card.margin_bytes - 1) / GIB)), wish)
    assert (tight.kv_type, tight.ubatch) == ("q8_0", 512)
    assert not any("more slowly" in reason for reason in tight.reasons)


# -- wishes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish(context=0), "no context"),
        (Wish(context=40000), "trained for 32,768"),
        (Wish(slots=0), "between 1 and 256"),
        (Wish(slots=257), "between 1 and 256"),
        (Wish(threads=0), "threads must be at least 1"),
        (Wish(ubatch=0), "ubatch must be at least 1"),
        (Wish(cells=0), "cells must be at least 1"),
        (Wish(cells=1000, context=1001), "does not go into 1,000 cells"),
        (Wish(gpu_layers=-1), "gpu_layers must be 0 or more"),
        (Wish(gpu_layers="some"), "gpu_layers must be 0 or more"),  # type: ignore[arg-type]
        (Wish(kv_type="f8"), "kv_type must be auto"),  # type: ignore[arg-type]
    ],
)
def test_impossible_wishes_are_refused_in_words(wish: Wish, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan.fit(MISTRAL, machine(), wish)


def test_cells_follow_slots_and_context_and_come_in_256s() -> None:
    assert plan.fit(MISTRAL, machine(), Wish(slots=16)).cells == 16384
    assert plan.fit(MISTRAL, machine(), Wish(context=5000, slots=1)).cells == 5120
    assert plan.fit(MISTRAL, machine(), Wish(cells=9000, slots=1)).cells == 9216
    assert plan.fit(SMALL, machine(), Wish(slots=1)).context == 512
    few = plan.fit(MISTRAL, machine(), Wish(cells=1000))
    assert (few.cells, few.context) == (1024, 1000)


def test_slots_get_parts_of_their_own_where_passing_over_the_others_would_cost_much() -> None:
    wish = Wish(slots=16, context=256)
    made = plan.fit(SMALL, machine(), wish)
    assert not made.kv_unified
    assert "16 conversations have a cache of 1,024 tokens each" in text(made)
    assert made.cells == 16 * 1024  # as many as in one pool
    assert plan.fit(SMALL, machine(), replace(wish, slots=1)).kv_unified  # nobody to pass over
    assert plan.fit(SMALL, machine(), replace(wish, cells=16 * 128)).kv_unified  # no part would hold a conversation
    assert plan.fit(SMALL, machine(gpu(8)), wish).kv_unified  # on a GPU it was not measured
    assert plan.fit(MISTRAL, machine(), wish).kv_unified  # the weights take longer
    assert plan.fit(GEMMA, machine(), wish).kv_unified  # sliding windows
    assert plan.fit(LFM, machine(), wish).kv_unified  # recurrent layers


def test_pinned_threads_and_batches_are_obeyed() -> None:
    made = plan.fit(MISTRAL, machine(), Wish(threads=3, ubatch=64))
    assert (made.threads, made.ubatch, made.batch) == (3, 64, 64)
    assert plan.fit(MISTRAL, machine(), Wish(slots=200, ubatch=64)).batch == 200


def test_a_batch_has_room_for_every_slot() -> None:
    made = plan.fit(SMALL, machine(), Wish(slots=256))
    assert made.batch >= 256


# -- one GPU -----------------------------------------------------------------------------------------------------------


def test_all_layers_go_on_a_gpu_that_is_big_enough() -> None:
    made = plan.fit(MISTRAL, machine(gpu(8)))
    assert (made.gpu_layers, made.tensor_overrides, made.tensor_split) == (33, (), ())
    (device,) = made.devices
    assert device.weights_bytes > 4_290_000_000
    assert device.kv_bytes == 4096 * 128 * 1024
    assert device.used_bytes + device.margin_bytes <= device.free_bytes
    assert "All 33 layers on the GPU: 8.0 GiB free on RTX, 512 MiB of it left to the driver." in text(made)


def test_the_token_embedding_stays_in_ram() -> None:
    made = plan.fit(MISTRAL, machine(gpu(8)))
    assert made.host_weights_bytes == next(t.bytes for t in MISTRAL.tensors if t.name == "token_embd.weight")


def test_a_small_gpu_gets_the_last_layers() -> None:
    made = plan.fit(MISTRAL, machine(gpu(4)))
    assert 20 <= made.gpu_layers <= 28
    assert f"{made.gpu_layers} of 33 layers on the GPU" in text(made)
    assert f"The other {33 - made.gpu_layers} run on the processor." in text(made)
    assert made.op_offload


def test_a_tiny_gpu_gets_nothing() -> None:
    made = plan.fit(MISTRAL, machine(gpu(0.6)))
    assert (made.gpu_layers, made.op_offload) == (0, False)
    assert made.devices[0].used_bytes == 0
    assert "no layer fits on the GPU" in text(made)


def test_the_last_gap_is_filled_with_parts_of_a_layer() -> None:
    partial = [plan.fit(MISTRAL, machine(gpu(2 + step / 16))) for step in range(16)]
    filled = [made for made in partial if any("ffn" in pattern for pattern, _ in made.tensor_overrides)]
    assert filled
    assert all("parts of one layer" in text(made) for made in filled)


def test_the_output_layer_leaves_first_when_that_buys_layers() -> None:
    seen = [plan.fit(MISTRAL, machine(gpu(1 + step / 16))) for step in range(16)]
    dropped = [made for made in seen if ("^output\\.weight$", "CPU") in made.tensor_overrides]
    assert 0 < len(dropped) < len(seen)
    assert all("the output layer" in text(made) for made in dropped)


def test_experts_stay_in_ram_before_anything_else() -> None:
    made = plan.fit(MIXTRAL, machine(gpu(3)))
    assert made.gpu_layers == 9
    patterns = [pattern for pattern, _ in made.tensor_overrides]
    assert patterns
    assert all("exps" in pattern for pattern in patterns)
    assert "experts, as a token uses few of them" in text(made)


def test_a_gpu_too_small_for_a_mixtures_attention_gets_some_layers_without_experts() -> None:
    counts = {plan.fit(MIXTRAL, machine(gpu(1 + step / 32))).gpu_layers for step in range(12)}
    assert counts & set(range(1, 9))


def test_overrides_are_patterns_that_match_their_tensors_only() -> None:
    made = plan.fit(MIXTRAL, machine(gpu(3)))
    names = [tensor.name for tensor in MIXTRAL.tensors]
    matched = [name for name in names if any(re.search(pattern, name) for pattern, _ in made.tensor_overrides)]
    assert matched
    assert all(sizes.is_expert(name) for name in matched)
    assert sum(t.bytes for t in MIXTRAL.tensors if t.name in matched) <= made.host_weights_bytes


def test_a_headless_card_keeps_less_free() -> None:
    assert plan.fit(MISTRAL, machine(gpu(8))).devices[0].margin_bytes == 512 * MIB
    assert plan.fit(MISTRAL, machine(gpu(8, headless=True))).devices[0].margin_bytes == 256 * MIB
    assert plan.fit(MISTRAL, machine(gpu(8, backend="Vulkan"))).devices[0].margin_bytes == 256 * MIB
    assert plan.fit(MISTRAL, machine(gpu(8)), Wish(margin_bytes=7)).devices[0].margin_bytes == 7


def test_an_integrated_gpu_shares_the_pool_with_the_processor() -> None:
    shared = gpu(16, kind="integrated", backend="Metal")
    assert plan.fit(MISTRAL, machine(shared, ram=16)).gpu_layers == 33
    with pytest.raises(DoesNotFit):
        plan.fit(MISTRAL, machine(shared, ram=4.4))


def test_more_is_given_up_in_order_before_a_layer_leaves_the_gpu() -> None:
    seen = [plan.fit(MISTRAL, machine(gpu(5.2 - step / 32)), Wish(context=8192)) for step in range(24)]
    kinds = [(made.kv_type, made.ubatch) for made in seen if made.gpu_layers == 33 and not made.tensor_overrides]
    order = [("f16", 512), ("q8_0", 512), ("q8_0", 256), ("q8_0", 128)]
    assert [kind for kind in order if kind in kinds] == list(dict.fromkeys(kinds))
    assert len(set(kinds)) >= 3
    smaller = next(made for made in seen if made.ubatch == 128)
    assert "Prompts are read 128 tokens at a time" in text(smaller)


def test_shared_cells_shrink_to_one_context_before_layers_leave() -> None:
    seen = [plan.fit(MISTRAL, machine(gpu(6 - step / 16)), Wish(slots=16)) for step in range(32)]
    assert {made.cells for made in seen if made.gpu_layers == 33} == {16384, 4096}


# -- pins --------------------------------------------------------------------------------------------------------------


def test_pinned_layers_are_exactly_that() -> None:
    for count in (1, 10, 33):
        assert plan.fit(MISTRAL, machine(gpu(8)), Wish(gpu_layers=count)).gpu_layers == count
    assert plan.fit(MISTRAL, machine(gpu(8)), Wish(gpu_layers=99)).gpu_layers == 33
    zero = plan.fit(MISTRAL, machine(gpu(8)), Wish(gpu_layers=0))
    assert (zero.gpu_layers, zero.devices) == (0, ())
    assert "no GPU, as asked" in text(zero)


@pytest.mark.parametrize("pinned", ["all", 30, 99])
def test_pinned_layers_that_do_not_fit_are_refused(pinned: Any) -> None:
    with pytest.raises(DoesNotFit, match=r"of GPU memory for \d+ layers, and .* It would fit with gpu_layers auto"):
        plan.fit(MISTRAL, machine(gpu(3)), Wish(gpu_layers=pinned))


def test_layers_pinned_to_no_gpu_are_refused_not_ignored() -> None:
    with pytest.raises(DoesNotFit, match="no GPU that llama.cpp can use was found".replace(".", r"\.")):
        plan.fit(MISTRAL, machine(), Wish(gpu_layers=10))


def test_pinned_layers_can_fail_for_ram_too() -> None:
    with pytest.raises(DoesNotFit, match="of RAM"):
        plan.fit(MISTRAL, machine(gpu(8), ram=2), Wish(gpu_layers=2))


# -- several GPUs ------------------------------------------------------------------------------------------------------


def test_one_gpu_is_enough_where_one_is_enough() -> None:
    made = plan.fit(MISTRAL, machine(gpu(4), gpu(12, name="CUDA1")))
    assert made.tensor_split == (0, 33)
    assert made.devices[0].used_bytes == 0
    assert "All 33 layers on the GPU: 12.0 GiB" in text(made)


def test_layers_are_split_where_one_gpu_is_not_enough() -> None:
    made = plan.fit(MISTRAL, machine(gpu(3.5), gpu(3.5, name="CUDA1")))
    assert sum(made.tensor_split) == made.gpu_layers == 33
    assert min(made.tensor_split) > 10
    assert "on 2 GPUs" in text(made)


def test_small_gpus_together_hold_part_of_a_model() -> None:
    made = plan.fit(MISTRAL, machine(gpu(1.5), gpu(2, name="CUDA1"), gpu(1.25, name="CUDA2")))
    assert 0 < made.gpu_layers < 33
    assert sum(made.tensor_split) == made.gpu_layers
    assert all(device.used_bytes + device.margin_bytes <= device.free_bytes for device in made.devices)


# -- properties --------------------------------------------------------------------------------------------------------

WISHES = st.builds(
    Wish,
    context=st.sampled_from([None, 16, 300, 512]),
    slots=st.integers(1, 64),
    kv_type=st.sampled_from(["auto", "f16", "q8_0"]),
    ubatch=st.sampled_from([None, 32, 512]),
    cells=st.sampled_from([None, 512, 20000]),
    margin_bytes=st.sampled_from([None, 0]),
)


def fitted(model: Header, here: Machine, wish: Wish) -> Plan | None:
    try:
        return plan.fit(model, here, wish)
    except DoesNotFit:
        return None


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(EVERY),
    WISHES,
    st.lists(st.floats(0, 12), max_size=3),
    st.floats(0, 12),
)
def test_no_plan_takes_more_than_there_is(model: Header, wish: Wish, rooms: list[float], ram: float) -> None:
    here = machine(*(gpu(room, name=f"CUDA{number}") for number, room in enumerate(rooms)), ram=ram)
    made = fitted(model, here, wish)
    if made is None:
        return
    assert made.host_bytes <= here.ram_free_bytes
    for device in made.devices:
        assert not device.used_bytes or device.used_bytes + device.margin_bytes <= device.free_bytes
    assert made.cells % 256 == 0
    assert made.cells >= made.context
    assert made.batch >= made.slots
    assert all(made.reasons)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([MISTRAL, GEMMA, LFM]), st.floats(0.1, 10), st.floats(0, 2))
def test_more_memory_never_means_fewer_layers(model: Header, room: float, more: float) -> None:
    small, big = (plan.fit(model, machine(gpu(size)), Wish(kv_type="f16", ubatch=512)) for size in (room, room + more))
    assert big.devices[0].used_bytes >= small.devices[0].used_bytes * 0.97
    assert big.gpu_layers >= small.gpu_layers - 1  # dropping the output layer may buy one, keeping it cost one


def test_plans_are_found_at_once() -> None:
    import time

    started = time.perf_counter()
    plan.fit(MISTRAL, machine(gpu(3), gpu(2, name="CUDA1")))
    assert time.perf_counter() - started < 2


# -- weighing ----------------------------------------------------------------------------------------------------------


def test_measured_bytes_replace_estimates() -> None:
    made = plan.fit(MISTRAL, machine(gpu(8)))
    exact = plan.weighed(made, {"CUDA0": (1, 2, 3)})
    assert exact
    assert exact.devices[0].used_bytes == 6
    assert plan.weighed(made, {"CPU": (1, 2, 3)}) == made
    assert plan.weighed(made, {"CUDA0": (8 * GIB, 2, 3)}) is None


def test_a_smaller_scratch_leaves_room_for_more() -> None:
    full, tight = (plan.fit(MISTRAL, machine(gpu(2)), Wish(scratch=scratch)) for scratch in (1.0, 0.5))
    assert tight.devices[0].weights_bytes > full.devices[0].weights_bytes


# -- sizes, architecture by architecture -------------------------------------------------------------------------------


def test_sliding_windows_keep_only_their_window() -> None:
    body = sizes.anatomy(GEMMA)
    assert [layer.windowed for layer in body.layers[:6]] == [True] * 5 + [False]
    layout = sizes.Layout(32768, 1, 512, "f16", swa_full=False)
    assert layout.window_cells(1024) == 1536
    assert sizes.kv_bytes(body, 0, layout) * 32768 == sizes.kv_bytes(body, 5, layout) * 1536


def test_a_window_is_dropped_when_keeping_everything_would_double_the_cache() -> None:
    assert plan.fit(GEMMA, machine(), Wish(context=4096)).swa_full
    long = plan.fit(GEMMA, machine(), Wish(context=32768, slots=1))
    assert not long.swa_full
    assert "keep only the last 1,024 tokens" in text(long)


def test_recurrent_layers_cost_the_same_at_any_context() -> None:
    body = sizes.anatomy(LFM)
    short, long = (sizes.kv_bytes(body, 0, sizes.Layout(cells, 4, 512, "f16")) for cells in (256, 65536))
    assert short == long == 4 * 4 * 2 * 2048


def variant(model: Header, **metadata: Any) -> Header:
    """The same tensors under another architecture's name and keys."""
    name = metadata.pop("architecture", model.architecture)
    kept = {key.replace(f"{model.architecture}.", f"{name}.", 1): value for key, value in model.metadata.items()}
    own = {f"{name}.{key}": value for key, value in metadata.items()}
    return replace(model, metadata=kept | {"general.architecture": name} | own)


@pytest.mark.parametrize(
    ("architecture", "keys", "windows"),
    [
        ("gemma2", {"attention.sliding_window": 4096}, [True, False, True, False]),
        (
            "gemma3",
            {"attention.sliding_window": 512, "attention.sliding_window_pattern": 2},
            [True, False, True, False],
        ),
        ("gemma3", {"attention.sliding_window": 512, "attention.sliding_window_pattern": (0, 1, 1, 0)}, [0, 1, 1, 0]),
        ("smallthinker", {"attention.sliding_window": 4096}, [False, True, True, True]),
        ("mimo2", {"attention.sliding_window": 128, "attention.sliding_window_pattern": 0}, [True] * 4),
        ("llama4", {}, [True, True, True, False]),
        ("llama4", {"attention.sliding_window": 0}, [False] * 4),
        ("exaone4", {"attention.sliding_window": 4096}, [False] * 4),
        ("phi3", {"attention.sliding_window": 2047}, [False] * 4),
        ("llama", {"attention.sliding_window": 4096}, [False] * 4),
    ],
)
def test_windows_are_where_llama_cpp_puts_them(architecture: str, keys: dict[str, Any], windows: list[bool]) -> None:
    body = sizes.anatomy(variant(SMALL, architecture=architecture, **keys))
    assert [layer.windowed for layer in body.layers] == [bool(window) for window in windows]


def test_a_long_exaone_has_windows() -> None:
    deep = header(ggufs.model(layers=64, embedding=64))
    assert sizes.anatomy(variant(deep, architecture="exaone4")).window == 4096


def test_layers_that_reuse_a_cache_cost_nothing() -> None:
    shared = sizes.anatomy(variant(SMALL, architecture="gemma4", **{"attention.shared_kv_layers": 1}))
    assert [layer.attends for layer in shared.layers] == [True, True, True, False]
    nano = sizes.anatomy(variant(header(ggufs.model(layers=24)), architecture="gemma3n"))
    assert sum(layer.attends for layer in nano.layers) == 20
    predicting = sizes.anatomy(variant(SMALL, architecture="glm4moe", nextn_predict_layers=1))
    assert [layer.attends for layer in predicting.layers] == [True, True, True, False]


def test_latent_attention_keeps_keys_only() -> None:
    keys = {"attention.key_length": 576, "attention.key_length_mla": 192, "attention.value_length_mla": 128}
    body = sizes.anatomy(variant(SMALL, architecture="deepseek2", **keys, **{"attention.head_count_kv": 1}))
    assert sizes.kv_bytes(body, 0, sizes.Layout(256, 1, 32, "f16")) == 256 * 576 * 2
    assert sizes.kv_token_bytes(body, "f16") == 4 * 576 * 2


@pytest.mark.parametrize(
    ("architecture", "keys", "state"),
    [
        ("mamba", {"ssm.inner_size": 128, "ssm.state_size": 16, "ssm.conv_kernel": 4}, (3 * 128, 16 * 128)),
        (
            "mamba2",
            {"ssm.inner_size": 128, "ssm.state_size": 16, "ssm.conv_kernel": 4, "ssm.group_count": 2},
            (3 * (128 + 2 * 2 * 16), 16 * 128),
        ),
        ("rwkv7", {"wkv.head_size": 64, "token_shift_count": 2}, (2 * 64, 64 * 64)),
    ],
)
def test_recurrent_states_have_their_size(architecture: str, keys: dict[str, int], state: tuple[int, int]) -> None:
    body = sizes.anatomy(variant(SMALL, architecture=architecture, **keys))
    assert body.layers[0].state == state
    assert not body.layers[0].attends


def test_hybrids_attend_in_some_layers_only() -> None:
    keys = {"ssm.inner_size": 128, "ssm.state_size": 16, "ssm.conv_kernel": 4}
    every_fourth = sizes.anatomy(variant(SMALL, architecture="qwen35", **keys))
    assert [layer.attends for layer in every_fourth.layers] == [False, False, False, True]
    both = sizes.anatomy(variant(SMALL, architecture="falcon-h1", **keys))
    assert all(layer.attends and sum(layer.state) for layer in both.layers)
    idle = {"attention.head_count_kv": (0, 2, 0, 0), "feed_forward_length": (0, 0, 128, 0)}
    some = sizes.anatomy(variant(SMALL, architecture="nemotron_h", **keys, **idle))
    assert [bool(sum(layer.state)) for layer in some.layers] == [True, False, False, True]


def test_rows_are_lengthened_where_cuda_lengthens_them() -> None:
    tensor = next(
        t for t in header(ggufs.model(quant="q8_0", embedding=96, heads=3, kv_heads=3)).tensors if "attn_q" in t.name
    )
    assert sizes.tensor_bytes(tensor, 128, row_padding=False) == ggufs.pad(96 * 96 // 32 * 34, 128)
    assert sizes.tensor_bytes(tensor, 128, row_padding=True) == ggufs.pad(96 * 96 // 32 * 34 + 416 // 32 * 34, 128)


def test_a_tied_output_is_a_copy() -> None:
    body = sizes.anatomy(GEMMA)
    assert "token_embd.weight" in [tensor.name for tensor in body.output]
    assert "token_embd.weight" not in [tensor.name for tensor in sizes.anatomy(MISTRAL).output]


def test_stray_tensors_are_counted_somewhere(tmp_path: Path) -> None:
    extra = ggufs.model(layers=2).with_tensor("rope_freqs.weight", ggufs.Block((8,)))
    extra = extra.with_tensor("token_embd_norm.weight", ggufs.Block((64,)))
    body = sizes.anatomy(header(extra))
    assert [tensor.name for tensor in body.shared] == ["rope_freqs.weight"]
    assert "token_embd_norm.weight" in [tensor.name for tensor in body.body[0]]
