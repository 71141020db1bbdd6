"""Reading a text file that someone wants to talk about."""

from __future__ import annotations

import stat
from pathlib import Path

from edgellm.errors import UsageError
from edgellm.repl.show import gib

# More than this is no text that someone wants to chat about, and would not fit any context.
_READ_BYTES = 16 << 20
_KINDS = {b"%PDF": "a PDF", b"PK\x03\x04": "a ZIP or Office file", b"\x89PNG": "an image", b"\xff\xd8\xff": "an image"}


def text_file(name: str) -> tuple[str, str]:
    """Read a text file. Raises UsageError in one sentence for everything that is not one."""
    if "\0" in name:
        raise UsageError(f"{name!r} is no file's name.")
    path = Path(name).expanduser()
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise UsageError(f"{path} is {'a folder' if path.is_dir() else 'no ordinary file'}: name a text file.")
        if about.st_size > _READ_BYTES:
            raise UsageError(f"{path} has {gib(about.st_size)}: no more than {gib(_READ_BYTES)} can be read.")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}.") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(_no_text(path, data, error.start)) from error
    if "\0" in text:
        raise UsageError(_no_text(path, data, text.index("\0")))
    if not text.strip():
        raise UsageError(f"{path} is empty.")
    return path.name, text


def _no_text(path: Path, data: bytes, at: int) -> str:
    kinds = {
        b"%PDF": "a PDF",
        b"PK\x03\x04": "a ZIP or Office document",
        b"\x89PNG": "an image",
        b"\xff\xd8\xff": "an image",
    }
    kind = next((words for magic, words in kinds.items() if data.startswith(magic)), None)
    if kind:
        return f"{path} is {kind}, which cannot be read here: save its text as .txt or .md first."
    return f"{path} is not UTF-8 text (byte {at:,}): convert it first."
