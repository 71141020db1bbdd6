"""`edgellm adapter convert|show`: a LoRA from PEFT's folder to a GGUF file, and what such a file changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgellm.adapter import Adapter


@click.group()
def adapter() -> None:
    """LoRA adapters: convert what PEFT trained, and show what one changes."""


@adapter.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--base", required=True, help="The model it was trained for: a .gguf, catalogue name or user/repo[:QUANT]."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .gguf to write.")
@click.option("--overwrite", is_flag=True, help="Replace OUT where it is there already.")
@click.option("--offline", is_flag=True, help="Use no network at all.")
def convert(folder: Path, base: str, out: Path, overwrite: bool, offline: bool) -> None:
    """Write the LoRA that PEFT saved in FOLDER as a GGUF adapter for a base model.

    Of the base only the header is read: nothing is merged, and nothing is quantized again. Needs the extra `adapter`, but
    no torch.
    """
    from edgellm.adapter import convert as converted
    from edgellm.source import find

    header = find(base, offline=offline).header(offline=offline)
    _print(converted(folder, header, out, overwrite=overwrite))
    click.echo(f"Run it: edgellm run PROMPT -m {base} --adapter {out}", err=True)


@adapter.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(file: Path, as_json: bool) -> None:
    """Say what an adapter FILE changes: rank, alpha, targets, base, bytes."""
    from edgellm.adapter import read

    _print(read(file), as_json=as_json)


def _print(found: Adapter, *, as_json: bool = False) -> None:
    from edgellm.text import plain

    facts = {
        "path": found.path,
        "architecture": found.architecture,
        "base": found.base,
        "ranks": list(found.ranks),
        "alpha": found.alpha,
        "targets": dict(found.targets),
        "bytes": found.tensor_bytes,
    }
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    rows = {
        "base": f"{found.base or 'not said'} ({found.architecture})",
        "rank": ", ".join(map(str, found.ranks)),
        "alpha": f"{found.alpha:g}",
        "targets": ", ".join(f"{kind} x{count}" for kind, count in found.targets.items()),
        "bytes": f"{found.tensor_bytes:,}",
    }
    click.echo(plain(found.path))
    for label, value in rows.items():
        click.echo(f"  {label:<8} {plain(value)}")
