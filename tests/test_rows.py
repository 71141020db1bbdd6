"""Rows of a program through one task: an iterator that any number of rows cannot fill, and a mapper that travels."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import edgellm
from edgellm import Mapper, Sampling, UsageError
from edgellm.mapper import COLUMNS

Script = Callable[..., None]


def scripted(**options: Any) -> edgellm.Model:
    return edgellm.load("demo", engine="scripted", context=512, **options)


def test_a_batch_is_an_iterator_over_results_in_the_order_of_the_rows(script: Script) -> None:
    script(rules=[{"when": f"row {n}.", "say": f"<{n}>" * (1 + n % 3)} for n in range(30)], otherwise="?")
    rows: list[Any] = [*(f"row {n}." for n in range(29)), {"text": "row 29.", "id": "last", "more": 1}, {"no": "text"}]
    with scripted() as model:
        found = list(model.batch("translate", rows, to="fr", receipt=True))
        mixed = list(model.batch("translate", rows, to="fr", ordered=False))
    assert [one.value for one in found[:30]] == [f"<{n}>" * (1 + n % 3) for n in range(30)]
    assert (found[29].id, found[29].row.values["more"]) == ("last", 1)
    assert (type(found[30].error).__name__, found[30].value) == ("RowUnreadable", None)
    receipt = found[3].receipt
    assert receipt
    assert {name: receipt[name] for name in ("task", "to", "engine", "finish")} == {
        "task": "translate",
        "to": "fr",
        "engine": "scripted",
        "finish": "stop",
    }
    assert receipt["tokens"] == found[3].tokens > 0
    assert {one.id for one in mixed} == {one.id for one in found}
    assert not any(one.receipt for one in mixed)


class Person(BaseModel):
    name: str


def test_a_batch_takes_the_schemas_that_extract_takes(script: Script) -> None:
    script(rules=[{"when": "ten", "say": '{"name": 10}'}], otherwise='{"name": "Ada"}')
    with scripted() as model:
        [one] = model.batch("extract", ["Ada"], schema=Person)
        assert one.value == Person(name="Ada")
        [one] = model.batch("extract", ["Ada"], fields="name")
        assert one.value == {"name": "Ada"}
        with pytest.raises(UsageError, match="one of the two"):
            model.batch("extract", ["Ada"])
        with pytest.raises(UsageError, match="no option of chat"):
            model.batch("chat", ["Ada"], fields="name")


def interrupted(results: Any) -> None:
    with pytest.raises(edgellm.EngineFailed):
        next(results)


def test_a_row_tells_what_its_answer_lost_and_strict_makes_it_fail(script: Script) -> None:
    script(
        rules=[{"when": "{name}", "say": "Salut"}, {"when": "battery", "say": "Une batterie."}], otherwise="One. Two."
    )
    rows = ["Hello {name}", "A battery.", "Hi"]
    with edgellm.load("demo", engine="scripted") as model:
        told = list(model.batch("translate", rows, to="fr", glossary={"battery": "accumulateur"}))
        assert [(one.value, one.warnings) for one in told] == [
            ("Salut", ("placeholder {name} is missing",)),
            ("Une batterie.", ("term accumulateur is missing",)),
            ("One. Two.", ()),
        ]
        failed = list(model.batch("translate", rows, to="fr", strict=True))
        assert [type(one.error).__name__ for one in failed] == ["InvalidOutput", "NoneType", "NoneType"]
        [short] = model.batch("summarize", ["A text."], sentences=3)
        assert short.warnings == ("it has 2 sentences, not 3",)
        [strict] = model.batch("summarize", ["A text."], sentences=3, strict=True)
        assert isinstance(strict.error, edgellm.InvalidOutput)


def test_prompts_that_only_count_cost_no_tokens(script: Script) -> None:
    script(otherwise="One. Two.")
    with edgellm.load("demo", engine="scripted") as model:
        [long] = model.batch("summarize", ["A sentence of a long text. " * 300], sentences=2)
        summary = model.summarized("A sentence of a long text. " * 300, sentences=2)
    assert long.tokens == (summary.chunks + 1) * len("One. Two.")
    assert long.prompt_tokens < 2 * 300 * len("A sentence of a long text. ")


def test_closing_a_batch_cancels_what_runs_also_from_another_thread(script: Script) -> None:
    script(otherwise="on and on " * 400, step_s=0.02)
    pulled = 0

    def endless() -> Iterator[str]:
        nonlocal pulled
        for pulled in range(1, 10**9):
            yield f"row {pulled}"

    with scripted() as model:
        results = model.batch("chat", endless())
        waiting = threading.Thread(target=interrupted, args=(results,))
        waiting.start()
        deadline = time.monotonic() + 20
        while not pulled and time.monotonic() < deadline:
            time.sleep(0.01)
        results.close()
        waiting.join(10)
        assert not waiting.is_alive()
        assert list(results) == []
        assert 0 < pulled <= 16
        assert model.chat([{"role": "user", "content": "hi"}], sampling=Sampling(max_tokens=3)).tokens == 3


def test_a_batch_can_be_awaited_and_cancelled(script: Script) -> None:
    script(rules=[{"when": "long", "say": "on and on " * 400}], otherwise="ok", step_s=0.002)

    async def go(model: edgellm.Model) -> list[Any]:
        found = [one.value async for one in model.batch("chat", ["a", "b", "c"])]

        async def forever() -> None:
            async for _ in model.batch("chat", ["long"]):
                pass

        task = asyncio.create_task(forever())
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
        return found

    with scripted() as model:
        assert asyncio.run(go(model)) == ["ok"] * 3
        assert [one.value for one in model.batch("chat", ["d"])] == ["ok"]


def test_a_batch_of_the_embedded_model_answers_as_the_task_does() -> None:
    rows = ["name: John\nlastname: Smith", "name: Ted\nlastname: Pot"]
    with edgellm.load("demo", slots=1) as model:
        alone = [model.extract(row, fields="name, lastname") for row in rows]
        assert [one.value for one in model.batch("extract", rows, fields="name, lastname")] == alone


def test_a_row_brings_the_evidence_of_its_values(script: Script, tmp_path: Path) -> None:
    script(rules=[{"when": "Extract these fields", "say": '{"name": "Ada"}'}], otherwise="?")
    with scripted() as model:
        [found] = model.batch("extract", ["My name is Ada."], fields="name", evidence=True)
        assert found.evidence
        assert found.evidence["/name"]["text"] == "Ada"
        [plain] = model.batch("extract", ["My name is Ada."], fields="name")
        assert plain.evidence is None
    (tmp_path / "in.txt").write_text("My name is Ada.\n")
    run = [sys.executable, "-m", "edgellm", "batch", "extract", "in.txt", "-", "--fields", "name", "--evidence"]
    run += ["-m", "demo", "--engine", "scripted"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, check=True)
    line = json.loads(done.stdout)
    assert (line["result"], line["evidence"]["/name"]["start"]) == ({"name": "Ada"}, 11)


def test_every_option_of_a_job_is_an_option_of_all_who_make_one() -> None:
    from edgellm.cli.batch import batch as verbs
    from edgellm.rows import Job

    own = {field.name for field in dataclasses.fields(Job)} - {"finish"}
    assert own <= set(inspect.signature(edgellm.Model.batch).parameters)
    assert own <= set(inspect.signature(Mapper.__init__).parameters)
    flags = {option.name for verb in verbs.commands.values() for option in verb.params}
    spoken = {"source": "source_language", "sampling": "temperature"}
    assert "strict_evidence" in flags
    assert {spoken.get(name, name) for name in own - {"task"}} <= flags


# The mapper.


def test_a_mapper_travels_as_plain_data_and_answers_where_it_arrives(script: Script) -> None:
    script(rules=[{"when": "BAD", "say": "no json"}], otherwise='{"name": "Ada"}')
    mapper = Mapper("extract", model="demo", fields="name", engine="scripted", context=512)
    texts: Any = ["Ada L.", "BAD", None, "x" * 9000]
    first = mapper({"text": texts, "n": [1, 2, 3, 4]})
    arrived = pickle.loads(pickle.dumps(mapper))
    mapper.close()
    assert len(pickle.dumps(mapper)) < 2000
    found = arrived({"text": texts, "n": [1, 2, 3, 4]})
    arrived.close()
    assert found == first
    assert set(found) == {"text", "n", *COLUMNS}
    assert found["n"] == [1, 2, 3, 4]
    assert found["result"] == ['{"name": "Ada"}', None, None, None]
    assert found["error"][1] in ("TruncatedOutput", "InvalidOutput")
    assert found["error"][::2] == [None, "RowUnreadable"]
    assert found["error"][3] == "PromptTooLong"
    assert json.loads(found["result"][0]) == {"name": "Ada"}


def test_a_mapper_refuses_what_it_cannot_do_before_a_model_is_opened() -> None:
    with pytest.raises(UsageError, match="unknown language"):
        Mapper("translate", to="xx")
    with pytest.raises(UsageError, match="needs schema"):
        Mapper("extract")
    mapper = Mapper("chat", model="no-such-model")
    with pytest.raises(UsageError, match="no column 'text', only body"):
        mapper({"body": ["a"]})
    with pytest.raises(UsageError, match="rename error"):
        mapper({"text": ["a"], "error": ["b"]})


def test_a_mapper_keeps_to_the_cpus_of_its_actor(monkeypatch: pytest.MonkeyPatch, script: Script) -> None:
    script(otherwise="ok")
    for share, threads in (("3", 3), ("", None), ("x", None)):
        monkeypatch.setenv("OMP_NUM_THREADS", share)
        mapper = Mapper("chat", model="demo", engine="scripted")
        mapper({"text": ["a"]})
        assert mapper._model
        assert threads in (None, mapper._model.plan.threads)
        mapper.close()


def test_ray_maps_batches_with_a_pool_of_one_actor(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'edgellm[ray]'")
    pytest.importorskip("pyarrow", reason="Ray Data needs pyarrow: pip install 'edgellm[ray]'")
    example = Path(__file__).parent.parent / "examples" / "ray_data.py"
    quiet = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, env=quiet, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "'name': 'Ada" in done.stdout.replace('"', "'")
