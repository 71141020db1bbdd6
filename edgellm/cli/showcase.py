"""`edgellm demo`: the three tasks on the embedded model, as a newcomer meets them, with the plan and the times."""

from __future__ import annotations

import time
from typing import Any

import click

from edgellm.tasks import extract as extraction

SENTENCE = "My name is Suvojit Hore, working in company AB and my address is AZ Street NY"
LINES = "name: John\nlastname: Smith\naddress: #1 Samuel St."
GREETING = "Good morning. How are you?"
REPORT = (
    "On Saturday Bruges won the handball match against Denver 2 to 0. It rained a little. The referee showed two yellow "
    "cards. Both teams played hard. The best player was Nate Moreau. 10500 fans came to the stadium. Television showed the "
    "match live. The first half was slow."
)


def perform() -> None:
    """Load the embedded model and show translation, summary, extraction and chat on it."""
    from edgellm.loading import load

    start = time.monotonic()
    with load("demo", slots=4) as model:
        size = sum(tensor.bytes for tensor in model.header.tensors) / 1e6
        click.secho(
            f"edgellm demo: {model.header.parameters / 1e6:.1f} million parameters, {model.header.quantization}, {size:.1f} MB,"
            f" ready in {time.monotonic() - start:.1f} s, offline.",
            bold=True,
        )
        click.echo("A tiny model for trying edgellm and for tests, not for work: it knows a few thousand words.\n")
        for reason in model.plan.reasons:
            click.secho(f"  {reason}", dim=True)
        _translate(model)
        _summarize(model, REPORT)
        _extract(model)
        _chat(model)
    click.echo("\nNext: edgellm chat · edgellm translate 'Good morning' --to es · edgellm models")


def _translate(model: Any) -> None:
    _title("translate --to fr, --to es", GREETING)
    _timed(lambda: "\n".join(model.translate(GREETING, to=code) for code in ("fr", "es")))


def _summarize(model: Any, report: str) -> None:
    _title("summarize --sentences 2", report)
    _timed(lambda: model.summarize(report, sentences=2))


def _extract(model: Any) -> None:
    for text, fields in ((SENTENCE, "name, company, address"), (LINES, "name, lastname, address")):
        _title(f"extract --fields '{fields}'", text)
        _timed(lambda text=text, fields=fields: extraction.dump(model.extract(text, fields=fields)))


def _chat(model: Any) -> None:
    question = "Who are you?"
    _title("chat", question)
    from edgellm.sampling import Sampling

    _timed(lambda: model.chat([{"role": "user", "content": question}], sampling=Sampling(temperature=0)).text)


def _title(verb: str, text: str) -> None:
    click.secho(f"\nedgellm {verb}", bold=True)
    for line in text.splitlines():
        click.echo(f"  {line}")


def _timed(work: Any) -> None:
    from edgellm.text import plain

    start = time.monotonic()
    answer = work()
    for line in plain(answer).splitlines():
        click.secho(f"  → {line}", fg="green")
    click.secho(f"    {time.monotonic() - start:.2f} s", dim=True)
