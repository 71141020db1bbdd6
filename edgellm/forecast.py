"""What would happen: the plan for a model that may not be here yet, on a machine that may not be this one.

`plan.fit` estimates; where a GPU is part of it, llama.cpp's own dry run weighs the plan, on the header alone if need be.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgellm import gguf, hub
from edgellm.engines import dry_run
from edgellm.errors import EngineFailed
from edgellm.hardware import Device, Machine
from edgellm.plan import Plan, Wish, fit
from edgellm.source import Source


def plan(source: Source, header: gguf.Header, machine: Machine, wish: Wish, *, imagined: bool = False) -> Plan:
    """Plan for a model, needing no more of it than its header; `imagined` when the machine's GPUs are not here.

    Raises DoesNotFit and UsageError.
    """
    estimate = fit(header, machine, wish)
    devices = machine.devices if imagined else ()
    if paths := source.here:
        return settled(estimate, header, machine, wish, paths[0], imagined=devices)
    if len(source.files) > 1:  # llama.cpp would want every part; a hollow one is made for single files only
        return estimate
    with tempfile.TemporaryDirectory() as folder:
        fetch, _ = hub.ranged(source.repo, source.revision, source.files[0].name)
        path = dry_run.hollow(fetch, header, str(Path(folder, "model.gguf")))
        return settled(estimate, header, machine, wish, path, imagined=devices)


def settled(
    estimate: Plan, header: gguf.Header, machine: Machine, wish: Wish, path: str, *, imagined: Sequence[Device] = ()
) -> Plan:
    """Let llama.cpp itself weigh a plan that uses a GPU; where it cannot be asked, say that the sizes are estimates."""
    if not any(device.used_bytes for device in estimate.devices):
        return estimate
    try:
        return dry_run.settle(header, machine, wish, weigh=partial(dry_run.measure, path, imagined=imagined))
    except EngineFailed as error:
        return replace(estimate, reasons=(*estimate.reasons, f"The sizes on the GPU are estimates: {error}"))
