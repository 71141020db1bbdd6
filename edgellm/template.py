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
from edgellm.formats import FORMATS, KNOWN
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

    def __init__(
        self, source: str, *, bos: str = "", eos: str = "", name: str = "this model", origin: str = "given by a program"
    ) -> None:
        from edgellm import sandbox

        self.name, self.origin = name, origin
        self.sha256 = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        self._tokens = {"bos_token": bos, "eos_token": eos}
        try:
            self._program = sandbox.Program(source)
        except sandbox.Broken as error:
            raise TemplateError(f"the chat template of {name} cannot be used: {error}.") from error

    @property
    def receipt(self) -> str:
        """Which template this is, for whoever reads an answer later: where it came from, and its hash."""
        return f"{self.origin}; sha256 {self.sha256}"

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


def builtin(name: str, origin: str = "") -> Template:
    """Return a known-good template by the name of its format. Raises TemplateError listing the names."""
    if name not in FORMATS:
        raise TemplateError(f"there is no chat template {name!r}: choose one of {', '.join(sorted(FORMATS))}.")
    source, bos, eos = FORMATS[name]
    return Template(source, bos=bos, eos=eos, name=f"the {name} format", origin=origin or f"the {name} format")


def for_model(metadata: Mapping[str, Any], hint: str | None = None, vocab: Vocab | None = None) -> Template:
    """Return the template embedded in a model file, else the one that the hint names.

    A published template that is known to be faulty is replaced by the format it stands for; `origin` says so. The texts of
    the BOS and end tokens come from `vocab`, or from the file's token list where `metadata` has it. Raises TemplateError
    when there is neither template nor hint: nothing is guessed.
    """
    name = str(metadata.get("general.name") or "this model")[:80]
    source = metadata.get("tokenizer.chat_template")
    if not isinstance(source, str) or not source.strip():
        if hint:
            return builtin(hint, f"the {hint} format, named for this file")
        raise TemplateError(
            f"the file of {name} has no chat template: name its format with --template, one of {', '.join(sorted(FORMATS))}."
        )
    known = KNOWN.get(hashlib.sha256(source.strip().encode("utf-8", "surrogatepass")).hexdigest())
    if known and known.replacement:
        return builtin(
            known.replacement,
            f"the {known.replacement} format in place of the file's own ({known.name}: {known.fault})",
        )
    bos, eos = (_token_text(metadata, f"tokenizer.ggml.{kind}_token_id", vocab) for kind in ("bos", "eos"))
    if eos is None and "eos_token" in source:
        raise TemplateError(f"the chat template of {name} writes its end token, which the file does not name.")
    origin = f"the file's own, known as {known.name}" if known else "the file's own, unknown to edgellm"
    return Template(source, bos=bos or "", eos=eos or "", name=name, origin=origin)


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
