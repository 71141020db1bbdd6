"""Training data is read as people have it, and whatever cannot be learned from is one sentence with its line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

import edgellm as package
from edgellm import form
from edgellm.cli import edgellm
from edgellm.errors import DataRefused, EdgeError, UsageError
from edgellm.finetune import data
from edgellm.finetune.data import Data
from edgellm.finetune.layout import Layout, Piece
from edgellm.finetune.lengths import by_model
from edgellm.finetune.report import check, histogram
from edgellm.form import Form
from edgellm.model import Model
from edgellm.prompt import Message
from edgellm.template import builtin

TEMPLATE = {"prompt": "### Instruction:\n{instruction}\n\n### Input:\n{context}\n\n", "completion": " {response}"}
GOOD = {"prompt": "What is 1 + 1?", "completion": "2"}
TURN = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def lines(*rows: Any) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def folder(path: Path, **files: str | bytes) -> Path:
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        target = path / name.replace("__", ".")
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def row(**changes: Any) -> dict[str, Any]:
    return {"instruction": "Say it.", "context": "", "response": "It.", **changes}


def test_a_folder_with_a_template_is_read_as_the_clouds_write_it(tmp_path: Path) -> None:
    place = folder(tmp_path, train__jsonl=lines(row(context="A {brace}.")), template__json=json.dumps(TEMPLATE))
    found = data.read(place)
    assert (found.kind, found.faults, found.validation) == ("instructions", (), ())
    prompt = "### Instruction:\nSay it.\n\n### Input:\nA {brace}.\n\n"
    assert found.train[0].raw == (prompt, " It.")
    assert found.train[0].messages == (Message("user", prompt.strip()), Message("assistant", "It."))


def test_rows_of_instructions_need_no_template_and_that_is_said(tmp_path: Path) -> None:
    found = data.read(folder(tmp_path, train__jsonl=lines(row(), row(instruction="Add.", context="1, 2"))))
    assert [example.messages[0].content for example in found.train] == ["Say it.", "Add.\n\n1, 2"]
    assert "No template.json" in found.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "kind", "texts"),
    [
        ("train.jsonl", lines(GOOD), "instructions", ["What is 1 + 1?"]),
        ("train.jsonl", lines({"messages": TURN}), "conversations", ["a"]),
        ("train.jsonl", lines({"text": "one", "id": 1}), "text", ["one"]),
        ("train.csv", "n,text\n1,one\n2,two\n", "text", ["one", "two"]),
        ("train.csv", "body,n\none,1\n", "text", ["one"]),
        ("train.json", json.dumps([GOOD]), "instructions", ["What is 1 + 1?"]),
        ("corpus.txt", "one\n\ntwo\n", "text", ["one", "two"]),
    ],
)
def test_every_kind_is_told_by_its_keys(tmp_path: Path, name: str, content: str, kind: str, texts: list[str]) -> None:
    (tmp_path / name).write_text(content)
    found = data.read(tmp_path)
    assert (found.kind, found.faults) == (kind, ())
    assert [example.asked for example in found.train] == texts


def test_validation_is_found_and_other_files_are_said_not_to_be_read(tmp_path: Path) -> None:
    place = folder(tmp_path, train__jsonl=lines(GOOD), validation__jsonl=lines(GOOD), test__jsonl="", README__md="hi")
    found = data.read(place)
    assert (len(found.train), len(found.validation), found.notes) == (1, 1, ("Not read: test.jsonl.",))
    assert data.read(place / "train.jsonl", validation=place / "validation.jsonl").validation == found.validation


# Files of which nothing can be used: exit code 2.
USELESS: list[tuple[str, dict[str, str | bytes], str]] = [
    ("nothing there", {}, "has no train.jsonl"),
    (
        "two candidates",
        {"a__jsonl": "", "b__csv": ""},
        "has no train.jsonl, .json, .csv or .txt; it has a.jsonl, b.csv",
    ),
    ("two train files", {"train__jsonl": "", "train__csv": ""}, "has both train.csv and train.jsonl"),
    ("empty", {"train__jsonl": ""}, "train.jsonl is empty"),
    ("blank", {"train__jsonl": "\n  \n\n"}, "train.jsonl is empty"),
    ("empty text", {"train__txt": "\n"}, "train.txt is empty"),
    ("empty table", {"train__csv": ""}, "train.csv is empty"),
    ("header alone", {"train__csv": "text\n"}, "train.csv is empty"),
    ("UTF-16", {"train__jsonl": lines(GOOD).encode("utf-16")}, "is UTF-16"),
    ("gzip", {"train__jsonl": b"\x1f\x8b\x08\x00rest"}, "is compressed (gzip)"),
    ("empty validation", {"train__jsonl": lines(GOOD), "validation__jsonl": ""}, "validation.jsonl is empty"),
    ("template not JSON", {"template__json": "{"}, "the template template.json is not JSON"),
    ("template a list", {"template__json": "[]"}, "the template template.json is a list"),
    ("template lacks", {"template__json": '{"prompt": "{instruction}"}'}, "its 'completion' is missing"),
    ("template number", {"template__json": '{"prompt": 1, "completion": "{a}"}'}, "its 'prompt' is a number"),
    (
        "template extra",
        {"template__json": '{"prompt": "{a}", "completion": "{b}", "system": ""}'},
        "has a key 'system'",
    ),
    ("template brace", {"template__json": '{"prompt": "{a", "completion": "{b}"}'}, "prompt cannot be read"),
    ("template attribute", {"template__json": '{"prompt": "{a.__class__}", "completion": "{b}"}'}, "has {a.__class__}"),
    ("template place", {"template__json": '{"prompt": "{}", "completion": "{b}"}'}, "has {}"),
    ("template format", {"template__json": '{"prompt": "{a:>99}", "completion": "{b}"}'}, "has {a:>99}"),
    ("template constant", {"template__json": '{"prompt": "{a}", "completion": "yes"}'}, "no {field} in its completion"),
    ("template Latin-1", {"template__json": '{"prompt": "é"}'.encode("latin-1")}, "is not UTF-8"),
]

# Rows that cannot be learned from: exit code 1, with the line.
BAD: list[tuple[str, str, str | bytes, str]] = [
    ("not JSON", "train.jsonl", lines(GOOD, "{'prompt': 1}"), "line 2 is not JSON"),
    ("a web page", "train.jsonl", "<!doctype html>\n", "line 1 is not JSON"),
    ("a list", "train.jsonl", lines(["prompt", "completion"]), "line 1 is a list"),
    ("a number", "train.jsonl", lines(GOOD, 7), "line 2 is a number"),
    ("NaN", "train.jsonl", lines('{"text": NaN}'), "line 1 holds NaN"),
    ("a key twice", "train.jsonl", lines('{"text": "a", "text": "b"}'), "line 1 has the key 'text' twice"),
    ("nested", "train.jsonl", lines('{"text": ' + "[" * 200_000), "line 1 is nested too deeply"),
    ("missing completion", "train.jsonl", lines(GOOD, {"prompt": "a"}), "line 2 has no 'completion'"),
    ("missing response", "train.jsonl", lines(row(), {"instruction": "a"}), "line 2 has no 'response'"),
    ("unknown keys", "train.jsonl", lines({"question": "a", "answer": "b"}), "line 1 has none of messages"),
    ("empty object", "train.jsonl", lines({}), "line 1 has none of messages"),
    ("a number for a text", "train.jsonl", lines({**GOOD, "completion": 2}), "line 1 has a number as 'completion'"),
    ("null", "train.jsonl", lines({"text": None}), "line 1 has null as 'text'"),
    ("a list for a text", "train.jsonl", lines({"text": ["a"]}), "line 1 has a list as 'text'"),
    (
        "an empty completion",
        "train.jsonl",
        lines(GOOD, {**GOOD, "completion": "  "}),
        "line 2 has nothing in 'completion'",
    ),
    ("an empty prompt", "train.jsonl", lines({**GOOD, "prompt": ""}), "line 1 has nothing in 'prompt'"),
    ("an empty text", "train.jsonl", lines({"text": ""}), "line 1 has nothing in 'text'"),
    ("a context that is none", "train.jsonl", lines(row(context=3)), "line 1 has a number as 'context'"),
    ("binary", "train.jsonl", b'{"text": "a\0b"}\n', "line 1 holds a zero byte at position 12"),
    ("an escaped zero", "train.jsonl", lines({"text": "a\0"}), "line 1 has a zero character in 'text'"),
    ("half a pair", "train.jsonl", lines('{"text": "a\\ud800"}'), "line 1 has half a surrogate pair in 'text'"),
    ("Latin-1", "train.jsonl", lines(GOOD).encode() + '{"text": "é"}'.encode("latin-1"), "line 2 is not UTF-8"),
    ("mixed kinds", "train.jsonl", lines(GOOD, {"text": "a"}), "line 2 has text, and line 1 of train.jsonl prompt"),
    ("messages a text", "train.jsonl", lines({"messages": "hi"}), "line 1 has a text as 'messages'"),
    ("no messages", "train.jsonl", lines({"messages": []}), "line 1 has an empty list as 'messages'"),
    ("a message a text", "train.jsonl", lines({"messages": ["hi"]}), "line 1 has a text as message 1"),
    ("a role", "train.jsonl", lines({"messages": [{"role": "tool", "content": "a"}]}), "has the role 'tool'"),
    ("no content", "train.jsonl", lines({"messages": [{"role": "user"}]}), "line 1 has no 'content' in message 1"),
    (
        "typed content",
        "train.jsonl",
        lines({"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
        "line 1 has a list as 'content of message 1'",
    ),
    ("tool calls", "train.jsonl", lines({"messages": [{**TURN[0], "name": "x"}]}), "has 'name' in message 1"),
    (
        "two users",
        "train.jsonl",
        lines({"messages": [TURN[0], *TURN]}),
        "has user where assistant should speak (message 2)",
    ),
    ("no answer", "train.jsonl", lines({"messages": [*TURN, TURN[0]]}), "ends without an answer"),
    ("an answer first", "train.jsonl", lines({"messages": TURN[::-1]}), "has assistant where user should speak"),
    (
        "system alone",
        "train.jsonl",
        lines({"messages": [{"role": "system", "content": "a"}]}),
        "ends without an answer",
    ),
    ("CSV fields", "train.csv", "text,n\na,1\nb\n", "line 3 has 1 fields, and the header 2"),
    ("CSV quote", "train.csv", 'text\na\n"b\n', "line 3 is not CSV"),
    ("CSV twice", "train.csv", "text,text\na,b\n", "line 1 names the column 'text' twice"),
    ("CSV Latin-1", "train.csv", "text\né\n".encode("latin-1"), "line 2 is not UTF-8"),
    ("CSV empty cell", "train.csv", 'text,n\n"",1\n', "line 2 has nothing in 'text'"),
    ("binary text", "train.txt", b"\x7fELF\x02\0\0\0\n", "line 1 holds a zero byte"),
    ("an open list", "train.json", json.dumps([GOOD])[:-1], "line 1 ends before the list does"),
    ("a torn list", "train.json", '[\n{"text": "a"},\n{"text"', "line 3 is not JSON"),
    ("a list of texts", "train.json", '[\n"a"]', "line 2 is a text, not an object"),
    ("validation", "validation.jsonl", lines({**GOOD, "completion": None}), "validation.jsonl, line 1 has null"),
]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(edgellm, list(arguments))


@pytest.mark.parametrize(("files", "words"), [case[1:] for case in USELESS], ids=[case[0] for case in USELESS])
def test_useless_files_are_refused_and_nothing_is_trained(tmp_path: Path, files: dict[str, str], words: str) -> None:
    template = any(name.startswith("template") for name in files)
    place = folder(tmp_path / "data", **{**({"train__jsonl": lines(row())} if template else {}), **files})
    for verb in (["check", str(place)], ["train", "demo", str(place), "--out", str(tmp_path / "out")]):
        error = invoke("finetune", *verb).exception
        assert isinstance(error, UsageError), error
        assert words in str(error)
        assert "\n" not in str(error)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "content", "words"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_rows_are_told_with_their_line_and_nothing_is_trained(
    tmp_path: Path, name: str, content: str | bytes, words: str
) -> None:
    place = folder(tmp_path / "data", **({"train__jsonl": lines(GOOD)} if name.startswith("validation") else {}))
    (place / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    shown = invoke("finetune", "check", str(place))
    assert shown.exit_code == 0  # click's own; the code is what the command returned
    assert words in shown.output
    error = invoke("finetune", "train", "demo", str(place), "--out", str(tmp_path / "out")).exception
    assert isinstance(error, DataRefused), error
    assert words in str(error)
    assert not (tmp_path / "out").exists()


def test_there_are_more_than_forty_kinds_of_bad_data() -> None:
    assert len({words for *_, words in [*USELESS, *BAD]}) >= 40


def test_exit_codes_of_the_program(tmp_path: Path) -> None:
    import subprocess
    import sys

    good = folder(tmp_path / "good", train__jsonl=lines(GOOD))
    bad = folder(tmp_path / "bad", train__jsonl=lines(GOOD, {"prompt": "a"}))
    for arguments, code in ((["check", good], 0), (["check", bad], 1), (["check", tmp_path / "none"], 2)):
        command = [sys.executable, "-m", "edgellm", "finetune", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == code
        assert "Traceback" not in done.stderr
    assert "there is no" in done.stderr


def test_a_template_that_names_an_unknown_field_is_told_for_the_row(tmp_path: Path) -> None:
    wrong = json.dumps({"prompt": "{question}", "completion": "{response}"})
    place = folder(tmp_path, train__jsonl=lines(row()), template__json=wrong)
    [fault] = data.read(place).faults
    assert str(fault) == (
        "train.jsonl, line 1 has no 'question', which the template names (it has instruction, context, response)."
    )


@given(st.text(), st.text())
def test_a_template_leaves_the_words_of_rows_alone(one: str, other: str) -> None:
    assert Form("<{a}{{}}", "{b}{a}").fill({"a": one, "b": other}) == (f"<{one}{{}}", other + one)


def test_fields_are_read_once_each() -> None:
    assert Form("{a} {b} {{c}} {a}", "{d}").fields == ("a", "b", "d")
    assert form.PLAIN.fields == ("instruction", "context", "response")


# What the check finds in rows that can all be learned from.


def pairs(path: Path, train: list[tuple[str, str]], held: list[tuple[str, str]]) -> Data:
    def written(rows: list[tuple[str, str]]) -> str:
        return lines(*({"prompt": prompt, "completion": completion} for prompt, completion in rows))

    files = {"train__jsonl": written(train)} | ({"validation__jsonl": written(held)} if held else {})
    return data.read(folder(path, **files))


def test_duplicates_contradictions_and_leaks_are_found(tmp_path: Path) -> None:
    found = check(pairs(tmp_path, [("a", "1"), ("b", "2"), ("A ", "1"), ("b", "3")], [("a", "9"), ("c", "1")]))
    assert [str(pair) for pair in found.duplicates] == ["train.jsonl, line 3 and line 1"]
    assert [str(pair) for pair in found.contradictions] == ["train.jsonl, line 4 and line 2"]
    assert [str(pair) for pair in found.leaks] == ["validation.jsonl, line 1 and line 1 of train.jsonl"]


def test_twins_stay_on_one_side_of_a_split(tmp_path: Path) -> None:
    rows = [(f"question {number % 20}", "answer") for number in range(60)]
    learn, held = data.split(pairs(tmp_path, rows, []), 0.2, seed=1)
    assert len(learn) + len(held) == 60
    assert len(held) == 12
    assert {one.asked for one in learn} & {one.asked for one in held} == set()


def test_the_end_of_a_text_is_kept_for_validation(tmp_path: Path) -> None:
    found = data.read(folder(tmp_path, book__txt="\n\n".join(f"paragraph {number}" for number in range(10))))
    learn, held = data.split(found, 0.2, seed=1)
    assert [one.text for one in held] == ["paragraph 8", "paragraph 9"]
    assert len(learn) == 8


def test_one_row_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only one row"):
        data.split(pairs(tmp_path, [("a", "b")], []), 0.1, seed=0)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=200))
def test_a_histogram_counts_everything_once(values: list[int]) -> None:
    bars = histogram(values)
    assert sum(count for _, _, count in bars) == len(values)
    assert all(count == sum(low <= value <= high for value in values) for low, high, count in bars)


def test_samples_mark_what_counts(tmp_path: Path) -> None:
    talk = {"messages": [{"role": "system", "content": "Be kind."}, *TURN, *TURN]}
    example = data.read(folder(tmp_path, train__jsonl=lines(talk))).train[0]
    assert Layout(builtin("mistral")).shown(example) == [
        Piece("<s>[INST] Be kind.\n\na [/INST]", False),
        Piece(" b</s> ", True),
        Piece("[INST] a [/INST]", False),
        Piece(" b</s> ", True),
    ]


# In tokens, by the worker of the embedded model.


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with package.load("demo", slots=1, threads=1) as opened:
        yield opened


def test_lengths_are_those_of_the_real_tokenizer(model: Model, tmp_path: Path) -> None:
    found = pairs(tmp_path, [("Good morning", "Bonjour"), ("Who are you?", "A model")], [])
    template = builtin("mistral")
    lengths = by_model(model, Layout(template))(found.train)
    for example, length in zip(found.train, lengths, strict=True):
        assert length.prompt == model.count(list(example.messages[:-1]))
        assert length.total - length.prompt == model.count(example.messages[-1].content)  # one begins, one ends


def test_what_would_be_cut_is_told_and_what_would_be_nothing_is_a_fault(model: Model, tmp_path: Path) -> None:
    found = pairs(tmp_path, [("a", "short"), ("b", "long " * 50), ("c " * 80, "d")], [])
    report = check(found, by_model(model, Layout(builtin("mistral"))), max_length=32)
    assert [example.line for example, _ in report.cut] == [2]
    [fault] = report.faults
    assert fault.line == 3
    assert "no answer would be left" in fault.reason


def test_a_check_fits_80_columns_and_colours_nothing_in_a_pipe(tmp_path: Path) -> None:
    place = folder(tmp_path, train__jsonl=lines(*({**GOOD, "prompt": f"What is {n} + 1?"} for n in range(9))))
    shown = invoke("finetune", "check", str(place), "--base", "demo")
    assert shown.exception is None
    assert "▶ 2</s>◀" in shown.output
    assert "\x1b" not in shown.output
    told = [line for line in shown.output.splitlines() if "[INST]" not in line]
    assert max(map(len, told)) <= 120
    found = json.loads(invoke("finetune", "check", str(place), "--base", "demo", "--json").output)
    assert (found["train"], len(found["lengths"]), found["faults"]) == (9, 9, [])


def test_escape_sequences_of_a_file_never_reach_the_terminal(tmp_path: Path) -> None:
    place = folder(tmp_path, train__jsonl=lines({**GOOD, "prompt": "\x1b[2Jgone"}, {"\x1b]0;x\x07": 1}))
    shown = invoke("finetune", "check", str(place))
    assert "\x1b" not in shown.output
    assert "\x07" not in shown.output


def test_the_check_needs_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    place = folder(tmp_path, train__jsonl=lines(GOOD))
    code = (
        "import sys\nfor name in ('torch', 'transformers', 'peft', 'tokenizers'): sys.modules[name] = None\n"
        f"sys.argv = ['edgellm', 'finetune', 'check', {str(place)!r}, '--base', 'demo']\n"
        "from edgellm.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_training_without_its_packages_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    place = folder(tmp_path, train__jsonl=lines(GOOD, {**GOOD, "prompt": "other"}))
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else found(name, *rest))
    error = invoke("finetune", "train", "demo", str(place), "--out", str(tmp_path / "out")).exception
    assert isinstance(error, EdgeError)
    assert "pip install 'edgellm[finetune]' (" in str(error)
    assert "peft missing)" in str(error)
