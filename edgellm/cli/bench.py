"""`edgellm bench`: what the speed is here, beside the limit that it runs against; a table, a plot, or JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.forecasts import GB, GIB
from edgellm.speed import Reading

if TYPE_CHECKING:
    from edgellm.bench.measure import Figure
    from edgellm.gguf import Header
    from edgellm.hardware import Machine
    from edgellm.plan import Plan
    from edgellm.source import Source

_BAR = 40  # characters of the longest bar


@dataclass(frozen=True, slots=True)
class _Limits:
    """What no program can be faster than on this machine, with this model."""

    reading: Reading  # of a step
    ram_bytes_s: int
    gpu_bytes_s: int  # 0: no GPU, or unknown
    gpu_flops: float  # 0 unless everything is on GPUs
    parameters: int  # that a token goes through

    @property
    def decode(self) -> float:
        """Tokens a second of one answer, if a step did nothing but read the weights once; 0 where that is unknown."""
        return self.reading.most_per_s(self.ram_bytes_s, self.gpu_bytes_s) or 0.0

    @property
    def memory(self) -> str:
        """What is read, and how fast."""
        parts = [
            f"{name} at {speed / GB:,.0f} GB/s"
            for name, size, speed in (
                ("GPU", self.reading.gpu_bytes, self.gpu_bytes_s),
                ("RAM", self.reading.ram_bytes, self.ram_bytes_s),
            )
            if size
        ]
        return ", ".join(parts)

    def prefill(self, flops: float) -> tuple[float, str]:
        """Tokens a second if all arithmetic ran like a matrix product, two operations a parameter, and like which one.

        On the processor like numpy's in 32 bits; on a GPU like llama.cpp's own in 16 bits.
        """
        if self.gpu_flops:
            return self.gpu_flops / (2 * self.parameters), "GPU's 16-bit product"
        return flops / (2 * self.parameters), "32-bit matrix product"


@click.command()
@click.argument("model", required=False)
@click.option(
    "--synthetic", metavar="SHAPE", help="Measure a random-weight Q4_K_M file of a shape: 0.1b, 1.1b, 7b, ..."
)
@click.option("--widths", default="1,2,4,8,16,32", show_default=True, help="Answers at once to measure.")
@click.option("--context", type=click.IntRange(256), default=512, show_default=True, help="Tokens for each of them.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads.")
@click.option("--gpu-layers", default="auto", show_default=True, help="auto, all, or a number.")
@click.option("--keep", is_flag=True, help="Keep the synthetic file for the next time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(
    model: str | None,
    synthetic: str | None,
    widths: str,
    context: int,
    threads: int | None,
    gpu_layers: str,
    keep: bool,
    as_json: bool,
) -> None:
    """Measure prompts, answers at several widths, extraction and memory, each beside its limit.

    With --synthetic, the speed of a model of that shape, before it is downloaded: what it says is noise, how fast it says
    it is not.
    """
    from edgellm import gguf, hardware
    from edgellm.bench import measure
    from edgellm.cli.options import layers
    from edgellm.engines import devices
    from edgellm.plan import Wish, fit

    wanted = _widths(widths)
    found, written = _source(model, synthetic)
    try:
        paths = found.fetch()
        header = gguf.read(paths[0])
        seen = devices.ask()
        machine = hardware.detect(seen.devices, seen.offload)
        context = min(context, header.context_length or context)
        cells = max(context, max(wanted) * 256)
        wish = Wish(gpu_layers=layers(gpu_layers), context=context, slots=max(wanted), threads=threads, cells=cells)
        plan = fit(header, machine, wish)
        click.echo(f"Measuring {found.name} with {plan.threads} threads; half a minute or more.", err=True)
        limits = _limits(header, plan, machine)
        figures = []
        for figure in measure.run(paths, plan, widths=wanted):
            figures.append(figure)
            if figure.what == "decode":
                click.echo(f"  {figure.at} at once: {figure.value:,.1f} tokens/s", err=True)
    finally:
        if written and not keep:
            written.unlink(missing_ok=True)
    if as_json:
        _print_json(found, plan, limits, figures)
    else:
        _report(limits, figures)


def _widths(text: str) -> list[int]:
    from edgellm.errors import UsageError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= 128 for part in parts):
        raise UsageError(f"--widths is a list of numbers between 1 and 128, such as 1,4,16, not {text!r}.")
    return sorted({int(part) for part in parts})


def _source(model: str | None, synthetic: str | None) -> tuple[Source, Any]:
    """The model to measure, and the synthetic file that was written for it."""
    import shutil

    from edgellm.bench import measure
    from edgellm.bench import synthetic as files
    from edgellm.cli.options import announce
    from edgellm.errors import DoesNotFit, UsageError
    from edgellm.source import default, find

    if model and synthetic:
        raise UsageError("give a model or --synthetic SHAPE, not both.")
    if synthetic is None:
        return announce(model or default()[0], offline=False), None
    shape, path = files.shape(synthetic), measure.default_file(synthetic)
    size = files.file_bytes(shape)
    if path.exists() and path.stat().st_size == size:
        return find(str(path)), path
    room = shutil.disk_usage(path.parent).free
    if size > room - GIB:
        raise DoesNotFit(
            f"a file of {size / GB:.1f} GB is needed in {path.parent}, and {room / GB:.1f} GB are free there.",
            size,
            room,
        )
    click.echo(f"Writing {size / GB:.1f} GB of random weights to {path}.", err=True)
    return find(str(files.write(path, shape))), path


def _limits(header: Header, plan: Plan, machine: Machine) -> _Limits:
    from edgellm.cli import forecasts
    from edgellm.engines import rates

    found = forecasts.speed(header, plan, machine)
    used = [one.device for one in plan.devices if one.used_bytes]
    products = [rates.ask(name) for name in used] if plan.whole(header.layers) else []
    flops = min((one.flops for one in products if one), default=0.0)
    share = header.experts_used / header.experts if header.experts else 1.0
    body = sum(tensor.elements * (share if "_exps" in tensor.name else 1.0) for tensor in header.tensors)
    return _Limits(found.reading, found.ram_bytes_s, found.gpu_bytes_s, flops, int(body))


def _report(limits: _Limits, figures: list[Figure]) -> None:
    from edgellm.cli.models import table

    known = {(figure.what, figure.at): figure.value for figure in figures}
    first = {figure.what: figure for figure in figures}
    flops = first["matrix"].value
    rows = [
        _row(
            f"read a prompt of {first['prefill'].at}",
            first["prefill"].value,
            *limits.prefill(flops),
        )
    ]
    for figure in figures:
        if figure.what == "decode":
            bound = known["bare decode", figure.at]
            rows.append(_row(f"answer, {figure.at} at once", figure.value, bound, "bare llama_decode"))
    alone = next(figure for figure in figures if figure.what == "decode")
    if limits.decode:
        rows.append(_row("of one answer", alone.value / alone.at, limits.decode, limits.memory))
    table(("", "tokens/s", "limit", "reached", "the limit is"), rows)
    _plot([figure for figure in figures if figure.what == "decode"])
    computed, documents = first["extraction computed"].value, first["extraction"]
    prefix = first["extraction prefix"].value
    click.echo(f"\nExtraction with a schema, answers replayed: {documents.value:.2f} documents/s;")
    click.echo(f"{computed / documents.at:.0f} tokens computed for each, an instruction of {prefix:.0f} shared by all.")
    click.echo(f"First token of a prompt of 128 tokens: {first['first token'].value:.2f} s.")
    click.echo(f"Opened in {first['open'].value:.2f} s. Most memory: {first['memory'].value / GIB:.2f} GiB.")


def _row(what: str, value: float, limit: float, why: str) -> tuple[str, ...]:
    share = f"{value / limit:.0%}" if limit else "-"
    return what, f"{value:,.1f}", f"{limit:,.1f}", share, why


def _plot(decodes: list[Figure]) -> None:
    """Draw tokens a second over answers at once."""
    most = max(figure.value for figure in decodes)
    click.echo("")
    for figure in decodes:
        click.echo(
            f"{figure.at:>4} at once {'█' * max(1, round(_BAR * figure.value / most))} {figure.value:,.0f} tokens/s"
        )


def _print_json(found: Source, plan: Plan, limits: _Limits, figures: list[Figure]) -> None:
    answer = {
        "model": found.name,
        "threads": plan.threads,
        "gpu_layers": plan.gpu_layers,
        "ram_bytes_s": limits.ram_bytes_s,
        "ram_bytes_per_token": limits.reading.ram_bytes,
        "gpu_bytes_s": limits.gpu_bytes_s,
        "gpu_bytes_per_token": limits.reading.gpu_bytes,
        "gpu_flops": limits.gpu_flops,
        "figures": [asdict(figure) for figure in figures],
    }
    click.echo(json.dumps(answer, ensure_ascii=False, indent=2))
