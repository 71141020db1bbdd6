"""`edgellm quantize`: a smaller file of the same model, and what it cost."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgellm.errors import EdgeError, UsageError


@click.command()
@click.argument("model", metavar="IN")
@click.argument("target", metavar="OUT.gguf", type=click.Path(path_type=Path))
@click.option("--to", required=True, metavar="KIND", help="Q4_K_M, Q5_K_M, Q6_K, Q8_0, F16, ...")
@click.option("--requantize", is_flag=True, help="Accept a source that is quantized already: both losses add up.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.gguf where it is there already.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; all without it.")
@click.option(
    "--text", type=click.Path(path_type=Path), help="Measure what it cost on this text instead of a short passage."
)
@click.option("--no-measure", is_flag=True, help="Do not measure what it cost.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def quantize(
    model: str,
    target: Path,
    to: str,
    requantize: bool,
    overwrite: bool,
    threads: int | None,
    text: Path | None,
    no_measure: bool,
    as_json: bool,
) -> None:
    """Write a model in fewer bits with llama.cpp's quantizer, and say what that cost. IN is a name or a path.

    The cost is the rise of its perplexity on a text: how much more surprised the smaller file is by what it reads.
    """
    from edgellm import quantize as making
    from edgellm.cli.options import read_file
    from edgellm.cli.progress import bar

    source = _here(model)
    passage = read_file(text) if text else making.PASSAGE
    before = source.stat().st_size if source.is_file() else 0
    with bar() as progress:
        made = making.quantize(
            source, target, to, requantize=requantize, overwrite=overwrite, threads=threads, progress=progress
        )
    facts: dict[str, object] = {
        "path": str(target),
        "quantization": made.quantization,
        "before_bytes": before,
        "after_bytes": made.file_bytes,
    }
    line = f"{target}: {made.quantization}, {made.file_bytes:,} bytes of {before:,} ({made.file_bytes / before:.0%})."
    if not no_measure:
        try:
            cost = making.cost(source, target, passage, threads=threads)
        except EdgeError as error:  # the file is made, whatever can be said about it
            click.echo(f"What it cost could not be measured: {error}", err=True)
        else:
            facts |= {"perplexity_before": cost.before, "perplexity_after": cost.after, "tokens": cost.tokens}
            line += f" Perplexity {cost.before:.3f} before, {cost.after:.3f} after ({cost.rise:+.1%}, on {cost.tokens:,} tokens)."
    click.echo(json.dumps(facts) if as_json else line)


def _here(model: str) -> Path:
    """The file of an installed model; what looks like a path is one."""
    from edgellm.source import find

    if model.endswith(".gguf"):
        return Path(model)
    paths = find(model, offline=True).here
    if paths is None:
        raise UsageError(f"{model} is not installed: edgellm pull {model}.")
    return Path(paths[0])
