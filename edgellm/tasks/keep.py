r"""What a translation must leave alone: placeholders, tags, addresses, code and numbers, looked for in the answer.

Placeholders: `{name}`, `{{x}}`, `${x}`, `$name`, `$1`, `%s`, `%(n)d`, `%{n}`, the head of an ICU message, `\n` written out.
Numbers are compared by their digits: `1,234.5` may become `1 234,5`, and any script's digits are digits. Pure text.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal[
    "code",
    "url",
    "email",
    "tag",
    "placeholder",
    "entity",
    "number",
    "line",
    "sentence",
    "structure",
    "term",
    "translation",
]

# Quotes, brackets and the punctuation of other scripts end an address; one pair of parentheses may stand inside.
_URL_END = r"\s<>\"'`{}|\\^\[\]«»“”‘’、。，！？；：（）「」『』"
_PATTERNS: dict[str, str] = {
    "code": r"```[\s\S]*?```|``[^\n]+?``|`[^`\n]+`",
    "url": rf"(?:(?:https?|ftps?|file)://|www\.)(?:[^{_URL_END}()]|\([^{_URL_END}()]*\))+",
    "email": r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
    "tag": r"<!--[\s\S]*?-->|</?[A-Za-z][\w:-]*(?:\s[^<>]*)?/?>",
    "placeholder": "|".join(
        (
            r"\{\{[^{}\n]*\}\}",
            r"[$%#]\{[^{}\n]+\}",
            r"\{\s*\w+\s*,\s*(?:plural|select|selectordinal|number|date|time)\b",
            r"\{[\w.\[\]-]*(?:![rsa])?(?::[^{}\s]*)?\}",
            r"%\([^()\n]+\)[-+#0]*\d*(?:\.\d+)?[diouxXeEfFgGcrsa]",
            # Not after a number, where it is a per cent sign, and not the beginning of a word.
            r"(?<![\d%])(?<!\d[ \u00a0\u202f])%(?:\d+\$)?[-+#0]*\d*(?:\.\d+)?(?:hh|ll|[hlLzjt])?[diouxXeEfFgGcrsa@]"
            r"(?![A-Za-z]{2})",
            r"%%",
            r"\$[A-Za-z_]\w*",
            # One digit; with more digits, decimals or a magnitude it is a price.
            r"\$\d(?![\d]|[.,]\d|[ \u00a0]?(?:k|m|bn|thousand|million|billion)\b)",
            r"\\[nrt]",
        )
    ),
    # Not those of letters and quotes, which another language has no use for.
    "entity": r"&(?!quot;|apos;|#39;|#x27;|\w+(?:acute|grave|circ|uml|tilde|cedil|ring|slash|lig|caron);)"
    r"(?:#\d+|#x[\da-fA-F]+|[A-Za-z]\w*);",
}
_SPAN = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _PATTERNS.items()))
_NUMBER = re.compile(r"\d{1,3}(?:[ \u00a0\u2009\u202f]\d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,'’·٫٬]\d+)*")
_INDIAN = re.compile(r"\d{1,2}(?:,\d\d)+,\d{3}")
# What a reader sees of a tag may be translated.
_SPOKEN = re.compile(r"\b(alt|title|aria-label|placeholder|label|summary|content)\s*=\s*(\"[^\"]*\"|'[^']*')")
_EXACT = ("code", "tag", "placeholder")  # one too many breaks a program as one too few does
_GONE = "\ufffc"  # stands for what was found: neither a digit nor part of anything


@dataclass(frozen=True, slots=True)
class Loss:
    """Something of the source that the answer has not, or not as often; `wanted` is 0 for what was invented."""

    kind: Kind
    text: str
    wanted: int = 1
    found: int = 0

    def __str__(self) -> str:
        if self.kind in ("line", "sentence"):
            return f"it has {self.found} {self.kind}s, not {self.wanted}"
        if self.kind == "structure":
            return f"its structure is another: {self.text}"
        if self.kind == "translation":
            return f"it was not translated: {self.text[:60]}{'...' * (len(self.text) > 60)}"
        name = f"{self.kind} {self.text}"
        if not self.wanted:
            return f"{name} was added"
        return f"{name} is missing" if not self.found else f"{name} stands {self.found} times, not {self.wanted}"


def spans(text: str) -> list[tuple[Kind, str]]:
    """Everything of a text that must survive, in order; numbers last, as digits with a decimal point."""
    found, rest = _protected(text)
    return [*found, *(("number", number) for match in _NUMBER.findall(_digits(rest)) for number in _plain(match))]


def losses(source: str, answer: str) -> tuple[Loss, ...]:
    """Compare two texts: what is missing, changed, or there too often."""
    wanted, found = Counter(spans(source)), Counter(spans(answer))
    rest = _protected(answer)[1]
    for span in wanted - found:
        if span[0] != "number":  # it may stand where it would not be taken for one: `5 %s`
            found[span] += len(re.findall(_as_found(*span), rest))
    lost = [Loss(*span, count, found[span]) for span, count in wanted.items() if _broken(span[0], count, found[span])]
    added = [Loss(*span, 0, count) for span, count in found.items() if span not in wanted and span[0] in _EXACT]
    return (*lost, *added)


def _broken(kind: Kind, wanted: int, found: int) -> bool:
    return found < wanted or (found > wanted and kind in _EXACT)


def _protected(text: str) -> tuple[list[tuple[Kind, str]], str]:
    """What must survive, numbers aside, and the text without it."""
    found: list[tuple[Kind, str]] = []

    def take(match: re.Match[str]) -> str:
        kind: Kind = match.lastgroup  # type: ignore[assignment]  # the groups are named by kinds
        whole = match[0]
        kept = whole.rstrip(".,;:!?") if kind == "url" else whole
        found.append((kind, _plain_tag(kept) if kind == "tag" else kept))
        return _GONE + whole[len(kept) :]

    return found, _SPAN.sub(take, text)


def _as_found(kind: Kind, text: str) -> str:
    """The pattern of a span, not as a part of something longer."""
    if kind in ("url", "email"):
        return rf"(?<![A-Za-z0-9/._%+-]){re.escape(text)}(?![A-Za-z0-9/%=&#+~@_-]|[.?][A-Za-z0-9])"
    return rf"(?<![{{$%#\\`]){re.escape(text)}(?![\w`}}])"


def _plain(number: str) -> list[str]:
    """A number without the signs between its thousands; what is no number, a date or a version, as its parts."""
    first, *groups = re.split(r"\D", number)
    if _INDIAN.fullmatch(number):
        return ["".join((first, *groups))]
    if any(len(group) != 3 for group in groups[:-1]):
        return [first, *groups]
    if groups and len(groups[-1]) != 3:
        return ["".join((first, *groups[:-1])) + "." + groups[-1]]
    return ["".join((first, *groups))]


def _plain_tag(tag: str) -> str:
    """A tag without what a reader sees of it, and without blanks that mean nothing."""
    return re.sub(r"\s+", " ", re.sub(r"\s*(/?)>$", r"\1>", _SPOKEN.sub(r"\1", tag)))


def _digits(text: str) -> str:
    """The same text with ASCII digits."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)
