"""SubRip and WebVTT: the words of every cue are units; numbers, times and settings are never touched."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

from edgellm.errors import UsageError
from edgellm.tasks.layout import Layout, Unit

_TIME = r"(?:\d+:)?\d{1,2}:\d\d[,.]\d{1,3}"
# The times, with the number or name of the cue on the line before, where there is one.
# The times, with the number on the line before, or (WebVTT) a name after a blank line.
_HEAD = re.compile(
    rf"^(?:[ \t]*\d+[ \t]*\r?\n|(?:(?<=\n\n)|(?<=\n\r\n))(?![^\r\n]*-->)[^\r\n]+\r?\n)?"
    rf"[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}[^\r\n]*(?:\r?\n|\Z)",
    re.MULTILINE,
)
_BLANK = re.compile(r"\n[ \t]*\r?\n")
_LINE = re.compile(r"[^\r\n]*[^\r\n\s][^\r\n]*")
_SETTING = re.compile(r"\s*(?:\{\\[^}]*\}\s*)*")  # where it stands on the screen: {\an8}
_SPEAKER = re.compile(r"[-–—‐][ \t]*(?=\S)")


def cues(text: str) -> Layout:
    """Read a subtitle file. Raises UsageError when there is no cue in it."""
    heads = list(_HEAD.finditer(text))
    if not heads:
        raise UsageError("these are no subtitles: there is no line like 00:00:01,000 --> 00:00:02,500.")
    units: list[Unit] = []
    at = 0
    ends = [*(head.start() for head in heads[1:]), len(text)]
    for head, end in zip(heads, ends, strict=True):
        if text.startswith("WEBVTT") and (blank := _BLANK.search(text, head.end() - 1, end)):
            end = blank.start()  # what follows is a note or a style
        for unit, start, stop in _spoken(text, head.end(), end):
            units.append(replace(unit, before=text[at:start]))
            at = stop
    return Layout(tuple(units), text[at:])


def _spoken(text: str, start: int, end: int) -> list[tuple[Unit, int, int]]:
    """The units of one cue with their places: one for each speaker, or one for all its lines."""
    places = []
    for match in _LINE.finditer(text, start, end):
        begin = _SETTING.match(text, match.start(), match.end())
        first = begin.end() if begin else match.start()
        if any(map(str.isalpha, text[first : match.end()])):
            places.append((first, match.start() + len(match[0].rstrip())))
    if not places or (len(places) > 1 and all(_SPEAKER.match(text, first) for first, _ in places)):
        dashes = [_SPEAKER.match(text, first) for first, _ in places]
        starts = [dash.end() if dash else first for dash, (first, _) in zip(dashes, places, strict=True)]
        return [(Unit(text[first:last]), first, last) for first, (_, last) in zip(starts, places, strict=True)]
    breaks = tuple(text[left[1] : right[0]] for left, right in itertools.pairwise(places))
    words = " ".join(text[first:last] for first, last in places)
    return [(Unit(words, breaks=breaks), places[0][0], places[-1][1])]
