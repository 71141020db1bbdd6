"""Mistral's instruct formats, token for token as mistral-common writes them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from mistral import FORMATS, GOLDENS, conversations, encoded, official
from test_template import Bytes
from vocabularies import load

from edgellm.prompt import Message
from edgellm.template import builtin, encode

CONTROLS = {"v1": ["<s>", "</s>"]}
CONTROLS["v2"] = CONTROLS["v3"] = CONTROLS["tekken"] = [*CONTROLS["v1"], "[INST]", "[/INST]"]


def messages(conversation: Sequence[dict[str, Any]]) -> list[Message]:
    return [Message(one["role"], one["content"]) for one in conversation]


def parts(ids: Sequence[int], names: dict[int, str], prefix: str) -> list[str]:
    """Control tokens and the texts between them, without the tokenizer's blank."""
    found: list[Any] = [b""]
    for token in ids:
        if token in names:
            found += [names[token], b""]
        else:
            found[-1] += bytes([token])
    return [one if isinstance(one, str) else one.decode().removeprefix(prefix) for one in found if one]


@pytest.mark.parametrize("version", FORMATS)
def test_formats_equal_the_goldens_of_mistral_common(version: str) -> None:
    class Vocab(Bytes):
        specials: Mapping[str, int] = {text: 256 + index for index, text in enumerate(CONTROLS[version])}
        pieces = (*(bytes([value]) for value in range(256)), *[b""] * 4)

    prefix = "" if version == "tekken" else " "
    names = {token: text for text, token in Vocab.specials.items()}
    goldens = json.loads(GOLDENS.read_text("utf-8"))
    assert len(goldens) >= 200
    for conversation, golden in zip(conversations(), goldens, strict=True):
        segments = builtin(FORMATS[version]).render(messages(conversation))
        ids = encode(segments, Vocab(bos=256, prefix=prefix))
        assert parts(ids, names, prefix) == golden["v1" if version == "v1" else "v2"]


@pytest.mark.parametrize("version", ["v1", pytest.param("v2", marks=pytest.mark.slow), "v3"])
def test_ids_equal_those_of_mistral_common(version: str, tmp_path: Path) -> None:
    pytest.importorskip("mistral_common", reason="no oracle: pip install mistral-common sentencepiece")
    tokenizer = official(version)
    model = tokenizer.instruct_tokenizer.tokenizer._model  # a SentencePieceProcessor
    kinds = [_kind(model, token) for token in range(model.vocab_size())]
    tokens = [model.id_to_piece(token).encode() for token in range(model.vocab_size())]
    scores = [model.get_score(token) for token in range(model.vocab_size())]
    path = vocabulary_file(tmp_path / "mistral.gguf", "llama", tokens, kinds, scores=scores)
    compare(version, tokenizer, load(path))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ids_equal_those_of_mistral_common_with_tekken(tmp_path: Path) -> None:
    pytest.importorskip("mistral_common", reason="no oracle: pip install mistral-common sentencepiece")
    from test_vocabularies import byte_letters

    tokenizer = official("tekken")
    inner = tokenizer.instruct_tokenizer.tokenizer
    letters, controls = byte_letters(), inner.num_special_tokens
    ranks = {inner.id_to_byte_piece(token): token for token in range(controls, inner.n_words)}
    tokens = [inner.id_to_piece(token).encode() for token in range(controls)]
    tokens += ["".join(letters[byte] for byte in piece).encode() for piece in ranks]
    merges = [
        " ".join("".join(letters[byte] for byte in half) for half in halves(piece, ranks))
        for piece in ranks
        if len(piece) > 1
    ]
    kinds = [3] * controls + [1] * len(ranks)
    path = vocabulary_file(tmp_path / "tekken.gguf", "gpt2", tokens, kinds, merges=merges)
    compare("tekken", tokenizer, load(path))


def compare(version: str, tokenizer: Any, vocab: Any) -> None:
    """llama.cpp's pattern for tekken knows no combining marks (src/llama-vocab.cpp), so there a word without them."""
    count = 0
    for conversation in conversations():
        if version == "tekken":
            conversation = [{**one, "content": one["content"].replace("नमस्ते", "नमक")} for one in conversation]
        ids = encode(builtin(FORMATS[version]).render(messages(conversation)), vocab)
        assert ids == encoded(tokenizer, conversation), conversation
        count += 1
    print(f"{version}: {count} conversations equal, token for token")


def halves(piece: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The last merge that makes a piece, by the ranks of its parts (as llama.cpp's convert_hf_to_gguf.py finds it)."""
    parts = [bytes([byte]) for byte in piece]
    while len(parts) > 2:
        _, place = min(
            (ranks.get(left + right, len(ranks) * 2), place)
            for place, (left, right) in enumerate(itertools.pairwise(parts))
        )
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0], parts[1]


def _kind(model: Any, token: int) -> int:
    """Type of a token in a GGUF file: unknown, control, byte or normal."""
    if model.is_unknown(token):
        return 2
    if model.is_control(token):
        return 3
    return 6 if model.is_byte(token) else 1


def vocabulary_file(
    path: Path,
    kind: str,
    tokens: list[bytes],
    kinds: list[int],
    *,
    scores: list[float] | None = None,
    merges: list[str] | None = None,
) -> Path:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre("default" if scores else "tekken")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if scores:
        writer.add_token_scores(scores)
    if merges:
        writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path
