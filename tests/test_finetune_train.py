"""An adapter is trained beside its base: it learns, it survives being killed, and it is refused with words where it cannot be."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny_llama import Tiny

from edgellm.cli import edgellm
from edgellm.errors import (
    DataRefused,
    DownloadFailed,
    EngineFailed,
    NotOnHub,
    Offline,
    OutputFailed,
    ResumeRefused,
    UsageError,
)
from edgellm.finetune import base, checkpoint, data, rows, tune
from edgellm.finetune import vocab as vocabulary
from edgellm.finetune.layout import Layout
from edgellm.finetune.lengths import by_pieces
from edgellm.finetune.report import check
from edgellm.finetune.settings import Settings
from edgellm.finetune.train import Run, Step, perplexity, steps_of
from edgellm.template import Template

torch = pytest.importorskip("torch", reason="needs the extra finetune")
for _name in ("transformers", "peft"):
    pytest.importorskip(_name, reason="needs the extra finetune")

FAST = Settings(
    targets=("all",), rank=4, alpha=8, rate=1e-2, batch=4, steps=40, max_length=64, checkpoint_every=4, seed=3
)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """A tiny model is slower on two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def changed(settings: Settings, **changes: Any) -> Settings:
    return Settings(**{**settings.facts(), "targets": settings.targets, **changes})


@pytest.fixture
def tiny(tmp_path: Path) -> base.Base:
    return base.find(str(Tiny().gguf(tmp_path / "tiny.gguf")))


def sums(path: Path, count: int = 24) -> data.Data:
    """Rows that always answer with the last letter of the question, three times."""
    path.mkdir(exist_ok=True)
    found = [{"prompt": f"say {a}{b}", "completion": b * 3} for a in "abcdef" for b in "wxyz"]
    (path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found[:count]))
    return data.read(path)


def ready(on: base.Base, path: Path, settings: Settings = FAST) -> tune.Ready:
    return tune.prepare(on, sums(path), changed(settings, layout="raw"))


def losses(out: Path) -> list[float]:
    found: list[float] = json.loads((out / "losses.json").read_text())["train"]
    return found


# What is learned.


def test_forty_steps_lower_the_validation_loss_of_a_grouped_query_model(tiny: base.Base, tmp_path: Path) -> None:
    steps = list[Step]()
    card = tune.perform(ready(tiny, tmp_path / "data"), tmp_path / "out", tell=steps.append)
    assert [step.number for step in steps] == list(range(41))
    assert card["loss"]["validation_after"] < 0.8 * card["loss"]["validation_before"]
    assert card["loss"]["perplexity_after"] == pytest.approx(perplexity(card["loss"]["validation_after"]), rel=1e-3)


def test_the_card_says_what_was_trained_on_what(tiny: base.Base, tmp_path: Path) -> None:
    assert tiny.path
    made = ready(tiny, tmp_path / "data", changed(FAST, steps=2))
    card = tune.perform(made, tmp_path / "out")
    import hashlib

    assert card["base"]["revision"] == hashlib.sha256(tiny.path.read_bytes()).hexdigest()
    assert card["data"]["sha256"] == made.data.sha256
    assert card["settings"]["rate"] == 0.01
    assert json.loads((tmp_path / "out" / "card.json").read_text()) == card
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md", "losses.json", "run.json"} <= names
    assert "checkpoint.pt" not in names
    assert made.data.sha256 in (tmp_path / "out" / "README.md").read_text()


def test_only_answers_count_and_the_end_is_learned(tiny: base.Base, tmp_path: Path) -> None:
    vocab = tiny.pieces()
    [sample, *_] = ready(tiny, tmp_path).train.samples
    counted = [token for token, counts in zip(sample.ids, sample.counts, strict=True) if counts]
    assert counted[-1] == vocab.ends[0]
    assert vocab.decode(counted[:-1]).strip() in ("www", "xxx", "yyy", "zzz")
    assert sample.ids[0] == vocab.bos


@functools.cache
def demo() -> tuple[base.Base, Any]:
    found = base.find("demo")
    return found, found.pieces()


@pytest.mark.parametrize(
    "text",
    [
        "Hello!",
        "  two  blanks",
        "a\nb\n\nc",
        "</s><s>[INST]",
        "日本語 é",
        "tab\there",
        " ",
        "12345 67.8",
        "x" * 300,
        "",
    ],
)
def test_the_tokens_of_training_are_those_of_llama_cpp(text: str) -> None:
    from edgellm import engines, hardware
    from edgellm.plan import Wish, fit

    found, vocab = demo()
    assert found.header
    assert found.path
    plan = fit(found.header, hardware.detect((), False), Wish(slots=1, context=64))
    engine = engines.open("llama_cpp", (str(found.path),), plan)
    try:
        assert vocab.encode(text) == engine.vocab.encode(text)
        assert vocab.pieces[3:] == list(engine.vocab.pieces)[3:]  # but the control tokens, which have no bytes there
        assert (vocab.bos, set(vocab.ends)) == (engine.vocab.bos, set(engine.vocab.ends))
    finally:
        engine.close()


def test_what_a_format_cannot_say_is_a_fault_of_its_line(tmp_path: Path) -> None:
    _, vocab = demo()
    long = "{% if messages | length > 2 %}{{ raise_exception('too long') }}{% endif %}"
    layout = Layout(Template(long + "{% for m in messages %}{{ m.content }}{% endfor %}"))
    turns = [{"role": role, "content": "a"} for role in ("user", "assistant")]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"messages": turns * count}) + "\n" for count in (1, 2)))
    found = data.read(tmp_path / "x.jsonl")
    [fault] = check(found, by_pieces(vocab, layout)).faults
    assert str(fault).startswith("x.jsonl, line 2 cannot be laid out: the chat template")
    with pytest.raises(DataRefused, match="line 2 cannot be laid out"):
        rows.lay_out(found.train, layout, vocab, 64)


def test_byte_level_vocabularies_are_read_as_bytes(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens(["<|end|>"])
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|end|>"}')
    vocab = vocabulary.folder(tmp_path)
    text = "é 日本 <|end|>\n\x01"
    assert b"".join(vocab.pieces[token] for token in vocab.encode(text)) == text.encode()
    assert vocab.ends[0] not in vocab.encode(text)
    assert (vocab.bos, vocab.specials) == (None, {"<|end|>": 256})


def test_a_chat_learns_every_answer_and_nothing_of_the_questions(tmp_path: Path) -> None:
    found, vocab = demo()
    turns = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four")]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    sample = found.layout().encode(data.read(tmp_path / "x.jsonl").train[0], vocab, vocab.ends)
    counted = [token for token, counts in zip(sample.ids, sample.counts, strict=True) if counts]
    assert vocab.decode(counted).split() == ["two</s>", "four</s>"]
    assert vocab.decode(sample.ids).count("[INST]") == 2


def test_texts_are_packed_into_blocks_and_nothing_is_lost(tmp_path: Path) -> None:
    _, vocab = demo()
    (tmp_path / "x.txt").write_text("One paragraph.\n\nAnother one.\n")
    (tmp_path / "y.jsonl").write_text('{"text": "One."}\n{"text": "Two."}\n')
    whole = rows.pack(data.read(tmp_path / "x.txt").train, Layout(), vocab, 1000)
    assert vocab.decode(whole[0].ids).strip() == "<s> One paragraph.\n\nAnother one.</s>"
    blocks = rows.pack(data.read(tmp_path / "x.txt").train, Layout(), vocab, 8)
    assert sum((block.ids for block in blocks), ()) == whole[0].ids
    [both] = rows.pack(data.read(tmp_path / "y.jsonl").train, Layout(), vocab, 1000)
    assert both.ids.count(vocab.bos) == both.ids.count(vocab.ends[0]) == 2
    assert sum(both.counts) == len(both.ids) - 2  # the beginnings are given, never predicted


def test_what_a_step_takes_follows_from_its_number() -> None:
    taken = [place for step in range(10) for place in rows.taken(step, 7, 3, seed=1)]
    assert [sorted(taken[start : start + 7]) for start in (0, 7, 14, 21)] == [list(range(7))] * 4
    assert taken[:7] != taken[7:14]
    assert rows.taken(5, 7, 3, seed=1) == taken[15:18]
    assert rows.taken(5, 7, 3, seed=2) != taken[15:18]


def test_long_rows_are_cut_and_counted(tiny: base.Base, tmp_path: Path) -> None:
    made = tune.prepare(tiny, sums(tmp_path), changed(FAST, layout="raw", max_length=11))
    assert made.train.cut == len(made.train.samples)
    assert {len(sample.ids) for sample in made.train.samples} == {11}


def test_accumulated_batches_learn_as_one_batch_does(tiny: base.Base, tmp_path: Path) -> None:
    curves = []
    for number, (batch, accumulate) in enumerate([(4, 1), (2, 2), (1, 4)]):
        settings = changed(FAST, batch=batch, accumulate=accumulate, steps=5, dropout=0.0)
        tune.perform(ready(tiny, tmp_path / "data", settings), tmp_path / f"out{number}")
        curves.append(losses(tmp_path / f"out{number}"))
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert curves[2] == pytest.approx(curves[0], rel=1e-4)


# Killed, and gone on with.

_KILLED = """
import os, sys, torch
from pathlib import Path
from edgellm.finetune import base, data, tune
from edgellm.finetune.settings import Settings
torch.set_num_threads(1)
model, rows, out, at = sys.argv[1:5]
settings = Settings(**{**eval(sys.argv[5]), "targets": ("all",)})
ready = tune.prepare(base.find(model), data.read(Path(rows)), settings)
def tell(step):
    if step.number == int(at):
        os.kill(os.getpid(), 9)
tune.perform(ready, Path(out), tell=tell)
"""


def killed(on: base.Base, place: Path, out: Path, at: int, settings: Settings) -> int:
    facts = repr({**settings.facts(), "layout": "raw"})
    command = [sys.executable, "-c", _KILLED, str(on.path), str(place), str(out), str(at), facts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def whole_curve(on: base.Base, tmp_path: Path, settings: Settings) -> list[float]:
    tune.perform(ready(on, tmp_path / "data", settings), tmp_path / "whole")
    return losses(tmp_path / "whole")


def weights(out: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    found: dict[str, Any] = load_file(out / "adapter_model.safetensors")
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_run_that_is_killed_goes_on_to_the_same_curve(tiny: base.Base, tmp_path: Path) -> None:
    settings = changed(FAST, steps=14)
    wanted = whole_curve(tiny, tmp_path, settings)
    assert killed(tiny, tmp_path / "data", tmp_path / "out", 10, settings) == -signal.SIGKILL
    assert not (tmp_path / "out" / "card.json").exists()
    steps = list[Step]()
    tune.perform(ready(tiny, tmp_path / "data", settings), tmp_path / "out", tell=steps.append)
    assert steps[0].number == 9  # the last checkpoint was after step 8
    assert losses(tmp_path / "out") == pytest.approx(wanted, rel=1e-5)
    one, other = weights(tmp_path / "out"), weights(tmp_path / "whole")
    assert all(one[name] == pytest.approx(other[name], rel=1e-4, abs=1e-6) for name in other)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_run_that_is_killed_five_times_goes_on_to_the_same_curve(tiny: base.Base, tmp_path: Path) -> None:
    settings = changed(FAST, steps=30, checkpoint_every=3)
    wanted = whole_curve(tiny, tmp_path, settings)
    for at in sorted(random.Random().sample(range(1, 30), 5)):
        assert killed(tiny, tmp_path / "data", tmp_path / "out", at, settings) == -signal.SIGKILL
    assert killed(tiny, tmp_path / "data", tmp_path / "out", -1, settings) == 0
    assert losses(tmp_path / "out") == pytest.approx(wanted, rel=1e-5)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tiny: base.Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = changed(FAST, steps=12)
    wanted = whole_curve(tiny, tmp_path, settings)
    replace, saves = os.replace, []

    def full(source: Any, target: Any) -> None:
        saves.append(target)
        if len(saves) == 3:  # run.json, a checkpoint, and this one
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OutputFailed, match=r"No space left on device. The last checkpoint is whole"):
            tune.perform(ready(tiny, tmp_path / "data", settings), tmp_path / "out")
    steps = list[Step]()
    tune.perform(ready(tiny, tmp_path / "data", settings), tmp_path / "out", tell=steps.append)
    assert steps[0].number == 5
    assert losses(tmp_path / "out") == pytest.approx(wanted, rel=1e-5)


def test_a_run_begun_from_something_else_is_not_gone_on_with(tiny: base.Base, tmp_path: Path) -> None:
    tune.perform(ready(tiny, tmp_path / "data", changed(FAST, steps=2)), tmp_path / "out")
    with pytest.raises(ResumeRefused, match=r"is trained already"):
        tune.perform(ready(tiny, tmp_path / "data", changed(FAST, steps=2)), tmp_path / "out")
    with pytest.raises(ResumeRefused, match=r"was begun with rate 0\.01, now 0\.02"):
        tune.perform(ready(tiny, tmp_path / "data", changed(FAST, steps=2, rate=0.02)), tmp_path / "out")
    tune.perform(ready(tiny, tmp_path / "data", changed(FAST, steps=2, rate=0.02)), tmp_path / "out", fresh=True)
    assert json.loads((tmp_path / "out" / "card.json").read_text())["settings"]["rate"] == 0.02


def test_a_run_that_came_to_nothing_binds_nobody(tiny: base.Base, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fits no layer"):
        tune.perform(ready(tiny, tmp_path / "data", changed(FAST, targets=("query",))), tmp_path / "out")
    tune.perform(ready(tiny, tmp_path / "data", changed(FAST, steps=1)), tmp_path / "out")


def test_a_folder_of_somebody_else_is_left_alone(tiny: base.Base, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(UsageError, match="holds something else"):
            tune.perform(ready(tiny, tmp_path / "data"), tmp_path / "out", fresh=fresh)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_a_checkpoint_that_is_none_is_refused(tiny: base.Base, tmp_path: Path) -> None:
    made = ready(tiny, tmp_path / "data", changed(FAST, steps=2))
    checkpoint.begin(tmp_path / "out", {}, fresh=False)
    (tmp_path / "out" / "checkpoint.pt").write_bytes(b"PK\3\4 no")
    with pytest.raises(ResumeRefused, match="cannot be read"):
        Run(made.base, made.settings, made.train, made.validation, tmp_path / "out")


# Refused, with words.


def test_layers_that_are_not_there_are_refused_with_those_that_are(tiny: base.Base, tmp_path: Path) -> None:
    made = ready(tiny, tmp_path / "data", changed(FAST, targets=("query",)))
    with pytest.raises(UsageError, match="--targets query fits no layer: this model has down_proj, gate_proj"):
        tune.perform(made, tmp_path / "out")


def test_four_bits_are_refused_where_they_cannot_be(
    tiny: base.Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="needs the original weights"):
        base.four_bits(tiny)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="needs an NVIDIA GPU"):
        base.four_bits(base.Base("x", tmp_path))


def test_a_loss_that_is_no_number_ends_the_run(tiny: base.Base, tmp_path: Path) -> None:
    made = ready(tiny, tmp_path / "data", changed(FAST, steps=3))
    run = Run(made.base, made.settings, made.train, made.validation, tmp_path)
    for weight in run.model.parameters():
        weight.data.fill_(float("nan"))
    with pytest.raises(EngineFailed, match="the loss became nan at step 1: lower --rate"):
        list(run.go())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rank": 0}, "--rank is at least 1, not 0"),
        ({"rate": 0.0}, "--rate is more than 0"),
        ({"rate": float("nan")}, "--rate is more than 0"),
        ({"dropout": 1.0}, "--dropout is at least 0 and at most 0.9"),
        ({"epochs": -1.0}, "--epochs is more than 0"),
        ({"max_length": 1}, "--max-length is at least 8"),
        ({"targets": ("",)}, "--targets names no layer"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Settings(**changes)


def test_steps_follow_from_epochs() -> None:
    assert steps_of(Settings(epochs=3, batch=4), 10) == 8
    assert steps_of(Settings(epochs=0.1, batch=4), 10) == 1
    assert steps_of(Settings(epochs=3, steps=5), 10) == 5


def test_bases_that_cannot_be_trained_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"has no config.json"):
        base.find(str(tmp_path / "empty"))
    with pytest.raises(Offline):
        base.find("somebody/something", offline=True)
    with pytest.raises(UsageError, match=r"is not on this machine. Train on its original weights"):
        base.find("mistral-7b-instruct-v0.2", offline=True)


# Hugging Face folders.


@pytest.fixture
def folder(tiny: base.Base, tmp_path: Path) -> Path:
    place = tmp_path / "tiny-hf"
    read = tiny.weights(four_bit=False, dtype=torch.float32)
    del read.config.quantization_config  # it says that the weights came out of a GGUF file
    model = type(read)(read.config)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(place)
    tiny.pieces()._tokenizer.save(str(place / "tokenizer.json"))
    (place / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "add_bos_token": True})
    )
    return place


def test_a_folder_is_trained_as_its_gguf_is(tiny: base.Base, folder: Path, tmp_path: Path) -> None:
    settings = changed(FAST, steps=4)
    wanted = whole_curve(tiny, tmp_path, settings)
    found = base.find(str(folder))
    assert not found.is_gguf
    assert found.layout().template is None
    tune.perform(ready(found, tmp_path / "data", settings), tmp_path / "out")
    assert losses(tmp_path / "out") == pytest.approx(wanted, rel=1e-4)
    assert len(found.fingerprint()) == 64


def test_a_folder_counts_as_its_worker_counts(folder: Path, tiny: base.Base, tmp_path: Path) -> None:
    examples = sums(tmp_path / "data").train
    found = base.find(str(folder))
    with found.count(Layout()) as here, tiny.count(Layout()) as there:
        assert here(examples) == there(examples)


def test_a_folder_with_a_broken_tokenizer_or_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(UsageError, match="transformers cannot read the weights of tiny-hf"):
        base.find(str(folder)).weights(four_bit=False, dtype=torch.float32)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UsageError, match=r"tokenizer\.json cannot be read"):
        base.find(str(folder)).pieces()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match="save the tokenizer once"):
        base.find(str(folder)).pieces()


# The program.


def test_the_program_trains_and_says_what_comes_next(tiny: base.Base, tmp_path: Path) -> None:
    sums(tmp_path / "data")
    arguments = ["finetune", "train", str(tiny.path), str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    flags = ["--steps", "3", "--targets", "q_proj, v_proj", "--rank", "2", "--layout", "raw", "--validate-every", "1"]
    done = CliRunner().invoke(edgellm, [*arguments, *flags])
    assert done.exception is None, done.output
    assert "validation loss" in done.stdout
    assert "▁" in done.stdout or "█" in done.stdout
    assert "step 3 of 3: loss" in done.stderr
    assert "Next: edgellm adapter convert" in done.stderr
    assert len(json.loads((tmp_path / "out" / "losses.json").read_text())["validation"]) == 4


def test_a_sample_without_anything_to_learn_is_refused_before_training(tiny: base.Base, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(
        json.dumps({"prompt": "a" * 90, "completion": "b"}) + "\n" + json.dumps({"prompt": "c", "completion": "d"})
    )
    with pytest.raises(ValueError, match="line 1 has a prompt that fills all 64 tokens"):
        tune.prepare(tiny, data.read(tmp_path / "x.jsonl"), changed(FAST, layout="raw", validation_share=0.0))


# Names on the hub.


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from loopback_hub import LoopbackHub

    files = {path.name: path.read_bytes() for path in folder.iterdir()} | {"pytorch_model.bin": b"pickled", "a.py": b""}
    with LoopbackHub() as opened:
        opened.add("somebody/tiny", files)
        opened.add("somebody/pickled", {"config.json": b"{}", "pytorch_model.bin": b"pickled"})
        monkeypatch.setenv("HF_ENDPOINT", opened.url)
        yield opened


def test_a_name_on_the_hub_is_fetched_verified_and_trained(hub: Any, folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.rmtree(folder)
    found = base.find("somebody/tiny")
    assert len(found.revision) == 40
    counting = found.here(weights=False)
    assert counting.path
    assert not list(counting.path.glob("*.safetensors"))
    assert counting.pieces().encode("abc")
    whole = found.here()
    assert whole.path
    assert {path.name for path in whole.path.iterdir()} >= {"config.json", "tokenizer.json", "model.safetensors"}
    assert not {"pytorch_model.bin", "a.py"} & {path.name for path in whole.path.iterdir()}
    card = tune.perform(ready(whole, tmp_path / "data", changed(FAST, steps=2)), tmp_path / "out")
    assert card["base"] == {"name": "somebody/tiny", "revision": found.revision, "gguf": False}
    assert base.find("somebody/tiny", offline=True).here(offline=True).path == whole.path


def test_damaged_weights_from_the_hub_are_never_trained_on(hub: Any) -> None:
    from loopback_hub import flip

    found = base.find("somebody/tiny")
    hub.spoil("GET", flip(5000), forever=True)
    with pytest.raises(DownloadFailed):
        found.here()


def test_pickled_weights_are_refused(hub: Any) -> None:
    with pytest.raises(NotOnHub, match=r"has no \.safetensors: it holds no weights that can be trained"):
        base.find("somebody/pickled")
