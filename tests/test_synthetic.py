"""Random-weight files are what they say: real shapes that llama.cpp runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_engine_llama_cpp import PLAN

from edgellm import gguf
from edgellm.bench import synthetic
from edgellm.engines.base import Feed
from edgellm.engines.llama_cpp import LlamaCpp
from edgellm.errors import UsageError

TINY = synthetic.Shape(layers=8, embedding=256, ffn=512, heads=4, kv_heads=2, vocab=2000, context=512)
MIXED = synthetic.Shape(layers=2, embedding=256, ffn=512, heads=4, kv_heads=2, vocab=2000, experts=4, used=2)


@pytest.mark.parametrize("shape", [TINY, MIXED], ids=["dense", "experts"])
def test_a_synthetic_model_runs_and_its_numbers_have_the_size_of_real_ones(
    shape: synthetic.Shape, tmp_path: Path
) -> None:
    path = synthetic.write(tmp_path / "one.gguf", shape)
    assert path.stat().st_size == synthetic.file_bytes(shape)
    header = gguf.read(str(path))
    assert (header.quantization, header.vocab_size, header.experts) == ("Q4_K_M", shape.vocab, shape.experts)
    engine = LlamaCpp([str(path)], PLAN)
    [row] = engine.decode([Feed(0, engine.vocab.encode("a number of things, in many words"), 1)])
    assert 0.1 < np.std(row) < 10
    engine.close()


def test_the_same_shape_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (synthetic.write(tmp_path / name, MIXED).read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("size", [400, 2000, 32000, 128256])
def test_the_vocabulary_has_so_many_different_pieces(size: int) -> None:
    texts, scores, kinds = synthetic.vocabulary(size)
    assert len(set(texts)) == len(texts) == len(scores) == len(kinds) == size


def test_sizes_are_those_of_the_real_files() -> None:
    assert synthetic.file_bytes(synthetic.shape("7B")) == pytest.approx(4.37e9, rel=0.01)
    assert synthetic.file_bytes(synthetic.shape("1.1b")) == pytest.approx(0.668e9, rel=0.01)


def test_an_unknown_shape_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"0\.1b, .*8x7b"):
        synthetic.shape("9000b")
