"""Measuring what runs a model fastest here: in child processes, and in 20 seconds at most."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgellm.decision import Plan
from edgellm.engines.trial import Died, Trial
from edgellm.errors import EngineFailed
from edgellm.tune import READ, Said, Tuning

if TYPE_CHECKING:
    from edgellm.gguf import Header
    from edgellm.machine import Machine

LONGEST_S = 20.0
_WIDTHS = (2, 4, 8, 16)
_MICRO_BATCHES = (128, 256, 512)
_AS_GOOD = 0.97


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
            batch, read_s = self._fastest(trial, READ, self._threads())
            costs = {1: answer_s, READ: read_s}
            costs |= dict(self._costs(trial, batch, _WIDTHS))
            ubatch = self._micro_batch(trial, batch, read_s)
        plain = Tuning(threads=threads, threads_batch=batch, ubatch=ubatch, costs=costs)
        found = plain if self.plan.on_gpu else self._repacked(plain)
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
        fast = [size for size in _MICRO_BATCHES if size <= self.plan.ubatch and read_s * size / READ < 1.5]
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
                costs[READ] = trial.seconds(plain.threads_batch, READ) or math.inf
                costs |= dict(self._costs(trial, plain.threads_batch, _WIDTHS))
        except Died as death:
            self.notes.append(f"repacked weights cannot be used here: {death}.")
            return plain
        both = [width for width in costs if plain.costs.get(width) and math.isfinite(costs[width])]
        if not {1, READ} <= set(both):
            return plain
        gains = ", ".join(f"{plain.costs[width] / costs[width]:.2f} ({width})" for width in sorted(both))
        self.said(f"repacked weights, times the speed by tokens at once: {gains}")
        return replace(plain, repacked={width: costs[width] for width in both})

    def _hurried(self, share: int) -> bool:
        """Say whether less than so many parts of a measurement's time are left."""
        return time.monotonic() > self.until - share * 0.4
