"""Which llama.cpp the installed package brings: its version and commit, asked in a child process.

`python -m edgellm.engines.build` prints them in one line. Loads ggml's base library alone: no backend, no GPU, no model.
"""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path

_ASK_S = 20.0
_UNKNOWN = "unknown"
_NAMES = ("libggml-base.so", "libggml-base.dylib", "ggml-base.dll")


@cache
def llama_cpp() -> str:
    """Name the build as ggml's version and the commit it was made from, or `unknown` where it does not say."""
    package = Path(__file__).parent.parent.parent
    code = f"import sys; sys.path.append({str(package)!r}); from edgellm.engines.build import main; main()"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=_ASK_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return _UNKNOWN
    return done.stdout.strip() or _UNKNOWN


def main() -> None:
    """Ask the library that lies beside the installed package."""
    found = importlib.util.find_spec("llama_cpp")
    folders = [Path(one) / "lib" for one in (found.submodule_search_locations or ())] if found else []
    for path in (folder / name for folder in folders for name in _NAMES):
        if path.exists():
            library = ctypes.CDLL(str(path))
            print(f"ggml {_said(library, 'ggml_version')} ({_said(library, 'ggml_commit')})")
            return
    print(_UNKNOWN)


def _said(library: ctypes.CDLL, name: str) -> str:
    function = getattr(library, name, None)  # older builds do not have it
    if function is None:
        return _UNKNOWN
    function.restype = ctypes.c_char_p
    return (function() or b"").decode(errors="replace") or _UNKNOWN


if __name__ == "__main__":
    main()
