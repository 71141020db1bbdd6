"""The options that many verbs share; generation flags are derived from `Sampling`, where their defaults are written."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgellm.errors import UsageError
from edgellm.sampling import Sampling

if TYPE_CHECKING:
    from edgellm.model import Model
    from edgellm.source import Source

F = TypeVar("F", bound=Callable[..., Any])
# A PDF may have many pictures; more text than this nobody waits for.
_LIMIT_BYTES = 256 << 20
_FLAG_TYPES: dict[str, Any] = {"float": float, "int": int, "int | None": int, "tuple[str, ...]": str}


def sampling_options(defaults: Sampling) -> Callable[[F], F]:
    """Add one flag per field of Sampling; the command gets them as one `sampling` argument."""

    def decorate(command: F) -> F:
        import functools

        names = [one.name for one in dataclasses.fields(Sampling)]

        @functools.wraps(command)
        def gathered(*args: Any, **given: Any) -> Any:
            chosen = {name: given.pop(name) for name in names}
            return command(*args, sampling=Sampling(**{**chosen, "stop": tuple(chosen["stop"])}), **given)

        for one in reversed(dataclasses.fields(Sampling)):
            gathered = _flag(one, getattr(defaults, one.name))(gathered)
        return gathered  # type: ignore[return-value]  # wraps keeps the signature that click reads

    return decorate


def _flag(one: dataclasses.Field[Any], default: Any) -> Callable[[Any], Any]:
    many = one.type == "tuple[str, ...]"
    return click.option(
        "--" + one.name.replace("_", "-"),
        one.name,
        type=_FLAG_TYPES[str(one.type)],
        default=default,
        multiple=many,
        show_default=default not in (None, ()),
        help=one.metadata["help"].capitalize() + ".",
    )


_context = click.option("--context", type=click.IntRange(1), help="Tokens of prompt and answer together.")


def model_options(command: F, *, context: bool = True) -> F:
    """Add -m and how to load, with or without --context; the command gets them as keyword arguments for `opened`."""
    for option in reversed(
        (
            click.option("-m", "--model", help="Catalogue name, user/repo[:QUANT][@revision], or path to a .gguf."),
            click.option(
                "--engine",
                type=click.Choice(["auto", "llama_cpp", "ctransformers", "scripted"]),
                default="auto",
                show_default=True,
                help="ctransformers is a legacy; scripted is for tests.",
            ),
            click.option("--gpu-layers", default="auto", show_default=True, help="auto, all, or a number."),
            *([_context] if context else []),
            click.option("--threads", type=click.IntRange(1), help="CPU threads."),
            click.option("--template", help="Chat format, for files that carry none: mistral, solar, chatml, ..."),
            click.option("--adapter", metavar="FILE[:SCALE]", help="A LoRA beside the model: edgellm adapter convert."),
            click.option("--deterministic", is_flag=True, help="The same request gives the same bits; one at a time."),
            click.option("--offline", is_flag=True, help="Use no network at all."),
        )
    ):
        command = option(command)
    return command


def text_options(command: F) -> F:
    """Add TEXT and -f FILE; the command gets them as `text` and `file`, for `given_text`."""
    command = click.option(
        "-f",
        "--file",
        type=click.Path(path_type=Path),
        help="Read the text from a file: plain, Markdown, HTML or PDF; - is stdin.",
    )(command)
    return click.argument("text", required=False)(command)


def given_text(text: str | None, file: Path | None) -> str:
    """Read the text from the one place it was given in: the argument, a file, or a pipe."""
    if text is not None and file is not None:
        raise UsageError("give the text or -f FILE, not both.")
    if text is not None and text != "-":
        return text
    if file is not None and str(file) != "-":
        return read_document(file)
    if sys.stdin is None or (sys.stdin.isatty() and text is None and file is None):
        raise UsageError("there is no text: give it as an argument, with -f FILE, or through a pipe.")
    return decode(sys.stdin.buffer.read(), "standard input")


def read_document(path: Path) -> str:
    """Read a file that has text: plain, Markdown, subtitles, HTML or PDF; what was left out is told on stderr."""
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe that the shell made: <(...)
        return read_file(path)
    from edgellm import documents

    found = documents.look(path, limit_bytes=_LIMIT_BYTES)
    if found.kind == "html":
        click.echo(f"{path} is HTML: its text is read, without the markup.", err=True)
    for note in found.notes:
        click.echo(f"{path}: {note}.", err=True)
    return found.text


def read_file(path: Path) -> str:
    """Read a UTF-8 text file. Raises UsageError in one sentence for whatever is wrong with it."""
    try:
        return decode(path.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}.") from error


def decode(data: bytes, name: str) -> str:
    """Decode UTF-8, a byte-order mark allowed."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not UTF-8 text (byte {data[error.start]:#04x} at offset {error.start:,}): convert it first."
        ) from error


def parsed(text: str, name: str) -> Any:
    """Parse JSON. Raises UsageError in one sentence."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"{name} is not JSON: {error}.") from error
    except RecursionError as error:
        raise UsageError(f"{name} is nested too deeply.") from error


def layers(gpu_layers: str) -> Any:
    """Read --gpu-layers."""
    if gpu_layers in ("auto", "all"):
        return gpu_layers
    if gpu_layers.isdecimal():
        return int(gpu_layers)
    raise UsageError(f"--gpu-layers is auto, all or a number, not {gpu_layers!r}.")


@contextmanager
def opened(
    model: str | None,
    *,
    engine: str,
    gpu_layers: str,
    context: int | None,
    threads: int | None,
    template: str | None,
    adapter: str | None,
    deterministic: bool,
    offline: bool,
    slots: int = 1,
) -> Iterator[Model]:
    """Load the named model, or the default one with a line on stderr that says which; close it at the end."""
    from edgellm.cli.progress import bar
    from edgellm.loading import load
    from edgellm.source import advice, default

    if model is None:
        model, why = default()
        click.echo(f"Model: {model} ({why}). {advice() if model == 'demo' else ''}".rstrip(), err=True)
    with (
        bar() as progress,
        load(
            announce(model, offline=offline),
            engine=engine,  # type: ignore[arg-type]  # click checked the choice
            gpu_layers=layers(gpu_layers),
            context=context,
            threads=threads,
            template=template,
            adapter=adapter,
            deterministic=deterministic,
            offline=offline,
            slots=slots,
            progress=progress,
        ) as opened_model,
    ):
        yield opened_model


def beside(model: Model) -> dict[str, Any]:
    """What ran beside a model, for the JSON of an answer: nothing, where nothing did."""
    from edgellm.rows.receipt import adapters

    return {"adapters": adapters(model.opening)} if model.adapters else {}


def announce(model: str, *, offline: bool) -> Source:
    """Find a model, and say what is about to be downloaded, how much of it there is, and under which licence."""
    from edgellm.source import GB, find

    source = find(model, offline=offline)
    if source.here is None and not offline:
        size = f"{source.download_bytes / GB:.1f} GB" if source.download_bytes else "size unknown"
        entry = source.entry
        terms = f"licence {entry.license} ({entry.license_url})" if entry else "see its page for the licence"
        limits = "" if entry is None or entry.commercial else " Not for commercial use."
        click.echo(f"Downloading {source.name}: {size}, {terms}.{limits}", err=True)
    return source
