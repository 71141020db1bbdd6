"""JSON Schema enforced while decoding: which tokens may come next, which must, and when the value is finished.

Wraps llguidance, which lets no invalid token pass, and fails closed where the library's error state would allow an end.
Knows bytes and token ids; no model, no prompt. Finished text looks like `json.dumps(value, ensure_ascii=False)`.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgellm.errors import NoWayOut, SchemaUnsupported

Logits = npt.NDArray[np.float32]

# serde_json, which reads the grammar, stops at 128 levels; every schema level takes one or two of them.
_MAX_DEPTH = 100
_MAX_NODES = 200_000
_MAX_LEVELS, _MAX_PATTERNS = 1_000, 12
# Earley items in one row: the default of 2,000 refuses an object with 600 optional properties. 20 items cost 1 us.
_ROW_ITEMS, _STEP_ITEMS = 20_000, 200_000
# Formats of OpenAPI and pydantic that name a use or a type and restrict no text; any other is enforced or refused.
_FREE_FORMATS = frozenset({"password", "binary", "path", "file-path", "directory-path", "text", "html", "markdown"})
_OPTIONS = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "whitespace_pattern": None,
    "coerce_one_of": False,
    "lenient": False,
}
_ONE = ("additionalProperties", "additionalItems", "contains", "else", "if", "items", "not", "propertyNames", "then")
_LIST = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_MAP = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")  # definitions last: maybe unused
# What llguidance says, and the keyword it means.
_MEANS = (
    (re.compile(r'Unimplemented keys: \["([^"]+)"'), None),
    (re.compile(r"Unknown format|Failed to parse format"), "format"),
    (re.compile(r"(?i)regex"), "pattern"),
    (re.compile(r"Invalid type"), "type"),
    (re.compile(r"Pointer|Resource|registry|circular reference|\$ref"), "$ref"),
    (re.compile(r"oneOf"), "oneOf"),
    (re.compile(r"for '(\w+)'|^(\w+) must be|^Unsatisfiable schema: (\w+)"), None),
)

# Row b holds, for the 8 ids of mask byte b, the highest logit each may keep. One pass over the row, whatever the mask.
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_CEILING = np.where(_BITS == 1, np.float32(np.inf), np.float32(-np.inf))


class Vocab(Protocol):
    """What this room needs of an engine's vocabulary."""

    @property
    def pieces(self) -> Sequence[bytes]: ...
    @property
    def ends(self) -> frozenset[int]: ...
    @property
    def specials(self) -> dict[str, int]: ...
    def encode(self, text: str) -> list[int]: ...


class Grammar:
    """A compiled schema: expensive once, cheap to start for every sequence."""

    def __init__(self, matcher: Any, ends: frozenset[int]) -> None:
        self._matcher, self._ends = matcher, ends

    @classmethod
    def compile(cls, schema: Mapping[str, Any] | bool, vocab: Vocab, *, lead: str = "") -> Grammar:
        """Compile a JSON Schema for a vocabulary; `lead` may come before the value, as some chat formats want a blank.

        Raises SchemaUnsupported, with a JSON pointer, when a keyword cannot be enforced while decoding, or when no
        finite value satisfies the schema.
        """
        plain, tokenizer = _root(schema), _tokenizer(vocab)
        matcher = _matcher(plain, tokenizer)
        if matcher.get_error():
            raise _refusal(plain, matcher.get_error())
        grammar = cls(_led(plain, lead, tokenizer) if lead else matcher, vocab.ends)
        try:
            trial = grammar.start()
            trial.allowed()
            trial.forced()
            trial.allowed()
        except NoWayOut as error:
            raise SchemaUnsupported(f"no JSON value within reach satisfies this schema ({error}).") from error
        return grammar

    def start(self) -> Constraint:
        """Begin a sequence."""
        return Constraint(self._matcher.deep_copy(), self._ends)


class Constraint:
    """One sequence on its way through a grammar. Every method raises NoWayOut instead of letting an error pass."""

    def __init__(self, matcher: Any, ends: frozenset[int]) -> None:
        self._matcher, self._ends = matcher, ends
        self._bits: npt.NDArray[np.uint8] | None = None

    def mask(self, logits: Logits) -> None:
        """Set the logits of refused ids to -inf, in place; `logits` is one row of the vocabulary's size."""
        ceiling = _CEILING.take(self._mask(), axis=0).reshape(-1)[: logits.size]
        np.minimum(logits[: ceiling.size], ceiling, out=logits[: ceiling.size])
        logits[ceiling.size :] = -np.inf
        if logits.max() == -np.inf:
            raise NoWayOut("the grammar allows no token of this vocabulary.")

    def allowed(self) -> npt.NDArray[np.intp]:
        """Ids that may come next, ascending; end tokens are among them when the value may end here."""
        found = np.flatnonzero(np.unpackbits(self._mask(), bitorder="little").view(np.bool_))
        if not found.size:
            raise NoWayOut("the grammar allows no token of this vocabulary.")
        return found

    def allows(self, token: int) -> bool:
        """Say whether one id may come next: a fraction of the cost of `mask`, enough for a greedy choice."""
        ok = self._matcher.validate_tokens([token]) == 1
        self._check()
        return bool(ok) or (token in self._ends and self._accepting())

    def accept(self, token: int) -> None:
        """Take a chosen token. Raises NoWayOut when the grammar refuses it."""
        self._bits = None
        if not self._matcher.consume_token(token):
            raise NoWayOut(f"the grammar refuses token {token}: {_words(self._matcher.get_error())}.")

    def forced(self) -> list[int]:
        """Tokens that the grammar leaves no choice about, already accepted here; the caller only feeds them. Often [].

        Chosen as the tokenizer would write the forced text, short of a last token that could merge with what follows.
        """
        tokens = list(self._matcher.compute_ff_tokens())
        tokens = tokens[: self._matcher.validate_tokens(tokens)] if tokens else []
        self._check()
        if tokens:
            self._bits = None
            if not self._matcher.consume_tokens(tokens):
                raise NoWayOut(f"the grammar refuses its own tokens: {_words(self._matcher.get_error())}.")
        return tokens

    @property
    def complete(self) -> bool:
        """The value is finished, and nothing but an end token may follow."""
        self._check()
        if self._matcher.is_stopped():
            return True
        return self._accepting() and self._ends.issuperset(self.allowed().tolist())

    def _mask(self) -> npt.NDArray[np.uint8]:
        """One bit per id, least significant first; computed once per state."""
        if self._bits is None:
            raw = self._matcher.compute_bitmask()
            self._check()  # an error state still returns a mask: one that allows the end
            self._bits = np.frombuffer(raw, np.uint8)
        return self._bits

    def _accepting(self) -> bool:
        return bool(self._matcher.is_accepting())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise NoWayOut(f"the grammar has stopped: {_words(self._matcher.get_error())}.")


# The vocabulary as llguidance wants it.

_lock = threading.Lock()
_tokenizers: list[tuple[Vocab, Any]] = []  # the last two: building one takes 0.4 s at 128k tokens


def _tokenizer(vocab: Vocab) -> Any:
    with _lock:
        for known, tokenizer in _tokenizers:
            if known is vocab:
                return tokenizer
        tokenizer = _build(vocab)
        _tokenizers[:] = [*_tokenizers[-1:], (vocab, tokenizer)]
        return tokenizer


def _build(vocab: Vocab) -> Any:
    from llguidance import LLTokenizer

    names = {token: text.encode("utf-8", "replace") for text, token in vocab.specials.items()}
    # 0xff marks a control token: it never occurs in UTF-8 (llguidance, toktrie: SPECIAL_TOKEN_MARKER).
    tokens = [
        b"\xff" + names.get(token, b"<end>") if token in names or token in vocab.ends else piece
        for token, piece in enumerate(vocab.pieces)
    ]
    ends = sorted(vocab.ends)
    if not ends:  # llguidance needs one: give it an id that no model has
        ends = [len(tokens)]
        tokens.append(b"\xff<end>")
    # Slices make masks inside strings 10 times faster on large vocabularies, and double the building time.
    slices = LLTokenizer.json_slices() if len(tokens) > 1024 else []
    words = _Words(vocab, tokens, ends[0])
    tokenizer = LLTokenizer(words, n_vocab=len(tokens), eos_token=ends, slices=slices)
    words.spell = tokenizer.greedy_tokenize
    return tokenizer


class _Words:
    """The duck that LLTokenizer takes for a tokenizer (llguidance/_tokenizer.py)."""

    is_tokenizer_wrapper = True
    bos_token_id = None
    special_token_ids = ()

    def __init__(self, vocab: Vocab, tokens: list[bytes], end: int) -> None:
        self.tokens, self.eos_token_id = tokens, end
        self.spell: Callable[[str], list[int]] = lambda _: []
        self._encode = vocab.encode
        # SentencePiece puts a blank before a text; forced text continues one. A byte that merges with nothing takes the
        # blank, and is cut off again (llguidance does the same: llamatokenizer.rs).
        glued = b"".join(tokens[token] for token in vocab.encode("a")) != b"a"
        self._guard = "\x02" if glued else ""
        self._head = vocab.encode(self._guard) if glued else []

    def __call__(self, text: str) -> list[int]:
        tokens = self._encode(self._guard + text)
        rest = tokens[len(self._head) :] if tokens[: len(self._head)] == self._head else []
        if not self._says(rest, text):  # it changes the text (case, Unicode forms): then longest match
            rest = self.spell(text)
        return rest if self._says(rest, text) else []

    def _says(self, tokens: list[int], text: str) -> bool:
        return b"".join(self.tokens[token] for token in tokens) == text.encode()


# The schema: made plain, compiled, and when that fails, searched for the culprit.


def _root(schema: Mapping[str, Any] | bool) -> dict[str, Any]:
    if schema is True:
        return {}
    if schema is False:
        raise SchemaUnsupported("the schema `false` accepts no value.")
    if not isinstance(schema, Mapping):
        raise SchemaUnsupported(f"a JSON Schema is an object or a boolean, not {type(schema).__name__}.")
    plain: dict[str, Any] = _plain(schema, "", 0, [0])
    _tidy(plain)
    try:
        _check_levels(plain)
        _check_patterns(plain)
    except RecursionError as error:
        raise SchemaUnsupported("the schema is nested too deeply, counting what it refers to.") from error
    plain.pop("x-guidance", None)  # llguidance's own switches, one of which ignores keywords
    return plain


def _plain(value: Any, pointer: str, depth: int, seen: list[int]) -> Any:
    """Copy `value` as plain JSON data; refuse what JSON cannot say, what is too deep, and what is too much."""
    seen[0] += 1
    if depth > _MAX_DEPTH:
        raise SchemaUnsupported(f"the schema is nested deeper than {_MAX_DEPTH} levels at {pointer[:200]}…", pointer)
    if seen[0] > _MAX_NODES:
        raise SchemaUnsupported(f"the schema has more than {_MAX_NODES:,} parts.", pointer)
    if isinstance(value, Mapping):
        return {
            _string(key, pointer): _plain(one, f"{pointer}/{_escape(str(key))}", depth + 1, seen)
            for key, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(one, f"{pointer}/{index}", depth + 1, seen) for index, one in enumerate(value)]
    if isinstance(value, str):
        return _string(value, pointer)
    if isinstance(value, int) and abs(value) > 2**53:  # llguidance computes with doubles, which round from here on
        raise SchemaUnsupported(f"the integer {str(value)[:40]} at {pointer or 'the root'} is beyond 2^53.", pointer)
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise SchemaUnsupported(f"{value!r} at {pointer or 'the root'} is not JSON.", pointer)


def _string(value: Any, pointer: str) -> str:
    if not isinstance(value, str):
        raise SchemaUnsupported(f"the key {value!r} at {pointer or 'the root'} is not a string.", pointer)
    if not value.isprintable() and any("\ud800" <= char <= "\udfff" for char in value):
        raise SchemaUnsupported(f"{value!r} at {pointer or 'the root'} is not valid Unicode.", pointer)
    return value


def _tidy(schema: Any) -> None:
    """Remove the keywords that say nothing, so that they are not refused: `uniqueItems: false`, formats of no form."""
    if not isinstance(schema, dict):
        return
    for key, value in list(schema.items()):
        free = key == "format" and isinstance(value, str) and value in _FREE_FORMATS
        if free or (key == "uniqueItems" and value is False):
            del schema[key]
    for _, child in _children(schema):
        _tidy(child)


def _check_levels(schema: dict[str, Any]) -> None:
    """Refuse what llguidance could only compile with a deeper stack than it has: it crashes, and takes the process along.

    Counts the levels of the schema and of everything that is referred to, as if each stood inside the one before.
    """
    heights: dict[int, int] = {}

    def height(part: Any) -> int:
        heights[id(part)] = 1 + max((height(child) for _, child in _children(part)), default=0)
        return heights[id(part)]

    levels = highest = height(schema)
    todo: list[Any] = [schema]
    seen: set[str] = set()
    while todo:
        part = todo.pop()
        todo += [child for _, child in _children(part)]
        reference = part.get("$ref") if isinstance(part, dict) else None
        if reference is not None and str(reference) not in seen:
            seen.add(str(reference))
            target = _behind(schema, reference)  # unknown: an anchor, a name; at worst it is the highest of all
            levels += highest if target is None else heights.get(id(target)) or height(target)
    if levels > _MAX_LEVELS:
        raise SchemaUnsupported(f"the schema has {levels:,} levels with all it refers to, more than {_MAX_LEVELS:,}.")


def _check_patterns(schema: dict[str, Any]) -> None:
    """Refuse texts that must match many patterns at once: finding out whether one exists doubles with each."""
    counts: dict[int, int] = {}

    def count(part: Any) -> int:
        if not isinstance(part, dict) or id(part) in counts:
            return counts.get(id(part), 0)
        counts[id(part)] = 0  # a cycle adds nothing
        every = [*_listed(part, "allOf"), _behind(schema, part.get("$ref"))]
        either = max(map(count, [*_listed(part, "anyOf"), *_listed(part, "oneOf")]), default=0)
        counts[id(part)] = ("pattern" in part) + sum(map(count, every)) + either
        return counts[id(part)]

    todo: list[tuple[str, Any]] = [("", schema)]
    while todo:
        pointer, part = todo.pop()
        if count(part) > _MAX_PATTERNS:
            raise SchemaUnsupported(
                f"a text at {pointer or 'the root'} must match more than {_MAX_PATTERNS} patterns at once.",
                pointer,
            )
        todo += [(pointer + step, child) for step, child in _children(part)]


def _listed(part: dict[str, Any], key: str) -> list[Any]:
    found = part.get(key)
    return found if isinstance(found, list) else []


def _behind(schema: dict[str, Any], reference: Any) -> Any:
    """What a reference inside the same schema points to; None when it is none, or points nowhere."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    target: Any = schema
    for step in reference[2:].split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(target, list):
            target = target[int(key)] if key.isdecimal() and int(key) < len(target) else None
        else:
            target = target.get(key) if isinstance(target, dict) else None
    return target


def _children(schema: Any) -> Iterator[tuple[str, Any]]:
    """Subschemas one level down, with their pointers relative to `schema`."""
    if not isinstance(schema, dict):
        return
    for key in _LIST:
        if isinstance(schema.get(key), list):
            yield from ((f"/{key}/{index}", one) for index, one in enumerate(schema[key]))
    for key in _ONE:
        if isinstance(schema.get(key), dict):
            yield f"/{key}", schema[key]
    for key in _MAP:
        if isinstance(schema.get(key), dict):
            yield from ((f"/{_escape(key)}/{_escape(name)}", one) for name, one in schema[key].items())


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _matcher(schema: Any, tokenizer: Any) -> Any:
    from llguidance import LLMatcher

    try:
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_OPTIONS)
    except ValueError as error:
        raise SchemaUnsupported(f"the schema cannot be read: {error}.") from error
    return _limited(grammar, tokenizer)


def _led(schema: dict[str, Any], lead: str, tokenizer: Any) -> Any:
    """The same grammar with an optional text in front; `schema` has already compiled alone."""
    from llguidance import LLMatcher

    switches = {key: value for key, value in _OPTIONS.items() if value is not None}
    value = json.dumps({**schema, "x-guidance": switches})
    return _limited(LLMatcher.grammar_from_lark(f"start: {json.dumps(lead)}? value\nvalue: %json {value}"), tokenizer)


def _limited(grammar: str, tokenizer: Any) -> Any:
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(max_items_in_row=_ROW_ITEMS, step_max_items=_STEP_ITEMS, verbose_errors=False)
    return LLMatcher(tokenizer, grammar, log_level=0, limits=limits)


def _refusal(schema: dict[str, Any], message: str) -> SchemaUnsupported:
    """Say which keyword, where, and what to do."""
    pointer, culprit = _Search(schema, message).find()
    keyword = _keyword(message)
    name = "the schema"
    if keyword in culprit:
        pointer, name = f"{pointer}/{_escape(keyword)}", repr(keyword)
    where = f" at {pointer}" if pointer else ""
    return SchemaUnsupported(
        f"cannot enforce {name}{where} while decoding: {_words(message)}. Change or remove it.", pointer
    )


class _Search:
    """Looks for the innermost subschema that fails alone with the same message, for half a second at most."""

    def __init__(self, schema: dict[str, Any], message: str) -> None:
        from llguidance import LLTokenizer

        self._schema, self._message = schema, message
        self._tokenizer = LLTokenizer("byte")
        self._shared = {key: schema[key] for key in ("$schema", "$defs", "definitions") if key in schema}
        self._followed: set[str] = set()
        self._until = time.monotonic() + 0.5

    def find(self) -> tuple[str, dict[str, Any]]:
        """Return the pointer and the subschema; the root when nothing smaller is to blame."""
        try:
            return self._within("", self._schema) or ("", self._schema)
        except RecursionError:
            return "", self._schema

    def _within(self, pointer: str, part: Any) -> tuple[str, dict[str, Any]] | None:
        if not isinstance(part, dict) or time.monotonic() > self._until:
            return None
        for step, child in _children(part):
            if found := self._within(pointer + step, child):
                return found
        if not pointer or _matcher({**part, **self._shared}, self._tokenizer).get_error() != self._message:
            return None
        reference = str(part.get("$ref"))
        target = _behind(self._schema, reference)
        if target is None or reference in self._followed:
            return pointer, part
        self._followed.add(reference)
        return self._within(reference[1:], target) or (pointer, part)


def _keyword(message: str) -> str:
    for pattern, keyword in _MEANS:
        if found := pattern.search(message):
            return keyword or next(filter(None, found.groups()))
    return ""


def _words(message: str) -> str:
    """llguidance's message as one short line."""
    line = " ".join(message.replace("<non-verbose/>", "").split()).rstrip(".")
    return line if len(line) <= 300 else f"{line[:299]}…"
