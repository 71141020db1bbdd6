"""The chat template: messages in, segments of scaffold and content out, then token ids.

Content never becomes a control token, and no message is lost or changed without an error. The template is the model's
own Jinja, run in `sandbox` with random stand-ins where the contents belong, which are then found in what it wrote.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from edgellm import spelling
from edgellm.errors import TemplateError, UsageError
from edgellm.prompt import Message

if TYPE_CHECKING:
    from edgellm.sandbox import Meter

# What trimming leaves of the blanks before a stand-in, and which characters it took: more blanks than a scaffold has.
_BLANKS: tuple[tuple[str, str | None], ...] = (
    ("\n" * 9 + " " * 9 + "\u2003", ""),
    (" " * 9 + "\u2003", "\n"),
    ("\u2003", "\n "),
    ("", None),
)


class Segment(NamedTuple):
    """A piece of a prompt."""

    text: str
    content: bool  # somebody's words, never a control token; otherwise the template's own scaffold


class Vocab(Protocol):
    """What this room needs of an engine's vocabulary."""

    @property
    def pieces(self) -> Sequence[bytes]: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def specials(self) -> dict[str, int]: ...
    @property
    def strips(self) -> frozenset[int]: ...
    def encode(self, text: str) -> list[int]: ...


class Template:
    """A compiled chat template. Raises TemplateError when it cannot be compiled."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "", name: str = "this model") -> None:
        from edgellm import sandbox

        self.name = name
        self.sha256 = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        self._tokens = {"bos_token": bos, "eos_token": eos}
        try:
            self._program = sandbox.Program(source)
        except sandbox.Broken as error:
            raise TemplateError(f"the chat template of {name} cannot be used: {error}.") from error

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> tuple[Segment, ...]:
        """Write a conversation the way the model was taught to read it.

        A system message moves into the user turn that follows it where the format has no such role, and neighbours of
        one role become one message where the format demands alternation. Raises TemplateError when one would be lost.
        """
        from edgellm import sandbox

        if not messages:
            raise TemplateError("there is no message to render.")
        count = len(messages)  # contents do not count: the template never sees them
        meter = sandbox.Meter(
            fuel=1_000_000 + 5_000 * count, output_chars=(1 << 18) + 16_384 * count, time_s=0.7 + 0.002 * count
        )
        complaints = []
        for attempt in _attempts(messages):
            try:
                return self._render(*attempt, add_generation_prompt, meter)
            except sandbox.Exhausted as error:
                raise TemplateError(f"the chat template of {self.name} was stopped: {error}.") from error
            except sandbox.Broken as error:
                complaints.append(f"failed: {error}")
            except sandbox.Refused as error:
                complaints.append(f"refuses this conversation: {error}")
            except _Damage as error:
                complaints.append(f"would {error}")
        raise TemplateError(f"the chat template of {self.name} {complaints[0]}.")

    def _render(self, messages: Sequence[Message], typed: bool, prompt: bool, meter: Meter) -> tuple[Segment, ...]:
        mark = str(10**19 + secrets.randbelow(10**20))  # digits: they survive a change of case, which the tail shows
        (before, _), tail = _BLANKS[0], _tail(mark)
        contents = [f"{before}<{mark}.{index}{tail}{before[::-1]}" for index in range(len(messages))]
        turns = [
            {"role": message.role, "content": [{"type": "text", "text": content}] if typed else content}
            for message, content in zip(messages, contents, strict=True)
        ]
        # As transformers calls it, without tools and documents. Models that can think aloud shall answer at once.
        options = {"tools": None, "documents": None, "enable_thinking": False, "add_generation_prompt": prompt}
        text = self._program.run({"messages": turns, **options, **self._tokens}, meter)
        return tuple(segment for segment in _cut(text, mark, messages) if segment.text)


def _tail(mark: str) -> str:
    """End of a stand-in, made so that upper and lower case, escaping, splitting and replacing would damage it."""
    return f"Aa>'\"&\\{{0}}%s\n\n{mark}>"


class _Damage(Exception):
    """A message would not come through."""


def _attempts(messages: Sequence[Message]) -> list[tuple[tuple[Message, ...], bool]]:
    """Ways to say the same, the most faithful first; with contents as strings, then as lists of typed parts."""
    given = tuple(messages)
    folded = _folded(given)
    ways = dict.fromkeys((given, _merged(given), folded, _merged(folded)))
    return [(way, typed) for typed in (False, True) for way in ways]


def _folded(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Put every system message in front of the user turn that follows it."""
    turns: list[Message] = []
    held: list[str] = []
    for message in messages:
        if message.role == "system":
            held.append(message.content)
        elif message.role == "user" and held:
            turns.append(Message("user", "\n\n".join([*held, message.content])))
            held = []
        else:
            turns.append(message)
    return (*turns, Message("user", "\n\n".join(held))) if held else tuple(turns)


def _merged(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Join neighbours of one role with a blank line."""
    turns: list[Message] = []
    for message in messages:
        if turns and turns[-1].role == message.role:
            turns[-1] = Message(message.role, f"{turns[-1].content}\n\n{message.content}")
        else:
            turns.append(message)
    return tuple(turns)


def _cut(text: str, mark: str, messages: Sequence[Message]) -> Iterator[Segment]:
    """Cut a rendered text at its stand-ins, and put the contents in."""
    parts = re.split(re.escape(f"<{mark}.") + r"(\d+)" + re.escape(_tail(mark)), text)
    found = [int(part) for part in parts[1::2]]
    _check(found, parts[::2], mark, messages)
    scaffold = parts[0]
    for index, after in zip(found, parts[2::2], strict=True):
        scaffold, content, after = _trim(scaffold, messages[index].content, after)
        yield Segment(scaffold, content=False)
        yield Segment(content, content=True)
        scaffold = after
    yield Segment(scaffold, content=False)


def _check(found: Sequence[int], scaffold: Sequence[str], mark: str, messages: Sequence[Message]) -> None:
    """Every message once, whole, in order; but a system message may stand elsewhere (Mistral: before the last turn)."""

    def told(verb: str, index: int) -> _Damage:
        return _Damage(f"{verb} message {index + 1} of {len(messages)} ({messages[index].role})")

    for part in scaffold:
        if mark in part:
            number = re.search(re.escape(mark) + r"\.(\d+)", part)
            raise told("change", int(number[1])) if number else _Damage("change a message")
    for index in range(len(messages)):
        if index not in found:
            raise told("lose", index)
        if found.count(index) > 1:
            raise told("repeat", index)
    turns = [index for index in found if messages[index].role != "system"]
    for left, right in itertools.pairwise(turns):
        if left > right:
            raise told("misplace", left)


def _trim(before: str, content: str, after: str) -> tuple[str, str, str]:
    """Remove the stand-in's blanks from the scaffold; where the template has trimmed them, trim the content alike."""
    blank, taken = next(state for state in _BLANKS if before.endswith(state[0]))
    before, content = before.removesuffix(blank), content.lstrip(taken)
    blank, taken = next(state for state in _BLANKS if after.startswith(state[0][::-1]))
    return before, content.rstrip(taken), after.removeprefix(blank[::-1])


# Segments to tokens.


def encode(segments: Sequence[Segment], vocab: Vocab) -> list[int]:
    """Turn segments into ids: control tokens from the scaffold alone, and exactly one BOS where the model wants one.

    The text between two control tokens is encoded as one string, scaffold and content together, so that blanks and
    merges come out as llama.cpp would tokenize the whole prompt. Raises UsageError for text that is not valid Unicode.
    """
    ids: list[int] = []
    run: list[str] = []
    for text, token in _scan(segments, vocab):
        run.append(text)
        if token is not None:
            ids += _words(run, vocab)
            ids.append(token)
            run = []
    ids += _words(run, vocab)
    if vocab.bos is None:
        return ids
    start = next((index for index, token in enumerate(ids) if token != vocab.bos), len(ids))
    return [vocab.bos, *ids[start:]]


def _scan(segments: Sequence[Segment], vocab: Vocab) -> Iterator[tuple[str, int | None]]:
    """Yield texts, each with the control token that follows it, if one does."""
    finder = spelling.finder(frozenset(vocab.specials))
    glued = b"".join(vocab.pieces[token] for token in vocab.encode("a")) == b" a"
    for segment in segments:
        text = segment.text
        start = 0
        if finder and not segment.content:
            for found in finder.finditer(text):
                yield text[start : found.start()], vocab.specials[found[0]]
                start = _after(text, found.end(), glued, vocab.specials[found[0]] in vocab.strips)
        yield text[start:], None


def _after(text: str, start: int, glued: bool, strips: bool) -> int:
    """Where the scaffold goes on after a special token; blanks of a content are never touched.

    A token may swallow the blanks to its right. And where the tokenizer itself puts a blank before every text, a template
    that writes one means that one, not two (`</s> [INST]`: mistral-common has one there, llama.cpp would make two).
    """
    if strips:
        return len(text) - len(text[start:].lstrip(" \t\n\r\v\f"))
    return start + (glued and text.startswith(" ", start))


def _words(run: Sequence[str], vocab: Vocab) -> list[int]:
    text = "".join(run)
    try:
        return vocab.encode(text) if text else []
    except UnicodeEncodeError as error:  # half a surrogate pair: a text that was cut or decoded wrongly
        where = f"{text[max(0, error.start - 20) : error.start]!r}" if error.start else "its beginning"
        raise UsageError(f"the prompt is not valid Unicode: {text[error.start]!r} after {where}.") from error


# Where templates come from.


class _Format(NamedTuple):
    source: str
    bos: str
    eos: str


_NO_SYSTEM = "{% if m.role == 'system' %}{{ raise_exception('this format has no system role') }}{% endif %}"
_ALTERNATE = (
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must alternate') }}{% endif %}"
)
_EACH, _DONE = "{% for m in messages %}", "{% endfor %}"


def _mistral(blank: str) -> str:
    return (
        "{{ bos_token }}{% set system = messages[0].content ~ '\n\n' if messages[0].role == 'system' else '' %}"
        "{% for m in (messages[1:] if system else messages) %}" + _NO_SYSTEM + _ALTERNATE
        + f"{{% if m.role == 'user' %}}{{{{ '[INST]{blank}' + (system if loop.last else '') + m.content + '[/INST]' }}}}"
        f"{{% else %}}{{{{ '{blank}' + m.content + eos_token }}}}{{% endif %}}{{% endfor %}}"
    )  # fmt: skip


_FORMATS = {
    # The format of mistralai/Mistral-7B-Instruct-v0.1 and -v0.2 and Mixtral-8x7B-Instruct-v0.1, by their model cards.
    "mistral": _Format(
        f"{{{{ bos_token }}}}{_EACH}{_NO_SYSTEM}{_ALTERNATE}"
        "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token + ' ' }}{% endif %}" + _DONE,
        "<s>",
        "</s>",
    ),
    # mistral-common, tokenizers v2 and v3 (Mistral-7B-Instruct-v0.3, Mixtral-8x22B): control tokens, and the system prompt
    # in the last user turn.
    "mistral-v3": _Format(_mistral(" "), "<s>", "</s>"),
    # The same with the tekken tokenizer (Mistral-Nemo), which puts no blank anywhere.
    "mistral-v3-tekken": _Format(_mistral(""), "<s>", "</s>"),
    # upstage/SOLAR-10.7B-Instruct-v1.0, tokenizer_config.json and model card.
    "solar": _Format(
        "{{ bos_token }}" + _EACH + "{{ '### ' + (m.role | capitalize) + ':\n' + m.content + '\n\n' }}" + _DONE
        + "{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}",
        "<s>",
        "</s>",
    ),
    "chatml": _Format(
        _EACH + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}" + _DONE
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "",
        "<|im_end|>",
    ),
    "llama-3": _Format(
        "{{ bos_token }}" + _EACH
        + "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}" + _DONE
        + "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        "<|begin_of_text|>",
        "<|eot_id|>",
    ),
    "gemma": _Format(
        "{{ bos_token }}" + _EACH + _NO_SYSTEM + _ALTERNATE
        + "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim }}"
        + "{{ '<end_of_turn>\n' }}" + _DONE + "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        "<bos>",
        "<end_of_turn>",
    ),
    "zephyr": _Format(
        _EACH + "{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}" + _DONE
        + "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        "<s>",
        "</s>",
    ),
    "phi-3": _Format(
        "{{ bos_token }}" + _EACH + "{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}" + _DONE
        + "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        "<s>",
        "<|end|>",
    ),
}  # fmt: skip


def builtin(name: str) -> Template:
    """Return a known-good template by the name of its format. Raises TemplateError listing the names."""
    if name not in _FORMATS:
        raise TemplateError(f"there is no chat template {name!r}: choose one of {', '.join(sorted(_FORMATS))}.")
    source, bos, eos = _FORMATS[name]
    return Template(source, bos=bos, eos=eos, name=f"the {name} format")


def for_model(metadata: Mapping[str, Any], hint: str | None = None, vocab: Vocab | None = None) -> Template:
    """Return the template embedded in a model file, else the one that the hint names.

    The texts of the BOS and end tokens come from `vocab`, or from the file's token list where `metadata` has it. Raises
    TemplateError when there is neither template nor hint: nothing is guessed.
    """
    name = str(metadata.get("general.name") or "this model")[:80]
    source = metadata.get("tokenizer.chat_template")
    if not isinstance(source, str) or not source.strip():
        if hint:
            return builtin(hint)
        raise TemplateError(
            f"the file of {name} has no chat template: name its format with --template, one of {', '.join(sorted(_FORMATS))}."
        )
    bos, eos = (_token_text(metadata, f"tokenizer.ggml.{kind}_token_id", vocab) for kind in ("bos", "eos"))
    if eos is None and "eos_token" in source:
        raise TemplateError(f"the chat template of {name} writes its end token, which the file does not name.")
    return Template(source, bos=bos or "", eos=eos or "", name=name)


def _token_text(metadata: Mapping[str, Any], key: str, vocab: Vocab | None) -> str | None:
    token = metadata.get(key)
    if not isinstance(token, int):
        return None
    if vocab is not None:
        named = (text for text, special in vocab.specials.items() if special == token)
        piece = vocab.pieces[token] if 0 <= token < len(vocab.pieces) else b""
        return next(named, piece.decode("utf-8", "replace")) or None
    tokens = metadata.get("tokenizer.ggml.tokens")
    known = isinstance(tokens, Sequence) and 0 <= token < len(tokens)
    return str(tokens[token]) if known and tokens else None
