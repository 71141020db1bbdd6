"""What `edgellm plan` says about speed, and its table of quantizations and contexts; the numbers are made below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgellm import bandwidth, forecast
from edgellm.engines import rates
from edgellm.errors import EdgeError
from edgellm.speed import Reading, reading

if TYPE_CHECKING:
    from edgellm.gguf import Header
    from edgellm.hardware import Machine
    from edgellm.plan import Plan, Wish
    from edgellm.source import Source

GB, GIB = 1_000_000_000, 1 << 30
_ROWS = 8


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast one answer is expected to be, and from which bandwidths."""

    reading: Reading
    ram_bytes_s: int
    gpu_bytes_s: int  # 0: unknown

    def rate(self, reads: Reading) -> tuple[float | None, bool]:
        """Tokens a second, and whether that is only a bound because the GPU's part could not be counted."""
        if rate := reads.tokens_per_s(self.ram_bytes_s, self.gpu_bytes_s):
            return rate, False
        return Reading(reads.ram_bytes, 0).tokens_per_s(self.ram_bytes_s), True

    @property
    def sentence(self) -> str:
        """The expectation, with its reasons."""
        reads, (rate, bound) = self.reading, self.rate(self.reading)
        parts = []
        if reads.gpu_bytes:
            known = f" at {self.gpu_bytes_s / GB:.0f} GB/s" if self.gpu_bytes_s else " (its speed is not known)"
            parts.append(f"{reads.gpu_bytes / GIB:.2f} GiB from the GPU's memory{known}")
        if reads.ram_bytes:
            parts.append(f"{reads.ram_bytes / GIB:.2f} GiB from RAM at {self.ram_bytes_s / GB:.0f} GB/s, measured here")
        reason = f"every token reads {' and '.join(parts)}"
        if rate is None:
            return f"No speed is expected of this plan: {reason}."
        return f"Expect {'at most' if bound else 'about'} {_rate(rate)} tokens a second from one answer: {reason}."

    def as_dict(self) -> dict[str, Any]:
        """What `--json` says."""
        rate, bound = self.rate(self.reading)
        return {
            "tokens_per_s": rate,
            "upper_bound": bound,
            "ram_bytes_per_token": self.reading.ram_bytes,
            "gpu_bytes_per_token": self.reading.gpu_bytes,
            "ram_bytes_s": self.ram_bytes_s,
            "gpu_bytes_s": self.gpu_bytes_s,
        }


def speed(header: Header, plan: Plan, machine: Machine, *, imagined: bool = False) -> Speed:
    """Measure this machine's RAM (a fifth of a second), and count what a token reads. The slowest GPU in use counts.

    A GPU whose vendor does not tell its speed is measured, too, unless it is only `imagined`.
    """
    names = {one.device for one in plan.devices if one.used_bytes}
    speeds = [
        one.bandwidth_bytes_s or (0 if imagined else _measured(one.name))
        for one in machine.devices
        if one.name in names
    ]
    ram_bytes_s = bandwidth.read_bytes_s(plan.threads)
    return Speed(reading(header, plan), ram_bytes_s, min(speeds, default=0))


def _measured(device: str) -> int:
    found = rates.ask(device)
    return int(found.bytes_s) if found else 0


def comparison(
    source: Source, header: Header, machine: Machine, wish: Wish, *, offline: bool, speed: Speed | None = None
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The table of quantization x context: layers on the GPU and tokens a second, a dash where it does not fit."""
    found = list(forecast.choices(header, machine, wish, _sizes(source, header, offline=offline)))
    contexts = sorted({one.context for one in found})
    with_gpu = bool(machine.devices and machine.offload)
    head = ("quantization", "size", *(f"{size:,} tokens" for size in contexts))
    rows: dict[str, list[str]] = {}
    for one in found:
        row = rows.setdefault(one.quantization, [one.quantization, f"{one.file_bytes / GB:.1f} GB"])
        row.append(_cell(one, speed, with_gpu, header.layers + 1))
    return head, [tuple(row) for row in rows.values()]


def _cell(one: forecast.Choice, speed: Speed | None, with_gpu: bool, layers: int) -> str:
    if one.plan is None or one.reading is None:
        return "-"
    rate, bound = speed.rate(one.reading) if speed else (None, False)
    said = "" if rate is None else f"{'<' if bound else ''}{_rate(rate)} tok/s"
    where = f"{one.plan.gpu_layers}/{layers} on GPU" if with_gpu else ""
    return ", ".join(filter(None, (where, said))) or "fits"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _sizes(source: Source, header: Header, *, offline: bool) -> dict[str, int]:
    """The quantizations to compare: those of the repository where it can be asked, always the model's own."""
    from edgellm import hub

    own = {header.quantization or "this file": header.file_bytes}
    if not source.repo or offline:
        return own
    try:
        listed = hub.quantizations(source.repo, source.revision)
    except EdgeError:
        return own
    near = sorted(listed.items(), key=lambda pair: abs(pair[1] - header.file_bytes))[:_ROWS]
    return dict(sorted({**dict(near), **own}.items(), key=lambda pair: pair[1]))
