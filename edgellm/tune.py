"""What runs a model fastest on this machine, measured once: threads, repacked weights, the width of a step.

Kept per shape of model, build of llama.cpp and processor, in one JSON file of the platform's cache folder; `load` uses it unless
the user pins. Measuring happens in child processes and takes 20 seconds at most.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm import outputs
from edgellm.engines.trial import Died, Trial
from edgellm.errors import EngineFailed
from edgellm.lookup import Pace
from edgellm.plan import Plan, Wish

if TYPE_CHECKING:
    from edgellm.gguf import Header
    from edgellm.hardware import Machine

LONGEST_S = 20.0
_READ = 32  # tokens of the step that stands for reading a prompt: the least that products of matrices need to be fast
_WIDTHS = (2, 4, 8, 16)
_MICRO_BATCHES = (128, 256, 512)
_BETTER = 1.05  # a gain below the noise of measuring decides nothing
_AS_GOOD = 0.97
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
    cost = Pace(dict(costs)).cost
    return cost(slots) / slots + cost(_READ) / _READ


def measure(header: Header, paths: Sequence[str], plan: Plan, machine: Machine, said: Said = lambda _: None) -> Tuning:
    """Measure a model that is here, 20 seconds at most. Raises EngineFailed when it cannot even be opened."""
    start = time.monotonic()
    search = _Search(paths, _small(plan), machine, start + LONGEST_S, said)
    try:
        found = search.best()
    except Died as death:
        raise EngineFailed(f"the model could not be measured: {death}.") from death
    name = str(header.metadata.get("general.name") or header.architecture)
    return replace(found, model=name, day=time.strftime("%Y-%m-%d"), took_s=round(time.monotonic() - start, 1))


def applied(plan: Plan, tuning: Tuning | None, wish: Wish, machine: Machine) -> Plan:
    """Put what was measured into a plan; what the user pins stays, and so does all that decides about memory on GPUs."""
    if tuning is None:
        return plan
    changes: dict[str, Any] = {}
    if wish.threads is None:
        changes |= {"threads": tuning.threads, "threads_batch": tuning.threads_batch}
    if tuning.ubatch and wish.ubatch is None and not _on_gpu(plan):
        changes["ubatch"] = max(min(plan.ubatch, tuning.ubatch), min(plan.ubatch, plan.slots))
    # Repacked weights are a copy in memory, where the file itself could be dropped and read again.
    room = plan.host_bytes + plan.host_weights_bytes // 4 < machine.ram_free_bytes
    if room and not _on_gpu(plan) and tuning.repacks(plan.slots):
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


def _on_gpu(plan: Plan) -> bool:
    return any(device.used_bytes for device in plan.devices)


def _small(plan: Plan) -> Plan:
    """The same model with a cache that is quick to make."""
    ubatch = max(_MICRO_BATCHES)
    return replace(plan, slots=1, context=1024, cells=1024, batch=ubatch, ubatch=min(plan.ubatch, ubatch), repack=False)


@dataclass(slots=True)
class _Search:
    """One measuring of one model."""

    paths: Sequence[str]
    plan: Plan
    machine: Machine
    until: float
    said: Said
    notes: list[str] = field(default_factory=list)

    def best(self) -> Tuning:
        with Trial(self.paths, self.plan, self.until) as trial:
            self.said(f"opened in {trial.loaded_s:.1f} s")
            threads, answer_s = self._fastest(trial, 1, self._threads())
            batch, read_s = self._fastest(trial, _READ, self._threads())
            costs = {1: answer_s, _READ: read_s}
            costs |= dict(self._costs(trial, batch, _WIDTHS))
            ubatch = self._micro_batch(trial, batch, read_s)
        plain = Tuning(threads=threads, threads_batch=batch, ubatch=ubatch, costs=costs)
        found = plain if _on_gpu(self.plan) else self._repacked(plain)
        return replace(found, notes=tuple(self.notes))

    def _threads(self) -> list[int]:
        machine = self.machine
        fast = machine.performance_cores
        return sorted(
            {max(1, fast), max(1, fast - 1), machine.physical_cores, machine.logical_cores, self.plan.threads}
        )

    def _fastest(self, trial: Trial, width: int, candidates: Sequence[int]) -> tuple[int, float]:
        """Return the number of threads whose step is shortest, the fewest of nearly equal ones, and its seconds."""
        found = [(threads, seconds) for threads, seconds in self._each(trial, candidates, width) if seconds]
        if not found:
            return self.plan.threads, math.inf
        least = min(seconds for _, seconds in found)
        return next((threads, seconds) for threads, seconds in found if seconds * _AS_GOOD <= least)

    def _each(self, trial: Trial, candidates: Sequence[int], width: int) -> Iterator[tuple[int, float | None]]:
        for threads in candidates:
            if self._hurried(2 * len(candidates)):
                return
            seconds = trial.seconds(threads, width)
            if seconds:
                rate = f"{width / seconds:,.1f} tokens/s"
                self.said(f"{threads} {'thread' if threads == 1 else 'threads'}, {width} at once: {rate}")
            yield threads, seconds

    def _costs(self, trial: Trial, threads: int, widths: Sequence[int]) -> Iterator[tuple[int, float]]:
        for width in widths:
            if self._hurried(8):
                return
            seconds = trial.seconds(threads, width)
            if seconds:
                yield width, seconds

    def _micro_batch(self, trial: Trial, threads: int, read_s: float) -> int | None:
        """Return the smallest micro-batch that reads a prompt as fast as any: it needs the least memory."""
        fast = [size for size in _MICRO_BATCHES if size <= self.plan.ubatch and read_s * size / _READ < 1.5]
        rates = {size: size / seconds for size, seconds in self._costs(trial, threads, fast)}
        return next((size for size, rate in rates.items() if rate >= _AS_GOOD * max(rates.values())), None)

    def _repacked(self, plain: Tuning) -> Tuning:
        """Try weights laid out anew for this processor; that may kill the process, or not be worth its memory."""
        if self._hurried(6):
            self.notes.append("repacked weights were not tried: there was no time.")
            return plain
        try:
            with Trial(self.paths, replace(self.plan, repack=True), self.until) as trial:
                costs = {1: trial.seconds(plain.threads, 1) or math.inf}
                costs[_READ] = trial.seconds(plain.threads_batch, _READ) or math.inf
                costs |= dict(self._costs(trial, plain.threads_batch, _WIDTHS))
        except Died as death:
            self.notes.append(f"repacked weights cannot be used here: {death}.")
            return plain
        both = [width for width in costs if plain.costs.get(width) and math.isfinite(costs[width])]
        if not {1, _READ} <= set(both):
            return plain
        gains = ", ".join(f"{plain.costs[width] / costs[width]:.2f} ({width})" for width in sorted(both))
        self.said(f"repacked weights, times the speed by tokens at once: {gains}")
        return replace(plain, repacked={width: costs[width] for width in both})

    def _hurried(self, share: int) -> bool:
        """Say whether less than so many parts of a measurement's time are left."""
        return time.monotonic() > self.until - share * 0.4


# What is remembered.


def key(header: Header) -> str:
    """What a measurement holds for: this shape of model, this build of llama.cpp, this processor."""
    shape = hashlib.sha256(repr([(one.name, one.shape, one.type) for one in header.tensors]).encode()).hexdigest()[:16]
    return "|".join((header.architecture, shape, _library(), _processor()))


def known(header: Header) -> Tuning | None:
    """Return what was measured for models of this shape."""
    return _tuning(_read().get(key(header)))


def every() -> dict[str, Tuning]:
    """Return all that was measured, by key."""
    found = {name: _tuning(data) for name, data in _read().items()}
    return {name: one for name, one in found.items() if one}


def remember(header: Header, tuning: Tuning) -> None:
    """Keep a measurement for the next load."""
    _write({**_read(), key(header): asdict(tuning)})


def forget(header: Header | None = None) -> int:
    """Forget what was measured for one shape, or everything; returns how many were forgotten."""
    seen = _read()
    left = {name: data for name, data in seen.items() if header is not None and name != key(header)}
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
    path = _path()
    with suppress(OSError):  # which OutputFailed is
        path.parent.mkdir(parents=True, exist_ok=True)
        outputs.write(path, json.dumps(seen).encode())
