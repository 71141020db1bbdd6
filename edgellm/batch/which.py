"""Which model it is, exactly: enough to refuse to go on with another one, and enough to find it again years later."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edgellm.errors import ModelFileError
from edgellm.model import Model

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20
# 64 blocks all over the file: weights that differ at all differ nearly everywhere, and reading gigabytes takes long.
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16


def identity(model: Model) -> dict[str, Any]:
    """Tell a model from every other: by its files' sizes and sha256, of a sample where the cache knows none, and its template."""
    template = str(model.header.metadata.get("tokenizer.chat_template", ""))
    hint = model.source.entry.template if model.source.entry else None
    return {
        "files": [_file(path) for path in _paths(model)],
        "template": sha256(f"{hint}\n{template}".encode(errors="replace")).hexdigest()[:16],
    }


def digests(model: Model) -> list[str]:
    """The sha256 of each file, computed where it is not known: seconds per gigabyte."""
    return [_known(path) or _whole(path) for path in _paths(model)]


def engine(name: str) -> str:
    """An engine with the version of the package that brings it."""
    if name == "scripted":
        return name
    try:
        return f"llama-cpp-python {version('llama-cpp-python')}"
    except PackageNotFoundError:
        return name


def _paths(model: Model) -> Sequence[str]:
    return model.source.here or (model.header.path,)


def _file(path: str) -> dict[str, Any]:
    size = os.path.getsize(path)
    digest = _known(path)
    return {"bytes": size, "sha256": digest} if digest else {"bytes": size, "sample": _sample(path, size)}


def _known(path: str) -> str | None:
    """The hub's cache names its verified files by their sha256."""
    folder, name = os.path.split(os.path.realpath(path))
    return name if os.path.basename(folder) == "blobs" and _DIGEST.fullmatch(name) else None


def _sample(path: str, size: int) -> str:
    found = sha256()
    with _opened(path) as file:
        for number in range(_SAMPLES):
            file.seek(max(size - _SAMPLE_BYTES, 0) * number // (_SAMPLES - 1))
            found.update(file.read(_SAMPLE_BYTES))
    return found.hexdigest()


def _whole(path: str) -> str:
    found = sha256()
    with _opened(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def _opened(path: str) -> Any:
    try:
        return open(path, "rb")
    except OSError as error:
        raise ModelFileError(path, f"it cannot be read any more: {error.strerror or error}.") from error
