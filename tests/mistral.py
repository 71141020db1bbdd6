"""Conversations as mistral-common writes them: the oracle for Mistral's instruct formats.

`python tests/mistral.py` writes `goldens/mistral.json` anew; it needs `pip install mistral-common sentencepiece`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

GOLDENS = Path(__file__).parent / "goldens" / "mistral.json"
FORMATS = {"v1": "mistral", "v2": "mistral-v3", "v3": "mistral-v3", "tekken": "mistral-v3-tekken"}
"""mistral-common's tokenizers, and our format for each."""

_SAID = (
    *(
        "Hello",
        "What is the capital of France?",
        "Paris.",
        "Écris-moi un poème.",
        "¿Cómo estás?",
        "日本語で答えて",
        "Привет, мир",
    ),
    *(
        "🙂 emoji 👩‍👩‍👧",
        "line one\nline two\n\nline four",
        "  two blanks first",
        "\ttab",
        "\nnewline first",
        "x" * 40,
        "1 + 1 = 2",
    ),
    *(
        "def f(x):\n    return x**2",
        '{"name": "John", "age": 30}',
        "</s> is not the end",
        "[INST] nested [/INST]",
        "<s>",
        "a  b",
    ),
    *(
        "שלום עולם",
        "مرحبا",
        "नमस्ते",
        "naïve café",
        "don't",
        "“quoted”",
        "…",
        "100 %",
        "C:\\path",
        "ends with newline\n",
        "é",
    ),
)


def conversations(count: int = 210) -> list[list[dict[str, str]]]:
    """System or not, one to four turns, few-shot, neighbours of one role, all scripts; the same every time."""
    rng = random.Random(20)
    return [list(_conversation(rng, index)) for index in range(count)]


def _conversation(rng: random.Random, index: int) -> Iterator[dict[str, str]]:
    if index % 3 == 0:
        yield {"role": "system", "content": _words(rng)}
        if index % 15 == 0:
            yield {"role": "system", "content": _words(rng)}
    for _ in range(index % 5):
        yield {"role": "user", "content": _words(rng)}
        if index % 7 == 0:
            yield {"role": "user", "content": _words(rng)}
        yield {"role": "assistant", "content": _words(rng)}
    yield {"role": "user", "content": _words(rng)}


def _words(rng: random.Random) -> str:
    return rng.choice((" ", "\n", ", ")).join(rng.choices(_SAID, k=rng.choice((1, 1, 2))))


def official(version: str) -> Any:
    """Load the tokenizer that mistral-common carries."""
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    return MistralTokenizer.v3(is_tekken=True) if version == "tekken" else getattr(MistralTokenizer, version)()


def encoded(tokenizer: Any, messages: Sequence[dict[str, str]]) -> list[int]:
    """Ids of a conversation."""
    from mistral_common.protocol.instruct.request import ChatCompletionRequest

    found: list[int] = tokenizer.encode_chat_completion(ChatCompletionRequest(messages=list(messages))).tokens
    return found


def written(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Control tokens and the texts between them, without the blank that SentencePiece puts before a text."""
    inner = tokenizer.instruct_tokenizer.tokenizer
    parts: list[str] = []
    run: list[int] = []
    for token in [*ids, None]:
        if token is None or inner.is_special(token):
            if run:
                parts.append(inner.decode(run))
            if token is not None:
                parts.append(inner.id_to_piece(token))
            run = []
        else:
            run.append(token)
    return parts


def main() -> None:
    """Write the goldens."""
    goldens: dict[str, list[list[str]]] = {}
    for version in FORMATS:
        tokenizer = official(version)
        goldens[version] = [written(tokenizer, encoded(tokenizer, one)) for one in conversations()]
    assert goldens["v2"] == goldens.pop("v3") == goldens.pop("tekken")
    rows = [{version: goldens[version][index] for version in goldens} for index in range(len(goldens["v1"]))]
    GOLDENS.parent.mkdir(exist_ok=True)
    GOLDENS.write_text("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n", "utf-8")


if __name__ == "__main__":
    main()
