"""Sentences and words are counted as a reader counts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgellm.tasks.sentences import count, split, words


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("No end", ["No end"]),
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Mr. Smith met Dr. Jones at St. Mary's. They spoke.", ["Mr. Smith met Dr. Jones at St. Mary's.", "They spoke."]),
        ("It grew by 3.5 percent, i.e. 1.2 million. See v1.2.3.", ["It grew by 3.5 percent, i.e. 1.2 million.", "See v1.2.3."]),
        ("He came at 5 p.m. The shop was closed.", ["He came at 5 p.m.", "The shop was closed."]),
        ("The U.S. Army paid Acme Inc. Friday.", ["The U.S. Army paid Acme Inc. Friday."]),
        ("J. K. Rowling wrote it. I read it.", ["J. K. Rowling wrote it.", "I read it."]),
        ("Wait... what? Well... He left.", ["Wait... what?", "Well...", "He left."]),
        ('"Why?" he asked. "Because." She left.', ['"Why?" he asked.', '"Because."', "She left."]),
        ("See www.example.org or a@b.org. Then go.", ["See www.example.org or a@b.org.", "Then go."]),
        ("今日は晴れ。明日は雨！本当？はい。", ["今日は晴れ。", "明日は雨！", "本当？", "はい。"]),
        ("「はい。」と言った。終わり。", ["「はい。」と言った。", "終わり。"]),
        ("¿Cómo está? El Sr. García no vino. ¡Vaya!", ["¿Cómo está?", "El Sr. García no vino.", "¡Vaya!"]),
        ("Il dit « Non ! » et part. M. Dupont reste.", ["Il dit « Non ! » et part.", "M. Dupont reste."]),
        ("Er kam am 3. Oktober. Das war z.B. gut.", ["Er kam am 3. Oktober.", "Das war z.B. gut."]),
        ("هل أنت هنا؟ نعم.", ["هل أنت هنا؟", "نعم."]),
        ("यह एक वाक्य है। यह दूसरा है।", ["यह एक वाक्य है।", "यह दूसरा है।"]),
        ("- one\n- two\n1. three", ["- one", "- two", "1. three"]),
        ("A title\n\nA text\nthat is wrapped. End.", ["A title", "A text\nthat is wrapped.", "End."]),
    ],
)  # fmt: skip
def test_sentences(text: str, sentences: list[str]) -> None:
    assert [piece.strip() for piece in split(text)] == sentences
    assert count(text) == len(sentences)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 0),
        ("one two-three don't", 3),
        ("a — b … c!", 3),
        ("3.5 km, 1 234", 4),
        ("今日は晴れ", 5),
        ("GPT 和 Llama 模型", 5),
    ],
)
def test_words(text: str, number: int) -> None:
    assert words(text) == number


@given(st.text(st.sampled_from(list("aB1. !?…。\n\t\"'»)-*et")), max_size=60))
def test_nothing_is_lost_by_cutting(text: str) -> None:
    pieces = split(text)
    assert "".join(pieces) == text
    assert all(piece.strip() for piece in pieces) or len(pieces) == 1


def test_megabytes_without_a_line_end_are_cut_at_once() -> None:
    assert len(split("One two three. " * 60_000)) == 60_000
    assert len(split("." * 100_000)) == 1
