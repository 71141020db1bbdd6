"""`edgellm finetune check|train`: is this data fit to learn from, and an adapter from it. Drawing and words; no decisions."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgellm.finetune.settings import Settings
from edgellm.text import plain

if TYPE_CHECKING:
    from edgellm.finetune.report import Report
    from edgellm.finetune.train import Step

F = TypeVar("F", bound=Callable[..., Any])
_TYPES: dict[str, Any] = {"int": int, "float": float, "int | None": int}
_MANY = 2000  # rows that take more than a moment to lay out
_LISTED = 10  # lines of a list, before "and so many more"
_SAMPLE_CHARS = 700
# Without a terminal, a line of progress now and then is enough for a log.
_LOG_S = 30.0


@click.group()
def finetune() -> None:
    """Make a model yours: check data, train an adapter. The base stays as it is; the adapter runs beside it."""


_data_options = (
    click.argument("data", type=click.Path(path_type=Path)),
    click.option("--template", type=click.Path(path_type=Path), help="template.json with prompt and completion."),
    click.option("--validation", type=click.Path(path_type=Path), help="A file of rows that are only measured on."),
)


def _with_data(command: F) -> F:
    for option in reversed(_data_options):
        command = option(command)
    return command


@finetune.command()
@_with_data
@click.option("--base", help="Count tokens as this model does: its name, a .gguf, or a Hugging Face folder.")
@click.option("--max-length", type=click.IntRange(8), default=2048, show_default=True, help="Longer rows would be cut.")
@click.option(
    "--layout", type=click.Choice(["auto", "chat", "raw"]), default="auto", show_default=True, help="Of samples."
)
@click.option("--samples", type=click.IntRange(0), default=3, show_default=True, help="How many rows to show.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--offline", is_flag=True, help="Use no network at all.")
def check(
    data: Path,
    template: Path | None,
    validation: Path | None,
    base: str | None,
    max_length: int,
    layout: Any,
    samples: int,
    as_json: bool,
    offline: bool,
) -> int:
    """Look at DATA, a file or a folder with train.jsonl, before anything is trained. Needs no torch.

    Rows are {instruction, context, response} through a template, {prompt, completion}, {messages} or {text}; a table's
    column `text`, or its first one; plain text by its paragraphs. Exit code 1 when a row cannot be learned from.
    """
    from edgellm.cli.progress import bar
    from edgellm.finetune import base as bases
    from edgellm.finetune import data as reading
    from edgellm.finetune.layout import Layout
    from edgellm.finetune.report import check as looked

    read = reading.read(data, template=template, validation=validation)
    laid = Layout()
    if base is None:
        report = looked(read, max_length=max_length)
    else:
        with bar() as progress:
            found = bases.find(base, offline=offline).here(progress=progress, offline=offline, weights=False)
        laid = found.layout(layout)
        with found.count(laid) as count:
            report = looked(read, count, max_length=max_length)
    if as_json:
        click.echo(json.dumps(_facts(report), ensure_ascii=False))
    else:
        _show(report, base)
        faulty = {(fault.file, fault.line) for fault in report.faults}
        sound = [example for example in read.train if (example.file, example.line) not in faulty]
        for example in sound[:: max(1, len(sound) // max(1, samples))][:samples]:
            _sample(example, laid)
        _verdict(report)
    return 1 if report.faults else 0


def _show(report: Report, base: str | None) -> None:
    data = report.data
    click.secho(f"{data.files[0].name}: {len(data.train):,} rows to learn from ({data.kind}).", bold=True)
    if data.validation:
        click.echo(f"{data.validation[0].file}: {len(data.validation):,} rows for validation.")
    if data.form:
        click.echo(f"Template: {data.files[-1].name}, with {', '.join(data.form.fields)}.")
    for note in data.notes:
        click.echo(plain(note))
    _lengths(report, base)
    _list("Cannot be learned from", [str(fault) for fault in report.faults], "red")
    _list("Duplicates", [f"{pair} are the same." for pair in report.duplicates], "yellow")
    _list(
        "Contradictions", [f"{pair} ask the same and answer differently." for pair in report.contradictions], "yellow"
    )
    _list("Leaks", [f"{pair} ask the same: the validation would flatter." for pair in report.leaks], "yellow")


def _lengths(report: Report, base: str | None) -> None:
    from edgellm.finetune.report import histogram

    if not report.lengths:
        characters = sum(len(example.whole) for example in report.data.train)
        click.echo(f"{characters:,} characters. --base MODEL counts them in that model's tokens.")
        return
    totals = sorted(length.total for length in report.lengths)
    click.echo(
        f"{report.tokens:,} tokens of {base}, {report.learned:,} of them count for the loss; shortest {totals[0]:,}, "
        f"median {totals[len(totals) // 2]:,}, longest {totals[-1]:,}."
    )
    bars = histogram(totals)
    wide, most = len(f"{totals[-1]:,}"), max(count for _, _, count in bars)
    for low, high, count in bars:
        drawn = "█" * round(40 * count / most) or ("▏" if count else "")
        click.echo(f"  {low:>{wide},} to {high:>{wide},}  {drawn} {count:,}")
    cut = [
        f"{example.file}, line {example.line:,}: {length.total:,} tokens, the last {length.total - report.max_length:,} are lost."
        for example, length in report.cut
    ]
    _list(f"Longer than {report.max_length:,} tokens, and cut there", cut, "yellow")
    if report.data.kind == "text":
        click.echo(
            f"Packed, that makes {-(-report.tokens // report.max_length):,} blocks of up to {report.max_length:,}."
        )


def _list(title: str, lines: list[str], color: str) -> None:
    if not lines:
        return
    click.secho(f"{title}: {len(lines):,}", fg=color)
    for line in lines[:_LISTED]:
        click.echo(f"  {plain(line)}")
    if len(lines) > _LISTED:
        click.echo(f"  ... and {len(lines) - _LISTED:,} more.")


def _sample(example: Any, layout: Any) -> None:
    click.secho(f"\n{example.file}, line {example.line:,}; what counts for the loss stands between ▶ and ◀", dim=True)
    said = ""
    for piece in layout.shown(example):
        text = plain(piece.text)
        text = (
            text if len(text) <= _SAMPLE_CHARS else f"{text[:_SAMPLE_CHARS]} [... {len(text) - _SAMPLE_CHARS:,} more]"
        )
        said += click.style(f"▶{text}◀", fg="green") if piece.counts else text
    click.echo(said)


def _verdict(report: Report) -> None:
    if report.faults:
        click.secho(f"\nNot ready: {len(report.faults):,} rows cannot be learned from.", fg="red", err=True)
    else:
        click.echo(f"\nReady: {len(report.data.train):,} rows.")


def _facts(report: Report) -> dict[str, Any]:
    data = report.data
    return {
        "kind": data.kind,
        "train": len(data.train),
        "validation": len(data.validation),
        "sha256": data.sha256,
        "notes": list(data.notes),
        "faults": [dataclasses.asdict(fault) for fault in report.faults],
        "duplicates": [str(pair) for pair in report.duplicates],
        "contradictions": [str(pair) for pair in report.contradictions],
        "leaks": [str(pair) for pair in report.leaks],
        "tokens": report.tokens if report.lengths else None,
        "learned": report.learned if report.lengths else None,
        "lengths": [length.total for length in report.lengths],
        "cut": [{"file": example.file, "line": example.line, "tokens": length.total} for example, length in report.cut],
    }


def _settings_options(command: F) -> F:
    """Add one flag per setting; the command gets them as one `settings` argument."""
    import functools

    names = [one.name for one in dataclasses.fields(Settings)]

    @functools.wraps(command)
    def gathered(*args: Any, **given: Any) -> Any:
        chosen = {name: given.pop(name) for name in names}
        targets = tuple(name.strip() for name in chosen["targets"].split(","))
        return command(*args, settings=Settings(**{**chosen, "targets": targets}), **given)

    for one in reversed(dataclasses.fields(Settings)):
        gathered = _flag(one)(gathered)
    return gathered  # type: ignore[return-value]  # wraps keeps the signature that click reads


def _flag(one: dataclasses.Field[Any]) -> Callable[[Any], Any]:
    import typing

    name, told = "--" + one.name.replace("_", "-"), one.metadata["help"].capitalize() + "."
    if one.type == "bool":
        return click.option(name, one.name, is_flag=True, help=told)
    if one.name == "targets":
        return click.option(name, one.name, default=",".join(Settings().targets), show_default=True, help=told)
    kind = _TYPES.get(str(one.type)) or click.Choice(typing.get_args(typing.get_type_hints(Settings)[one.name]))
    return click.option(name, one.name, type=kind, default=one.default, show_default=one.default is not None, help=told)


@finetune.command()
@click.argument("base")
@_with_data
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the adapter and its card.")
@click.option("--fresh", is_flag=True, help="Start again, whatever OUT holds of an earlier run.")
@click.option("--offline", is_flag=True, help="Use no network at all.")
@_settings_options
def train(
    base: str,
    data: Path,
    template: Path | None,
    validation: Path | None,
    out: Path,
    fresh: bool,
    offline: bool,
    settings: Settings,
) -> None:
    """Train an adapter for BASE on DATA. The same command again goes on where it was stopped.

    BASE is a Hugging Face folder, user/repo[@revision] on the hub, or a GGUF model of which transformers can read the
    weights, such as `demo`. DATA is what `finetune check` takes. Of instructions and conversations only the answers
    count for the loss; texts count as a whole, in blocks of --max-length.
    """
    from edgellm.cli.progress import bar
    from edgellm.finetune import base as bases
    from edgellm.finetune import data as reading
    from edgellm.finetune import tune

    read = reading.read(data, template=template, validation=validation)
    read.check()
    bases.need()
    with bar() as progress:
        found = bases.find(base, offline=offline).here(progress=progress, offline=offline)
    if len(read.train) > _MANY:
        click.echo(f"Laying out {len(read.train):,} rows.", err=True)
    ready = tune.prepare(found, read, settings)
    for note in read.notes:
        click.echo(plain(note), err=True)
    held = f"{len(ready.validation.samples):,} for validation" if ready.validation.samples else "none for validation"
    click.echo(
        f"{len(ready.train.samples):,} samples to learn from ({ready.train.tokens:,} tokens), {held}; {ready.steps:,} steps.",
        err=True,
    )
    if read.kind != "text":
        click.echo(
            f"Laid out {'by the chat template of the base' if ready.chat else 'as written, without a chat'}.", err=True
        )
    if ready.train.cut:
        click.echo(
            f"{ready.train.cut:,} samples are longer than {settings.max_length:,} tokens: their end is cut.", err=True
        )
    try:
        with _shown(ready.steps) as tell:
            card = tune.perform(ready, out, fresh=fresh, tell=tell)
    except KeyboardInterrupt:
        click.echo("Stopped. The same command goes on from the last checkpoint.", err=True)
        raise
    _closing(card, out, base)


def _closing(card: dict[str, Any], out: Path, base: str) -> None:
    from edgellm.finetune.curve import line

    losses, loss = json.loads((out / "losses.json").read_text()), card["loss"]
    click.echo(f"loss {loss['train_first']:.3f} {line(losses['train'])} {loss['train_last']:.3f}")
    if loss["validation_after"] is not None:
        click.echo(
            f"validation loss {loss['validation_before']:.3f} → {loss['validation_after']:.3f}, "
            f"perplexity {loss['perplexity_before']:.2f} → {loss['perplexity_after']:.2f}"
        )
    click.echo(
        f"{out}: {card['parameters']:,} parameters, {card['steps']:,} steps, {card['seconds']:,.0f} s. README.md is its card."
    )
    if not (out / "curve.png").exists():
        click.echo("No curve.png: pip install matplotlib draws one.", err=True)
    gguf = base if card["base"]["gguf"] else "MODEL.gguf"
    click.echo(f"Next: edgellm adapter convert {out} --base {gguf} --out {out.name}.gguf", err=True)


@contextmanager
def _shown(steps: int) -> Iterator[Callable[[Step], None]]:
    """Draw a bar on a terminal; write a line now and then into a log."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    drawing = Progress(*columns, console=console) if console.is_terminal else None
    task = drawing.add_task("", total=steps) if drawing else None
    start, last, held = time.monotonic(), 0.0, ""

    def tell(step: Step) -> None:
        nonlocal last, held
        if step.validation is not None:
            held = f", validation {step.validation:.3f}"
        loss = "" if step.loss is None else f"loss {step.loss:.3f}"
        left = ""
        if step.seconds and step.tokens:
            begun = steps_begun.setdefault("at", step.number - 1)
            pace = step.seconds / max(1, step.number - begun)
            left = (
                f", {step.tokens_per_s:,.0f} tokens/s, {timedelta(seconds=round(pace * (step.of - step.number)))} left"
            )
        said = (loss + held + left).removeprefix(", ")
        if drawing and task is not None:
            drawing.update(task, completed=step.number, description=said)
        elif time.monotonic() - start - last >= _LOG_S or step.number in (0, step.of):
            last = time.monotonic() - start
            click.echo(f"step {step.number:,} of {step.of:,}: {said}", err=True)

    steps_begun: dict[str, int] = {}
    with drawing or nullcontext():
        yield tell
