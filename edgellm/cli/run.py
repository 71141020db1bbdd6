"""`edgellm run`: one answer. To a prompt, to a conversation in a file, or, for base models, the rest of a raw text."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.options import beside, given_text, model_options, opened, parsed, read_file, sampling_options
from edgellm.errors import EmptyText, UsageError
from edgellm.sampling import Sampling

if TYPE_CHECKING:
    from edgellm.drive import Stream
    from edgellm.model import Model
    from edgellm.prompt import Reply


@click.command()
@click.argument("prompt", required=False, default="")
@click.option("-s", "--system", help="A system prompt.")
@click.option(
    "--messages", type=click.Path(path_type=Path), help='JSON: [{"role": ..., "content": ...}]; PROMPT comes after it.'
)
@click.option("--safe", is_flag=True, help="Put Mistral's safety prompt before the system prompt.")
@click.option("--drop-oldest", is_flag=True, help="Let the oldest turns go when the conversation is too long.")
@click.option("--raw", is_flag=True, help="Continue PROMPT as it is, without a chat format: for base models.")
@click.option("--width", type=click.IntRange(1), help="Wrap the answer at so many columns.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: answer, counts, time, template.")
@sampling_options(Sampling())
@model_options
def run(
    prompt: str,
    system: str | None,
    messages: Path | None,
    safe: bool,
    drop_oldest: bool,
    raw: bool,
    width: int | None,
    as_json: bool,
    sampling: Sampling,
    **load: Any,
) -> None:
    """Answer one PROMPT; what is piped in is appended to it."""
    piped = "" if sys.stdin is None or sys.stdin.isatty() else given_text("-", None)
    if raw:
        if system is not None or messages is not None or safe or drop_oldest:
            raise UsageError(
                "--raw continues a text: --system, --messages, --safe and --drop-oldest are for chat formats."
            )
        text, turns = prompt + piped, []
    else:
        text, turns = "", conversation(messages, system, f"{prompt}\n\n{piped}".strip())
    if not (text or turns):
        raise EmptyText("the prompt is empty.")
    with opened(**load) as model:
        overflow: Any = "drop_oldest" if drop_oldest else "error"
        stream = (
            model.follow(_continued(text, sampling))
            if raw
            else model.stream(turns, sampling=sampling, safe=safe, overflow=overflow)
        )
        with stream:
            if as_json:
                click.echo(json.dumps(_told(model, stream.reply), ensure_ascii=False))
            else:
                _show(stream, width)
        _remark(stream)


def conversation(messages: Path | None, system: str | None, question: str) -> list[dict[str, str]]:
    """Put together what is said: the system prompt, the file's messages, the question. Raises UsageError in words."""
    turns = [{"role": "system", "content": system}] if system else []
    if messages is not None:
        found = _conversation(messages)
        turns += found["messages"] if isinstance(found, dict) and isinstance(found.get("messages"), list) else found
    return [*turns, {"role": "user", "content": question}] if question else turns


def _conversation(path: Path) -> Any:
    found = parsed(read_file(path), str(path))
    inner = found.get("messages") if isinstance(found, dict) else found
    if not isinstance(inner, list) or not all(isinstance(one, dict) for one in inner):
        raise UsageError(f'{path}: need a list of {{"role": system|user|assistant, "content": text}}.')
    return found


def _continued(text: str, sampling: Sampling) -> Any:
    from edgellm.prompt import Prompt

    return Prompt(completion=text, sampling=sampling, priority=1)


def _told(model: Model, reply: Reply) -> dict[str, Any]:
    return {
        "model": model.name,
        **beside(model),
        "result": reply.text,
        "finish": reply.finish,
        "prompt_tokens": reply.prompt_tokens,
        "tokens": reply.tokens,
        "dropped_messages": reply.dropped_messages,
        "template": reply.template,
        "seconds": round(reply.total_s, 3),
    }


def _show(pieces: Iterable[str], width: int | None) -> None:
    """Write pieces as they come; a terminal gets no control characters, a pipe gets every byte."""
    from edgellm.text import plain, wrapped

    safe = plain if sys.stdout.isatty() else str
    for piece in wrapped(pieces, width) if width else pieces:
        sys.stdout.write(safe(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")


def _remark(stream: Stream) -> None:
    """Say what was left out, before or after."""
    reply = stream.reply
    if reply.dropped_messages:
        click.echo(
            f"The oldest {reply.dropped_messages} messages were left out: the conversation was too long.", err=True
        )
    if reply.finish == "length":
        click.echo(f"The answer was cut after {reply.tokens} tokens: raise --max-tokens or --context.", err=True)
