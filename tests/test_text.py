"""The shown text does not depend on how the bytes were cut, a stop text never shows, and nothing commands a terminal."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgellm.text import TextStream, plain

cuts = st.lists(st.integers(0, 40), max_size=12)


def stream(data: bytes, places: list[int], stop: tuple[str, ...] = (), lead: str = "") -> str:
    """Push `data` cut at `places`; ends early when the stream has stopped, as a caller would."""
    flow, shown, start = TextStream(stop, lead), [], 0
    for end in [*sorted(places), len(data)]:
        shown.append(flow.push(data[start:end]))
        start = max(start, end)
        if flow.stopped:
            break
    return "".join([*shown, flow.finish()])


def whole(data: bytes, stop: tuple[str, ...], lead: str) -> str:
    """The slow plain reference: everything at once."""
    text = data.decode("utf-8", "replace").removeprefix(lead)
    found = re.search("|".join(map(re.escape, stop)), text) if stop else None
    return text[: found.start()] if found else text


@given(st.binary(max_size=40), cuts)
@example("aé中😀".encode(), [1, 2, 3, 4, 5, 6, 7, 8, 9])
@example(b"\xf0\x9f\x98 \xff\xc3", [1, 2, 3])
def test_any_bytes_cut_anywhere_give_the_same_text(data: bytes, places: list[int]) -> None:
    assert stream(data, places) == data.decode("utf-8", "replace")


@given(
    st.text("ab c\n", max_size=30),
    cuts,
    st.lists(st.text("ab c\n", min_size=1, max_size=4), max_size=3).map(tuple),
    st.sampled_from(["", " ", "a "]),
)
@example("xabd", [1, 2, 3], ("abc", "b"), "")
@example("xabc", [1, 2, 3], ("abc", "b"), "")
@example("aaab", [1, 2, 3], ("aab",), "")
@example(" ", [0], ("  ",), " ")
def test_stops_and_lead_are_found_wherever_the_bytes_are_cut(
    text: str, places: list[int], stop: tuple[str, ...], lead: str
) -> None:
    data = text.encode()
    assert stream(data, places, stop, lead) == whole(data, stop, lead)
    assert stream(data, list(range(len(data))), stop, lead) == whole(data, stop, lead)


@given(st.text(max_size=20), cuts)
def test_stops_of_any_script_are_found_byte_by_byte(text: str, places: list[int]) -> None:
    stop = ("é中", "😀")
    assert stream(f"{text}é中b".encode(), places, stop) == whole(f"{text}é中b".encode(), stop, "")


def test_text_flows_as_soon_as_no_stop_can_reach_it() -> None:
    flow = TextStream(stop=("</s>",))
    assert flow.push(b"Hello <") == "Hello "
    assert flow.push(b"b> and </") == "<b> and "
    assert flow.push(b"s>hidden") == ""
    assert flow.stopped
    assert flow.push(b"more") == ""
    assert flow.finish() == ""


def test_what_was_held_for_a_stop_that_never_came_is_shown_at_the_end() -> None:
    flow = TextStream(stop=("\n\nUser:",))
    assert flow.push(b"done\n\nUse") == "done"
    assert not flow.stopped
    assert flow.finish() == "\n\nUse"


def test_an_unfinished_character_becomes_a_replacement_at_the_end() -> None:
    flow = TextStream()
    assert flow.push("é".encode()[:1]) == ""
    assert flow.finish() == "\ufffd"


def test_the_lead_is_dropped_once() -> None:
    flow = TextStream(lead=" ")
    assert flow.push(b"") == ""
    assert flow.push(b" ") == ""
    assert flow.push(b"  a") == "  a"
    assert flow.push(b" b") == " b"


def test_an_answer_that_is_only_the_lead_is_empty() -> None:
    flow = TextStream(lead=" ")
    assert flow.push(b" ") == ""
    assert flow.finish() == ""


# Terminals.

COMMANDS = {
    "colour": "\x1b[31mred",
    "clipboard": "\x1b]52;c;aGk=\x07",
    "title": "\x1b]0;title\x1b\\",
    "device control": "\x1bP+q544e\x1b\\",
    "status report": "\x1b[6n",
    "reset": "\x1bc",
    "8-bit control sequence": "\x9b31mred",
    "8-bit operating system command": "\x9d52;c;aGk=\x9c",
    "backspaces": "safe\x08\x08\x08\x08rm -rf",
    "overwritten line": "safe\rrm -rf",
    "bell": "\x07",
    "NUL": "\x00",
    "delete": "a\x7f",
    "right-to-left override": "\u202egpj.exe",
    "isolate": "\u2066abc\u2069",
    "mark": "a\u200fb",
    "half a surrogate pair": "\ud83d",
}


def commanding(character: str) -> bool:
    kind = unicodedata.category(character)
    turning = unicodedata.bidirectional(character) in {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    return kind == "Cs" or turning or (kind == "Cc" and character not in "\n\t")


@pytest.mark.parametrize("text", COMMANDS.values(), ids=list(COMMANDS))
def test_nothing_printed_commands_a_terminal(text: str) -> None:
    shown = plain(text)
    assert not any(map(commanding, shown))
    assert shown.encode()  # can be written at all
    assert shown != text


@given(st.text(), st.integers(0, 50))
def test_a_cut_stream_is_made_safe_like_the_whole(text: str, cut: int) -> None:
    assert plain(text[:cut]) + plain(text[cut:]) == plain(text)
    assert not any(map(commanding, plain(text)))


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf"]) | st.sampled_from("\n\t")))
def test_ordinary_text_is_printed_as_it_is(text: str) -> None:
    assert plain(text) == text


def test_what_is_hidden_becomes_visible() -> None:
    assert plain("a\x1b[0m\u202eb\r\n\x9b") == "a\\x1b[0m\\u202eb\n\\x9b"


def test_what_the_prompt_has_begun_stands_first_unless_nothing_comes() -> None:
    stream = TextStream(stop=("<think>",), lead=" ", head="<think>\n")
    assert [stream.push(b""), stream.push(b" Hm"), stream.push(b"m"), stream.finish()] == ["<think>\n", "Hm", "m", ""]
    assert TextStream(head="<think>\n").finish() == ""
