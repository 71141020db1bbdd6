"""Putting an answer where another program can paste it from."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess

from edgellm.errors import UsageError
from edgellm.repl.show import Screen

_PROGRAMS = (
    ("pbcopy",),
    ("wl-copy",),
    ("xclip", "-selection", "clipboard"),
    ("xsel", "--clipboard", "--input"),
    ("clip.exe",),
    ("clip",),
)
_CODE = re.compile(r"^[ \t]*(```+|~~~+)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.MULTILINE | re.DOTALL)
# Terminals cut or ignore longer sequences; xterm's limit is about 100,000 bytes of base64.
_OSC_BYTES = 74_000


def put(text: str, screen: Screen) -> str:
    """Copy a text with the first program that can, else through the terminal; returns what to tell the person."""
    size = f"{len(text):,} characters"
    for program in _PROGRAMS:
        if shutil.which(program[0]) and _fed(program, text):
            return f"copied {size}."
    if not screen.interactive:
        raise UsageError("there is no clipboard here: pbcopy, wl-copy, xclip, xsel or a terminal is needed.")
    data = text.encode("utf-8", "replace")
    if len(data) > _OSC_BYTES:
        raise UsageError(f"{size} are too many for a terminal's clipboard: /export FILE, or install xclip or wl-copy.")
    # OSC 52, the terminal's own clipboard: it also works through ssh, and never says whether it did.
    screen.control(f"\x1b]52;c;{base64.b64encode(data).decode()}\x07")
    return f"asked the terminal to copy {size}; if nothing can be pasted, install xclip or wl-copy."


def last_code(text: str) -> str:
    """Return the last fenced block of an answer. Raises UsageError when there is none."""
    blocks = _CODE.findall(text)
    if not blocks:
        raise UsageError("there is no block of code in the last answer.")
    return str(blocks[-1][1])


def _fed(program: tuple[str, ...], text: str) -> bool:
    try:
        done = subprocess.run(
            program, input=text.encode("utf-8", "replace"), capture_output=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
