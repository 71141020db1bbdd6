"""Over real vocabularies: no content becomes a special token, no text is lost, and ordinary text comes out as it should."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator

import pytest
from vocabularies import NAMES, reference, vocabulary

from edgellm.engines.llama_cpp import LlamaVocab
from edgellm.errors import UsageError
from edgellm.prompt import Message
from edgellm.template import Segment, builtin, encode

SAMPLE = ("phi-3", "gpt-neox", "llama-spm")
EACH = [*SAMPLE, *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name not in SAMPLE)]
WORDS = (
    *(
        "the",
        "model",
        "  ",
        "\n\n",
        "\t",
        "Je",
        "suis",
        "désolé",
        "中文",
        "混合",
        "🙂",
        "👩‍👩‍👧",
        "naïve",
        "don't",
        "I'll",
        "C++",
    ),
    *(
        "x = 3.14",
        "{",
        "}",
        "[1, 2]",
        "#include <a.h>",
        "…",
        "—",
        "100%",
        "a_b",
        "://",
        "привет",
        "שלום",
        "مرحبا",
        "नमस्ते",
        ".",
    ),
)


def said(vocab: LlamaVocab, ids: list[int]) -> bytes:
    return b"".join(vocab.pieces[token] for token in ids)


def blank(vocab: LlamaVocab) -> bytes:
    """What SentencePiece puts before a text."""
    return said(vocab, vocab._tokenize("a"))[:-1]


def ordinary(count: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(count):
        yield rng.choice((" ", "", ", ")).join(rng.choices(WORDS, k=rng.randint(1, 30)))


def unicode(count: int, seed: int) -> Iterator[str]:
    """Texts of characters from all planes, many of which nobody uses."""
    rng = random.Random(seed)
    planes = [(0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x20000), (0x20000, 0x110000)]
    for _ in range(count):
        low, high = rng.choice(planes)
        yield "".join(chr(rng.randrange(low, high)) for _ in range(rng.randint(1, 12)))


def some(texts: list[str], most: int) -> list[str]:
    """All of them in a slow run, else a few from everywhere."""
    whole = "slow" in sys.argv
    return texts if whole or len(texts) <= most else random.Random(len(texts)).sample(texts, most)


def positions(text: str) -> tuple[str, ...]:
    return text, f"{text} after", f"before {text}", f"be{text}fore", f"{text}{text}", f" \n{text}\n "


@pytest.mark.parametrize("name", EACH)
def test_no_content_becomes_a_special_token_and_none_of_it_is_lost(name: str) -> None:
    vocab = vocabulary(name)
    special = set(vocab.specials.values())
    tried = 0
    for text in some([*vocab.specials, "</s>", "[INST]", "<|im_end|>", "<|im_start|>system\n"], 60):
        for content in positions(text):
            for role in ("system", "user", "assistant"):
                scaffold = Segment(f"<|{role}|>\n", content=False)
                ids = encode((scaffold, Segment(content, content=True), Segment("\n", content=False)), vocab)
                alone = encode((scaffold, Segment("x", content=True), Segment("\n", content=False)), vocab)
                assert [one for one in ids if one in special] == [one for one in alone if one in special]
                assert content.encode() in said(vocab, ids)
                tried += 1
    print(f"{name}: {tried:,} strings, 0 special ids")


@pytest.mark.parametrize("name", EACH)
def test_a_special_token_cannot_be_put_together_from_two_contents(name: str) -> None:
    vocab = vocabulary(name)
    special = set(vocab.specials.values())
    for text in some([text for text in vocab.specials if len(text) > 1], 20):
        for cut in {1, len(text) // 2, len(text) - 1}:
            halves = [Message("system", text[:cut]), Message("user", text[cut:]), Message("assistant", text)]
            for style in ("mistral", "chatml", "solar"):
                segments = builtin(style).render(halves)
                blind = [one._replace(text="x") if one.content else one for one in segments]
                ids, alone = encode(segments, vocab), encode(blind, vocab)
                assert [one for one in ids if one in special] == [one for one in alone if one in special]


@pytest.mark.parametrize("name", EACH)
def test_ordinary_texts_tokenize_as_the_reference(name: str) -> None:
    vocab = vocabulary(name)
    for text in ordinary(1000, 7):
        assert vocab.encode(text) == vocab._tokenize(text), text
    known = reference(name)
    assert [vocab.encode(text) for text, _ in known] == [vocab._tokenize(text) for text, _ in known]
    agree = sum(vocab.encode(text) == ids for text, ids in known)
    assert agree == len(known)


@pytest.mark.parametrize("name", EACH)
def test_what_was_tokenized_comes_back(name: str) -> None:
    vocab = vocabulary(name)
    lead = blank(vocab)
    letters = {piece for piece in vocab.pieces if len(piece) == 1}
    refused = 0
    for text in (*some(list(unicode(10_000, 3)), 1000), *ordinary(200, 5), " ", "   a", "a\n\n", "\0"):
        try:
            ids = vocab.encode(text)
        except UsageError as error:  # StarCoder has no byte 0xf1, Falcon no vertical tab
            lost = chr(int(re.findall(r"U\+([0-9A-F]+)", str(error))[0], 16))
            assert lost in text
            assert not {bytes([byte]) for byte in lost.encode()} <= letters
            refused += 1
        else:
            assert said(vocab, ids) == lead + text.encode(), repr(text)
    print(f"{name}: {refused} texts refused, none cut")


@pytest.mark.parametrize("name", EACH)
def test_every_token_has_its_piece(name: str) -> None:
    """The oracle is the text in the file: bytes as GPT-2 writes them, or SentencePiece's blanks."""
    vocab = vocabulary(name)
    lib, lost, wrong = vocab._lib, 0, 0
    letters = {letter: byte for byte, letter in byte_letters().items()}
    spaced = name == "gemma-4" or bool(blank(vocab)) or name == "baichuan"
    for token, piece in enumerate(vocab.pieces):
        attribute = lib.llama_vocab_get_attr(vocab._vocab, token)
        text = lib.llama_vocab_get_text(vocab._vocab, token)
        if attribute & (1 << 0 | 1 << 3):  # unknown, control: never shown
            expected = b""
        elif attribute & 1 << 4:  # user-defined: as it is
            expected = text
        elif attribute & 1 << 5:  # <0x0A>
            expected = bytes([int(text[3:5], 16)])
        elif spaced:
            expected = text.replace("▁".encode(), b" ")
        else:
            expected = b"".join(bytes([letters[one]]) if one in letters else one.encode() for one in text.decode())
        lost += bool(expected) and not piece
        wrong += piece != expected
    assert (lost, wrong) == (0, 0)


def byte_letters() -> dict[int, str]:
    """GPT-2's letters for bytes (openai/gpt-2, src/encoder.py)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + index) for index, byte in enumerate(others)}


def test_blanks_after_a_token_that_swallows_them_go_in_the_scaffold_and_stay_in_the_content() -> None:
    vocab = vocabulary("phi-3")
    user = vocab.specials["<|user|>"]
    segments = [Segment("<|user|>\n", content=False), Segment("hello", content=True), Segment("<|end|>", content=False)]
    assert encode(segments, vocab) == [vocab.bos, user, *vocab.encode("hello"), vocab.specials["<|end|>"]]
    segments[1] = Segment("\n  hello", content=True)
    assert encode(segments, vocab)[2:-1] == vocab.encode("\n  hello")


@pytest.mark.parametrize("name", EACH)
def test_a_scaffold_tokenizes_as_llama_cpp_would_the_whole_prompt(name: str) -> None:
    vocab = vocabulary(name)
    for style in ("mistral", "chatml", "llama-3", "gemma", "zephyr", "phi-3", "solar"):
        turns = [Message("user", "Hello there"), Message("assistant", "Yes?\n1. one"), Message("user", "Écoute")]
        segments = builtin(style).render(turns)
        text = "".join(segment.text for segment in segments)
        if blank(vocab):  # the template's blank is the one that the tokenizer puts there
            text = re.sub("(" + "|".join(map(re.escape, vocab.specials)) + ") ", r"\1", text)
        data = text.encode()
        lib = vocab._lib
        room = (lib.llama_token * (len(data) + 8))()
        count = lib.llama_tokenize(vocab._vocab, data, len(data), room, len(data) + 8, False, True)
        whole = room[:count]
        if vocab.bos is not None and whole[0] != vocab.bos:
            whole = [vocab.bos, *whole]
        assert encode(segments, vocab) == whole, style
