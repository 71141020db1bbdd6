"""What runs a model fastest on this machine, measured once: threads, repacked weights, the width of a step.

Kept per shape of model, build of llama.cpp and processor, on a GPU or not, in one JSON file of the platform's cache folder;
`load` uses it unless the user pins. `search` measures.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm.decision import Plan, Wish

if TYPE_CHECKING:
    from edgellm.gguf import Header
    from edgellm.machine import Machine

READ = 32  # tokens of the step that stands for reading a prompt: the least that products of matrices need to be fast
_BETTER = 1.05  # a gain below the noise of measuring decides nothing
Said = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What was found best."""

    threads: int
    threads_batch: int
    ubatch: int | None  # None: not measured, the plan decides
    costs: Mapping[int, float] = field(default_factory=dict)  # seconds of a step by tokens in it
    repacked: Mapping[int, float] = field(default_factory=dict)  # the same with repacked weights; empty: not possible
    model: str = ""
    day: str = ""
    took_s: float = 0.0
    notes: tuple[str, ...] = ()

    def repacks(self, slots: int) -> bool:
        """Whether repacked weights are faster where so many answer at once, and as much is read as is said.

        They make some widths faster and others slower: on AVX512 single answers 10 % faster, prompts 35 % slower.
        """
        return bool(self.repacked) and _token_s(self.costs, slots) > _BETTER * _token_s(self.repacked, slots)


def _token_s(costs: Mapping[int, float], slots: int) -> float:
    """Seconds of a token said, and of a token read."""
    from edgellm.lookup import Pace

    cost = Pace(dict(costs)).cost
    return cost(slots) / slots + cost(READ) / READ


def applied(plan: Plan, tuning: Tuning | None, wish: Wish, machine: Machine) -> Plan:
    """Put what was measured into a plan; what the user pins stays, and so does all that decides about memory on GPUs."""
    if tuning is None:
        return plan
    changes: dict[str, Any] = {}
    if wish.threads is None:
        changes |= {"threads": tuning.threads, "threads_batch": tuning.threads_batch}
    if tuning.ubatch and wish.ubatch is None and not plan.on_gpu:
        changes["ubatch"] = max(min(plan.ubatch, tuning.ubatch), min(plan.ubatch, plan.slots))
    # Repacked weights are a copy in memory, where the file itself could be dropped and read again.
    room = plan.host_bytes + plan.host_weights_bytes // 4 < machine.ram_free_bytes
    if room and not plan.on_gpu and tuning.repacks(plan.slots):
        changes["repack"] = True
    reason = f"Measured on this machine on {tuning.day}: {_words(replace(plan, **changes))}."
    return replace(plan, **changes, reasons=(*plan.reasons, reason))


def costs(tuning: Tuning | None, wish: Wish, plan: Plan) -> Mapping[int, float]:
    """What steps of a plan cost here; nothing where the user pins other threads than were measured."""
    if tuning is None or wish.threads not in (None, tuning.threads):
        return {}
    return tuning.repacked if plan.repack else tuning.costs


def _words(plan: Plan) -> str:
    threads = f"{plan.threads} {'thread' if plan.threads == 1 else 'threads'}"
    if plan.threads_batch != plan.threads:
        threads += f" ({plan.threads_batch} for prompts)"
    return (
        f"{threads}, weights {'repacked' if plan.repack else 'as they are in the file'}, {plan.ubatch} tokens at once"
    )


# What is remembered.


def key(header: Header, *, gpu: bool = False) -> str:
    """What a measurement holds for: this shape of model, this build of llama.cpp, this processor; with a GPU or without."""
    import hashlib

    shape = hashlib.sha256(repr([(one.name, one.shape, one.type) for one in header.tensors]).encode()).hexdigest()[:16]
    return "|".join((header.architecture, shape, _library(), _processor(), *(("GPU",) if gpu else ())))


def known(header: Header, *, gpu: bool = False) -> Tuning | None:
    """Return what was measured for models of this shape."""
    seen = _read()
    return _tuning(seen.get(key(header, gpu=gpu))) if seen else None


def every() -> dict[str, Tuning]:
    """Return all that was measured, by key."""
    found = {name: _tuning(data) for name, data in _read().items()}
    return {name: one for name, one in found.items() if one}


def remember(header: Header, tuning: Tuning, *, gpu: bool = False) -> None:
    """Keep a measurement for the next load."""
    _write({**_read(), key(header, gpu=gpu): asdict(tuning)})


def forget(header: Header | None = None) -> int:
    """Forget what was measured for one shape, or everything; returns how many were forgotten."""
    seen = _read()
    named = {key(header, gpu=gpu) for gpu in (False, True)} if header is not None else set(seen)
    left = {name: data for name, data in seen.items() if name not in named}
    _write(left)
    return len(seen) - len(left)


def _library() -> str:
    from importlib import metadata, util

    try:
        build = metadata.version("llama-cpp-python")
        spec = util.find_spec("llama_cpp")
    except (metadata.PackageNotFoundError, ValueError):
        return ""
    folder = Path(spec.origin).parent / "lib" if spec and spec.origin else None
    sizes = [file.stat().st_size for file in sorted(folder.glob("*ggml-cpu*"))] if folder and folder.is_dir() else []
    return f"{build}:{sum(sizes)}"  # the same version compiled otherwise is another library


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} x{os.cpu_count()}"
    return f"{platform.processor() or platform.machine()} x{os.cpu_count()}"


def _tuning(data: Any) -> Tuning | None:
    """Read one entry; whatever is wrong with it, it is not used."""
    try:
        costs, repacked = (
            {int(width): float(seconds) for width, seconds in data[name].items()} for name in ("costs", "repacked")
        )
        found = Tuning(**{**data, "costs": costs, "repacked": repacked, "notes": tuple(data["notes"])})
        sane = 1 <= int(found.threads) <= 1024 and 1 <= int(found.threads_batch) <= 1024
        sane = sane and all(math.isfinite(one) and one > 0 for one in (*costs.values(), *repacked.values()))
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    return found if sane else None


def _path() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("edgellm", appauthor=False)) / "tuning.json"


def _read() -> dict[str, Any]:
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(seen: Mapping[str, Any]) -> None:
    from edgellm import outputs

    path = _path()
    with suppress(OSError):  # which OutputFailed is
        path.parent.mkdir(parents=True, exist_ok=True)
        outputs.write(path, json.dumps(seen).encode())
