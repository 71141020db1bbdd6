"""The header of a GGUF file: what it says about itself, and where its tensors are. No weight is ever read.

Versions 2 and 3, little-endian, from a file or through any `fetch(offset, length)`, so that a model can be judged before
it is downloaded. Everything is bounds-checked here; what the values mean to llama.cpp is checked in `preflight`. It knows
nothing of devices, plans or the network.
"""

from __future__ import annotations

import os
import re
import struct
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Final, Literal, NamedTuple, NoReturn, overload

from edgellm import preflight
from edgellm.errors import EdgeError, ModelFileError
from edgellm.preflight import Expect

Fetch = Callable[[int, int], bytes]
"""(offset, length) -> that many bytes of the file."""

# ggml/include/gguf.h, enum gguf_type
_KINDS = {0: "u8", 1: "i8", 2: "u16", 3: "i16", 4: "u32", 5: "i32", 6: "f32", 7: "bool", 8: "str", 10: "u64"}
_KINDS |= {11: "i64", 12: "f64"}
_ARRAY = 9
_CODES = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "f32": "f", "bool": "?", "u64": "Q"}
_CODES |= {"i64": "q", "f64": "d"}

# ggml.h, enum ggml_type, with elements and bytes of one block from ggml-common.h. The missing codes were withdrawn.
TYPES: Final[Mapping[int, tuple[str, int, int]]] = {
    **{0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22)},
    **{7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110)},
    **{12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292)},
    **{16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50)},
    **{20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136)},
    **{24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8)},
    **{29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66)},
    **{39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18), 42: ("Q2_0", 64, 18)},
}
# llama.h, enum llama_ftype
_FILE_TYPES = dict(enumerate(["F32", "F16", "Q4_0", "Q4_1", *[""] * 3, "Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S"]))
_FILE_TYPES |= dict(enumerate(["Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ2_XXS"], 12))
_FILE_TYPES |= dict(enumerate(["IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ3_M"], 20))
_FILE_TYPES |= dict(enumerate(["IQ2_S", "IQ2_M", "IQ4_XS", "IQ1_M", "BF16", "", "", "", "TQ1_0", "TQ2_0", "MXFP4"], 28))
_FILE_TYPES |= {39: "NVFP4", 40: "Q1_0", 41: "Q2_0"}

# Real files stay below 3,000 tensors, 100 pairs, 17 MB of header and 800,000 numbers (gemma-4: 262,144 tokens).
_ENTRIES_MAX = 65_536
_HEADER_MAX = 128 << 20
_NUMBERS_MAX = 1 << 22
_NAME_MAX = 63  # ggml.h, GGML_MAX_NAME less its closing zero
_MAPPED = 32  # ggml-impl.h, TENSOR_ALIGNMENT: a mapped tensor elsewhere stops the process
_FIRST_WINDOW, _GROWTH_MAX = 1 << 20, 8 << 20
_UNPACK_LENGTH = struct.Struct("<Q").unpack_from
_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


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

    def encoded(self) -> list[bytes]:
        """Return every string as it stands in the file; they need not be UTF-8."""
        raw, starts = self._raw, self._starts
        ends = [*starts[1:], len(raw)]
        return [raw[start + 8 : end] for start, end in zip(starts, ends, strict=True)]


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


@dataclass(frozen=True, slots=True)
class Header:
    """Everything a GGUF file says before its weights; split files are one header with the tensors of all parts."""

    path: str
    version: int
    metadata: Mapping[str, Any]  # arrays of numbers are tuples, arrays of strings are Strings
    tensors: tuple[Tensor, ...]
    alignment: int
    data_offset: int  # of the first part
    file_bytes: int  # of all parts
    parts: tuple[str, ...] = ()  # the paths, in order; one for a file that is not split
    fields: Mapping[str, Field] = field(default_factory=dict, repr=False)  # how and where each value is written

    @property
    def architecture(self) -> str:
        """The family by llama.cpp's name, such as llama."""
        return str(self._need("general.architecture"))

    @property
    def name(self) -> str:
        """The model's own name, or else the file's."""
        return str(self.metadata.get("general.name") or os.path.basename(self.path).removesuffix(".gguf"))

    @property
    def layers(self) -> int:
        """Repeating layers, including those for multi-token prediction."""
        return int(self._need(f"{self.architecture}.block_count"))

    @property
    def embedding(self) -> int:
        """Width of the residual stream."""
        return int(self._need(f"{self.architecture}.embedding_length"))

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads of each layer; 0 where a layer has none."""
        return self._per_layer("attention.head_count", 0)

    @property
    def kv_heads(self) -> tuple[int, ...]:
        """Key and value heads of each layer."""
        default = self._arch("attention.head_count", 0)
        return self._per_layer("attention.head_count_kv", default)

    @property
    def key_length(self) -> int:
        """Width of one head's key."""
        return int(self._arch("attention.key_length", self.embedding // self.heads[0] if self.heads[0] else 0))

    @property
    def value_length(self) -> int:
        """Width of one head's value."""
        return int(self._arch("attention.value_length", self.embedding // self.heads[0] if self.heads[0] else 0))

    @property
    def context_length(self) -> int:
        """Tokens the model was trained to see."""
        return int(self._need(f"{self.architecture}.context_length"))

    @property
    def vocab_size(self) -> int:
        """Tokens in the vocabulary."""
        return len(self._need("tokenizer.ggml.tokens"))

    @property
    def experts(self) -> int:
        """Experts per layer, 0 for a dense model."""
        return int(self._arch("expert_count", 0))

    @property
    def experts_used(self) -> int:
        """Experts that one token goes through, in the layer that uses most."""
        used = self._arch("expert_used_count", 0)
        return max(used, default=0) if isinstance(used, tuple) else int(used)

    @property
    def sliding_window(self) -> int | None:
        """Tokens a windowed layer looks back on; None where the file names no window."""
        window = self._arch("attention.sliding_window", 0)
        return window if isinstance(window, int) and window else None

    @property
    def chat_template(self) -> str | None:
        """The Jinja source that the file brings along."""
        return self.metadata.get("tokenizer.chat_template")

    @property
    def quantization(self) -> str:
        """How the weights are packed, such as Q4_K_M: what the file says, or else the type of most bytes."""
        said = _FILE_TYPES.get(self.metadata.get("general.file_type", -1))
        if said or not self.tensors:
            return said or ""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors:
            sizes[tensor.type_name] += tensor.bytes
        return sizes.most_common(1)[0][0]

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors, without padding."""
        return sum(tensor.bytes for tensor in self.tensors)

    def _arch(self, key: str, default: Any) -> Any:
        return self.metadata.get(f"{self.architecture}.{key}", default)

    def _per_layer(self, key: str, default: Any) -> tuple[int, ...]:
        value = self._arch(key, default)
        return value if isinstance(value, tuple) else (int(value),) * self.layers

    def _need(self, key: str) -> Any:
        if key not in self.metadata:
            raise ModelFileError(self.path, "the file does not say it.", field=key)
        return self.metadata[key]


def read(path: str | os.PathLike[str], *, expect: Expect = "model") -> Header:
    """Read and check the header of a file on disk; of a split file, name the first part and all are read.

    `expect` says what the file is for: a "model" must be able to generate text, a "vocabulary" may lack tensors, an
    "adapter" is a LoRA, a "part" is one piece of a split file. Raises ModelFileError with path, field and offset.
    """
    name = os.fspath(path)
    head = _read_file(name)
    if expect != "part" and "split.count" in head.metadata:
        head = join([head, *map(_read_file, _later_parts(head))])
    _check(head, expect)
    return head


def read_from(fetch: Fetch, file_bytes: int, path: str, *, expect: Expect = "model") -> Header:
    """Read and check a header through `fetch(offset, length)`: a megabyte at first, then windows that double.

    Of a split file it sees one part: read each as a "part" and `join` them. Errors of `fetch` pass through.
    """
    head = _parse(fetch, file_bytes, path)
    if expect != "part" and _split(head)[0]:
        _refuse_later_part(head)
    _check(head, expect)
    return head


def join(parts: Sequence[Header]) -> Header:
    """Make one header of all parts of a split file, given in order: the first one's words, everyone's tensors."""
    first, count = parts[0], _split(parts[0])[1]
    if len(parts) != count:
        raise ModelFileError(first.path, f"{len(parts)} parts were given of {count}.", field="split.count")
    for index, part in enumerate(parts):
        if _split(part) != (index, count):
            said = "part {0} of {1}".format(_split(part)[0] + 1, _split(part)[1])
            raise ModelFileError(part.path, f"says it is {said}, not {index + 1} of {count}.", field="split.no")
    tensors = tuple(tensor for part in parts for tensor in part.tensors)
    names = Counter(tensor.name for tensor in tensors)
    twice = next((name for name, times in names.items() if times > 1), None)
    if twice is not None:
        raise ModelFileError(first.path, "stands in two parts of the split file.", field=twice)
    promised = first.metadata.get("split.tensors.count", len(tensors))
    if promised != len(tensors):
        reason = f"{promised} tensors are promised and the {count} parts hold {len(tensors)}."
        raise ModelFileError(first.path, reason, field="split.tensors.count")
    paths, size = tuple(part.path for part in parts), sum(part.file_bytes for part in parts)
    return replace(first, tensors=tensors, file_bytes=size, parts=paths)


def _split(head: Header) -> tuple[int, int]:
    """Return which part of how many this is, counted from 0."""
    for key in ("split.no", "split.count"):
        if key in head.fields and head.fields[key].kind != "u16":
            raise ModelFileError(head.path, f"is {head.fields[key].kind}, and llama.cpp reads u16.", field=key)
    return head.metadata.get("split.no", 0), head.metadata.get("split.count", 1)


def _later_parts(head: Header) -> list[str]:
    """Return the paths of the other parts, by llama.cpp's naming (src/llama.cpp, llama_split_path)."""
    index, count = _split(head)
    if index:
        _refuse_later_part(head)
    if count < 2:
        return []
    match = _SPLIT.fullmatch(head.path)
    if not match or int(match[2]) != 1 or int(match[3]) != count:
        reason = f"is the first of {count} parts, and llama.cpp finds the others only from a name like "
        raise ModelFileError(head.path, f"{reason}model-00001-of-{count:05}.gguf.", field="split.count")
    paths = [f"{match[1]}-{number:05}-of-{count:05}.gguf" for number in range(2, count + 1)]
    missing = [os.path.basename(path) for path in paths if not os.path.isfile(path)]
    if missing:
        reason = f"{len(missing)} of {count} parts are missing beside it: {', '.join(missing[:3])}. Pull the model again."
        raise ModelFileError(head.path, reason, field="split.count")
    return paths


def _refuse_later_part(head: Header) -> NoReturn:
    index, count = _split(head)
    match = _SPLIT.fullmatch(head.path)
    first = f"{match[1]}-00001-of-{match[3]}.gguf" if match else "its first part"
    raise ModelFileError(head.path, f"is part {index + 1} of {count}: name {first} instead.", field="split.no")


def _read_file(path: str) -> Header:
    try:
        with open(path, "rb") as file:

            def fetch(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            return _parse(fetch, os.fstat(file.fileno()).st_size, path)
    except OSError as error:
        raise ModelFileError(path, f"cannot be read: {error.strerror or error}.") from error


def _parse(fetch: Fetch, file_bytes: int, path: str) -> Header:
    reader = _Reader(fetch, file_bytes, path)
    try:
        return reader.header()
    except (EdgeError, OSError):
        raise
    except Exception as error:  # the boundary: whatever a hostile header provokes leaves as one typed error
        reader.refuse(f"the header cannot be read ({type(error).__name__}: {error}).", cause=error)


def _check(head: Header, expect: Expect) -> None:
    """Hold the header against what llama.cpp survives; the last boundary before C."""
    kinds = {key: field.kind for key, field in head.fields.items()}
    tensors = {tensor.name: (tensor.shape, tensor.type_name) for tensor in head.tensors}
    try:
        preflight.check(head.metadata, kinds, tensors, expect)
    except preflight.Objection as objection:
        where = head.fields.get(objection.field)
        offset = where.offset if where else None
        raise ModelFileError(head.path, str(objection), offset=offset, field=objection.field) from None
    except (ArithmeticError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        raise ModelFileError(head.path, f"the header makes no sense ({type(error).__name__}: {error}).") from error


class _Reader:
    """A cursor over the start of a file, which fetches more when it needs more."""

    def __init__(self, fetch: Fetch, file_bytes: int, path: str) -> None:
        self.fetch, self.file_bytes, self.path = fetch, file_bytes, path
        self.raw = b""
        self.at = 0
        self.field: str | None = None
        self.entries = 0  # numbers and strings in arrays so far

    def header(self) -> Header:
        """Read everything up to the data section; ggml/src/gguf.cpp, gguf_init_from_reader."""
        version, tensor_count, pair_count = self.opening()
        metadata: dict[str, Any] = {}
        fields: dict[str, Field] = {}
        for _ in range(pair_count):
            key = self.key(metadata)
            kind, offset, metadata[key] = self.value()
            fields[key] = Field(kind, offset)
        alignment = self.alignment(metadata, fields)
        tensors = self.tensors(tensor_count, alignment)
        data_offset = _padded(self.at, alignment)
        self.extent(tensors, data_offset)
        return Header(
            path=self.path,
            version=version,
            metadata=metadata,
            tensors=tensors,
            alignment=alignment,
            data_offset=data_offset,
            file_bytes=self.file_bytes,
            parts=(self.path,),
            fields=fields,
        )

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

    def value(self) -> tuple[str, int, Any]:
        """Read one metadata value: its kind, its offset, itself."""
        code = self.number("u32")
        if code == _ARRAY:
            return self.array()
        kind, start = self.kind(code), self.at
        if kind == "str":
            return kind, start, self.text()
        return kind, start, self.number(kind)

    def array(self) -> tuple[str, int, Any]:
        """Read an array: numbers become a tuple, strings Strings."""
        code = self.number("u32")
        if code == _ARRAY:
            self.refuse("an array of arrays; llama.cpp has none.", at=self.at - 4)
        kind, count, start = self.kind(code), self.number("u64"), self.at
        smallest = 8 if kind == "str" else struct.calcsize("<" + _CODES[kind])
        if count * smallest > self.file_bytes - start:
            self.refuse(f"{count:,} values of {smallest} bytes, and {self.file_bytes - start:,} bytes follow.", at=start)
        self.entries += count
        if self.entries > _NUMBERS_MAX:
            self.refuse(f"arrays of {self.entries:,} values; more than {_NUMBERS_MAX:,} are not plausible.", at=start)
        if kind == "str":
            return "[str]", start, self.strings(count)
        raw = self.take(count * smallest)
        return f"[{kind}]", start, struct.unpack(f"<{count}{_CODES[kind]}", raw)

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
                reason = f"ends {missing:,} bytes after the file, which has {self.file_bytes:,}: the download is not complete."
                self.refuse(reason, at=start)
            if start % _MAPPED:
                self.refuse(f"starts at a byte that is no multiple of {_MAPPED}, so llama.cpp cannot map it.", at=start)

    def name(self, what: str, longest: int = 65_535) -> str:
        """Read a key or a tensor's name: text that C will see, too."""
        start = self.at
        raw = self.bytes()
        if not raw or len(raw) > longest:
            self.refuse(f"a {what} of {len(raw):,} bytes; 1 to {longest:,} are possible.", at=start)
        name = raw.decode()
        if not name.isprintable():
            self.refuse(f"the {what} {name!r} has characters that cannot be printed.", at=start)
        return name

    def text(self) -> str:
        """Read a string value; only a chat template must be UTF-8, because it is a program."""
        start, raw = self.at, self.bytes()
        if str(self.field).startswith("tokenizer.chat_template"):
            try:
                return raw.decode()
            except UnicodeDecodeError as error:
                self.refuse(f"the chat template is not UTF-8 at its byte {error.start:,}.", at=start)
        return _shown(raw)

    def bytes(self) -> bytes:
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
    known |= dict.fromkeys((b"lmgg", b"fmgg", b"tjgg", b"algg"), "a GGML file from before GGUF, which nothing reads any more")
    return f": {known[magic]}" if magic in known else ""
