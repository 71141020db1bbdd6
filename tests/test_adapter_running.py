"""Adapters at work: chosen per request, never reloaded, never mixed up, planned for, and named in every reply."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_loop import Watched, finished, sequence
from tiny_llama import Lora, Tiny

import edgellm
from edgellm import adapter, gguf
from edgellm.adapter import conversion
from edgellm.engines.base import Feed, Logits, Worn
from edgellm.engines.llama_cpp import LlamaCpp
from edgellm.errors import AdapterRefused, EngineFailed, ModelFileError, UsageError
from edgellm.forecast import _with_adapters
from edgellm.hardware import Device, Machine
from edgellm.loading import load
from edgellm.loop import Loop
from edgellm.plan import Wish, fit
from edgellm.prompt import Prompt
from edgellm.sampling import Sampling

GREEDY = Sampling(temperature=0.0, max_tokens=12)
TOKENS = [5, 260, 17, 299, 33, 8, 121, 64, 64, 203]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny base, and three adapters that each change what it says."""
    folder = tmp_path_factory.mktemp("adapters")
    model = Tiny()
    found = {"base": model.gguf(folder / "base.gguf")}
    for seed, name in enumerate(("red", "green", "blue"), 1):
        saved = Lora(model, seed=seed, strength=1.0).save(folder / name)
        found[name] = Path(adapter.convert(saved, found["base"], folder / f"{name}.gguf").path)
    return found


def opened(files: dict[str, Path], **options: object) -> edgellm.Model:
    return load(files["base"], in_process=True, context=128, threads=1, **options)  # type: ignore[arg-type]


def asked(text: str, name: str | None) -> Prompt:
    return Prompt(completion=text, sampling=GREEDY, adapter=name)


ALL = ("red", "green", "blue")
TEXTS = ("once upon a time", "once upon a day", "a cat and a dog", "seven")


def test_adapters_chosen_per_request_say_what_each_says_alone(files: dict[str, Path]) -> None:
    wanted = {}
    for name in ALL:
        with opened(files, adapter=files[name]) as model:
            wanted |= {(name, text): model.complete(text, sampling=GREEDY).text for text in TEXTS}
    with opened(files) as model:
        wanted |= {("none", text): model.complete(text, sampling=GREEDY).text for text in TEXTS}
    assert len({tuple(wanted[name, text] for text in TEXTS) for name in (*ALL, "none")}) == 4
    with opened(files, adapter=[files[name] for name in ALL]) as model:
        pairs = [(name, text) for text in TEXTS for name in (*ALL, "none")] * 2
        replies = model.ask([asked(text, name) for name, text in pairs])
    assert [reply.text for reply in replies] == [wanted[pair] for pair in pairs]
    for (name, _), reply in zip(pairs, replies, strict=True):
        assert reply.adapter.partition(":")[0] == ("" if name == "none" else name)


def test_a_prefix_is_shared_with_the_same_adapter_and_scale_only(files: dict[str, Path]) -> None:
    text = "the quick brown fox jumps over the lazy dog, and then again over it"
    with opened(files, adapter={"red": files["red"], "green": files["green"]}) as model:
        first = model.ask([asked(text, "red")])[0]
        assert first.shared_tokens == 0
        for name in ("green", "red:0.5", "none"):
            assert model.ask([asked(text, name)])[0].shared_tokens == 0, name
        assert model.ask([asked(text, "red")])[0].shared_tokens == first.prompt_tokens - 1


def test_one_adapter_is_everybodys_and_of_several_none_is(files: dict[str, Path]) -> None:
    with opened(files) as model:
        plain = model.complete("once", sampling=GREEDY)
    with opened(files, adapter=f"{files['red']}:0.5") as model:
        half = model.complete("once", sampling=GREEDY)
        digest = model.adapters[0].sha256
        assert half.adapter == f"red:0.5@{digest[:12]}"
        assert model.ask([asked("once", "none")])[0].text == plain.text
        assert model.ask([asked("once", "red:0")])[0].text == plain.text
    with opened(files, adapter=[files["red"], files["green"]]) as model:
        assert model.complete("once", sampling=GREEDY).text == plain.text
        seen = model.using("red:0.5")
        assert seen.complete("once", sampling=GREEDY).text == half.text
        assert seen.using("none").complete("once", sampling=GREEDY).text == plain.text
        with pytest.raises(UsageError, match="there are red, green"):
            model.using("yellow")
        with pytest.raises(UsageError, match="no adapter called 'yellow'"):
            model.ask([asked("once", "yellow")])


def test_the_worker_switches_without_reloading_and_survives_a_wrong_name(files: dict[str, Path]) -> None:
    with load(files["base"], context=128, threads=1, adapter=[files["red"], files["green"]]) as model:
        pid = model.pid
        texts = {name: model.using(name).complete("once", sampling=GREEDY).text for name in ("red", "green", "red:0.5")}
        assert len(set(texts.values())) == 3
        with pytest.raises(UsageError, match="yellow"):
            model.ask([asked("once", "yellow")])
        assert model.using("green").complete("once", sampling=GREEDY).text == texts["green"]
        assert model.pid == pid


def test_files_that_the_base_cannot_run_are_refused_before_c_sees_them(files: dict[str, Path], tmp_path: Path) -> None:
    for wrong, kind in (
        (files["base"], ModelFileError),
        (tmp_path / "nowhere.gguf", ModelFileError),
        ([files["red"], files["red"]], UsageError),
        ({"none": files["red"]}, UsageError),
        ({"a:b": files["red"]}, UsageError),
        (f"{files['red']}:nan", UsageError),
    ):
        with pytest.raises(kind) as caught:
            opened(files, adapter=wrong)
        assert "\n" not in str(caught.value)
    wide = Tiny(width=96, heads=6)
    other = wide.gguf(tmp_path / "other.gguf")
    foreign = adapter.convert(Lora(wide).save(tmp_path / "lora"), other, tmp_path / "foreign.gguf")
    with pytest.raises(AdapterRefused, match="another base"):
        opened(files, adapter=foreign.path)


def test_a_tied_base_refuses_an_embedding_that_would_stop_llama_cpp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Tiny(tied=True)
    base = model.gguf(tmp_path / "tied.gguf")
    monkeypatch.setattr(conversion, "check", lambda *_: None)
    made = adapter.convert(Lora(model, targets=["embed_tokens"]).save(tmp_path / "lora"), base, tmp_path / "x.gguf")
    with pytest.raises(AdapterRefused, match="also the output layer"):
        load(base, in_process=True, adapter=made.path)


def test_the_plan_counts_their_bytes(files: dict[str, Path]) -> None:
    chosen = adapter.choose([files["red"], files["green"]], gguf.read(files["base"]))
    with opened(files) as plain, opened(files, adapter=[files["red"], files["green"]]) as fitted:
        more = fitted.plan.host_bytes - plain.plan.host_bytes
    total = sum(one.bytes for one in chosen)
    assert total <= more < total + 256 * 2 * 2 * 14 + 4096


def test_plans_and_answers_name_them(files: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "edgellm"]
    model = ["-m", str(files["base"]), "--template", "chatml"]
    planned = subprocess.run(
        [*command, "plan", str(files["base"]), "--adapter", f"{files['red']}:0.5"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "Adapters (red): 0.0 MiB" in planned.stdout, planned.stderr
    asked = [*command, "extract", "name: x", "--fields", "ok bool", *model, "--adapter", str(files["red"]), "--json"]
    answered = subprocess.run(asked, capture_output=True, text=True, timeout=100)
    digest = hashlib.sha256(files["red"].read_bytes()).hexdigest()
    assert json.loads(answered.stdout)["adapters"] == [{"name": "red", "scale": 1.0, "sha256": digest}], answered.stderr


def test_the_chat_says_which_adapter_answers(files: dict[str, Path]) -> None:
    command = [
        sys.executable,
        "-m",
        "edgellm",
        "chat",
        "-m",
        str(files["base"]),
        "--template",
        "chatml",
        "--no-history",
    ]
    done = subprocess.run(
        [*command, "--adapter", f"{files['red']}:0.5"], input="/model\n", capture_output=True, text=True, timeout=100
    )
    assert "With the adapter red:0.5@" in done.stderr + done.stdout, done.stderr


def test_on_a_gpu_they_lie_beside_their_weights(files: dict[str, Path]) -> None:
    base = gguf.read(files["base"])
    heavy = adapter.weighed(base, [str(files["red"])])
    gpu = [Device(f"GPU{number}", "", "gpu", 1 << 30, 1 << 30, "CUDA", row_padding=False) for number in range(2)]
    machine = Machine(tuple(gpu[:1]), 1 << 34, 1 << 34, 4, 4, 4, "Linux", "x86_64", True, ())
    extra = sum(one.bytes for one in heavy.tensors) - base.tensor_bytes
    for layers, share in ((3, 1.0), (2, 0.5), (1, 0.0)):  # the output comes first, and has no adapter here
        wish = Wish(gpu_layers=layers)
        with_it, without = fit(heavy, machine, wish), fit(base, machine, wish)
        assert with_it.devices[0].weights_bytes - without.devices[0].weights_bytes == pytest.approx(
            extra * share, rel=0.01
        )
        measured = _with_adapters(lambda _: [], heavy, base, with_it)
        assert measured == []
    two = replace(machine, devices=tuple(gpu))
    made = replace(fit(heavy, two, Wish(gpu_layers=3)), gpu_layers=3, tensor_split=(1, 2))
    from edgellm.engines.dry_run import Bytes

    rows = [Bytes(f"GPU{number}", False, 100, 0, 0) for number in range(2)]
    found = _with_adapters(lambda _: rows, heavy, base, made)
    assert sum(row.weights_bytes for row in found) == 200 + extra
    assert found[0].weights_bytes == pytest.approx(100 + extra / 2, rel=0.01)


class Wearing(Watched):
    """Notes with which adapter every step was computed."""

    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.steps: list[tuple[Worn | None, tuple[int, ...]]] = []

    def decode(self, feeds: list[Feed]) -> list[Logits]:
        self.steps.append((self.worn, tuple(feed.slot for feed in feeds)))
        return super().decode(feeds)


def test_a_batch_has_one_adapter_and_everyone_gets_a_turn() -> None:
    red, green = Worn(0, 1.0), Worn(1, 1.0)
    engine = Wearing(slots=6)
    loop = Loop(engine)
    kinds = [None, red, green, red, None, green]
    for number, worn in enumerate(kinds):
        one = sequence(number, f"<{'abcdef'[number]}> " + "x" * number)
        one.worn = worn
        loop.add(one)
    replies = finished(loop)
    assert {number: reply.text for number, reply in replies.items()} == {
        number: f"answer {'abcdef'[number]} " * 3 for number in range(6)
    }
    slots: dict[int, set[Worn | None]] = {}
    for worn, fed in engine.steps:
        for slot in fed:
            slots.setdefault(slot, set()).add(worn)
    assert all(len(worn) == 1 for worn in slots.values())
    order = [worn for worn, _ in engine.steps]
    runs = [worn for index, worn in enumerate(order) if index == 0 or order[index - 1] != worn]
    assert set(runs[:3]) == {None, red, green}  # nobody waits for two turns of another
    assert len(runs) < len(order) / 4  # and nobody is switched every step


def test_without_adapters_the_engine_is_never_asked_to_switch() -> None:
    class Never(Watched):
        def wear(self, worn: Worn | None) -> None:
            raise AssertionError

    loop = Loop(Never())
    for number in range(6):
        loop.add(sequence(number, "<a> hello"))
    assert len(finished(loop)) == 6


def test_saved_states_belong_to_their_adapter(files: dict[str, Path], tmp_path: Path) -> None:
    text = (
        "the quick brown fox jumps over the lazy dog, again and again and again, until it is tired of all that jumping"
    )
    kept = tmp_path / "x.kv"
    with opened(files, adapter=[files["red"], files["green"]]) as model:
        model.ask([asked(text, "red")])
        assert model.ask([replace(asked(text, "red"), keep=str(kept))])[0].shared_tokens > 64
    with opened(files, adapter=[files["red"], files["green"]]) as model:
        for name in ("green", "none", "red:0.5"):
            assert model.ask([replace(asked(text, name), saved=(str(kept),))])[0].shared_tokens == 0, name
        assert model.ask([replace(asked(text, "red"), saved=(str(kept),))])[0].shared_tokens > 64


def test_the_engine_computes_what_the_formula_says(files: dict[str, Path]) -> None:
    base = gguf.read(files["base"])
    machine = Machine((), 1 << 34, 1 << 34, 1, 1, 1, "Linux", "x86_64", False, ())
    engine = LlamaCpp([str(files["base"])], fit(base, machine, Wish(context=128, slots=2)), [str(files["red"])])
    try:
        engine.wear(Worn(0, 0.5))
        [rows] = engine.decode([Feed(0, TOKENS, 1)])
        tiny = Tiny()
        wanted = tiny.forward(TOKENS, Lora(tiny, seed=1, strength=1.0).deltas(1.0))[-1]
        assert np.abs(rows[-1] - wanted).max() / np.abs(wanted).max() < 2e-2  # the cache is in half precision
        engine.wear(None)
        engine.keep(0, 0)
        [rows] = engine.decode([Feed(0, TOKENS, 1)])
        wanted = tiny.forward(TOKENS)[-1]
        assert np.abs(rows[-1] - wanted).max() / np.abs(wanted).max() < 2e-2
    finally:
        engine.close()


def test_a_file_that_changed_after_the_check_is_an_error_not_a_crash(files: dict[str, Path], tmp_path: Path) -> None:
    base = gguf.read(files["base"])
    machine = Machine((), 1 << 34, 1 << 34, 1, 1, 1, "Linux", "x86_64", False, ())
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(files["red"].read_bytes()[:3000])
    with pytest.raises(EngineFailed, match="could not load the adapter"):
        LlamaCpp([str(files["base"])], fit(base, machine, Wish(context=128)), [str(broken)])


def test_the_command_line_and_models_toml_take_them(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "edgellm", "run", "once", "-m", str(files["base"]), "--template", "chatml"]
    command += ["--temperature", "0", "--max-tokens", "12"]

    def said(*more: str) -> str:
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout

    plain, red, half = said(), said("--adapter", str(files["red"])), said("--adapter", f"{files['red']}:0.5")
    assert len({plain, red, half}) == 3
    refusal = subprocess.run([*command, "--adapter", str(files["base"])], capture_output=True, text=True, timeout=100)
    assert (refusal.returncode, refusal.stdout) == (1, "")

    listed = tmp_path / "models.toml"
    listed.write_text(
        f'[mine]\npath = "{files["base"]}"\nadapter = "{files["red"]}:0.5"\n'
        f'[both]\npath = "{files["base"]}"\nadapter = {{ translate = "{files["red"]}", other = "{files["green"]}" }}\n'
    )
    monkeypatch.setenv("EDGELLM_MODELS", str(listed))
    with load("mine", in_process=True, context=128, threads=1) as model:
        assert [(one.name, one.scale) for one in model.adapters] == [("red", 0.5)]
    with load("both", in_process=True, context=128, threads=1, template="chatml") as model:
        assert model.bound("translate")._adapter == "translate"
        assert model.bound("summarize")._adapter is None
        assert model.using("other").bound("translate")._adapter == "other"
        [answer] = model.batch("chat", ["hi"], sampling=GREEDY, receipt=True)
        assert answer.receipt, answer
        assert answer.receipt["adapters"][0]["sha256"] == model.adapters[0].sha256
    listed.write_text(f'[mine]\npath = "{files["base"]}"\nadapter = 3\n')
    with pytest.raises(UsageError, match="adapter"):
        load("mine", in_process=True)
