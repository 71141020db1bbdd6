"""What is not words stays where it is: blank lines, markers, code, cells, numbers and times of subtitles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgellm.errors import UsageError
from edgellm.tasks import layout, markup, subtitles

MARKDOWN = """---
title: untouched
---
# A *title* #

A paragraph with `code` and [a link](https://example.org "tip"),
wrapped at the margin.

A hard  \nbreak and\\
another.

> quoted
> > twice

- item
  - inner item

    with a paragraph
3. third

| Name | Value \\| more |
|------|:-----:|
| one  | `1`   |

```python
print("untouched")
```

    indented code

<div>
untouched
</div>

Underlined
==========

[ref]: https://example.org
"""

SUBTITLES = """1
00:00:01,000 --> 00:00:02,500
{\\an8}I do not know
what you mean.

2
00:00:03,000 --> 00:00:04,000 X1:1 X2:2
- Hello, <i>you</i>.
- Hi.

3
00:00:05,000 --> 00:00:06,000
♪ ♪

4
00:00:07,000 --> 00:00:08,000
42 is the answer."""


def texts(found: layout.Layout) -> list[str]:
    return [unit.text for unit in found.units]


@given(st.text(st.sampled_from(list("ab `\n\r\t")), max_size=60))
def test_plain_text_filled_with_its_own_lines_is_the_text(text: str) -> None:
    found = layout.lines(text)
    assert found.fill(texts(found)) == text


def test_markdown_units_are_its_words() -> None:
    found = markup.blocks(MARKDOWN)
    assert found.skipped == ()
    assert texts(found) == [
        "A *title*",
        'A paragraph with `code` and [a link](https://example.org "tip"), wrapped at the margin.',
        "A hard",
        "break and",
        "another.",
        "quoted",
        "twice",
        "item",
        "inner item",
        "with a paragraph",
        "third",
        "Name",
        "Value \\| more",
        "one",
        "`1`",
        "Underlined",
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_markdown_keeps_everything_else(newline: str) -> None:
    text = MARKDOWN.replace("\n", newline)
    found = markup.blocks(text)
    loud = found.fill([unit.text.replace("a", "ä").replace("o", "ö") for unit in found.units])
    for kept in (
        "title: untouched",
        'print("untouched")',
        "    indented code",
        "<div>",
        "|------|:-----:|",
        "==========",
    ):
        assert kept in loud
    assert loud.count("\n") == text.count("\n")
    assert loud.count("\r") == text.count("\r")


def test_a_changed_structure_is_told() -> None:
    assert markup.changes("# a\n\nb", "# c\n\nd") is None
    assert "heading" in (markup.changes("# a\n\nb", "a\n\nb") or "")
    assert "link https://example.org" in (markup.changes("[a](https://example.org)", "a") or "")
    assert "2 pieces became 4" in (markup.changes("a", "a\n\nb") or "")


@pytest.mark.parametrize("answer", ["# one", "- one", "1. one", "> one", "+ one", "| one"])
def test_an_answer_makes_no_block_of_its_own(answer: str) -> None:
    found = markup.blocks("A paragraph.\n")
    assert markup.changes("A paragraph.\n", found.fill([answer])) is None


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    text = "| a | b |\n|---|---|\n| c | d |\n"
    found = markup.blocks(text)
    assert markup.changes(text, found.fill(["x|y"] * 4)) is None


@given(st.text(st.sampled_from(list("ab *_`#>-1.|\n[]()\\!<")), max_size=80))
def test_any_markdown_keeps_what_is_not_words(text: str) -> None:
    found = markup.blocks(text)
    whole = found.fill(texts(found))
    assert "".join(whole.split()) == "".join(text.split()) or markup.changes(text, whole) is None or "\\" in whole


def test_subtitles_are_one_unit_a_cue_or_a_speaker() -> None:
    found = subtitles.cues(SUBTITLES)
    assert texts(found) == ["I do not know what you mean.", "Hello, <i>you</i>.", "Hi.", "42 is the answer."]
    filled = found.fill(["Je ne sais pas ce que tu veux dire.", "Bonjour, <i>toi</i>.", "Salut.", "42 est la réponse."])
    assert filled == (
        SUBTITLES.replace("I do not know\nwhat you mean.", "Je ne sais pas ce\nque tu veux dire.")
        .replace("Hello, <i>you</i>", "Bonjour, <i>toi</i>")
        .replace("Hi.", "Salut.")
        .replace("is the answer", "est la réponse")
    )


def test_web_subtitles_keep_notes_and_names() -> None:
    text = (
        "WEBVTT\n\nNOTE not\nspoken\n\nintro\n00:01.000 --> 00:02.000 align:start\nHello\n\n"
        "NOTE nor this\n\n00:03.000 --> 00:04.000\nBye\n"
    )
    found = subtitles.cues(text)
    assert texts(found) == ["Hello", "Bye"]
    assert found.fill(["Hello", "Bye"]) == text


def test_what_has_no_times_is_no_subtitle() -> None:
    with pytest.raises(UsageError, match="no subtitles"):
        subtitles.cues("Hello\n")


@given(st.text(st.sampled_from(list("ab \n\r-{}1")), max_size=40))
def test_subtitles_filled_with_one_line_cues_are_the_text(spoken: str) -> None:
    text = f"1\n00:00:01,000 --> 00:00:02,000\n{spoken}\n\n2\n00:00:03,000 --> 00:00:04,000\nEnd\n"
    found = subtitles.cues(text)
    if not any(unit.breaks for unit in found.units):
        assert found.fill(texts(found)) == text


@pytest.mark.parametrize(
    ("line", "count", "lines"),
    [
        ("one two three four", 2, ["one two", "three four"]),
        ("one", 3, ["one"]),
        ("", 2, [""]),
        ("今日は晴れです", 2, ["今日は", "晴れです"]),
        ("a - b", 2, ["a -", "b"]),
    ],
)
def test_a_line_is_broken_into_equal_ones_where_it_can_be(line: str, count: int, lines: list[str]) -> None:
    assert layout.broken(line, count) == lines
