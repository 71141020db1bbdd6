"""Quantizing: llama.cpp's own quantizer, whole or not at all, nonsense refused, and what it cost measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ggufs import write_model
from tiny_llama import Tiny

from edgellm import gguf, quantize
from edgellm.engines import quantizer
from edgellm.errors import DiskFull, EngineCrashed, EngineFailed, ModelFileError, UsageError
from edgellm.loading import load


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An F32 model whose rows are wide enough for every kind."""
    return Tiny(width=256, heads=4, feed=512).gguf(tmp_path_factory.mktemp("quantize") / "plain.gguf")


@pytest.mark.parametrize("kind", ["Q4_K_M", "q8_0", "F16", "Q2_K"])
def test_a_smaller_file_of_the_same_model(kind: str, plain: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    out = tmp_path / "small.gguf"
    made = quantize.quantize(plain, out, kind, threads=1, progress=lambda *said: seen.append(said))
    before = gguf.read(plain)
    assert made.quantization == kind.upper()
    assert made.file_bytes < before.file_bytes * (0.55 if kind != "F16" else 0.6)
    assert {tensor.name for tensor in made.tensors} == {tensor.name for tensor in before.tensors}
    done = [one[1] for one in seen]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, before.tensor_bytes)
    assert len(done) == len(before.tensors) + 1
    assert os.listdir(tmp_path) == ["small.gguf"]
    with load(out, context=64, threads=1) as model:
        assert model.complete("once").tokens


def test_what_it_cost_is_measured_on_the_same_text(plain: Path, tmp_path: Path) -> None:
    small, tiny = tmp_path / "q8.gguf", tmp_path / "q2.gguf"
    quantize.quantize(plain, small, "Q8_0", threads=1)
    quantize.quantize(plain, tiny, "Q2_K", threads=1)
    fine, coarse = (quantize.cost(plain, path, "once upon a time, and again", threads=1) for path in (small, tiny))
    assert fine.before == coarse.before
    assert abs(fine.rise) < 0.1 < abs(coarse.rise)
    assert coarse.after_bytes == tiny.stat().st_size < small.stat().st_size == fine.after_bytes


def test_nonsense_is_refused_before_anything_is_written(plain: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.gguf"
    quantize.quantize(plain, packed, "Q8_0", threads=1)
    there = tmp_path / "there.gguf"
    there.write_text("mine")
    before = sorted(os.listdir(tmp_path))
    out = tmp_path / "out.gguf"
    for source, target, kind, error, words in (
        (plain, out, "Q4_K_X", UsageError, "did you mean Q4_K_"),
        (plain, out, "q4", UsageError, "did you mean Q4_K_M"),
        (plain, out, "wonder", UsageError, "choose F32, F16"),
        (plain, out, "IQ2_XS", UsageError, "importance matrix"),
        (plain, out, "F32", UsageError, "F32 already"),
        (packed, out, "Q4_K_M", UsageError, "quantized already.*--requantize"),
        (packed, out, "F16", UsageError, "would not bring back"),
        (plain, there, "Q8_0", UsageError, "there already"),
        (plain, plain, "Q8_0", UsageError, "is what is read"),
        (plain, tmp_path, "Q8_0", UsageError, "is a folder"),
        (plain, tmp_path / "no" / "x.gguf", "Q8_0", UsageError, "there is no folder"),
        (there, out, "Q8_0", ModelFileError, "GGUF"),
        (tmp_path / "nowhere.gguf", out, "Q8_0", ModelFileError, "no such file"),
    ):
        with pytest.raises(error, match=words) as caught:
            quantize.quantize(source, target, kind, threads=1)
        assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before
    assert there.read_text() == "mine"
    made = quantize.quantize(packed, there, "Q4_K_M", requantize=True, overwrite=True, threads=1)
    assert made.quantization == "Q4_K_M"


def test_a_full_disk_is_known_before_a_byte_is_written(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize.outputs.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 4096}))
    with pytest.raises(DiskFull) as caught:
        quantize.quantize(plain, tmp_path / "x.gguf", "Q8_0", threads=1)
    assert 500_000 < caught.value.needed_bytes < plain.stat().st_size
    assert os.listdir(tmp_path) == []


def test_a_death_or_a_refusal_in_c_is_an_error_and_leaves_nothing(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: dict[str, Any] = {"requantize": False, "threads": 1, "sized": lambda _: None, "reached": lambda _: None}
    with pytest.raises(EngineFailed, match="could not quantize"):
        quantizer.run(str(plain), str(tmp_path / "x.gguf"), 9999, **nothing)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(EngineCrashed, match="exit code 1"):
            quantize.quantize(plain, tmp_path / "x.gguf", "Q8_0")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize.quantize(plain, tmp_path / "x.gguf", "Q8_0", threads=1, progress=stopped)
    assert os.listdir(tmp_path) == []


def test_the_verb_says_what_it_cost(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.gguf"
    command = [sys.executable, "-m", "edgellm", "quantize", str(plain), str(out), "--to", "Q6_K", "--threads", "1"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["quantization"] == "Q6_K"
    assert facts["tokens"] > 150
    assert facts["perplexity_before"] != facts["perplexity_after"] > 1
    again = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (again.returncode, again.stdout) == (2, "")
    replaced = subprocess.run([*command, "--overwrite", "--no-measure"], capture_output=True, text=True, timeout=100)
    assert replaced.returncode == 0
    assert "Q6_K" in replaced.stdout
    assert "Perplexity" not in replaced.stdout


def test_a_model_without_its_vocabulary_is_refused_like_any_other(tmp_path: Path) -> None:
    broken = write_model(tmp_path / "m.gguf")
    data = Path(broken).read_bytes()
    Path(broken).write_bytes(data[:-100])
    with pytest.raises(ModelFileError, match="not complete"):
        quantize.quantize(broken, tmp_path / "x.gguf", "Q8_0")
