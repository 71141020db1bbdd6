"""Real vocabularies: llama.cpp's vocabulary-only files, which travel in the source package of llama-cpp-python.

They are 70 MB and not ours, so they are not kept here. They are taken from what $EDGELLM_VOCABULARIES names (a folder of
`ggml-vocab-*.gguf`, an unpacked source package, or its `.tar.gz`), else from the source package in pip's cache.
"""

from __future__ import annotations

import functools
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from edgellm.engines.devices import low_level
from edgellm.engines.llama_cpp import LlamaVocab

_NAMED = os.environ.get("EDGELLM_VOCABULARIES", "")  # read here: the tests' own environment has no EDGELLM_ variables
_CACHE = os.environ.get("PIP_CACHE_DIR") or os.path.expanduser("~/.cache/pip")
_WHY = "no vocabulary files: name llama-cpp-python's source package in EDGELLM_VOCABULARIES"
NAMES = (
    *("aquila", "baichuan", "command-r", "deepseek-coder", "deepseek-llm", "falcon", "gemma-4", "gpt-2", "gpt-neox"),
    *("llama-bpe", "llama-spm", "mpt", "phi-3", "qwen2", "qwen35", "refact", "starcoder"),
)
"""Those of generating models; the others in the package embed."""


def vocabulary(name: str) -> LlamaVocab:
    """Load one. Skips the test when there are none."""
    return load(_folder() / f"ggml-vocab-{name}.gguf")


def load(path: Path) -> LlamaVocab:
    """Load the vocabulary of a file, without its weights."""
    return _loaded(str(path))


def reference(name: str) -> list[tuple[str, list[int]]]:
    """Texts, and the ids that Hugging Face's tokenizer of this model gives for them, as llama.cpp keeps them."""
    path = _folder() / f"ggml-vocab-{name}.gguf.inp"
    if not path.exists():
        return []
    texts = path.read_bytes().decode().split("\n__ggml_vocab_test__\n")
    ids = path.with_suffix(".out").read_text().splitlines()
    return [(text, [int(one) for one in line.split()]) for text, line in zip(texts, ids, strict=False)]


def templates() -> list[tuple[str, str]]:
    """Published chat templates, by file name."""
    return [(path.stem, path.read_text("utf-8")) for path in sorted((_folder() / "templates").glob("*.jinja"))]


@functools.cache
def _folder() -> Path:
    named = Path(_NAMED)
    if _NAMED and named.is_dir():
        found = sorted(named.rglob("ggml-vocab-llama-spm.gguf"))
        return found[0].parent if found else pytest.skip(_WHY)
    package = named if _NAMED else _cached()
    return _unpacked(package) if package else pytest.skip(_WHY)


@functools.cache
def _cached() -> Path | None:
    """Find the source package among pip's downloads, whose names are hashes."""
    for path in Path(_CACHE).glob("http*/**/*"):
        if path.is_file() and path.stat().st_size > 50 << 20 and tarfile.is_tarfile(path):
            with tarfile.open(path) as package:
                first = package.next()
            if first and first.name.startswith("llama_cpp_python-"):
                return path
    return None


def _unpacked(package: Path) -> Path:
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="edgellm-vocabularies-"))
    (place := folder / "templates").mkdir()
    with tarfile.open(package) as archive:
        for member in archive:
            if member.isfile() and ("/models/ggml-vocab-" in member.name or "/models/templates/" in member.name):
                source = archive.extractfile(member)
                assert source
                into = place if "/templates/" in member.name else folder
                (into / Path(member.name).name).write_bytes(source.read())
    return folder


@functools.cache
def _loaded(path: str) -> LlamaVocab:
    lib = low_level()
    _hush(lib)
    params = lib.llama_model_default_params()
    params.vocab_only = True
    model = lib.llama_model_load_from_file(path.encode(), params)
    assert model, path
    return LlamaVocab(lib, model)


@functools.cache
def _hush(lib: Any) -> Any:
    log = lib.llama_log_callback(lambda *_: None)
    lib.llama_log_set(log, None)
    return log  # kept by the cache: C holds only its address
