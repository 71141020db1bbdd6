"""Texts that are tokens of their own are found, and spelled so that none comes out."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from edgellm.spelling import Speller, finder, starts

WHOLE = {"</s>": 300, "</s></s>": 301, "<|a|>": 302, "<|a|><|b": 303, "ab": 304}
texts = st.lists(st.sampled_from([*WHOLE, "<", "</", "s>", "|a|>", "a", "b", " ", "é"]), max_size=8).map("".join)


def greedy(text: str, prefix: str = "") -> list[int]:
    """A tokenizer like llama.cpp's: the longest special text first, else bytes."""
    ids: list[int] = []
    for part in re.split("(" + "|".join(sorted(map(re.escape, WHOLE), key=len, reverse=True)) + ")", prefix + text):
        ids += [WHOLE[part]] if part in WHOLE else list(part.encode())
    return ids


PIECES = [bytes([value]) for value in range(256)]


@given(texts)
def test_no_special_text_comes_out_and_nothing_is_lost(text: str) -> None:
    spell = Speller(greedy, PIECES, WHOLE, WHOLE.values())
    assert bytes(spell(text)) == text.encode()


@given(texts)
def test_a_blank_that_a_tokenizer_puts_before_a_text_comes_once(text: str) -> None:
    spell = Speller(lambda one: greedy(one, " "), PIECES, WHOLE, WHOLE.values())
    assert bytes(spell(text)) == b" " + text.encode()


def test_what_merges_into_a_special_token_is_spelled_apart() -> None:
    def merging(text: str) -> list[int]:
        return [300] if text == "</s>" else list(text.encode())

    assert bytes(Speller(merging, PIECES, (), [300])("</s>")) == b"</s>"


@given(st.lists(st.text("ab<|", max_size=5), max_size=8), st.text("ab<|", max_size=30))
def test_the_longest_text_is_found_first_as_in_a_plain_alternation(known: list[str], text: str) -> None:
    found = finder(frozenset(known))
    plain = sorted({one for one in known if one}, key=len, reverse=True)
    expected = re.findall("|".join(map(re.escape, plain)), text) if plain else []
    assert ([match[0] for match in found.finditer(text)] if found else []) == expected
    begin = starts(known)
    wanted = [index for index in range(len(text)) if any(text.startswith(one, index) for one in plain)]
    assert ([match.start() for match in begin.finditer(text)] if begin else []) == wanted


def test_thousands_of_special_texts_cost_little() -> None:
    known = {f"[PAD{number}]" for number in range(5000)} | {"a" * number for number in range(1, 300)}
    found = finder(frozenset(known))
    assert found
    assert [match[0] for match in found.finditer("[PAD17]" + "[PAD" * 100_000)] == ["[PAD17]"]
