"""A conversation as a document: Markdown to read, JSON to go on with elsewhere."""

from __future__ import annotations

import json

from edgellm.errors import UsageError
from edgellm.repl.session import Transcript

ENDINGS = {"cancelled": "stopped", "failed": "cut short by a crash", "length": "cut: the limit was reached"}
"""How an answer that did not come to its end is marked."""


def written(transcript: Transcript, suffix: str) -> str:
    """Write a conversation in the format that a file's suffix names. Raises UsageError for any other suffix."""
    if suffix in (".md", ".markdown", ".txt"):
        return markdown(transcript)
    if suffix == ".json":
        return as_json(transcript)
    raise UsageError(f"a conversation is exported to .md or .json, not {suffix or 'a file without a suffix'}.")


def markdown(transcript: Transcript) -> str:
    """Write headings and texts."""
    parts = [f"# {transcript.name}"]
    if transcript.system:
        parts += ["## System", transcript.system]
    for turn in transcript.turns:
        ending = f"*({ENDINGS[turn.finish]})*" if turn.finish in ENDINGS else ""
        parts += ["## You", turn.user, f"## {turn.model or 'Assistant'}", turn.assistant, ending]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def as_json(transcript: Transcript) -> str:
    """Write the messages as every chat API takes them, and how each answer ended."""
    messages = [{"role": role, "content": text} for role, text in transcript]
    answers = [
        {"model": turn.model, "finish": turn.finish, "prompt_tokens": turn.prompt_tokens, "tokens": turn.tokens}
        for turn in transcript.turns
    ]
    return (
        json.dumps({"name": transcript.name, "messages": messages, "answers": answers}, ensure_ascii=False, indent=1)
        + "\n"
    )
