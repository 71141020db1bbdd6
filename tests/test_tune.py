"""What is measured on this machine is used by the next load, and never more than it is worth."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ggufs import write_model
from test_engine_llama_cpp import PLAN

import edgellm
from edgellm import gguf, tune
from edgellm.cli import edgellm as cli
from edgellm.engines.trial import Died, Trial
from edgellm.errors import EngineFailed
from edgellm.hardware import Machine
from edgellm.plan import DevicePlan, Wish
from edgellm.tune import search

MACHINE = Machine((), 16 << 30, 8 << 30, 4, 8, 4, "Linux", "x86_64", False)
TUNED = tune.Tuning(
    threads=3, threads_batch=4, ubatch=256, costs={1: 0.01, 8: 0.03}, repacked={1: 0.008, 8: 0.02}, day="2026-01-01"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny.gguf")


class FakeTrial:
    """A machine with four cores, where repacking makes every step `faster` times as fast, or kills."""

    faster: float | None = 1.5
    loaded_s = 0.1

    def __init__(self, paths: Sequence[str], plan: Any, until: float) -> None:
        self.plan = plan
        if plan.repack and self.faster is None:
            raise Died("it dies of SIGILL")

    def seconds(self, threads: int, width: int) -> float | None:
        crowded = 1.0 if threads <= 4 else 3.0
        speed = (self.faster or 1.0) if self.plan.repack else 1.0
        return 0.1 * (1 + 0.1 * width) / min(threads, 4) * crowded / speed

    def __enter__(self) -> FakeTrial:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def measured(path: Path, monkeypatch: pytest.MonkeyPatch, faster: float | None) -> tune.Tuning:
    monkeypatch.setattr(search, "Trial", type("One", (FakeTrial,), {"faster": faster}))
    return search.measure(gguf.read(str(path)), [str(path)], PLAN, MACHINE)


@pytest.mark.parametrize(("faster", "repack"), [(1.5, True), (1.01, False), (0.7, False), (None, False)])
def test_the_fastest_way_is_found(
    faster: float | None, repack: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measured(path, monkeypatch, faster)
    assert (found.threads, found.threads_batch, found.repacks(4)) == (4, 4, repack)
    assert sorted(found.costs) == [1, 2, 4, 8, 16, 32]
    assert found.notes == (("repacked weights cannot be used here: it dies of SIGILL.",) if faster is None else ())


def test_a_plan_takes_what_was_measured_and_says_so() -> None:
    plan = tune.applied(PLAN, TUNED, Wish(), MACHINE)
    assert (plan.threads, plan.threads_batch, plan.repack, plan.ubatch) == (3, 4, True, 256)
    assert plan.reasons == (
        "Measured on this machine on 2026-01-01: 3 threads (4 for prompts), weights repacked, 256 tokens at once.",
    )


def test_weights_are_repacked_for_the_number_of_answers_that_gain_by_it() -> None:
    costs, repacked = {1: 0.030, 16: 0.155, 32: 0.230}, {1: 0.020, 16: 0.155, 32: 0.270}
    both = replace(TUNED, costs=costs, repacked=repacked)
    alone, many = (tune.applied(replace(PLAN, slots=slots), both, Wish(), MACHINE) for slots in (1, 16))
    assert (alone.repack, many.repack) == (True, False)
    assert tune.costs(both, Wish(), alone) == repacked
    assert tune.costs(both, Wish(), many) == costs


def test_what_the_user_pins_stays() -> None:
    plan = tune.applied(replace(PLAN, threads=7, threads_batch=7), TUNED, Wish(threads=7, ubatch=512), MACHINE)
    assert (plan.threads, plan.threads_batch, plan.ubatch) == (7, 7, 512)


def test_nothing_that_decides_about_memory_on_a_gpu_is_touched() -> None:
    on_gpu = replace(PLAN, devices=(DevicePlan("CUDA0", 1 << 30, 1 << 20, 1 << 20, 0, 8 << 30),))
    plan = tune.applied(on_gpu, TUNED, Wish(), MACHINE)
    assert (plan.threads, plan.repack, plan.ubatch) == (3, False, 512)


def test_weights_are_not_copied_where_memory_is_short() -> None:
    tight = replace(PLAN, host_bytes=8 << 30, host_weights_bytes=7 << 30)
    assert not tune.applied(tight, TUNED, Wish(), MACHINE).repack


def test_a_load_uses_what_was_measured_for_its_shape_and_not_after_forgetting(path: Path, tmp_path: Path) -> None:
    tune.remember(gguf.read(str(path)), replace(TUNED, repacked={}))
    with edgellm.load(path, in_process=True, template="chatml") as model:
        assert model.plan.threads == 3
        assert model.opening.costs == {1: 0.01, 8: 0.03}
    with edgellm.load(path, template="chatml", threads=1) as pinned:
        assert (pinned.plan.threads, pinned.opening.costs) == (1, {})
        assert pinned.chat([{"role": "user", "content": "hi"}], sampling=edgellm.Sampling(max_tokens=2)).tokens == 2
    other = write_model(tmp_path / "other.gguf", layers=3)
    assert tune.known(gguf.read(str(other))) is None
    assert tune.forget(gguf.read(str(path))) == 1
    assert tune.known(gguf.read(str(path))) is None


def test_what_a_gpu_was_measured_at_says_nothing_of_the_processor(path: Path) -> None:
    header = gguf.read(str(path))
    tune.remember(header, TUNED, gpu=True)
    assert tune.known(header) is None
    tune.remember(header, replace(TUNED, threads=1))
    assert tune.known(header, gpu=True) == TUNED
    shown = CliRunner().invoke(cli, ["tune", "--show", str(path)]).stdout
    assert shown.count("- threads: ") == 2
    assert tune.forget(header) == 2


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"null", b'{"KEY": 3}', b'{"KEY": {"threads": -1, "costs": {}, "notes": []}}', b"\xff"]
)
def test_a_damaged_cache_is_no_reason_not_to_load(damage: bytes, path: Path) -> None:
    header = gguf.read(str(path))
    tune.remember(header, TUNED)
    tune._path().write_bytes(damage.replace(b"KEY", tune.key(header).encode()))
    assert tune.known(header) is None
    assert tune.every() == {}
    tune.remember(header, TUNED)
    assert tune.known(header) == TUNED


def test_a_real_model_is_measured_in_time(path: Path) -> None:
    start, said = time.monotonic(), list[str]()
    found = search.measure(gguf.read(str(path)), [str(path)], PLAN, replace(MACHINE, performance_cores=1), said.append)
    assert time.monotonic() - start < search.LONGEST_S + 10
    assert found.threads >= 1
    assert found.costs[1] > 0
    assert any("at once" in line for line in said)


def test_a_file_that_cannot_be_opened_is_a_typed_error(path: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(EngineFailed, match="could not be measured: it ended with code 1"):
        search.measure(gguf.read(str(path)), [str(broken)], PLAN, MACHINE)


def test_a_trial_that_dies_or_hangs_says_how(path: Path) -> None:
    with Trial([str(path)], PLAN, time.monotonic() + 60) as trial:
        assert trial.seconds(1, 4)
        os.kill(trial._process.pid, signal.SIGILL)
        with pytest.raises(Died, match="it dies of SIGILL"):
            trial.seconds(1, 1)
    with Trial([str(path)], PLAN, time.monotonic() + 60) as trial:
        os.kill(trial._process.pid, signal.SIGSTOP)
        trial._until = time.monotonic() + 0.2
        with pytest.raises(Died, match="no time"):
            trial.seconds(1, 1)


def test_the_verb_shows_and_forgets(path: Path) -> None:
    run = CliRunner()
    nothing = run.invoke(cli, ["tune", "--show", str(path)])
    assert "nothing was measured" in str(nothing.exception)
    tune.remember(gguf.read(str(path)), TUNED)
    shown = run.invoke(cli, ["tune", "--show"]).stdout
    assert "3 for answers, 4 for prompts" in shown
    assert "repacked where 1, 2, 4, 8, 16 answer at once" in shown
    assert '"repacked": {"1": 0.008' in run.invoke(cli, ["tune", "--show", "--json", str(path)]).stdout
    assert run.invoke(cli, ["tune", "--forget"]).stdout == "1 forgotten.\n"
    assert run.invoke(cli, ["tune", "--show", "--json"]).stdout == "[]\n"
