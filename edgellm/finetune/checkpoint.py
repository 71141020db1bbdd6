"""A run on disk: what it was begun with, and the last step that is whole. Survives kill -9 at any moment.

`run.json` says what is trained on what; `checkpoint.pt` holds adapter, optimizer, random numbers and curve, and takes the place
of the one before at once.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgellm.errors import OutputFailed, ResumeRefused, UsageError

_RUN, _CHECKPOINT, _CARD = "run.json", "checkpoint.pt", "card.json"


def begin(out: Path, facts: Mapping[str, Any], *, fresh: bool) -> None:
    """Take a folder for a run, or go on with the run in it. Raises ResumeRefused when that one was begun from something else."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: --out is a folder.")
    begun = _read(out / _RUN)
    if begun is None:
        if out.exists() and any(out.iterdir()):
            raise UsageError(f"{out} holds something else: name a new folder.")
    elif fresh or not any((out / name).exists() for name in (_CARD, _CHECKPOINT)):  # it came to nothing
        for name in (_CARD, _CHECKPOINT, _RUN):
            (out / name).unlink(missing_ok=True)
    else:
        _compare(out, begun, dict(facts))
        if (out / _CARD).exists():
            raise ResumeRefused(f"{out} is trained already, with these settings: --fresh trains it again.")
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"cannot make {out}: {error.strerror or error}.") from error
    write(out / _RUN, _dumped(facts))


def _compare(out: Path, begun: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    now = json.loads(_dumped(facts))
    for name in sorted(set(begun) | set(now)):
        if begun.get(name) != now.get(name):
            was, wanted = json.dumps(begun.get(name)), json.dumps(now.get(name))
            raise ResumeRefused(
                f"{out} was begun with {name} {was[:80]}, now {wanted[:80]}: name a new folder, or --fresh starts again."
            )


def save(out: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    import torch

    held = io.BytesIO()
    torch.save(dict(state), held)
    write(out / _CHECKPOINT, held.getvalue())


def load(out: Path) -> dict[str, Any] | None:
    """Read the last checkpoint; None when there is none. Nothing but tensors and plain values is read."""
    import torch

    path = out / _CHECKPOINT
    if not path.exists():
        return None
    try:
        found: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise ResumeRefused(
            f"{path} cannot be read ({str(error).splitlines()[0][:120]}): --fresh starts again."
        ) from error
    return found


def finish(out: Path, card: Mapping[str, Any]) -> None:
    """Note that the run is over; its checkpoint goes."""
    write(out / _CARD, _dumped(card))
    (out / _CHECKPOINT).unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    """Write a file that appears whole, and is on the disk when this returns."""
    draft = path.with_name(path.name + ".tmp")
    try:
        with open(draft, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise OutputFailed(f"cannot write {path}: {error.strerror or error}. The last checkpoint is whole.") from error


def _dumped(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, indent=1, ensure_ascii=False, sort_keys=True).encode(errors="backslashreplace") + b"\n"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}. --out must be a folder of its own.") from error
    return found if isinstance(found, dict) else {}
