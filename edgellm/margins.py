"""What GPUs take beside a plan: measured after real loads, remembered, and kept free the next time.

Drivers load kernels and take workspaces that no planner can count. The default margin is a guess that fits most; a
measured one gives the rest of the card back to the model. Kept per GPU, driver and llama.cpp build, in one JSON file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm import outputs
from edgellm.machine import Device, Machine

if TYPE_CHECKING:
    from edgellm.plan import DevicePlan

MIB = 1 << 20
_REMEMBERED = 5  # loads; the hungriest of them counts
_SPARE_BYTES = 64 * MIB  # what a driver may take later: graphs, workspaces of longer batches
_SCREEN_BYTES = 192 * MIB  # other programs draw on the same card
_MOST_BYTES = 2048 * MIB  # beyond it, another program took memory while we looked


def key(device: Device) -> str:
    """What a measurement holds for: this kind of GPU, this driver, this build of llama.cpp."""
    from importlib import metadata

    try:
        build = metadata.version("llama-cpp-python")
    except metadata.PackageNotFoundError:
        build = ""
    return "|".join((device.description, device.backend, device.driver, build))


def known(machine: Machine) -> Machine:
    """Return the machine with the margins that were measured on it; GPUs without a measurement stay as they are."""
    if not machine.devices:
        return machine
    seen = _read()
    return replace(machine, devices=tuple(_with_margin(one, seen.get(key(one), [])) for one in machine.devices))


def _with_margin(device: Device, measured: list[int]) -> Device:
    if not measured:
        return device
    spare = _SPARE_BYTES if device.headless else _SPARE_BYTES + _SCREEN_BYTES
    return replace(device, margin_bytes=max(0, *measured) + spare)


def note(
    keys: Mapping[str, str], plans: tuple[DevicePlan, ...], before: Mapping[str, int], now: Mapping[str, int]
) -> None:
    """Remember what each GPU lost beside its plan: free bytes by name, before loading and after the first answer."""
    seen = _read()
    for plan in plans:
        if plan.used_bytes and plan.device in keys and plan.device in before and plan.device in now:
            beside = before[plan.device] - now[plan.device] - plan.used_bytes
            if -_SPARE_BYTES <= beside <= _MOST_BYTES:
                of_this = seen.setdefault(keys[plan.device], [])
                of_this[:] = [*of_this, max(0, beside)][-_REMEMBERED:]
    _write(seen)


def _path() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("edgellm", appauthor=False)) / "margins.json"


def _read() -> dict[str, list[int]]:
    """What was measured so far; a file that cannot be read is no reason not to load a model."""
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
        return {str(name): [int(one) for one in sizes if 0 <= int(one) <= _MOST_BYTES] for name, sizes in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _write(seen: Mapping[str, list[int]]) -> None:
    path = _path()
    with suppress(OSError):  # which OutputFailed is
        path.parent.mkdir(parents=True, exist_ok=True)
        outputs.write(path, json.dumps(seen).encode())
