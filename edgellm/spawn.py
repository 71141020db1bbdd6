"""Starts a worker's child process, as early as can be: it knows nothing of what is said to it, and needs no other room."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING, Any

from edgellm.errors import UsageError

if TYPE_CHECKING:
    import subprocess

# `-P` keeps the user's folder off the child's path; the package's own folder goes last, so that it hides nothing.
_BOOT = "import sys; sys.path.append(sys.argv[1]); from edgellm.child import main; main()"
_ENVIRONMENT = {
    "GGML_NO_BACKTRACE": "1",  # ggml forks a debugger on failure by default: slow, and its frames can show prompt text
    # numpy's libraries for matrices start threads when they are loaded, which spin for a while: until the first words are out.
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
_HANG_S = 600.0  # prompts are read in chunks of some seconds: nothing that still computes takes as long


def start() -> subprocess.Popen[bytes]:
    """Start a child; `worker` holds its other end, and `child` is what runs in it."""
    import subprocess  # the child itself only asks for its limit

    longest_step_s()  # a bad limit is refused here, where somebody reads it
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _BOOT, package],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **_ENVIRONMENT},
        # Ctrl-C belongs to us: the child must outlive it.
        **_own_group(),
    )


def longest_step_s() -> float:
    """The seconds after which a step counts as hung: $EDGELLM_HANG_S, else ten minutes; 0 waits forever.

    Raises UsageError when that is no number of seconds.
    """
    text = os.environ.get("EDGELLM_HANG_S", "")
    try:
        seconds = float(text) if text else _HANG_S
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UsageError(f"EDGELLM_HANG_S is a number of seconds, 0 for no limit, not {text!r}.")
    return seconds


def _own_group() -> dict[str, Any]:
    if sys.platform == "win32":
        import subprocess

        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"process_group": 0}
