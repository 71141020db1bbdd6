"""Adapters: what PEFT trained becomes a GGUF file that computes the same, or is refused with the reason."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ggufs
import numpy as np
import pytest
from ggufs import Block, Gguf
from tiny_llama import TARGETS, Lora, Tiny

from edgellm import adapter, gguf, outputs
from edgellm.adapter import conversion
from edgellm.engines.devices import low_level
from edgellm.errors import AdapterRefused, DiskFull, EdgeError, EngineMissing, ModelFileError, UsageError

TOKENS = [5, 260, 17, 299, 33, 8, 121, 64, 64, 203]


def logits(base: Path, lora: Path | None, tokens: Sequence[int], scale: float = 1.0) -> Any:
    """What llama.cpp computes for every position, by its C API alone."""
    lib = low_level()
    quiet = lib.llama_log_callback(lambda *_: None)
    lib.llama_log_set(quiet, None)
    model = lib.llama_model_load_from_file(str(base).encode(), lib.llama_model_default_params())
    held = lib.llama_adapter_lora_init(model, str(lora).encode()) if lora else None
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_threads = 64, 64, 1
    params.type_k = params.type_v = params.flash_attn_type = 0  # F32 throughout
    context = lib.llama_init_from_model(model, params)
    if held:
        scales = (ctypes.c_float * 1)(scale)
        assert lib.llama_set_adapters_lora(context, (lib.llama_adapter_lora_p_ctypes * 1)(held), 1, scales) == 0
    batch = lib.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for index, token in enumerate(tokens):
        batch.token[index], batch.pos[index], batch.n_seq_id[index], batch.logits[index] = token, index, 1, 1
        batch.seq_id[index][0] = 0
    assert lib.llama_decode(context, batch) == 0
    size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    rows = np.ctypeslib.as_array(lib.llama_get_logits(context), (len(tokens), size)).copy()
    lib.llama_batch_free(batch)
    lib.llama_free(context)
    lib.llama_model_free(model)
    lib.llama_log_set(lib.llama_log_callback(), None)
    return rows


def error(found: Any, wanted: Any) -> float:
    """The greatest difference, as a share of the greatest logit."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[Tiny, Path]:
    model = Tiny()
    return model, model.gguf(tmp_path / "tiny.gguf")


def test_base_and_adapter_compute_what_the_formula_says(tiny: tuple[Tiny, Path], tmp_path: Path) -> None:
    model, base = tiny
    lora = Lora(model)
    out = adapter.convert(lora.save(tmp_path / "lora"), base, tmp_path / "x.gguf")
    plain, changed = logits(base, None, TOKENS), logits(base, Path(out.path), TOKENS)
    assert error(plain, model.forward(TOKENS)) < 1e-3
    assert error(changed, model.forward(TOKENS, lora.deltas())) < 1e-3
    assert error(changed, plain) > 0.1  # it does change something
    half = logits(base, Path(out.path), TOKENS, scale=0.5)
    assert error(half, model.forward(TOKENS, lora.deltas(lora.alpha / lora.rank / 2))) < 1e-3


@pytest.mark.parametrize("target", ["q_proj", "k_proj"])
def test_without_the_permutation_the_answers_are_wrong(
    target: str, tiny: tuple[Tiny, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, base = tiny
    lora = Lora(model, targets=[target], strength=1.0)
    folder, wanted = lora.save(tmp_path / "lora"), model.forward(TOKENS, lora.deltas())
    right = adapter.convert(folder, base, tmp_path / "right.gguf")
    monkeypatch.setattr(conversion, "permuted", lambda rows, heads: rows)
    wrong = adapter.convert(folder, base, tmp_path / "wrong.gguf")
    assert error(logits(base, Path(right.path), TOKENS), wanted) < 1e-3
    assert error(logits(base, Path(wrong.path), TOKENS), wanted) > 1e-2


def test_scales_of_every_kind_are_kept(tiny: tuple[Tiny, Path], tmp_path: Path) -> None:
    model, base = tiny
    lora = Lora(model, targets=["q_proj", "v_proj"])
    deltas = lora.deltas(8.0 / 4**0.5)
    rooted = adapter.convert(lora.save(tmp_path / "rs", use_rslora=True), base, tmp_path / "rs.gguf")
    assert error(logits(base, Path(rooted.path), TOKENS), model.forward(TOKENS, deltas)) < 1e-3

    folder = lora.save(tmp_path / "own", alpha_pattern={"layers.1.self_attn.v_proj": 32})
    own = adapter.convert(folder, base, tmp_path / "own.gguf")
    deltas = {name: delta * (4 if "1.self_attn.v" in name else 1) for name, delta in lora.deltas().items()}
    assert error(logits(base, Path(own.path), TOKENS), model.forward(TOKENS, deltas)) < 1e-3


def test_ranks_may_differ_between_modules(tiny: tuple[Tiny, Path], tmp_path: Path) -> None:
    model, base = tiny
    narrow, wide = Lora(model, targets=["q_proj"], rank=2), Lora(model, targets=["down_proj"], rank=8)
    narrow.tensors |= wide.tensors
    found = adapter.convert(narrow.save(tmp_path / "mixed", rank_pattern={"down_proj": 8}), base, tmp_path / "x.gguf")
    assert found.ranks == (2, 8)
    deltas = narrow.deltas(4.0) | wide.deltas(1.0)
    assert error(logits(base, Path(found.path), TOKENS), model.forward(TOKENS, deltas)) < 1e-3


def test_embedding_and_output_can_be_adapted(tiny: tuple[Tiny, Path], tmp_path: Path) -> None:
    model, base = tiny
    lora = Lora(model, targets=["embed_tokens", "lm_head"])
    found = adapter.convert(lora.save(tmp_path / "lora"), base, tmp_path / "x.gguf")
    assert found.targets == {"token_embd": 1, "output": 1}
    assert error(logits(base, Path(found.path), TOKENS), model.forward(TOKENS, lora.deltas())) < 1e-3


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_half_precision_is_read_without_torch(kind: str, tiny: tuple[Tiny, Path], tmp_path: Path) -> None:
    model, base = tiny
    lora = Lora(model, targets=["v_proj"])
    folder = lora.save(tmp_path / "lora")
    if kind == "F16":
        short: Any = {name: array.astype(np.float16) for name, array in lora.tensors.items()}
        kept = {name: array.astype(np.float32) for name, array in short.items()}
    else:
        short = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in lora.tensors.items()}
        kept = {name: (array.astype(np.uint32) << 16).view(np.float32) for name, array in short.items()}
    (folder / "adapter_model.safetensors").write_bytes(packed(kind, short))
    lora.tensors = kept
    found = adapter.convert(folder, base, tmp_path / "x.gguf")
    assert error(logits(base, Path(found.path), TOKENS), model.forward(TOKENS, lora.deltas())) < 1e-3


def packed(kind: str, tensors: dict[str, Any]) -> bytes:
    """A safetensors file, byte by byte: eight bytes of length, a JSON header, the data."""
    header, data = {}, b""
    for name, array in tensors.items():
        raw = array.tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    said = json.dumps(header).encode()
    return len(said).to_bytes(8, "little") + said + data


def test_families_without_turned_rows_keep_them(tmp_path: Path) -> None:
    model = Tiny()
    base = model.gguf(tmp_path / "qwen.gguf", "qwen2")
    lora = Lora(model, targets=["q_proj"])
    found = adapter.convert(lora.save(tmp_path / "lora"), base, tmp_path / "x.gguf")
    stored = values(found)
    wanted = lora.tensors["base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"]
    assert np.array_equal(stored["blk.1.attn_q.weight.lora_b"], wanted)


def values(found: adapter.Adapter) -> dict[str, Any]:
    """The numbers of an adapter, by gguf's own reader."""
    import gguf as library

    return {tensor.name: np.array(tensor.data) for tensor in library.GGUFReader(found.path).tensors}


def refused(folder: Path, base: Path, *words: str, kind: type[EdgeError] = AdapterRefused) -> None:
    """Convert must raise `kind` with these words, in one sentence or two, and leave nothing behind."""
    before = sorted(folder.parent.iterdir())
    with pytest.raises(kind) as caught:
        adapter.convert(folder, base, folder.parent / "never.gguf")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(folder.parent.iterdir()) == before


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "another method": ({"peft_type": "IA3"}, "only 'LORA'"),
    "DoRA": ({"use_dora": True}, "DoRA"),
    "whole modules": ({"modules_to_save": ["lm_head"]}, "whole modules"),
    "biases": ({"bias": "lora_only"}, "bias"),
    "LoRA biases": ({"lora_bias": True}, "biases"),
    "trained tokens": ({"trainable_token_indices": [1, 2]}, "embedding"),
    "repeated layers": ({"layer_replication": [[0, 1]]}, "repeated"),
    "transposed": ({"fan_in_fan_out": True}, "transposed"),
    "experts": ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "experts"),
    "activated": ({"alora_invocation_tokens": [1]}, "aLoRA"),
    "PiSSA": ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
    "LoftQ": ({"init_lora_weights": "loftq"}, "loftq"),
    "alpha 0": ({"lora_alpha": 0}, "alpha"),
    "alpha text": ({"lora_alpha": "16"}, "alpha"),
    "alpha not a number": ({"lora_alpha": float("nan")}, "alpha"),
    "a setting of tomorrow": ({"use_wonder": 3}, "use_wonder"),
    "patterns as a list": ({"alpha_pattern": ["q_proj"]}, "alpha_pattern"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_settings_that_an_adapter_cannot_carry_are_refused_by_name(
    case: str, tiny: tuple[Tiny, Path], tmp_path: Path
) -> None:
    config, word = CONFIGS[case]
    refused(Lora(tiny[0], targets=["q_proj"]).save(tmp_path / "lora", **config), tiny[1], word)


def spoil(name: str, array: Any | None) -> Any:
    """A change of tensors: replace or add one, or leave it out."""

    def change(tensors: dict[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in tensors.items() if key != name}
        return rest if array is None else rest | {name: np.asarray(array, np.float32)}

    return change


STEM = "base_model.model.model.layers.0.self_attn.q_proj"
TENSORS: dict[str, tuple[Any, str]] = {
    "a side is missing": (spoil(f"{STEM}.lora_B.weight", None), "lora_B"),
    "everything is missing": (lambda tensors: {}, "nothing to convert"),
    "a whole weight": (spoil(f"{STEM}.weight", np.ones((64, 64))), "whole tensor"),
    "a bias": (spoil(f"{STEM}.lora_B.bias", np.ones(64)), "bias"),
    "a magnitude": (spoil(f"{STEM}.lora_magnitude_vector", np.ones(64)), "DoRA"),
    "a resized embedding": (
        spoil("base_model.model.model.embed_tokens.base_layer.weight", np.ones((301, 64))),
        "tokens",
    ),
    "rank 0": (
        lambda tensors: {
            f"{STEM}.lora_A.weight": np.ones((0, 64), "f4"),
            f"{STEM}.lora_B.weight": np.ones((64, 0), "f4"),
        },
        "0 x 64",
    ),
    "ranks that differ": (spoil(f"{STEM}.lora_B.weight", np.ones((64, 5))), "4 x 64"),
    "three dimensions": (spoil(f"{STEM}.lora_B.weight", np.ones((2, 64, 4))), "2 x 64 x 4"),
    "another width": (spoil(f"{STEM}.lora_A.weight", np.ones((4, 63))), "another base"),
    "another height": (spoil(f"{STEM}.lora_B.weight", np.ones((128, 4))), "another base"),
    "an infinite number": (spoil(f"{STEM}.lora_B.weight", np.full((64, 4), np.inf)), "not finite"),
    "a layer too many": (
        lambda tensors: {name.replace("layers.1.", "layers.7."): array for name, array in tensors.items()},
        "layer 7",
    ),
    "an unknown module": (
        lambda tensors: {name.replace("q_proj", "wonder"): array for name, array in tensors.items()},
        "no part of a llama model",
    ),
    "an expert": (
        lambda tensors: {
            name.replace("self_attn.q_proj", "mlp.experts.3.w1"): array for name, array in tensors.items()
        },
        "experts",
    ),
    "one weight twice": (
        lambda tensors: (
            tensors | {name.replace("model.model.layers", "model.layers"): a for name, a in tensors.items()}
        ),
        "second",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_matrices_that_the_runtime_would_refuse_are_refused_before_a_file_is_written(
    case: str, tiny: tuple[Tiny, Path], tmp_path: Path
) -> None:
    change, word = TENSORS[case]
    lora = Lora(tiny[0], targets=["q_proj"])
    lora.tensors = change(lora.tensors)
    refused(lora.save(tmp_path / "lora"), tiny[1], word)


def test_bases_that_cannot_run_it_are_refused(tmp_path: Path) -> None:
    model = Tiny(tied=True)
    tied = model.gguf(tmp_path / "tied.gguf")
    refused(Lora(model, targets=["lm_head"]).save(tmp_path / "head"), tied, "leave lm_head out")
    refused(Lora(model, targets=["embed_tokens"]).save(tmp_path / "table"), tied, "also the output layer")
    unknown = model.gguf(tmp_path / "olmo.gguf", "stablelm")
    refused(Lora(model, targets=["q_proj"]).save(tmp_path / "lora"), unknown, "stablelm", "not known here")


def test_folders_that_are_none_of_peft(tiny: tuple[Tiny, Path], tmp_path: Path) -> None:
    _, base = tiny
    refused(tmp_path / "nowhere", base, "not a folder", kind=UsageError)
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, base, "no adapter_config.json", kind=UsageError)
    (empty / "adapters.safetensors").touch()
    refused(empty, base, "mlx-lm", kind=UsageError)
    (empty / "adapter_config.json").write_text("{")
    refused(empty, base, "not JSON")
    (empty / "adapter_config.json").write_text("[" * 100_000)
    refused(empty, base, "not JSON")
    (empty / "adapter_config.json").write_bytes(b"\xff\xfe{\x00}\x00")
    refused(empty, base, "not JSON")
    (empty / "adapter_config.json").write_text("[]")
    refused(empty, base, "not a JSON object")
    (empty / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    refused(empty, base, "no adapter_model.safetensors", kind=UsageError)
    (empty / "adapter_model.bin").touch()
    refused(empty, base, "pickle", kind=UsageError)
    for raw in (b"", b"\0" * 8, b"\xff" * 64, packed("F32", {"a": np.ones(4, "f4")})[:-1]):
        (empty / "adapter_model.safetensors").write_bytes(raw)
        refused(empty, base, "not a whole safetensors file")
    (empty / "adapter_model.safetensors").write_bytes(packed("I32", {f"{STEM}.lora_A.weight": np.ones((4, 64), "i4")}))
    refused(empty, base, "is I32")


def test_a_file_is_put_in_place_at_once_and_never_over_another(
    tiny: tuple[Tiny, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, base = tiny
    folder, out = Lora(model, targets=["q_proj"]).save(tmp_path / "lora"), tmp_path / "x.gguf"
    out.write_text("mine")
    with pytest.raises(UsageError, match="there already"):
        adapter.convert(folder, base, out)
    assert out.read_text() == "mine"
    assert adapter.convert(folder, base, out, overwrite=True).targets == {"attn_q": 2}
    with pytest.raises(UsageError, match="there is no folder"):
        adapter.convert(folder, base, tmp_path / "no" / "x.gguf")
    monkeypatch.setattr(outputs.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    refused(folder, base, "10 are free", kind=DiskFull)


def test_without_the_extra_the_cure_is_named(
    tiny: tuple[Tiny, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Lora(tiny[0], targets=["q_proj"]).save(tmp_path / "lora")
    for name in ("safetensors", "gguf"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            refused(folder, tiny[1], "pip install 'edgellm[adapter]'", kind=EngineMissing)


def test_an_adapter_says_what_it_is(tiny: tuple[Tiny, Path], tmp_path: Path) -> None:
    model, base = tiny
    adapter.convert(Lora(model, rank=3).save(tmp_path / "lora"), base, tmp_path / "my legal.gguf")
    found = adapter.read(tmp_path / "my legal.gguf")
    assert (found.name, found.base, found.architecture) == ("my legal", "tiny", "llama")
    assert (found.alpha, found.ranks) == (8.0, (3,))
    assert found.targets == dict.fromkeys(
        ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"), 2
    )
    assert found.tensor_bytes == sum(array.nbytes for array in Lora(model, rank=3).tensors.values())
    with pytest.raises(ModelFileError, match=r"general\.type"):
        adapter.read(base)


def lora_file(path: Path, tensors: dict[str, Block], **metadata: Any) -> Path:
    """A GGUF adapter made by hand."""
    said = {
        "general.type": "adapter",
        "general.architecture": "llama",
        "adapter.type": "lora",
        "adapter.lora.alpha": 8.0,
    }
    return Gguf(ggufs.amend({}, said | metadata), tensors).write(path)


Q = "blk.0.attn_q.weight"
WELL = {f"{Q}.lora_a": Block((64, 4)), f"{Q}.lora_b": Block((4, 64))}
FOREIGN: dict[str, tuple[dict[str, Block], dict[str, Any], str]] = {
    "another architecture": (WELL, {"general.architecture": "qwen2"}, "architecture 'qwen2'"),
    "another layer": ({name.replace("blk.0", "blk.9"): block for name, block in WELL.items()}, {}, "does not have"),
    "another width": ({f"{Q}.lora_a": Block((96, 4)), f"{Q}.lora_b": Block((4, 64))}, {}, "96 x 4"),
    "ranks that differ": ({f"{Q}.lora_a": Block((64, 4)), f"{Q}.lora_b": Block((8, 64))}, {}, "8 x 64"),
    "transposed": ({f"{Q}.lora_a": Block((4, 64)), f"{Q}.lora_b": Block((64, 4))}, {}, "4 x 64"),
    "activated": (WELL, {"adapter.alora.invocation_tokens": ("[u32]", [1, 2])}, "activated"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_files_for_another_base_are_refused_before_c_sees_them(
    case: str, tiny: tuple[Tiny, Path], tmp_path: Path
) -> None:
    tensors, metadata, word = FOREIGN[case]
    found = adapter.read(lora_file(tmp_path / "x.gguf", tensors, **metadata))
    with pytest.raises(AdapterRefused, match=word):
        adapter.check(found, gguf.read(tiny[1]))


CONVERTER = os.environ.get("LLAMA_CPP_SOURCE", "")


@pytest.mark.skipif(
    not CONVERTER or importlib.util.find_spec("transformers") is None,
    reason="LLAMA_CPP_SOURCE names no llama.cpp source tree (its convert_lora_to_gguf.py), or transformers is missing",
)
@pytest.mark.parametrize("targets", [TARGETS, ("embed_tokens", "lm_head", "q_proj")])
def test_the_conversion_is_llama_cpps_own(targets: Sequence[str], tiny: tuple[Tiny, Path], tmp_path: Path) -> None:
    model, base = tiny
    folder = Lora(model, targets=targets).save(tmp_path / "lora")
    (tmp_path / "base").mkdir()
    said = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2}
    said |= {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 300}
    said |= {"max_position_embeddings": 256, "rms_norm_eps": 1e-5}
    (tmp_path / "base" / "config.json").write_text(json.dumps(said))
    script, theirs = Path(CONVERTER, "convert_lora_to_gguf.py"), tmp_path / "theirs.gguf"
    command = [sys.executable, str(script), "--base", str(tmp_path / "base"), "--outfile", str(theirs), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    ours = adapter.convert(folder, base, tmp_path / "ours.gguf")
    wanted, found = values(adapter.read(theirs)), values(ours)
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert np.array_equal(found[name], array), name
    assert ours.alpha == adapter.read(theirs).alpha


def test_the_verbs_convert_and_show(tiny: tuple[Tiny, Path], tmp_path: Path) -> None:
    model, base = tiny
    folder, out = Lora(model, targets=["q_proj", "v_proj"]).save(tmp_path / "lora"), tmp_path / "x.gguf"
    command = [sys.executable, "-m", "edgellm", "adapter"]
    done = subprocess.run([*command, "convert", folder, "--base", base, "--out", out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "attn_q x2, attn_v x2" in done.stdout
    again = subprocess.run([*command, "convert", folder, "--base", base, "--out", out], capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (2, "")
    assert "there already" in again.stderr
    shown = subprocess.run([*command, "show", out, "--json"], capture_output=True, text=True)
    facts = json.loads(shown.stdout)
    assert (facts["ranks"], facts["alpha"], facts["base"]) == ([4], 8.0, "tiny")
    refusal = subprocess.run([*command, "show", base], capture_output=True, text=True)
    assert refusal.returncode == 1
    assert "Traceback" not in refusal.stderr


def mutations(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Files with a few bytes of their beginning changed, cut, or doubled."""
    rng = random.Random(seed)
    for _ in range(count):
        raw = bytearray(data)
        for _ in range(rng.choice([1, 1, 2, 5])):
            at = rng.randrange(min(len(raw), 3000))
            kind = rng.randrange(4)
            if kind == 0:
                raw[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                raw[at : at + 8] = rng.choice([0, 1, 63, 64, 2**31, 2**63 - 1, 2**64 - 1]).to_bytes(8, "little")
            elif kind == 2:
                del raw[at : at + rng.randrange(1, 40)]
            else:
                raw[at:at] = raw[at : at + rng.randrange(1, 40)]
        yield bytes(raw)


FUZZER = """
import sys
from pathlib import Path
from edgellm import adapter, gguf
from edgellm.engines.base import Feed, Worn
from edgellm.engines.llama_cpp import LlamaCpp
from edgellm.errors import EdgeError
from edgellm.hardware import Machine
from edgellm.plan import Wish, fit

base, folder = sys.argv[1:]
header = gguf.read(base)
machine = Machine((), 1 << 34, 1 << 34, 1, 1, 1, "Linux", "x86_64", False, ())
plan = fit(header, machine, Wish(context=64, slots=1, cells=64))
refused = ran = 0
for path in sorted(Path(folder).iterdir()):
    try:
        adapter.check(adapter.read(path), header)
    except EdgeError:
        refused += 1
        continue
    try:
        engine = LlamaCpp([base], plan, [str(path)])
    except EdgeError:
        continue
    engine.wear(Worn(0, 1.0))
    engine.decode([Feed(0, [5, 6, 7], 1)])
    engine.close()
    ran += 1
print(refused, ran)
"""


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_no_changed_file_that_passes_the_checks_stops_llama_cpp(
    count: int, tiny: tuple[Tiny, Path], tmp_path: Path
) -> None:
    model, base = tiny
    good = adapter.convert(
        Lora(model, targets=["q_proj", "embed_tokens"]).save(tmp_path / "lora"), base, tmp_path / "x.gguf"
    )
    (tmp_path / "files").mkdir()
    for number, raw in enumerate(mutations(Path(good.path).read_bytes(), count, seed=count)):
        (tmp_path / "files" / f"{number:04}.gguf").write_bytes(raw)
    command = [sys.executable, "-c", FUZZER, str(base), str(tmp_path / "files")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1700)
    assert done.returncode == 0, done.stderr
    refused, ran = map(int, done.stdout.split())
    assert refused > count // 2
    assert ran > 0


def test_no_changed_folder_of_peft_raises_anything_but_a_sentence(tiny: tuple[Tiny, Path], tmp_path: Path) -> None:
    model, base = tiny
    folder = Lora(model, targets=["q_proj", "v_proj"]).save(tmp_path / "lora", alpha_pattern={"v_proj": 3})
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    parts = {weights: weights.read_bytes(), config: config.read_bytes()}
    converted, said = 0, list[str]()
    for path, data in parts.items():
        for raw in mutations(data, 150, seed=len(data)):
            path.write_bytes(raw)
            try:
                adapter.convert(folder, base, tmp_path / "x.gguf", overwrite=True)
                converted += 1
            except EdgeError as error:
                said.append(str(error))
        path.write_bytes(data)
    assert 0 < converted < 300
    assert not any("\n" in one for one in said)
