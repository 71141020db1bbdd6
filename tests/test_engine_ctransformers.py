"""The legacy engine keeps the same contract as llama.cpp: same tasks, same answers, nothing lost, and nobody dies of it."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ggufs import write_model, write_shape
from test_engine_llama_cpp import PLAN, PROMPT, greedy

import edgellm
from edgellm import Sampling, engines, gguf
from edgellm.engines import legacy
from edgellm.engines.base import Feed, Stopped
from edgellm.engines.llama_cpp import LlamaCpp
from edgellm.errors import EngineMissing, ModelFileError, UsageError
from edgellm.evaluation import embedded
from edgellm.rows import sweep

ONE = replace(PLAN, slots=1, cells=512)
GREEDY = Sampling(temperature=0, max_tokens=24)
pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("ctransformers"), reason="no ctransformers: pip install 'edgellm[ctransformers]'"
)
DEMO = Path(edgellm.__file__).parent / "demo" / "demo.gguf"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("legacy") / "tiny.gguf", layers=3, seed=3)


@pytest.fixture
def engine(path: Path) -> Iterator[Any]:
    engine = engines.open("ctransformers", [str(path)], ONE)
    yield engine
    engine.close()


def texts(count: int) -> Iterator[str]:
    """Short texts from every block of Unicode, of emoji, and with NUL in them."""
    rng = random.Random(11)
    starts = [one for one in range(0, 0x110000, 256) if not 0xD800 <= one < 0xE000]
    for index in range(count):
        start = (
            starts[index // 2 % len(starts)] if index % 2 else rng.choice((0, 0x1F300, 0x1F600, 0x4E00, 0xAC00, 0x600))
        )
        said = "".join(chr(start + rng.randrange(256)) for _ in range(rng.randint(1, 9)))
        yield said + "\0" * (index % 7 == 0) + "x" * (index % 5 == 0)


def test_keep_rolls_back_and_continues_the_same(engine: Any) -> None:
    said = greedy(engine, 0, PROMPT, 6)
    assert engine.keep(0, len(PROMPT) - 1) == len(PROMPT) - 1
    assert greedy(engine, 0, PROMPT[-1:], 6) == said
    assert engine.keep(0, 0) == 0
    assert greedy(engine, 0, PROMPT, 6) == said


def test_all_rows_of_a_draft_can_be_asked_for(engine: Any) -> None:
    [rows] = engine.decode([Feed(0, PROMPT, 3)])
    assert rows.shape == (3, engine.vocab.size)
    engine.keep(0, len(PROMPT) - 3)
    for row, token in zip(rows, PROMPT[-3:], strict=True):
        [again] = engine.decode([Feed(0, [token], 1)])
        assert abs(again[0] - row).max() < 0.05
    assert engine.decode([Feed(0, [5], 0)]) == []


def test_a_stop_is_heard_and_forgets_nothing(engine: Any) -> None:
    said = greedy(engine, 0, PROMPT, 3)
    engine.keep(0, len(PROMPT))
    engine.stop()
    with pytest.raises(Stopped):
        engine.decode([Feed(0, [7, 8, 9], 1)])
    engine.keep(0, len(PROMPT) - 1)
    assert greedy(engine, 0, PROMPT[-1:], 3) == said


@pytest.mark.parametrize("quant", ["f32", "q8_0", "q4_0"])
def test_logits_are_those_of_llama_cpp(quant: str, tmp_path: Path) -> None:
    """Grouped-query attention included; kernels of 2023 round the activations of quantized weights elsewhere."""
    file = str(write_model(tmp_path / "m.gguf", layers=2, seed=5, quant=quant, heads=4, kv_heads=2))
    old, new = engines.open("ctransformers", [file], ONE), LlamaCpp([file], ONE)
    [ours], [theirs] = old.decode([Feed(0, PROMPT, 1)]), new.decode([Feed(0, PROMPT, 1)])
    assert abs(ours[0] - theirs[0]).max() < 0.05 * abs(theirs[0]).max()
    old.close()
    new.close()


def test_the_vocabulary_is_that_of_llama_cpp() -> None:
    old, new = engines.open("ctransformers", [str(DEMO)], ONE), LlamaCpp([str(DEMO)], ONE)
    assert list(old.vocab.pieces) == list(new.vocab.pieces)
    assert (old.vocab.bos, old.vocab.ends, old.vocab.specials) == (new.vocab.bos, new.vocab.ends, new.vocab.specials)
    for text in (*texts(3000), "", "\0", "\0\0a", "a  b", "</s><s>[INST]", "Good morning, how are you?\n"):
        assert old.vocab.encode(text) == new.vocab.encode(text), repr(text)
    old.close()
    new.close()


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[edgellm.Model, edgellm.Model]]:
    with edgellm.load("demo", engine="ctransformers") as old, edgellm.load("demo", slots=1) as new:
        yield old, new


def test_all_tasks_give_the_same_greedy_text_on_both_engines(both: tuple[edgellm.Model, edgellm.Model]) -> None:
    old, new = both
    record = "My name is Suvojit Hore, working in company AB and my address is AZ Street NY"
    for ask in (
        lambda model: model.translate("Good morning", to="fr"),
        lambda model: model.translate(["Thank you very much", "Good evening"], to="es"),
        lambda model: model.extract(record, fields="name, company, address"),
        lambda model: model.chat([{"role": "user", "content": "Who are you?"}], sampling=GREEDY).text,
        lambda model: model.complete("[INST] Hello [/INST]", sampling=GREEDY).text,
    ):
        assert ask(old) == ask(new)
    assert old.plan.slots == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nearly_all_answers_of_the_evaluation_are_the_same(both: tuple[edgellm.Model, edgellm.Model]) -> None:
    """Kernels of 2023 round elsewhere: where two tokens are nearly as likely, an unsure answer may take another way."""
    same = asked = 0
    for task in ("extract", "translate", "summarize"):
        cases = embedded(task, 60)  # type: ignore[arg-type]
        said = []
        for model in both:
            with sweep.over(model, [case.row for case in cases], cases.ask) as results:
                said.append([result.value for result in results])
        same += sum(left is not None and left == right for left, right in zip(*said, strict=True))
        asked += len(said[0])
    print(f"{same} of {asked} answers are the same")
    assert same >= 0.95 * asked


@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(900)
def test_any_text_arrives_whole_and_nobody_dies(both: tuple[edgellm.Model, edgellm.Model], count: int) -> None:
    """A text of which a byte were lost would be refused (edgellm/spelling.py); the counts are those of llama.cpp."""
    old, new = both
    pid = old.pid
    for text in texts(count):
        assert old.count(text) == new.count(text), repr(text)
    assert old.pid == pid
    print(f"{count:,} texts, 0 deaths, 0 cuts")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ("mixtral-8x7b", "mixture of experts"),
        ("tiny-qwen2", "qwen2 architecture"),
        ("gemma3-4b", "gemma3 architecture"),
    ],
)
def test_a_model_it_cannot_run_is_refused_from_the_header(shape: str, words: str, tmp_path: Path) -> None:
    path = write_shape(tmp_path / "m.gguf", shape)
    with pytest.raises(ModelFileError, match=words):
        legacy.check(gguf.read(str(path)))
    with pytest.raises(ModelFileError, match=f"{words}.*Use --engine llama_cpp"):
        edgellm.load(path, engine="ctransformers")


@pytest.mark.parametrize("shape", ["mistral-7b", "solar-10.7b"])
def test_the_models_of_its_time_are_not_refused(shape: str, tmp_path: Path) -> None:
    legacy.check(gguf.read(str(write_shape(tmp_path / "m.gguf", shape))))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"llama.rope.scaling.type": "yarn"}, "stretches its context"),
        ({"llama.attention.key_length": 32}, "heads have a size of their own"),
        ({"tokenizer.ggml.model": "gpt2"}, "only SentencePiece"),
    ],
)
def test_what_it_would_silently_leave_out_is_refused(changes: dict[str, Any], words: str, path: Path) -> None:
    header = gguf.read(str(path))
    changed = replace(header, metadata={**header.metadata, **changes})
    with pytest.raises(ModelFileError, match=words):
        legacy.check(changed)
    with pytest.raises(ModelFileError, match="shares the weights"):
        legacy.check(replace(header, tensors=tuple(one for one in header.tensors if one.name != "output.weight")))


def test_it_runs_in_a_process_of_its_own_only(path: Path) -> None:
    with pytest.raises(UsageError, match="process of its own"):
        edgellm.load(path, engine="ctransformers", in_process=True)


def test_it_says_what_it_is(caplog: pytest.LogCaptureFixture, path: Path) -> None:
    edgellm.load(path, engine="ctransformers").close()
    assert "September 2023" in caplog.text


def test_layers_on_a_gpu_without_cuda_libraries_are_one_sentence(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(legacy, "_cuda", lambda name: False)
    with pytest.raises(
        EngineMissing, match=r"libcudart and libcublas cannot be found: pip install 'ctransformers\[cuda\]'"
    ):
        edgellm.load(path, engine="ctransformers", gpu_layers=4)


def test_auto_takes_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engines.chosen("auto") == "llama_cpp"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "ctransformers" or None)
    assert engines.chosen("auto") == "ctransformers"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert engines.chosen("auto") == "llama_cpp"  # which then says how to install it
    with pytest.raises(EngineMissing, match=r"edgellm\[ctransformers\]"):
        legacy.present(gpu=False)
