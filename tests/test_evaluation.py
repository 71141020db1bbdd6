"""What `edgellm eval` counts is what is right: by value, by field, by fact, and nothing that failed counts as an answer."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import given as generated
from hypothesis import settings
from hypothesis import strategies as st

import edgellm
from edgellm import UsageError, cli
from edgellm.errors import EngineCrashed
from edgellm.evaluation import Case, Score, Share, embedded, given, measure
from edgellm.evaluation.cases import infer
from edgellm.rows import Job, Result, Row


def scored(task: Any, *answers: tuple[Any, Any], facts: tuple[str, ...] = ()) -> Score:
    """Count answers: pairs of what was said and what is right; an exception is a failed row."""
    score = Score(task)
    for number, (said, right) in enumerate(answers):
        row = Row(id=number, values={"text": "question"})
        error = said if isinstance(said, Exception) else None
        result = Result(row=row, value=None if error else said, error=error)  # type: ignore[arg-type]
        score.add(Case(row, right, facts, "question"), result)
    return score


def test_extracted_values_count_as_a_whole_and_by_field() -> None:
    right = {"name": "Ada", "age": 36, "tags": ["a", "b"], "home": {"city": "London"}}
    wrong = {"name": "Ada", "age": 37, "tags": ["b"], "home": {"city": "London"}}
    score = scored("extract", (right, right), (wrong, right), (EngineCrashed("died"), right))
    assert score.exact == Share(1, 3)
    assert score.fields == {
        "name": Share(2, 3),
        "age": Share(1, 3),
        "tags": Share(1, 3),
        "home.city": Share(2, 3),
    }
    assert score.parts == Share(6, 12)
    assert score.failed == {"EngineCrashed": 1}
    assert [one.got for one in score.wrong] == [json.dumps(wrong), "EngineCrashed: died"]


@pytest.mark.parametrize(
    ("said", "right", "same"),
    [
        ({"n": 3.0}, {"n": 3}, True),
        ({"n": True}, {"n": 1}, False),
        ({"n": [0]}, {"n": [False]}, False),
        ({"n": 1, "more": 2}, {"n": 1}, False),
        ([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 2}], True),
        ([{"a": 1}], [{"a": 1}, {"a": 2}], False),
        ({}, {}, True),
    ],
)
def test_values_are_equal_as_json_is(said: Any, right: Any, same: bool) -> None:
    assert scored("extract", (said, right)).exact == Share(int(same), 1)


def test_records_count_by_the_fields_of_each() -> None:
    score = scored("extract", ([{"a": 1}, {"a": 5}], [{"a": 1}, {"a": 2}, {"a": 3}]))
    assert score.fields == {"[].a": Share(1, 3)}


def test_texts_count_word_for_word_and_by_chrf() -> None:
    pytest.importorskip("sacrebleu", reason="the extra `eval` brings it")
    score = scored("translate", ("Bonjour. ", "Bonjour."), ("Bonsoir.", "Bonjour."), (EngineCrashed("died"), "Merci."))
    assert score.exact == Share(1, 3)
    from sacrebleu.metrics.chrf import CHRF

    alone = CHRF().corpus_score(["Bonjour. ", "Bonsoir.", ""], [["Bonjour.", "Bonjour.", "Merci."]]).score
    assert score.chrf() == pytest.approx(alone)
    assert 0 < alone < 100


def test_facts_count_where_an_answer_has_them() -> None:
    score = scored("summarize", ("Rain fell on Bonn.", None), ("Nothing.", None), facts=("Bonn", "Rain"))
    assert (score.kept, score.exact) == (Share(2, 4), Share(0, 0))
    assert len(score.wrong) == 1
    told = score.as_dict()
    assert told["facts"]["share"] == 0.5
    assert "exact" not in told


def test_a_margin_is_wilsons() -> None:
    assert Share(0, 0).all == 0
    assert math.isnan(Share(0, 0).value)
    assert Share(50, 100).margin == pytest.approx(0.0962, abs=1e-3)
    assert Share(100, 100).margin > 0
    assert Share(5000, 10_000).margin < 0.01


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-1, 1) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@generated(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, min_size=3), min_size=1, max_size=4))
def test_an_inferred_schema_is_obeyed_by_the_values_it_was_made_from(values: list[Any]) -> None:
    def whole(value: Any, schema: Any) -> Any:
        """The value as a model would give it: what one value leaves out is null."""
        if isinstance(value, dict):
            return {name: whole(value.get(name), one) for name, one in schema.get("properties", {}).items()}
        return [whole(one, schema["items"]) for one in value] if isinstance(value, list) else value

    schema = infer(values)
    for value in values:
        jsonschema.Draft202012Validator(schema).validate(whole(value, schema))


def test_rows_of_a_user_become_cases_or_are_refused_by_number() -> None:
    def read(rows: Iterable[Any], task: Any = "extract") -> Any:
        made = [Row(id=number, values=values) for number, values in enumerate(rows)]
        return given(made, task, lambda found: Job(task=task, schema=found))

    found = read([{"input": "a", "output": {"n": 1}}, {"text": "b", "expected": {"n": None}}])
    assert [case.expected for case in found] == [{"n": 1}, {"n": None}]
    assert '{"n": {"type": ["integer", "null"]}}' in found.notes[0]
    assert read([{"text": "a", "facts": ["b"]}], "summarize").cases[0].facts == ("b",)
    for rows, words in (
        ([], "no row"),
        ([{"expected": {}}], "row 1 has no text"),
        ([{"text": "a"}], "row 1 does not say what is right"),
        ([{"text": "a", "facts": "b"}], "row 1: `facts` is a list"),
        ([{"text": "a", "expected": {"n": 1}}, {"text": "a", "expected": "x"}], "row 2: `expected` is a JSON value"),
    ):
        with pytest.raises(UsageError, match=words):
            read(rows)


def test_the_embedded_sets_are_the_same_for_everyone() -> None:
    for task in ("extract", "translate", "summarize"):
        first, second = embedded(task, 5), embedded(task, 5)
        assert [case.shown for case in first] == [case.shown for case in second]
        assert len({case.shown for case in first}) == 5


def test_the_right_answers_would_score_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [embedded(task, 4) for task in ("extract", "translate", "summarize")]
    rules = []
    for case in (case for one in sets for case in one):
        say = case.expected if isinstance(case.expected, str) else json.dumps(case.expected, ensure_ascii=False)
        rules.append({"when": case.shown, "say": say})
    (tmp_path / "script.json").write_text(json.dumps({"rules": rules}))
    monkeypatch.setenv("EDGELLM_SCRIPT", str(tmp_path / "script.json"))
    with edgellm.load("demo", engine="scripted") as model:
        scores = [measure(model, one) for one in sets]
    assert [score.exact for score in scores] == [Share(4, 4)] * 3
    assert scores[0].parts.value == scores[2].kept.value == 1


def call(*arguments: str) -> Any:
    return CliRunner().invoke(cli.edgellm, ["eval", *arguments], standalone_mode=False)


def test_the_verb_prints_a_table_that_fits_a_terminal_or_one_object() -> None:
    shown = call("--limit", "3", "-m", "demo")
    assert shown.exception is None, shown.exception
    assert all(task in shown.stdout for task in ("extract", "translate", "summarize", "exact", "facts"))
    assert max(map(len, shown.stdout.splitlines())) <= 80
    told = json.loads(call("translate", "--limit", "3", "-m", "demo", "--json").stdout)
    assert (told["model"], told["scores"][0]["cases"]) == ("demo", 3)
    assert 0 <= told["scores"][0]["exact"]["share"] <= 1


def test_the_verb_measures_a_users_rows(tmp_path: Path, script: Callable[..., None]) -> None:
    script(rules=[{"when": "Ada", "say": '{"name": "Ada"}'}], otherwise='{"name": "\x1b]0;x"}')
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": name, "expected": {"name": name}}) + "\n" for name in ("Ada", "Bob")))
    shown = call("extract", "--data", str(data), "--engine", "scripted", "--wrong", "1", "-m", "demo")
    assert shown.exception is None, shown.exception
    assert "0.500" in shown.stdout
    assert "Bob" in shown.stdout
    assert "\x1b" not in shown.output
    assert "The schema is that of the expected values" in shown.stderr
    text = tmp_path / "texts.jsonl"
    text.write_text('{"text": "hi", "expected": "hello"}\n')
    assert "0.000" in call("chat", "--data", str(text), "--engine", "scripted", "-m", "demo").stdout
    for arguments, words in (
        (["extract", "--data", str(tmp_path / "none")], "cannot read"),
        (["extract", "--fields", "a"], "--fields is for --data"),
        (["translate", "--data", str(text)], "needs to"),
        (["chat"], "needs --data"),
        (["--limit", "3", "extract"], "options go behind the task"),
    ):
        assert words in str(call(*arguments, "-m", "demo").exception or "") or words in str(call(*arguments).exception)


def test_without_sacrebleu_the_column_is_left_out_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    shown = call("translate", "--limit", "2", "-m", "demo")
    assert "chrF" not in shown.stdout
    assert "chrF is left out: pip install 'edgellm[eval]' brings it." in shown.stderr
