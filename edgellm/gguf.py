"""The header of a GGUF file: what it says about itself, and where its tensors are. No weight is ever read.

From a file or through any `fetch(offset, length)`, so that a model can be judged before it is downloaded. Every header
it returns has passed `preflight`, except single parts of split files, which are judged once joined. It knows nothing of
devices, plans or the network.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn

from edgellm import gguf_bytes, preflight
from edgellm.errors import ModelFileError
from edgellm.gguf_bytes import Fetch, Field, Strings, Tensor
from edgellm.preflight import Expect

__all__ = ["Expect", "Fetch", "Field", "Header", "Strings", "Tensor", "join", "read", "read_from"]

# llama.h, enum llama_ftype
_FILE_TYPES = {
    **dict(enumerate(("F32", "F16", "Q4_0", "Q4_1", "", "", "", "Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S", "Q3_K_M"))),
    **dict(enumerate(("Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ2_XXS", "IQ2_XS", "Q2_K_S"), 13)),
    **dict(enumerate(("IQ3_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ3_M", "IQ2_S", "IQ2_M", "IQ4_XS"), 22)),
    **dict(enumerate(("IQ1_M", "BF16", "", "", "", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "Q1_0", "Q2_0"), 31)),
}
_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


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
        template = self.metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    @property
    def quantization(self) -> str:
        """How the weights are packed, such as Q4_K_M: what the file says, or else the type of most bytes."""
        number = self.metadata.get("general.file_type")
        said = _FILE_TYPES.get(number) if isinstance(number, int) else None
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


def read(path: str | os.PathLike[str], *, expect: Expect | Literal["part"] = "model") -> Header:
    """Read and check the header of a file on disk; of a split file, name the first part and all are read.

    `expect` says what the file is for: a "model" must be able to generate text, a "vocabulary" may lack tensors, an
    "adapter" is a LoRA, a "part" of a split file is not judged alone. Raises ModelFileError with path, field, offset.
    """
    head = _read_file(os.fspath(path))
    return head if expect == "part" else join([head, *map(_read_file, _later_parts(head))], expect=expect)


def read_from(fetch: Fetch, file_bytes: int, path: str, *, expect: Expect | Literal["part"] = "model") -> Header:
    """Read and check a header through `fetch(offset, length)`: a megabyte at first, then windows that double.

    It sees one file: read each part of a split model as a "part", and `join` them. Errors of `fetch` pass through.
    """
    head = _parse(fetch, file_bytes, path)
    return head if expect == "part" else join([head], expect=expect)


def join(parts: Sequence[Header], *, expect: Expect = "model") -> Header:
    """Make one header of all parts, given in order, and check it: the first one's words, everyone's tensors."""
    first = parts[0]
    index, count = _split(first)
    if index:
        _refuse_later_part(first)
    if len(parts) != count:
        raise ModelFileError(first.path, f"is one of {count} parts, and {len(parts)} were given.", field="split.count")
    for index, part in enumerate(parts):
        no, of = _split(part)
        if (no, of) != (index, count):
            reason = f"says it is part {no + 1} of {of}, not {index + 1} of {count}."
            raise ModelFileError(part.path, reason, field="split.no")
    head = first if count == 1 else _joined(parts)
    _check(head, expect)
    return head


def _joined(parts: Sequence[Header]) -> Header:
    first, tensors = parts[0], tuple(tensor for part in parts for tensor in part.tensors)
    twice, times = Counter(tensor.name for tensor in tensors).most_common(1)[0] if tensors else ("", 0)
    if times > 1:
        raise ModelFileError(first.path, "stands in two parts of the split file.", field=twice)
    promised = first.metadata.get("split.tensors.count", len(tensors))
    if promised != len(tensors):
        reason = f"{promised} tensors are promised, and the {len(parts)} parts hold {len(tensors)}."
        raise ModelFileError(first.path, reason, field="split.tensors.count")
    paths, size = tuple(part.path for part in parts), sum(part.file_bytes for part in parts)
    return replace(first, tensors=tensors, file_bytes=size, parts=paths)


def _split(head: Header) -> tuple[int, int]:
    """Return which part of how many this is, counted from 0."""
    for key in ("split.no", "split.count"):
        if key in head.fields and head.fields[key].kind != "u16":
            raise ModelFileError(head.path, f"is {head.fields[key].kind}, and llama.cpp reads u16.", field=key)
    # llama-gguf-split writes a count of 0 into files it has merged.
    return head.metadata.get("split.no", 0), head.metadata.get("split.count", 0) or 1


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
        reason = (
            f"{len(missing)} of {count} parts are missing beside it: {', '.join(missing[:3])}. Pull the model again."
        )
        raise ModelFileError(head.path, reason, field="split.count")
    return paths


def _refuse_later_part(head: Header) -> NoReturn:
    index, count = _split(head)
    match = _SPLIT.fullmatch(head.path)
    first = f"{match[1]}-00001-of-{match[3]}.gguf" if match else "its first part"
    raise ModelFileError(head.path, f"is part {index + 1} of {count}: name {first} instead.", field="split.no")


def _read_file(path: str) -> Header:
    if not os.path.isfile(path):  # opening a pipe would wait for ever
        what = "it is a folder: name a file" if os.path.isdir(path) else "there is no such file"
        raise ModelFileError(path, f"{what}.")
    try:
        with open(path, "rb") as file:

            def fetch(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            return _parse(fetch, os.fstat(file.fileno()).st_size, path)
    except OSError as error:
        raise ModelFileError(path, f"cannot be read: {error.strerror or error}.") from error


def _parse(fetch: Fetch, file_bytes: int, path: str) -> Header:
    contents = gguf_bytes.parse(fetch, file_bytes, path)
    return Header(path=path, file_bytes=file_bytes, parts=(path,), **contents._asdict())


def _check(head: Header, expect: Expect) -> None:
    """Hold the header against what llama.cpp survives; the last boundary before C."""
    try:
        preflight.check(head.metadata, head.fields, head.tensors, expect)
    except preflight.Objection as objection:
        where = head.fields.get(objection.field)
        offset = where.offset if where else None
        raise ModelFileError(head.path, str(objection), offset=offset, field=objection.field) from None
    except Exception as error:  # a value that no check foresaw: refuse it, rather than hand it to C
        raise ModelFileError(head.path, f"the header makes no sense ({type(error).__name__}: {error}).") from error
