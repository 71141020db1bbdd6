"""Depth up-scaling: 32 layers become SOLAR's 48, byte for byte, and the deeper model loads, plans and runs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from ggufs import Gguf
from test_adapter import TOKENS, error, logits
from tiny_llama import TARGETS, Tiny, module

from edgellm import gguf
from edgellm.loading import load

SCRIPT = Path(__file__).parent.parent / "examples" / "depth_upscale.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("depth_upscale", SCRIPT)
    assert spec
    assert spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_thirty_two_layers_become_forty_eight(example: ModuleType, tmp_path: Path) -> None:
    assert example.order(32, 8) == [*range(24), *range(8, 32)]
    model = Tiny(layers=32, width=32, heads=4, feed=48)
    source, target = model.gguf(tmp_path / "base.gguf"), tmp_path / "deep.gguf"
    example.upscale(source, target, 8)
    header = gguf.read(target)
    assert (header.layers, header.name) == (48, "tiny (48 layers)")

    deep = Tiny(layers=48, width=32, heads=4, feed=48)
    deep.weights |= {"model.embed_tokens": model.weights["model.embed_tokens"], "lm_head": model.weights["lm_head"]}
    for new, old in enumerate([*range(24), *range(8, 32)]):
        for one in TARGETS:
            deep.weights[module(new, one)] = model.weights[module(old, one)]
    assert error(logits(target, None, TOKENS), deep.forward(TOKENS)) < 1e-3
    assert error(logits(source, None, TOKENS), deep.forward(TOKENS)) > 1e-2

    with load(target, context=64, threads=1) as loaded:
        assert loaded.plan.host_weights_bytes > gguf.read(source).tensor_bytes * 1.3
        assert loaded.complete("once").tokens


def test_lists_with_a_value_per_layer_follow_the_new_order(example: ModuleType, tmp_path: Path) -> None:
    model = Tiny(layers=4, width=32, heads=4, feed=48)
    plain = model.gguf(tmp_path / "plain.gguf")
    head = gguf.read(plain)
    kept = {key: (field.kind, head.metadata[key]) for key, field in head.fields.items()}
    kept["llama.feed_forward_length"] = ("[i32]", [48, 49, 50, 51])
    bare = Gguf(kept, {}).write(tmp_path / "bare.gguf")
    import gguf as library

    writer_path = tmp_path / "lists.gguf"
    reader = library.GGUFReader(bare)
    writer = library.GGUFWriter(writer_path, "llama")
    example.describe(reader, writer, "llama", [0, 1, 2, 1, 2, 3])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = {name: field.contents() for name, field in library.GGUFReader(writer_path).fields.items()}
    assert found["llama.feed_forward_length"] == [48, 49, 50, 49, 50, 51]
    assert found["llama.block_count"] == 6
    assert len(found["tokenizer.ggml.tokens"]) == 300


@pytest.mark.parametrize("m", ["-1", "4", "99"])
def test_an_impossible_m_is_a_sentence(m: str, tmp_path: Path) -> None:
    source = Tiny(layers=4, width=32, heads=4, feed=48).gguf(tmp_path / "base.gguf")
    command = [sys.executable, str(SCRIPT), str(source), str(tmp_path / "deep.gguf"), f"-m={m}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "m must be from 0 to 3" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["base.gguf"]


def test_no_file_is_replaced(example: ModuleType, tmp_path: Path) -> None:
    source = Tiny(layers=4, width=32, heads=4, feed=48).gguf(tmp_path / "base.gguf")
    with pytest.raises(SystemExit, match="there already"):
        example.upscale(source, source, 1)
    assert np.fromfile(source, "u1").size == gguf.read(source).file_bytes
