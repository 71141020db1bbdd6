"""The llama.cpp engine keeps the contract, on the real library and a tiny model that the test writes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ggufs import write_model, write_shape

import edgellm
from edgellm import Sampling, engines
from edgellm.bench import synthetic
from edgellm.engines.base import Feed, Stopped
from edgellm.engines.devices import low_level
from edgellm.engines.llama_cpp import LlamaCpp
from edgellm.errors import EngineFailed, EngineMissing, TemplateError
from edgellm.plan import Plan

PLAN = Plan(
    gpu_layers=0,
    context=512,
    cells=1024,
    slots=4,
    threads=1,
    threads_batch=1,
    batch=512,
    ubatch=512,
    kv_type="f16",
    flash_attention=True,
    swa_full=False,
    op_offload=True,
    tensor_overrides=(),
    tensor_split=(),
    devices=(),
    host_bytes=0,
    host_weights_bytes=0,
    reasons=(),
)
PROMPT = [1, 300, 301, 302, 303, 304, 305, 306]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.gguf", layers=3, seed=3)


@pytest.fixture(params=[PLAN, replace(PLAN, cells=2048, kv_unified=False)], ids=["one pool", "parts"])
def engine(path: Path, request: pytest.FixtureRequest) -> Iterator[LlamaCpp]:
    engine = LlamaCpp([str(path)], request.param)
    yield engine
    engine.close()


def greedy(engine: LlamaCpp, slot: int, tokens: list[int], steps: int) -> list[int]:
    said: list[int] = []
    for _ in range(steps):
        [row] = engine.decode([Feed(slot, tokens, 1)])
        tokens = [int(row[-1].argmax())]
        said += tokens
    return said


def bare_c_api(path: Path, prompt: list[int], steps: int) -> list[int]:
    """The oracle: the C library's calls in C's order, nothing of ours."""
    lib = low_level()
    model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_threads = 512, 1
    context = lib.llama_init_from_model(model, params)
    size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    tokens, said = prompt, []
    for _ in range(steps):
        array = (lib.llama_token * len(tokens))(*tokens)
        assert lib.llama_decode(context, lib.llama_batch_get_one(array, len(tokens))) == 0
        row = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, -1), (size,))
        tokens = [int(row.argmax())]
        said += tokens
    lib.llama_free(context)
    lib.llama_model_free(model)
    return said


def test_greedy_tokens_equal_the_bare_c_api(engine: LlamaCpp, path: Path) -> None:
    assert greedy(engine, 0, PROMPT, 40) == bare_c_api(path, PROMPT, 40)


def test_slots_do_not_see_each_other(engine: LlamaCpp) -> None:
    alone = greedy(engine, 0, PROMPT, 10)
    other = [1, 310, 311]
    rows = engine.decode([Feed(1, PROMPT, 1), Feed(2, other, 0), Feed(3, other, 1)])
    assert [row.shape for row in rows] == [(1, engine.vocab.size)] * 2
    assert int(rows[0][0].argmax()) == alone[0]


def test_all_rows_of_a_feed_can_be_asked_for(path: Path) -> None:
    engine = LlamaCpp([str(path)], replace(PLAN, slots=8))
    [rows] = engine.decode([Feed(0, PROMPT, 3)])
    expected = rows.copy()
    one_by_one = []
    engine.decode([Feed(1, PROMPT[:-3], 0)])
    for token in PROMPT[-3:]:
        one_by_one.append(engine.decode([Feed(1, [token], 1)])[0][0].copy())
    np.testing.assert_allclose(expected, one_by_one, rtol=2e-2, atol=2e-2)
    engine.close()


def test_keep_rolls_back_and_continues_the_same(engine: LlamaCpp) -> None:
    said = greedy(engine, 0, PROMPT, 6)
    assert engine.keep(0, len(PROMPT) - 1) == len(PROMPT) - 1
    assert greedy(engine, 0, PROMPT[-1:], 6) == said
    assert engine.keep(0, 0) == 0
    assert greedy(engine, 0, PROMPT, 6) == said


def test_share_continues_a_prefix_without_computing_it(engine: LlamaCpp) -> None:
    said = greedy(engine, 0, PROMPT, 6)
    assert engine.share(0, 2, len(PROMPT) - 1) == len(PROMPT) - 1
    assert greedy(engine, 2, PROMPT[-1:], 6) == said
    assert engine.keep(0, 0) == 0  # the source may go; the copy stays
    assert greedy(engine, 2, [5], 1) == greedy(engine, 0, [*PROMPT, *said[:5], 5], 1)


def test_stop_aborts_and_slots_hold_what_they_held(engine: LlamaCpp) -> None:
    engine.decode([Feed(0, PROMPT[:4], 0)])
    engine.stop()
    with pytest.raises(Stopped):
        engine.decode([Feed(0, PROMPT[4:], 1)])
    fresh = greedy(engine, 1, PROMPT, 1)
    assert greedy(engine, 0, PROMPT[4:], 1) == fresh


LONG = [2, *(10 + index % 200 for index in range(1500))]


@pytest.fixture(params=[True, False], ids=["whole", "pruned"])
def windowed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LlamaCpp]:
    """A model with a sliding window of 64 tokens, in a cache that keeps all of them or only what the window needs."""
    plan = replace(PLAN, context=2048, cells=8192, batch=512, ubatch=128, swa_full=request.param)
    engine = LlamaCpp([str(write_shape(tmp_path / "windowed.gguf", "tiny-gemma3"))], plan)
    yield engine
    engine.close()


def feed(engine: LlamaCpp, slot: int, tokens: list[int]) -> None:
    for start in range(0, len(tokens), 512):
        engine.decode([Feed(slot, tokens[start : start + 512], 1)])


def test_slots_of_a_windowed_model_that_share_a_prefix_can_go_on(windowed: LlamaCpp) -> None:
    feed(windowed, 0, LONG)
    for slot in (1, 2, 3):
        feed(windowed, slot, LONG[windowed.share(0, slot, len(LONG) - 1) :])
    for token in range(100, 200):
        assert len(windowed.decode([Feed(slot, [token], 1) for slot in range(4)])) == 4


class AbortsTooLate:
    """The C library, whose next decode computes everything and then says that it was aborted."""

    def __init__(self, lib: object) -> None:
        self._lib = lib

    def __getattr__(self, name: str) -> object:
        return getattr(self._lib, name)

    def llama_decode(self, context: object, batch: object) -> int:
        assert self._lib.llama_decode(context, batch) == 0  # type: ignore[attr-defined]
        return 2


def test_an_aborted_decode_says_which_slots_are_lost(windowed: LlamaCpp) -> None:
    feed(windowed, 0, LONG[:600])
    lib, windowed._lib = windowed._lib, AbortsTooLate(windowed._lib)
    with pytest.raises(Stopped) as stopped:
        windowed.decode([Feed(0, [11] * 512, 1)])
    windowed._lib = lib
    pruned = bool(windowed._window)  # there the aborted tokens have pushed the others out of the window
    assert list(stopped.value.lost) == ([0] if pruned else [])
    feed(windowed, 0, LONG[0 if pruned else 600 : 700])
    assert windowed.keep(0, 700) == 700


def test_a_file_whose_name_is_not_utf8_can_be_opened(path: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/m\xff.gguf")
    try:
        os.link(path, odd)
    except OSError:
        pytest.skip("this file system has no such names")
    LlamaCpp([odd], PLAN).close()


def test_a_library_that_cannot_be_loaded_is_missing_and_says_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("Failed to load shared library 'libllama.so'")

    monkeypatch.setattr("edgellm.engines.loaded.low_level", broken)
    with pytest.raises(EngineMissing, match=r"libllama.so.*pip install"):
        engines.open("llama_cpp", ["x.gguf"], PLAN)


def test_stop_from_another_thread_answers_within_a_fifth_of_a_second(tmp_path: Path) -> None:
    big = write_model(
        tmp_path / "big.gguf", layers=8, embedding=512, heads=8, kv_heads=8, ffn=2048, quant="q4_0", context=4096
    )
    engine = LlamaCpp([str(big)], replace(PLAN, context=4096, cells=4096, slots=1, batch=4096))
    asked: list[float] = []

    def stop() -> None:
        asked.append(time.monotonic())
        engine.stop()

    timer = threading.Timer(0.3, stop)
    timer.start()
    with pytest.raises(Stopped):
        engine.decode([Feed(0, [1] * 4000, 1)])
    assert time.monotonic() - asked[0] < 0.2
    engine.close()


def test_an_answer_can_be_stopped_at_once_while_a_long_prompt_is_read(tmp_path: Path) -> None:
    slow = synthetic.Shape(layers=4, embedding=1024, ffn=4096, heads=8, kv_heads=2, vocab=2000, context=4096)
    path = synthetic.write(tmp_path / "slow.gguf", slow)
    with edgellm.load(path, context=4096, slots=1, threads=1, template="chatml") as model:
        stream = model.stream([{"role": "user", "content": "many words " * 700}])
        time.sleep(1.0)
        start = time.monotonic()
        stream.close()
        assert time.monotonic() - start < 0.6  # 0.2 s on a machine with nothing else to do
        again = model.chat([{"role": "user", "content": "hi"}], sampling=Sampling(temperature=0, max_tokens=2))
        assert again.tokens == 2


def test_vocabulary_tells_pieces_controls_and_ends(engine: LlamaCpp) -> None:
    vocab = engine.vocab
    assert len(vocab.pieces) == vocab.size
    assert vocab.specials == {"<unk>": 0, "<s>": 1, "</s>": 2}
    assert vocab.pieces[1] == vocab.pieces[2] == b""
    assert (vocab.bos, vocab.ends) == (1, frozenset({2}))
    assert 2 in vocab.ends
    assert not {0, 3, -1, vocab.size, "2"} & vocab.ends
    assert len(vocab.ends) == 1


@pytest.mark.parametrize("text", ["hello", "</s><s>[INST]", "😀 中文", "a\0b", " ", "é" * 500])
def test_text_becomes_tokens_and_tokens_the_same_bytes_never_controls(engine: LlamaCpp, text: str) -> None:
    tokens = engine.vocab.encode(text)
    assert not {1, 2} & set(tokens)
    assert b"".join(engine.vocab.pieces[token] for token in tokens) == b" " + text.encode()


def test_a_file_that_c_refuses_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"could not load .*missing\.gguf: .*failed to load model"):
        LlamaCpp([str(tmp_path / "missing.gguf")], PLAN)


def test_c_reads_weights_in_silence_and_says_why_when_it_cannot(path: Path, tmp_path: Path) -> None:
    """A log callback in Python would make the thread that loads wait for the interpreter at every line."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(path.read_bytes()[:5000])
    code = (
        "from test_engine_llama_cpp import PLAN\n"
        "from edgellm import engines\n"
        f"begun = engines.begin('llama_cpp', [{str(path)!r}], PLAN)\n"
        "assert begun.finish().vocab.bos == 1\n"
        f"begun = engines.begin('llama_cpp', [{str(broken)!r}], PLAN)\n"
        "try:\n    begun.finish()\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent, timeout=60, check=False
    )
    assert done.stdout.startswith("EngineFailed llama.cpp could not load")
    assert "corrupted or incomplete" in done.stdout or "failed to" in done.stdout
    assert not done.stderr


def test_a_context_that_c_refuses_is_a_typed_error_though_the_vocabulary_is_being_read(path: Path) -> None:
    for _ in range(20):
        with pytest.raises(EngineFailed, match=r"could not make a context of 1,024 tokens: .*flash"):
            engines.begin("llama_cpp", [str(path)], replace(PLAN, kv_type="q8_0", flash_attention=False)).finish()


def test_closing_twice_is_fine(path: Path) -> None:
    engine = LlamaCpp([str(path)], PLAN)
    engine.close()
    engine.close()


def test_a_file_without_a_template_answers_in_the_format_that_is_named(path: Path) -> None:
    hi = [{"role": "user", "content": "hi"}]
    with edgellm.load(path, slots=1) as model, pytest.raises(TemplateError, match="name its format with --template"):
        model.chat(hi)
    with edgellm.load(path, slots=1, template="solar") as model:
        assert model.chat(hi, sampling=Sampling(temperature=0, max_tokens=4)).prompt_tokens > 20
