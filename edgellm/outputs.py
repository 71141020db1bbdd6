"""Files that are written: refused in words before the work begins, and then whole in their place or not there at all.

Knows nothing of what is in them.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from edgellm.errors import DiskFull, OutputFailed, UsageError


def check(path: Path, *, source: Path | None = None, overwrite: bool = True) -> None:
    """Refuse what no file can be written to, before any work is done for it. Raises UsageError."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file.")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} to write {path.name} into.")
    if source and path.exists() and source.exists() and path.samefile(source):
        raise UsageError(f"{path} is what is read: name another file.")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} is there already: remove it, or ask to overwrite it.")


def check_room(path: Path, needed_bytes: int) -> None:
    """Refuse a file that the disk has no room for. Raises DiskFull."""
    free = shutil.disk_usage(path.parent).free
    if needed_bytes > free:
        raise DiskFull(f"{path} needs {needed_bytes:,} bytes, and {free:,} are free on its disk.", needed_bytes, free)


def write(path: Path, data: bytes) -> None:
    """Write a whole file or none of it; what was there before stays until then. Raises OutputFailed."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.exists() and not path.is_file():  # a terminal or a pipe: nothing may take its place
            path.write_bytes(data)
            return
        draft.write_bytes(data)
        os.replace(draft, path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise OutputFailed(f"cannot write {path}: {error.strerror or error}.") from error
