"""The verbs about models and the machine: models, show, pull, verify, rm, plan, doctor."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.errors import DoesNotFit, TemplateError, UsageError

if TYPE_CHECKING:
    from edgellm.catalog import Entry
    from edgellm.gguf import Header
    from edgellm.hardware import Machine
    from edgellm.plan import Plan
    from edgellm.source import Source

GIB = 1 << 30
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]?)(?P<binary>i?)B?", re.IGNORECASE)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_offline_option = click.option("--offline", is_flag=True, help="Use no network at all.")


@click.command()
@_json_option
def models(as_json: bool) -> None:
    """List the catalogue: what is installed, what fits this machine, and the best choice for it."""
    from edgellm import catalog
    from edgellm.source import advice, fitting

    fits = {entry.name for entry in fitting()}
    rows = [(entry, _state(entry, fits)) for entry in catalog.entries()]
    if as_json:
        _print_json([{**dataclasses.asdict(entry), "state": state} for entry, state in rows])
        return
    table(
        ("model", "size", "here", "licence", "good at"),
        [
            (
                entry.name,
                f"{entry.bytes / 1e9:.1f} GB" if entry.bytes else "?" if entry.repo else "built in",
                state,
                entry.license + ("" if entry.commercial else " *"),
                ", ".join(entry.good_at),
            )
            for entry, state in rows
        ],
    )
    click.echo(f"\n* not for commercial use. {advice()} Any GGUF on the hub works too: -m user/repo[:QUANT].", err=True)


@click.command()
@click.argument("model")
@_json_option
@_offline_option
def show(model: str, as_json: bool, offline: bool) -> None:
    """Show what a model is: header, sizes, template, licence. Nothing is downloaded but the header."""
    from edgellm import source

    found = source.find(model, offline=offline)
    header = found.header(offline=offline)
    facts = _facts(found, header)
    if as_json:
        _print_json(facts)
        return
    table(
        ("", found.name),
        [(key.replace("_", " "), _plain(value)) for key, value in facts.items() if value not in (None, "")],
    )


@click.command()
@click.argument("model")
def pull(model: str) -> None:
    """Download a model into the Hugging Face cache: verified, and resumed where it stopped."""
    from edgellm.cli.options import announce
    from edgellm.cli.progress import bar

    found = announce(model, offline=False)
    found.header()
    with bar() as progress:
        paths = found.fetch(progress=progress)
    for path in paths:
        click.echo(path)


@click.command()
@click.argument("model")
def verify(model: str) -> None:
    """Hash an installed model again, against what the catalogue or the hub promised."""
    from edgellm import hub, source

    found = source.find(model, offline=True)
    for path, file in zip(_installed(found), found.files, strict=False):
        digest = hub.verify(Path(path), sha256=file.sha256)
        click.echo(f"ok  {digest}  {path}")


@click.command()
@click.argument("model")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rm(model: str, yes: bool) -> None:
    """Delete an installed model from the cache."""
    from edgellm import hub, source

    found = source.find(model, offline=True)
    if not found.repo:
        raise UsageError(f"{found.name} is the file {found.path}, not in the cache: delete it yourself.")
    _installed(found)
    if not yes and not click.confirm(f"Delete {found.name} ({found.repo}) from the cache?", err=True):
        raise click.Abort
    click.echo(f"{hub.remove(found.repo, found.revision) / 1e9:.2f} GB freed.", err=True)


@click.command()
@click.argument("model")
@click.option("--vram", multiple=True, help="Plan for a GPU of this size instead, such as 8GiB; repeatable.")
@click.option("--ram", help="Plan for this much free RAM instead.")
@click.option("--context", type=click.IntRange(1), help="Tokens one conversation may hold.")
@click.option("--slots", type=click.IntRange(1), default=1, show_default=True, help="Prompts answered at once.")
@click.option("--gpu-layers", default="auto", show_default=True, help="auto, all, or a number.")
@click.option("--adapter", metavar="FILE[:SCALE]", help="A LoRA that is to run beside it.")
@_json_option
@_offline_option
def plan(
    model: str,
    vram: tuple[str, ...],
    ram: str | None,
    context: int | None,
    slots: int,
    gpu_layers: str,
    adapter: str | None,
    as_json: bool,
    offline: bool,
) -> None:
    """Say what would go where, and why, before anything is downloaded.

    Without options it also compares the model's quantizations at usual contexts on this machine.
    """
    from edgellm import forecast, source
    from edgellm.adapter import choose
    from edgellm.cli import forecasts
    from edgellm.cli.options import layers
    from edgellm.plan import Wish

    found = source.find(model, offline=offline)
    wish = Wish(context=context, slots=slots, gpu_layers=layers(gpu_layers))
    header = found.header(offline=offline)
    machine = _machine(vram, ram)
    compares = not (vram or ram or context or as_json) and (slots, gpu_layers) == (1, "auto")
    try:
        decided = forecast.plan(found, header, machine, wish, imagined=bool(vram), adapters=choose(adapter, header))
    except DoesNotFit:
        if compares:  # what would fit instead is the cure
            table(*forecasts.comparison(found, header, machine, wish, offline=offline))
        raise
    speed = forecasts.speed(header, decided, machine, imagined=bool(vram))
    if as_json:
        _print_json({"model": found.name, **dataclasses.asdict(decided), "expected": speed.as_dict()})
        return
    click.secho(f"{found.name}: {_title(header)}", bold=True)
    for reason in (*decided.reasons, speed.sentence):
        click.echo(f"- {reason}")
    _show_bytes(decided)
    if compares:
        click.echo("")
        table(*forecasts.comparison(found, header, machine, wish, offline=offline, speed=speed))


@click.command()
@_json_option
def doctor(as_json: bool) -> None:
    """Say what this machine has, what the installed build can use, and the cure where they differ."""
    from importlib import metadata

    from edgellm import hardware
    from edgellm.engines import devices

    seen = devices.ask()
    machine = hardware.detect(seen.devices, seen.offload)
    said = [*hardware.findings(machine), *([seen.note] if seen.note else [])]
    try:
        said.append(f"Engine: llama-cpp-python {metadata.version('llama-cpp-python')}.")
    except metadata.PackageNotFoundError:
        said.append("Engine: llama-cpp-python is not installed. Install it: pip install llama-cpp-python.")
    if as_json:
        _print_json({"machine": dataclasses.asdict(machine), "findings": said})
        return
    for sentence in said:
        click.echo(f"- {sentence}")


def size_bytes(text: str) -> int:
    """Read a size such as 8GiB, 8GB, 512MiB or 8G (binary, as GPUs are sold); raises UsageError."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise UsageError(f"cannot read the size {text!r}: write it as 8GiB or 512MiB.")
    decimal = not found["binary"] and text.strip().upper().endswith("B")
    power = " KMGT".index(found["unit"].upper() or " ")
    return int(float(found["number"]) * (1000 if decimal else 1024) ** power)


def _machine(vram: tuple[str, ...], ram: str | None) -> Machine:
    """This machine, or one that the user describes."""
    from edgellm import hardware, margins
    from edgellm.engines import devices
    from edgellm.machine import Answer

    seen = Answer((), None, "") if vram else devices.ask()
    return hardware.pretend(
        margins.known(hardware.detect(seen.devices, seen.offload)),
        vram_bytes=[size_bytes(size) for size in vram] if vram else None,
        ram_bytes=size_bytes(ram) if ram else None,
    )


def _installed(found: Source) -> tuple[str, ...]:
    if found.here is None:
        raise UsageError(f"{found.name} is not installed: edgellm pull {found.name}.")
    return found.here


def _state(entry: Entry, fits: set[str]) -> str:
    from edgellm import hub

    if entry.path is not None or hub.cached(entry.repo, entry.revision, entry.files) is not None:
        return "installed"
    if entry.bytes is None:
        return "unknown"
    return "fits" if entry.name in fits else "too large"


def _title(header: Header) -> str:
    return f"{header.parameters / 1e9:.2f} billion parameters, {header.quantization}, {header.layers} layers"


def _facts(found: Source, header: Header) -> dict[str, Any]:
    entry = found.entry
    return {
        "name": header.name,
        "architecture": header.architecture,
        "parameters": header.parameters,
        "quantization": header.quantization,
        "file_bytes": header.file_bytes,
        "layers": header.layers,
        "embedding": header.embedding,
        "heads": max(header.heads, default=0),
        "kv_heads": max(header.kv_heads, default=0),
        "experts": header.experts or None,
        "sliding_window": header.sliding_window,
        "context_length": header.context_length,
        "vocabulary": header.vocab_size,
        **_template(header, entry.template if entry else None),
        "license": entry.license if entry else header.metadata.get("general.license"),
        "license_url": entry.license_url if entry else None,
        "repository": f"{found.repo}@{found.revision}" if found.repo else None,
        "path": found.here[0] if found.here else None,
        "notes": entry.notes if entry else None,
    }


def _template(header: Header, hint: str | None) -> dict[str, str | None]:
    """Which chat template a model would be asked with, or what is wrong with it."""
    from edgellm import template

    try:
        found = template.for_model(header.metadata, hint)
    except TemplateError as error:
        return {"chat_template": str(error), "template_sha256": None}
    return {"chat_template": found.origin, "template_sha256": found.sha256}


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _show_bytes(plan: Plan) -> None:
    rows = [
        (
            device.device,
            _gib(device.weights_bytes),
            _gib(device.kv_bytes),
            _gib(device.compute_bytes),
            _gib(device.margin_bytes),
            _gib(device.free_bytes),
        )
        for device in plan.devices
    ]
    if rows:
        click.echo("")
        table(("GPU", "weights", "KV cache", "work space", "kept free", "free now"), rows)


def _gib(count: int) -> str:
    return f"{count / GIB:.2f} GiB"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table that fits the terminal; names from files and the hub are shown as plain text."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from edgellm.text import plain

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in head:
        table.add_column(title, overflow="fold", no_wrap=title != head[-1])
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    Console().print(table)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))
