"""The embedded model: a tiny llama trained from scratch by the scripts in this folder, and where its file is."""

from __future__ import annotations

from pathlib import Path


def path() -> Path:
    """Return where `demo.gguf` lies; it is part of the package."""
    return Path(__file__).with_name("demo.gguf")
