"""The bytes of a GGUF header, versions 2 and 3, little-endian: values, arrays, tensor descriptions, all bounds-checked.

The rules are those of llama.cpp's own reader (ggml/src/gguf.cpp), with limits on sizes beside them. It knows nothing of
what a value means, and reads no weight.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from math import prod
from typing import Any, Final, NamedTuple, NoReturn, overload

from edgellm.errors import EdgeError, ModelFileError

Fetch = Callable[[int, int], bytes]
"""(offset, length) -> that many bytes of the file."""

_ARRAY = 9
# ggml/include/gguf.h, enum gguf_type, and the letters of `struct`
_KINDS = {0: "u8", 1: "i8", 2: "u16", 3: "i16", 4: "u32", 5: "i32", 6: "f32", 7: "bool", 8: "str", 10: "u64"}
_KINDS |= {11: "i64", 12: "f64"}
_CODES = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "f32": "f", "bool": "?", "u64": "Q"}
_CODES |= {"i64": "q", "f64": "d"}

# fmt: off
# ggml.h, enum ggml_type, with elements and bytes of one block from ggml-common.h. The missing codes were withdrawn.
TYPES: Final[Mapping[int, tuple[str, int, int]]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18), 42: ("Q2_0", 64, 18),
}
# fmt: on

# Real files stay below 3,000 tensors, 100 pairs, 17 MB of header and 800,000 numbers (gemma-4: 262,144 tokens).
_ENTRIES_MAX = 65_536
_HEADER_MAX = 128 << 20
_NUMBERS_MAX = 1 << 22
_NAME_MAX = 63  # ggml.h, GGML_MAX_NAME less its closing zero
_MAPPED = 32  # ggml-impl.h, TENSOR_ALIGNMENT: a mapped tensor elsewhere stops the process
_FIRST_WINDOW, _GROWTH_MAX = 1 << 20, 8 << 20
_UNPACK_LENGTH = struct.Struct("<Q").unpack_from


class Strings(Sequence[str]):
    """The strings of one array, decoded when asked: a vocabulary as str objects would cost 50 MB that nobody reads."""

    __slots__ = ("_raw", "_starts")

    def __init__(self, raw: bytes, starts: array[int]) -> None:
        self._raw, self._starts = raw, starts

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return tuple(self[at] for at in range(len(self))[index])
        start = self._starts[index]
        return _shown(self._raw[start + 8 : start + 8 + _UNPACK_LENGTH(self._raw, start)[0]])

    def __iter__(self) -> Iterator[str]:
        return map(_shown, self.encoded())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(str.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]  # a sequence like list, compared by its content

    @property
    def packed(self) -> bytes:
        """All strings as they stand in the file, each after the eight bytes of its length."""
        return self._raw

    def encoded(self) -> list[bytes]:
        """Return every string as it stands in the file; they need not be UTF-8."""
        raw, starts = self._raw, self._starts
        ends = chain(islice(starts, 1, None), (len(raw),))
        return [raw[start + 8 : end] for start, end in zip(starts, ends, strict=False)]


class Field(NamedTuple):
    """How one metadata value is written, and where."""

    kind: str  # "u32", "str", "[i32]": GGUF's name of the type, brackets for an array
    offset: int  # of the value, from the start of the file


class Tensor(NamedTuple):
    """One tensor as the header describes it."""

    name: str
    shape: tuple[int, ...]  # ggml's order: ne0, the length of a row, first
    type: int  # ggml.h, enum ggml_type
    offset: int  # from the start of the data section of its own part
    bytes: int

    @property
    def type_name(self) -> str:
        """Name of the type, such as Q4_K."""
        return TYPES[self.type][0]

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


class Contents(NamedTuple):
    """What a header holds."""

    version: int
    metadata: Mapping[str, Any]  # arrays of numbers are tuples, arrays of strings are Strings
    fields: Mapping[str, Field]
    tensors: tuple[Tensor, ...]
    alignment: int
    data_offset: int


def parse(fetch: Fetch, file_bytes: int, path: str) -> Contents:
    """Read a header: a megabyte at first, then windows that double. Raises ModelFileError; errors of `fetch` pass."""
    reader = _Reader(fetch, file_bytes, path)
    try:
        return reader.contents()
    except (EdgeError, OSError):
        raise
    except Exception as error:  # the boundary: whatever a hostile header provokes leaves as one typed error
        reader.refuse(f"the header cannot be read ({type(error).__name__}: {error}).", cause=error)


class _Reader:
    """A cursor over the start of a file, which fetches more when it needs more."""

    def __init__(self, fetch: Fetch, file_bytes: int, path: str) -> None:
        self.fetch, self.file_bytes, self.path = fetch, file_bytes, path
        self.raw = b""
        self.at = 0
        self.field: str | None = None
        self.entries = 0  # numbers and strings in arrays so far

    def contents(self) -> Contents:
        """Read everything up to the data section."""
        version, tensor_count, pair_count = self.opening()
        metadata: dict[str, Any] = {}
        fields: dict[str, Field] = {}
        for _ in range(pair_count):
            key = self.key(metadata)
            fields[key], metadata[key] = self.value()
        alignment = self.alignment(metadata, fields)
        tensors = self.tensors(tensor_count, alignment)
        data_offset = _padded(self.at, alignment)
        self.extent(tensors, data_offset)
        return Contents(version, metadata, fields, tensors, alignment, data_offset)

    def opening(self) -> tuple[int, int, int]:
        """Read magic, version and counts."""
        if self.file_bytes < 24:
            self.refuse(f"the file has {self.file_bytes} bytes, and a GGUF header alone has 24. Pull it again.")
        self.field = "magic"
        magic = self.take(4)
        if magic != b"GGUF":
            self.refuse(f"starts with {magic!r}, not with b'GGUF'{_foreign(magic)}.", at=0)
        self.field = "version"
        version = self.number("u32")
        if not version & 0xFFFF:
            self.refuse("the file is big-endian; llama.cpp on this machine reads little-endian files.", at=4)
        if version not in (2, 3):
            self.refuse(f"GGUF version {version}; versions 2 and 3 can be read.", at=4)
        counts = []
        for name in ("tensor count", "metadata count"):
            self.field = name
            counts.append(self.number("u64"))
            if counts[-1] > _ENTRIES_MAX:
                self.refuse(f"{counts[-1]:,}, and more than {_ENTRIES_MAX:,} are not plausible.", at=self.at - 8)
        return version, counts[0], counts[1]

    def key(self, known: Mapping[str, Any]) -> str:
        """Read one metadata key."""
        self.field, start = "metadata key", self.at
        key = self.name("key")
        if key in known:
            self.refuse(f"the key {key!r} stands here a second time.", at=start)
        self.field = key
        return key

    def value(self) -> tuple[Field, Any]:
        """Read one metadata value."""
        code = self.number("u32")
        if code == _ARRAY:
            return self.array()
        where = Field(self.kind(code), self.at)
        return where, self.text() if where.kind == "str" else self.number(where.kind)

    def array(self) -> tuple[Field, Any]:
        """Read an array: numbers become a tuple, strings Strings."""
        code = self.number("u32")
        if code == _ARRAY:
            self.refuse("an array of arrays; llama.cpp has none.", at=self.at - 4)
        kind, count, start = self.kind(code), self.number("u64"), self.at
        smallest = 8 if kind == "str" else struct.calcsize("<" + _CODES[kind])
        if count * smallest > self.file_bytes - start:
            self.refuse(
                f"{count:,} values of {smallest} bytes, and {self.file_bytes - start:,} bytes follow.", at=start
            )
        self.entries += count
        if self.entries > _NUMBERS_MAX:
            self.refuse(f"arrays of {self.entries:,} values; more than {_NUMBERS_MAX:,} are not plausible.", at=start)
        if kind == "str":
            return Field("[str]", start), self.strings(count)
        raw = self.take(count * smallest)
        return Field(f"[{kind}]", start), struct.unpack(f"<{count}{_CODES[kind]}", raw)

    def strings(self, count: int) -> Strings:
        """Find `count` strings; the loop that reads a vocabulary, so it does nothing else."""
        begin = at = self.at
        starts = array("I")
        raw, add, unpack = self.raw, starts.append, _UNPACK_LENGTH
        while len(starts) < count:
            try:
                for _ in range(count - len(starts)):
                    (length,) = unpack(raw, at)
                    add(at - begin)
                    at += 8 + length
            except (struct.error, OverflowError):  # the window ends here
                self.reach(at + 8)
                raw = self.raw
        self.reach(at)
        self.at = at
        return Strings(self.raw[begin:at], starts)

    def alignment(self, metadata: Mapping[str, Any], fields: Mapping[str, Field]) -> int:
        """Return the alignment of the data section."""
        self.field = key = "general.alignment"
        if key not in metadata:
            return 32
        kind, offset = fields[key]
        value = metadata[key]
        if kind != "u32" or value & (value - 1) or not 8 <= value <= 65_536:
            self.refuse(f"{value} ({kind}) is not a power of two from 8 to 65,536, written as u32.", at=offset)
        return int(value)

    def tensors(self, count: int, alignment: int) -> tuple[Tensor, ...]:
        """Read the tensors' descriptions; their data must follow each other without a gap."""
        found: dict[str, Tensor] = {}
        end = 0
        for _ in range(count):
            self.field, start = "tensor name", self.at
            name = self.name("tensor name", _NAME_MAX)
            if name in found:
                self.refuse(f"the tensor {name!r} stands here a second time.", at=start)
            self.field = name
            found[name] = tensor = self.tensor(name)
            if tensor.offset != end:
                self.refuse(f"its data starts at {tensor.offset:,}, and {end:,} was next.", at=self.at - 8)
            end = _padded(end + tensor.bytes, alignment)
        return tuple(found.values())

    def tensor(self, name: str) -> Tensor:
        """Read one tensor's description after its name."""
        dimensions = self.number("u32")
        if not 1 <= dimensions <= 4:
            self.refuse(f"{dimensions} dimensions; 1 to 4 are possible.", at=self.at - 4)
        shape = tuple(self.number("u64") for _ in range(dimensions))
        if not all(shape) or prod(shape) >= 1 << 63:
            self.refuse(f"shape {_by(shape)}; every dimension must be above 0, and their product below 2**63.")
        code = self.number("u32")
        if code not in TYPES:
            self.refuse(f"type {code} is none of llama.cpp's tensor types, or one it has withdrawn.", at=self.at - 4)
        kind, elements, size = TYPES[code]
        if shape[0] % elements:
            self.refuse(f"rows of {shape[0]:,} are not made of {kind} blocks of {elements}.", at=self.at - 4)
        return Tensor(name, shape, code, self.number("u64"), prod(shape) // elements * size)

    def extent(self, tensors: Sequence[Tensor], data_offset: int) -> None:
        """Hold the tensors against the end of the file, and against what can be mapped into memory."""
        for tensor in tensors:
            start, self.field = data_offset + tensor.offset, tensor.name
            if start + tensor.bytes > self.file_bytes:
                missing = start + tensor.bytes - self.file_bytes
                reason = f"ends {missing:,} bytes beyond the file's {self.file_bytes:,}: the download is not complete."
                self.refuse(reason, at=start)
            if start % _MAPPED:
                self.refuse(f"starts at a byte that is no multiple of {_MAPPED}, so llama.cpp cannot map it.", at=start)

    def name(self, what: str, longest: int = 65_535) -> str:
        """Read a key or a tensor's name: text that C will see, too."""
        start = self.at
        raw = self.blob()
        if not raw or len(raw) > longest:
            self.refuse(f"a {what} of {len(raw):,} bytes; 1 to {longest:,} are possible.", at=start)
        name = _shown(raw)
        if not name.isprintable() or name.encode() != raw:
            self.refuse(f"the {what} {name!r} is not printable UTF-8.", at=start)
        return name

    def text(self) -> str:
        """Read a string value; only a chat template must be UTF-8, because it is a program."""
        start, raw = self.at, self.blob()
        if str(self.field).startswith("tokenizer.chat_template"):
            try:
                return raw.decode()
            except UnicodeDecodeError as error:
                self.refuse(f"the chat template is not UTF-8 at its byte {error.start:,}.", at=start)
        return _shown(raw)

    def blob(self) -> bytes:
        return self.take(self.number("u64"))

    def kind(self, code: int) -> str:
        if code not in _KINDS:
            self.refuse(f"value type {code} is not one of GGUF's.", at=self.at - 4)
        return _KINDS[code]

    def number(self, kind: str) -> Any:
        code = "<" + _CODES[kind]
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def take(self, length: int) -> bytes:
        """Return the next bytes and move past them."""
        self.reach(self.at + length)
        start, self.at = self.at, self.at + length
        return self.raw[start : self.at]

    def reach(self, end: int) -> None:
        """Fetch until the window covers the file up to `end`."""
        if end > self.file_bytes:
            self.refuse(f"needs bytes up to {end:,}, and the file ends at {self.file_bytes:,}.")
        if end > _HEADER_MAX:
            self.refuse(f"needs a header of {end:,} bytes; more than {_HEADER_MAX:,} are not plausible.")
        while len(self.raw) < end:
            have = len(self.raw)
            step = max(end - have, min(max(have, _FIRST_WINDOW), _GROWTH_MAX))
            chunk = self.fetch(have, min(step, self.file_bytes - have))
            if len(chunk) != min(step, self.file_bytes - have):
                self.refuse(f"{len(chunk):,} bytes came of {step:,}: the file changed, or reading it failed.", at=have)
            self.raw += chunk

    def refuse(self, reason: str, *, at: int | None = None, cause: Exception | None = None) -> NoReturn:
        """Raise ModelFileError about the current field."""
        offset = self.at if at is None else at
        raise ModelFileError(self.path, reason, offset=offset, field=self.field) from cause


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _shown(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _foreign(magic: bytes) -> str:
    """Guess what a file is that is not GGUF."""
    known = {b"vers": "a Git LFS pointer, not the file itself", b"<!DO": "a web page", b"<htm": "a web page"}
    known |= {b"PK\x03\x04": "a zip archive, as PyTorch writes"}
    known |= dict.fromkeys(
        (b"lmgg", b"fmgg", b"tjgg", b"algg"), "a GGML file from before GGUF, which nothing reads any more"
    )
    return f": {known[magic]}" if magic in known else ""
