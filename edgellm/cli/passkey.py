"""`edgellm eval passkey`: does a model find a number that is hidden in a long text, and where does it lose it."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm import outputs
from edgellm.cli.options import model_options, opened
from edgellm.errors import EngineMissing, UsageError

if TYPE_CHECKING:
    from edgellm.evaluation.passkey import Cell
    from edgellm.model import Model

_COLOURS = ((0.999, "green"), (0.5, "yellow"), (0.0, "red"))  # from so large a share on


def lengths(text: str) -> list[int]:
    """Read contexts: `512,1k,32k`, where k is 1024 tokens. Raises UsageError."""
    found = [re.fullmatch(r"(\d{1,7})([kK]?)", one.strip()) for one in text.split(",")]
    sizes = [int(one[1]) * (1024 if one[2] else 1) for one in found if one]
    if len(sizes) < len(found) or not all(sizes):
        raise UsageError(f"--context is a list of lengths such as 1k,2k,4k, not {text!r}.")
    return sorted(set(sizes))


@click.command()
@click.option("--context", "contexts", default="1k,2k", show_default=True, help="Lengths in tokens; k is 1024.")
@click.option("--depths", type=click.IntRange(2, 50), default=5, show_default=True, help="Positions of the number.")
@click.option("--trials", type=click.IntRange(1, 100), default=1, show_default=True, help="Numbers at each position.")
@click.option("--raw", is_flag=True, help="Let the model continue the text, without a chat format: for base models.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the numbers.")
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Draw the heat map into this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every answer.")
@functools.partial(model_options, context=False)
def passkey(
    contexts: str,
    depths: int,
    trials: int,
    raw: bool,
    seed: int,
    png: Path | None,
    as_json: bool,
    **load: Any,
) -> None:
    """Hide a number in a long text, and ask for it: position x length.

    The text is as long as each context allows. Shows which share of the numbers came back.
    """
    from edgellm.evaluation import passkey as test

    sizes = lengths(contexts)
    if png:
        outputs.check(png)
        if not importlib.util.find_spec("matplotlib"):
            raise EngineMissing("drawing needs matplotlib: pip install 'edgellm[plot]'.")
    with opened(**load, context=sizes[-1]) as model:
        tasks = list(test.trials(sizes, depths, trials, seed=seed, raw=raw))
        cells = _watched(model, tasks)
        name = model.name
    shares = test.grid(cells)
    if as_json:
        rows = [
            {"context": one.context, "depth": one.depth, "prompt_tokens": one.prompt_tokens, "key": one.key}
            | {"answer": one.answer, "found": one.found}
            for one in cells
        ]
        click.echo(json.dumps({"model": name, "found": _share(cells), "cells": rows}, ensure_ascii=False))
    else:
        _heat(name, shares, _share(cells))
    if png:
        outputs.write(png, test.png(name, shares))
        click.echo(f"Drawn: {png}", err=True)


def _watched(model: Model, tasks: Sequence[Any]) -> list[Cell]:
    """Ask, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    cells: dict[int, Cell] = {}
    with Progress(console=Console(stderr=True), transient=True, disable=not Console(stderr=True).is_terminal) as bar:
        task = bar.add_task("passkey", total=len(tasks))
        with model.drive(tasks) as drive:
            for outcome in drive:
                cells[outcome.index] = outcome.value
                bar.update(task, completed=len(cells))
    return [cells[index] for index in range(len(tasks))]


def _share(cells: Sequence[Cell]) -> float:
    return round(sum(cell.found for cell in cells) / len(cells), 4)


def _heat(name: str, shares: dict[float, dict[int, float]], found: float) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from edgellm.text import plain

    contexts = sorted({context for row in shares.values() for context in row})
    table = Table("position", *(f"{context:,}" for context in contexts), title=plain(name), title_justify="left")
    for depth, row in shares.items():
        cells = [
            Text(f"{row[context]:.0%}".rjust(5), style=f"black on {_colour(row[context])}") for context in contexts
        ]
        table.add_row(f"{depth:.0%}", *cells)
    Console().print(table)
    click.echo(f"{found:.0%} of the numbers were found.")


def _colour(share: float) -> str:
    return next(colour for least, colour in _COLOURS if share >= least)
