"""What a reasoning model thinks aloud before it answers, told from the answer, however the text was cut.

Thoughts stand between `<think>` and `</think>` at the start; anywhere else the tags are text. Knows no token and no terminal.
"""

from __future__ import annotations

_OPEN, _CLOSE = "<think>", "</think>"


class Thoughts:
    """Tell what a model thinks aloud, between <think> tags at the start of its answer, from what it says."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"  # start, opened (blanks before a thought), thinking, gap (blanks after it), said

    def push(self, text: str) -> list[tuple[str, bool]]:
        """Take the next piece; returns (text, thinking) of what is certain."""
        self._held += text
        parts: list[tuple[str, bool]] = []
        while (part := self._part()) is not None:
            parts.append(part)
        return [part for part in parts if part[0]]

    def finish(self) -> list[tuple[str, bool]]:
        """Return the rest."""
        rest, self._held = self._held, ""
        thinking = self._state in ("opened", "thinking")
        return [(rest, thinking)] if rest and self._state != "gap" else []

    def _part(self) -> tuple[str, bool] | None:
        """Take the next certain part off what is held; None when more must come first."""
        if not self._held:
            return None
        if self._state == "thinking":
            return self._thought()
        bare = self._held.lstrip()
        if self._state in ("opened", "gap"):
            if not bare:
                return None
            self._state = "thinking" if self._state == "opened" else "said"
            self._held = bare
            return "", True
        if self._state == "start" and _OPEN.startswith(bare[: len(_OPEN)]):
            if len(bare) < len(_OPEN):
                return None
            self._state, self._held = "opened", bare[len(_OPEN) :]
            return "", True
        text, self._held, self._state = self._held, "", "said"
        return text, False

    def _thought(self) -> tuple[str, bool] | None:
        text, tag, rest = self._held.partition(_CLOSE)
        if tag:
            self._state, self._held = "gap", rest
            return text.rstrip() + "\n\n", True
        # What may be the beginning of the closing tag waits, and so do the blanks before it.
        begun = next((size for size in range(len(_CLOSE) - 1, 0, -1) if text.endswith(_CLOSE[:size])), 0)
        end = len(text[: len(text) - begun].rstrip())
        self._held = text[end:]
        return (text[:end], True) if end else None


def spoken(text: str) -> str:
    """Return an answer without the thoughts before it."""
    thoughts = Thoughts()
    return "".join(part for part, thinking in (*thoughts.push(text), *thoughts.finish()) if not thinking)
