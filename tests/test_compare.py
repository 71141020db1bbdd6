"""Two answers side by side: read with care, asked alike, written safely."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from edgellm import compare
from edgellm.cli import edgellm
from edgellm.compare import Case, Row, Said, Side, cases, score, side, table
from edgellm.errors import EdgeError, UsageError
from edgellm.prompt import Message


def rows(path: Path, *found: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def said(text: str) -> Said:
    return Said(text, 1, "stop")


def row(prompt: str = "q", a: str = "1", b: str = "2", reference: str | None = None) -> Row:
    case = Case(1, (Message("user", prompt),), prompt, reference)
    return Row(case, said(a), said(b), (score.scored(a, reference), score.scored(b, reference)))


# Prompts.


def test_prompts_are_read_in_every_form(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = rows(
        tmp_path / "x.jsonl",
        {"prompt": "one"},
        {"prompt": "two", "completion": " 2"},
        {"instruction": "Add.", "context": "1, 2", "response": "3"},
        {"messages": turns},
        {"messages": turns[:1], "answer": "c"},
    )
    found = cases.read(path)
    assert [(case.shown, case.reference) for case in found] == [
        ("one", None),
        ("two", "2"),
        ("Add.\n\n1, 2", "3"),
        ("a", "b"),
        ("a", "c"),
    ]
    (tmp_path / "x.txt").write_text("one\ntwo\n\nthree\n")
    assert [(case.line, case.shown) for case in cases.read(tmp_path / "x.txt")] == [
        (1, "one"),
        (2, "two"),
        (4, "three"),
    ]
    (tmp_path / "x.csv").write_text("prompt,reference\none,1\n")
    assert cases.read(tmp_path / "x.csv", system="Be brief.")[0].messages[0] == Message("system", "Be brief.")


def test_a_template_makes_prompts_as_it_made_them_for_training(tmp_path: Path) -> None:
    path = rows(tmp_path / "x.jsonl", {"instruction": "Add.", "context": "1", "response": "3"})
    (tmp_path / "template.json").write_text(
        '{"prompt": "### {instruction} [{context}]\\n", "completion": "{response}"}'
    )
    [case] = cases.read(path, template=tmp_path / "template.json")
    assert (case.written, case.shown, case.reference) == ("### Add. [1]\n", "### Add. [1]", "3")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ('{"prompt": "a"}\n{"text": "b"}', "line 2 has neither prompt, instruction nor messages (it has text)"),
        ('{"prompt": 1}', "line 1 has a number as 'prompt'"),
        ('{"prompt": " "}', "line 1 has nothing in 'prompt'"),
        ('{"prompt": "a", "reference": 1}', "line 1 has a number as 'reference'"),
        ('{"messages": []}', "line 1 has an empty list as 'messages'"),
        ('{"messages": [{"role": "robot", "content": "a"}]}', "line 1 has a message 1 that is not"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "line 1 has no question at the end"),
        ("{", "line 1 is not JSON"),
    ],
)
def test_prompts_that_cannot_be_asked_are_refused_with_their_line(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(UsageError, match=re.escape(words)):
        cases.read(tmp_path / "x.jsonl")


# Sides.


def test_sides_are_read() -> None:
    assert side.read("demo", []) == Side("demo")
    assert side.read("demo+x.gguf:0.5", []) == Side("demo", "x.gguf:0.5")
    assert side.read("/a+b/m.gguf+x.gguf", []) == Side("/a+b/m.gguf", "x.gguf")
    assert side.read("/a+b/m.gguf", []) == Side("/a+b/m.gguf")
    sampling = side.read("demo", ["temperature=0.7", "top-k=5", "stop=a", "stop=b", "top-k=6"]).sampling
    assert (sampling.temperature, sampling.top_k, sampling.stop) == (0.7, 6, ("a", "b"))


def test_parameters_are_said_where_they_are_not_the_usual() -> None:
    assert side.read("demo", []).parameters == "temperature 0.0"
    assert side.read("demo", ["max_tokens=256", "seed=1"]).parameters == "temperature 0.0, max_tokens 256, seed 1"


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("demo+", [], "is not MODEL or MODEL+adapter"),
        ("+x.gguf", [], "is not MODEL or MODEL+adapter"),
        ("demo", ["heat=1"], "'heat=1' is no option: write NAME=VALUE with one of temperature"),
        ("demo", ["temperature"], "'temperature' is no option"),
        ("demo", ["temperature=hot"], "temperature is a number, not 'hot'"),
        ("demo", ["temperature=99"], "temperature is 99.0"),
        ("demo", ["max_tokens=1.5"], "max_tokens is a number, not '1.5'"),
    ],
)
def test_sides_that_make_no_sense_are_refused(text: str, options: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        side.read(text, options)


# Scores.


def test_scores_measure_words_and_fields() -> None:
    assert score.scored("Paris!", None) == {}
    assert score.scored(" paris ", "Paris") == {"exact": 1.0, "overlap": 1.0}
    assert score.scored("It is Paris", "Paris")["overlap"] == pytest.approx(0.5)
    assert score.scored("", "Paris") == {"exact": 0.0, "overlap": 0.0}
    assert score.scored('{"a": 1, "b": 3}', '{"a": 1, "b": 2}')["fields"] == 0.5
    assert score.scored("no JSON", '{"a": 1}')["fields"] == 0.0


@given(st.text(), st.text())
def test_overlap_is_a_share_and_the_same_both_ways(one: str, other: str) -> None:
    found = score.overlap(one, other)
    assert 0 <= found <= 1
    assert found == pytest.approx(score.overlap(other, one))
    assert score.overlap(one, one) == 1


# Written down.

A, B = Side("demo"), Side("demo", "x.gguf")
HOSTILE = [
    "<script>alert(1)</script>",
    "a | b\n| c |",
    "[x](javascript:alert(1)) ![y](http://a.example/y.png) <http://a.example>",
    "\x1b[2J\x9b31m\u202e",
    "`code` *bold* _em_ # no heading\n# nor here\n- nor a list",
    "&lt;b&gt; \\| \\",
    "www.a.example ~~gone~~ https://a.example",
]


class Page(HTMLParser):
    """Collects tags and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.cells, self.inside = set[str](), list[str](), False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag == "td":
            self.inside = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "td"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells[-1] += data


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_is_said_stays_text(text: str) -> None:
    from edgellm.text import plain

    found = [row(text, text, text, text)]
    page = Page()
    page.feed(table.page(found, A, Side(text)))
    known = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "p",
        "b",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    }
    assert page.tags == known
    assert page.cells == ["1", plain(text), plain(text), plain(text)]

    drawn = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(table.markdown(found, A, Side(text)))
    page = Page()
    page.feed(drawn)
    assert page.tags <= {"table", "thead", "tbody", "tr", "th", "td", "p", "br"}
    assert page.cells[1] == plain(text).replace("\n", "")

    [line] = table.lines(found, A, B).splitlines()
    assert json.loads(line)["a"]["text"] == text


def test_the_summary_says_what_changed() -> None:
    found = [row(reference="2"), row(a="2", b="2", reference="2"), row()]
    assert table.summary(found) == [
        "2 of 3 answers differ.",
        "Against 2 references: exact 0.50 → 1.00, overlap 0.50 → 1.00.",
    ]


# Asked.


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(edgellm, ["compare", *map(str, arguments)])


def test_settings_of_one_model_are_compared_with_one_load(script: Any, tmp_path: Path, monkeypatch: Any) -> None:
    script(otherwise="one two three four")
    loads = []
    load = compare.load
    monkeypatch.setattr(compare, "load", lambda *args, **options: loads.append(args) or load(*args, **options))
    prompts = rows(tmp_path / "x.jsonl", {"prompt": "count"}, {"prompt": "again", "reference": "one"})
    done = invoke(
        "demo", "demo", "--prompts", prompts, "--set-b", "max_tokens=3", "--format", "jsonl", "--engine", "scripted"
    )
    assert done.exception is None, done.output
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["a"]["text"], first["b"]["text"], first["differs"]) == ("one two three four", "one", True)
    assert second["b"]["scores"]["exact"] == 1.0
    assert second["parameters"]["b"] == "temperature 0.0, max_tokens 3"
    assert len(loads) == 1


def test_tasks_are_compared_with_their_own_wording_and_measures(script: Any, tmp_path: Path) -> None:
    script(rules=[{"when": "field", "say": '{"a": "1", "b": "2"}'}], otherwise='{"a": "1", "b": "2"}')
    prompts = rows(tmp_path / "x.jsonl", {"prompt": "a is 1", "reference": '{"a": "1", "b": "3"}'})
    flags = ["--task", "extract", "--fields", "a, b", "--format", "jsonl", "--engine", "scripted"]
    done = invoke("demo", "demo", "--prompts", prompts, *flags)
    assert done.exception is None, done.output
    found = json.loads(done.stdout)
    assert json.loads(found["a"]["text"]) == {"a": "1", "b": "2"}
    assert found["a"]["scores"]["fields"] == 0.5
    assert isinstance(invoke("demo", "demo", "--prompts", prompts, "--task", "translate").exception, UsageError)
    assert isinstance(invoke("demo", "demo", "--prompts", prompts, "--to", "fr").exception, UsageError)


def test_raw_prompts_are_continued(script: Any, tmp_path: Path) -> None:
    script(rules=[{"when": "[INST]", "say": "a chat"}], otherwise="as it was")
    prompts = rows(tmp_path / "x.jsonl", {"prompt": "once"})
    common = ["demo", "demo", "--prompts", prompts, "--format", "jsonl", "--engine", "scripted"]
    assert json.loads(invoke(*common, "--raw").stdout)["a"]["text"].strip() == "as it was"
    assert json.loads(invoke(*common).stdout)["a"]["text"] == "a chat"


def test_a_prompt_that_cannot_be_answered_is_said_in_its_place(script: Any, tmp_path: Path) -> None:
    script(otherwise="yes")
    prompts = rows(tmp_path / "x.jsonl", {"prompt": "short"}, {"prompt": "long " * 3000})
    out = tmp_path / "x.md"
    done = CliRunner().invoke(
        edgellm,
        [
            "compare",
            "demo",
            "demo",
            "--prompts",
            str(prompts),
            "--engine",
            "scripted",
            "--context",
            "256",
            "--out",
            str(out),
        ],
        standalone_mode=False,
    )
    assert done.return_value == 3
    assert "1 prompts could not be answered by both" in out.read_text().replace("\\", "")


def test_tables_fit_the_terminal_and_carry_nothing_hostile(script: Any, tmp_path: Path) -> None:
    script(otherwise="\x1b[2Jgone and a rather long answer that must be folded somewhere")
    prompts = rows(tmp_path / "x.jsonl", {"prompt": "a\x07b"})
    done = invoke("demo", "demo", "--prompts", prompts, "--engine", "scripted")
    assert done.exception is None
    assert not set("\x1b\x07") & set(done.output)
    assert max(map(len, done.output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo", "demo", "--prompts", "missing.jsonl"], "cannot read missing.jsonl"),
        (["demo", "demo", "--prompts", "x.jsonl", "--out", "x.doc"], "--out ends in .md, .html or .jsonl"),
        (["demo", "demo", "--prompts", "x.jsonl", "--set", "x=1"], "'x=1' is no option"),
        (["demo", "demo+missing.gguf", "--prompts", "x.jsonl"], "missing.gguf"),
        (["nosuch", "demo", "--prompts", "x.jsonl"], "nosuch"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows(tmp_path / "x.jsonl", {"prompt": "a"})
    error = invoke(*arguments).exception
    assert isinstance(error, EdgeError), error
    assert words in str(error)
