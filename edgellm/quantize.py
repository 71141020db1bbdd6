"""`edgellm quantize`: a smaller file of the same model by llama.cpp's own quantizer, and what that cost.

The file is written beside its place, read back and checked, and put there at once. What it cost is measured through the
runtime, on the same text before and after. It knows no terminal.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgellm import gguf, outputs
from edgellm.engines import quantizer
from edgellm.errors import DiskFull, OutputFailed, UsageError
from edgellm.loading import load

Progress = Callable[[str, int, int], None]
"""Called on the way: the file's name, bytes of the source that are done, bytes in all."""

# llama.h, enum llama_ftype: what works without an importance matrix, which nobody has at hand.
TYPES = {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q5_K_S": 16, "Q5_1": 9, "Q5_0": 8}
TYPES |= {"Q4_K_M": 15, "Q4_K_S": 14, "IQ4_NL": 25, "IQ4_XS": 30, "Q4_1": 3, "Q4_0": 2}
TYPES |= {"Q3_K_L": 13, "Q3_K_M": 12, "Q3_K_S": 11, "Q2_K": 10}
"""Kinds of files that can be made, the largest first."""

_NEED_MATRIX = ("IQ1", "IQ2", "IQ3")
_WHOLE = frozenset({"F32", "F16", "BF16"})
_HEADER_BYTES = 1 << 20  # what a new header may be longer
PASSAGE = (
    "The lighthouse stood at the end of a narrow road, an hour's walk from the nearest village. Every evening the keeper "
    "climbed its two hundred steps, cleaned the glass, and wrote the weather into a book. In winter the storms came from "
    "the north, and ships that had lost their way looked for its light between the waves. When the railway reached the "
    "coast, fewer of them passed, and the harbour below the cliff grew quiet. The company that owned the land wanted to "
    "sell it; the council, after a long debate, decided to keep the tower and to open it to visitors on Sundays. Today "
    "a small museum on the ground floor shows the old lamps, the charts and the letters that sailors sent from all over "
    "the world. The book of the weather is there as well: one line a day for ninety-one years, most of them about rain."
)
"""What the cost is measured on where no text is given."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a quantization changed: bytes of the files, and how surprised each is by the same text."""

    before_bytes: int
    after_bytes: int
    before: float
    after: float
    tokens: int  # of the text: below some hundreds, chance decides

    @property
    def rise(self) -> float:
        """How much more surprised it is: 0.01 is one percent."""
        return self.after / self.before - 1


def quantize(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    to: str,
    *,
    requantize: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> gguf.Header:
    """Write `source` as a file of kind `to`, such as Q4_K_M, and return its header.

    Raises UsageError for what makes no sense (unknown kinds, files that are quantized already unless `requantize`),
    ModelFileError, DiskFull before a byte is written, OutputFailed, EngineFailed and EngineCrashed.
    """
    number, header, out = _number(to), gguf.read(source), Path(target)
    _check_source(header, to, requantize)
    outputs.check(out, source=Path(header.path), overwrite=overwrite)
    sizes = {tensor.name: tensor.bytes for tensor in header.tensors}
    begun: list[int] = []  # bytes of the tensors that were come to

    def reached(tensor: str) -> None:
        if progress:
            progress(out.name, sum(begun), header.tensor_bytes)
        begun.append(sizes.get(tensor, 0))

    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            part = Path(folder, "part.gguf")
            quantizer.run(
                str(source),
                str(part),
                number,
                requantize=requantize,
                threads=threads or 0,
                sized=lambda size: outputs.check_room(out, size + _HEADER_BYTES),
                reached=reached,
            )
            gguf.read(part)
            _flush(part)
            os.replace(part, out)
    except DiskFull:
        raise
    except OSError as error:
        raise OutputFailed(f"cannot write {out}: {error.strerror or error}.") from error
    if progress:
        progress(out.name, header.tensor_bytes, header.tensor_bytes)
    return gguf.read(out)


def cost(
    source: str | os.PathLike[str], target: str | os.PathLike[str], text: str = PASSAGE, *, threads: int | None = None
) -> Cost:
    """Measure both files on a text, one after the other. Raises what loading and measuring raise, DoesNotFit first."""
    found = []
    for path in (source, target):
        with load(path, context=min(512, gguf.read(path).context_length), slots=1, threads=threads) as model:
            found.append((model.header.file_bytes, model.perplexity(text), model.count(text)))
    (before_bytes, before, tokens), (after_bytes, after, _) = found
    return Cost(before_bytes, after_bytes, before, after, tokens)


def _number(to: str) -> int:
    name = to.upper()
    if name in TYPES:
        return TYPES[name]
    if name.startswith(_NEED_MATRIX):
        raise UsageError(
            f"{name} needs an importance matrix, which is measured on much text: choose Q3_K_M or Q2_K instead."
        )
    near = [kind for kind in TYPES if name and kind.startswith(name)] or difflib.get_close_matches(
        name, TYPES, cutoff=0.5
    )
    cure = f"did you mean {near[0]}?" if near else f"choose {', '.join(TYPES)}."
    raise UsageError(f"there is no kind {to!r}: {cure}")


def _check_source(header: gguf.Header, to: str, requantize: bool) -> None:
    if len(header.parts) > 1:
        raise UsageError(
            f"{header.path} is split into {len(header.parts)} files: join them first (llama-gguf-split --merge)."
        )
    matrices = [tensor for tensor in header.tensors if len(tensor.shape) > 1]
    packed = sorted({tensor.type_name for tensor in matrices} - _WHOLE)
    if not packed:
        if header.quantization == to.upper():
            raise UsageError(f"{header.path} is {to.upper()} already.")
        return
    if to.upper() in _WHOLE:
        raise UsageError(
            f"{header.path} is quantized ({header.quantization}): {to.upper()} would not bring back what was lost."
        )
    if not requantize:
        raise UsageError(
            f"{header.path} is quantized already ({header.quantization}, with {', '.join(packed)}): quantize the original "
            "(F16, BF16 or F32), or accept that both losses add up (--requantize)."
        )


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
