"""Which model and engine it is, exactly: enough to refuse to go on with another, and to find it again years later."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edgellm.engines import build
from edgellm.errors import ModelFileError
from edgellm.opening import Opening
from edgellm.rows.row import Result

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 18
# Hashing takes one to three seconds a gigabyte. Of larger files that no one has verified, 64 blocks all over the file tell
# two apart: weights that differ at all differ nearly everywhere.
_WHOLE_BYTES = 1 << 28
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16


def identity(opening: Opening) -> dict[str, Any]:
    """Tell a model from every other: its files' sizes and sha256 (of a sample, where that takes long), template and adapters."""
    told: dict[str, Any] = {"files": [_file(path) for path in opening.paths], "template": template(opening)}
    if opening.adapters:
        told["adapters"] = adapters(opening)
    return told if opening.engine == "llama_cpp" else {**told, "engine": opening.engine}


def about(name: str, opening: Opening) -> dict[str, Any]:
    """Describe what answers, for the receipts of a whole run. Hashes files that are not known: seconds per gigabyte."""
    return {
        "model": name,
        "sha256": [_known(path) or _hash(path) for path in opening.paths],
        "template": template(opening),
        **({"adapters": adapters(opening)} if opening.adapters else {}),
        "engine": engine(opening.engine),
        "llama_cpp": build.llama_cpp() if opening.engine == "llama_cpp" else None,
        "edgellm": installed("edgellm"),
    }


def of(result: Result, run: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """Make out the receipt of one answered row; None where nothing was computed. `asked` is the task and its options."""
    if result.sampling is None:
        return None
    return {
        **run,
        **asked,
        "sampling": asdict(result.sampling),
        "prompt_tokens": result.prompt_tokens,
        "tokens": result.tokens,
        "finish": result.finish,
        **({"adapter": result.adapter} if result.adapter else {}),
    }


def template(opening: Opening) -> str:
    """Hash what decides the chat format: the file's own template and the name of the one that is used instead."""
    written = str(opening.metadata.get("tokenizer.chat_template", ""))
    return sha256(f"{opening.template_hint}\n{written}".encode(errors="replace")).hexdigest()[:16]


def adapters(opening: Opening) -> list[dict[str, Any]]:
    """The adapters opened with the model, each with its strength and hash."""
    return [{"name": one.name, "scale": one.scale, "sha256": one.sha256} for one in opening.adapters]


def engine(name: str) -> str:
    """An engine with the version of the package that brings it."""
    packages = {"llama_cpp": "llama-cpp-python", "ctransformers": "ctransformers"}
    return f"{packages[name]} {installed(packages[name])}" if name in packages else name


@cache
def installed(package: str) -> str:
    """The version of an installed package, or `unknown` where one runs from a folder."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _file(path: str) -> dict[str, Any]:
    size = os.path.getsize(path)
    digest = _known(path) or (_hash(path) if size <= _WHOLE_BYTES else None)
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


def _hash(path: str) -> str:
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
