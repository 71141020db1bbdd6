"""Files that someone wants to talk about: read by name, or by a path that was dropped onto the terminal."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edgellm import documents

# How terminals write a dropped file: in quotes, with backslashes before blanks, as a URL, or just as it is.
_DROPPED = re.compile(r"""\s*(?:'(?P<single>[^'\n]+)'|"(?P<double>[^"\n]+)"|(?P<bare>(?:\\.|[^\s\\'"])+))(?=\s|$)""")


def text_file(name: str) -> tuple[str, documents.Document]:
    """Read a file: its name and its text. Raises UsageError in one sentence for everything that has none."""
    path = Path(named(name)).expanduser()
    return path.name, documents.look(path)


def named(text: str) -> str:
    """Return the path that a text means: as it is when there is such a file, else as a terminal would write it."""
    found = _DROPPED.fullmatch(text.strip())
    if os.path.exists(os.path.expanduser(text)) or not found:
        return text
    return _path(found)


def dropped(line: str) -> tuple[list[str], str]:
    """Take the files that a line begins with off it: those with a whole path, which exist; returns the rest too."""
    files: list[str] = []
    while found := _DROPPED.match(line):
        path = _path(found)
        if not (os.path.isabs(path) and os.path.isfile(path)):
            break
        files.append(path)
        line = line[found.end() :]
    if not files and os.path.isabs(whole := line.strip()) and os.path.isfile(whole):  # blanks, and no quotes
        return [whole], ""
    return files, line.strip() if files else line


def _path(found: re.Match[str]) -> str:
    text = found["single"] or found["double"] or ""
    if bare := found["bare"]:
        text = bare if os.name == "nt" else re.sub(r"\\(.)", r"\1", bare)
    if text.lower().startswith("file://"):
        text = unquote(urlsplit(text).path)
        text = text[1:] if re.match(r"/[A-Za-z]:", text) else text
    return "" if "\0" in text else text
