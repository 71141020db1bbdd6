"""The vocabulary of a base, as `template.encode` wants it: Hugging Face's tokenizers, told to behave as llama.cpp does.

Reads a model's folder, or takes the tokenizer that transformers reads out of a GGUF file. No torch.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgellm.errors import EngineMissing, UsageError
from edgellm.spelling import Speller
from edgellm.template import Template

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # SentencePiece: a byte that no piece has
MISSING = "fine-tuning needs more packages: pip install 'edgellm[finetune]'"


class Pieces:
    """A tokenizer whose words never become control tokens, and which adds nothing of its own."""

    def __init__(self, tokenizer: Any, *, ends: Sequence[int], bos: int | None) -> None:
        self._tokenizer = tokenizer
        tokenizer.encode_special_tokens = True
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.ends = tuple(ends)
        self.bos = bos

    @functools.cached_property
    def specials(self) -> dict[str, int]:
        """Tokens that stand for more than their letters, by their text; runs of blanks and single letters do not."""
        return {
            token.content: number
            for number, token in self._added.items()
            if token.special or (len(token.content) > 1 and token.content.strip(" \t\n\r▁"))
        }

    @functools.cached_property
    def strips(self) -> frozenset[int]:
        """Special tokens that swallow the blanks to their right."""
        return frozenset(number for number, token in self._added.items() if token.rstrip)

    @functools.cached_property
    def pieces(self) -> list[bytes]:
        """The bytes that every id stands for."""
        letters = _letters() if '"ByteLevel"' in _decoder(self._tokenizer) else None
        tokens = map(self._tokenizer.id_to_token, range(self._tokenizer.get_vocab_size()))
        found = [_bytes(token or "", letters) for token in tokens]
        for number, token in self._added.items():
            found[number] = token.content.encode()
        return found

    def encode(self, text: str) -> list[int]:
        """The ids of a text; none of them is special."""
        return self._speller(text)

    @functools.cached_property
    def _added(self) -> dict[int, Any]:
        added: dict[int, Any] = self._tokenizer.get_added_tokens_decoder()
        return added

    @functools.cached_property
    def _speller(self) -> Speller:
        whole = [text for text, number in self.specials.items() if not self._added[number].special]
        return Speller(self._plainly, self.pieces, whole, self.specials.values())

    def _plainly(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, control tokens included."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text


def _decoder(tokenizer: Any) -> str:
    return json.dumps(json.loads(tokenizer.to_str()).get("decoder"))


@functools.cache
def _letters() -> dict[str, int]:
    """The letters that stand for bytes in byte-level vocabularies (GPT-2, encoder.py, bytes_to_unicode)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


def _bytes(token: str, letters: Mapping[str, int] | None) -> bytes:
    if letters is not None:
        return bytes(letters[letter] for letter in token if letter in letters)
    if byte := _BYTE.fullmatch(token):
        return bytes([int(byte[1], 16)])
    return token.replace("▁", " ").encode()


def folder(path: Path) -> Pieces:
    """Read the tokenizer of a model's folder. Raises UsageError where there is none, EngineMissing without `tokenizers`."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise EngineMissing(f"{MISSING}.") from error
    file = path / "tokenizer.json"
    if not file.exists():
        raise UsageError(
            f"{path} has no tokenizer.json: save the tokenizer once with transformers (AutoTokenizer, save_pretrained)."
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:
        raise UsageError(f"{file} cannot be read: {error}.") from error
    config = {**_json(path / "special_tokens_map.json"), **_json(path / "tokenizer_config.json")}
    ends = _ends(path, tokenizer, config)
    bos = tokenizer.token_to_id(_text(config.get("bos_token")))
    begins = tokenizer.encode("a").ids[:1] == [bos] if config.get("add_bos_token") is None else config["add_bos_token"]
    return Pieces(tokenizer, ends=ends, bos=bos if begins else None)


def template(path: Path) -> Template | None:
    """Read the chat template of a model's folder; None where it has none. Raises TemplateError for one that is broken."""
    config = {**_json(path / "special_tokens_map.json"), **_json(path / "tokenizer_config.json")}
    source = config.get("chat_template")
    if isinstance(source, list):
        source = next((one.get("template") for one in source if one.get("name") == "default"), None)
    beside = path / "chat_template.jinja"
    if beside.exists():
        source = beside.read_text(encoding="utf-8")
    if not isinstance(source, str) or not source.strip():
        return None
    return Template(source, bos=_text(config.get("bos_token")), eos=_text(config.get("eos_token")), name=path.name)


def of_gguf(path: Path, metadata: Mapping[str, Any]) -> Pieces:
    """Take the tokenizer that transformers reads from a GGUF file, corrected where it differs from llama.cpp."""
    from tokenizers import normalizers
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)  # type: ignore[no-untyped-call,unused-ignore]
    tokenizer = loaded.backend_tokenizer
    if metadata.get("tokenizer.ggml.model") == "llama":
        # llama.cpp puts its blank in front of every text, transformers not before one that begins with a blank.
        blank = [normalizers.Prepend("▁")] if metadata.get("tokenizer.ggml.add_space_prefix", True) else []
        tokenizer.normalizer = normalizers.Sequence([*blank, normalizers.Replace(" ", "▁")])
        tokenizer.pre_tokenizer = None
    bos, eos = (metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos"))
    wants = metadata.get("tokenizer.ggml.add_bos_token", metadata.get("tokenizer.ggml.model") == "llama")
    if not isinstance(eos, int):
        raise UsageError(f"{path.name} does not name the token that ends an answer: it cannot be trained on.")
    return Pieces(tokenizer, ends=(eos,), bos=bos if wants else None)


def _ends(path: Path, tokenizer: Any, config: Mapping[str, Any]) -> list[int]:
    named = _json(path / "generation_config.json").get("eos_token_id", _json(path / "config.json").get("eos_token_id"))
    first = tokenizer.token_to_id(_text(config.get("eos_token")))
    found = [first, *(named if isinstance(named, list) else [named])]
    ends = list(dict.fromkeys(one for one in found if isinstance(one, int)))
    if not ends:
        raise UsageError(f"{path} does not name the token that ends an answer (eos_token): it cannot be trained on.")
    return ends


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    return found if isinstance(found, dict) else {}


def _text(token: Any) -> str:
    """A token's text; configurations give it bare, or with its properties."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else ""
