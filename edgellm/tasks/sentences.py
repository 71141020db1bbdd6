"""Sentences and words, found and counted by rules: the measure of a summary, and the places where a long text is cut.

A full stop ends no sentence after an abbreviation, inside a number or an address, or before a small letter. Knows the
terminators of other scripts; where a language writes no blanks, a character of Han or kana counts as a word.
"""

from __future__ import annotations

import re

_CLOSERS = "\"'”’»›)\\]}」』）】〕"
# Scripts whose terminator needs no blank after it, and those of the others (Arabic, Devanagari, Armenian, Ethiopic...).
_WIDE = "。！？｡︒．"
_ENDS = rf"[.!?…]+|[{_WIDE}]+|[؟۔।॥։።᙮။។།]+"
_END = re.compile(rf"(?:{_ENDS})(?:[{_CLOSERS}]|[ \u00a0\u202f]»)*")
_BREAK = re.compile(r"\n[ \t\r]*\n\s*|\n(?=[ \t]*(?:[-*+•‣–—]|\d{1,3}[.)])[ \t])|\n(?=[ \t]*#{1,6} )")
_NEAR = 40
_MARKER = re.compile(r"[ \t]*(?:\d{1,3}|[A-Za-z])[.)]$|[ \t]*[-*+•‣–—]$")


def _list(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NEVER = _list(  # a name or a number follows
    "mr mrs ms dr prof rev fr sr sra srta dra st mt ft gen col capt lt sgt hon pres gov sen rep messrs mme mlle mm m me "
    "hr fr. herr nr no núm num fig figs eq vol pp p art cap ch sec vs cf ca bzw bspw evtl ggf inkl z.b d.h u.a o.ä v.a "
    "e.g i.e p.ej p. ej viz approx env ex av bd pág tel ext abb str"
)
_SOMETIMES = _list(  # may well be the last word
    "etc inc ltd co corp jr bros est dept univ a.m p.m am pm u.s u.k u.n e.u d.c ph.d b.c a.d usw p.s ee.uu cie s.a gmbh"
)
_STARTERS = _list(
    "the a an it he she they we you i this that these those there in on at but and so then if when while after before "
    "however his her its our their my le la les un une il elle ils elles nous vous je ce cette ces dans mais et el los las "
    "una ella ellos nosotros es este esta en pero y der die das ein eine er sie es wir dieser diese im aber und"
)
_MONTHS = _list("januar februar märz april mai juni juli august september oktober november dezember")
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
    r"|(?:(?![\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])\S)+"
)


def split(text: str) -> list[str]:
    """Cut a text into its sentences; joined again, they are the text: each keeps the blanks that follow it."""
    cuts = sorted({match.end() for match in _BREAK.finditer(text)} | set(_stops(text)))
    pieces: list[str] = []
    start = 0
    for cut in (*cuts, len(text)):
        piece = text[start:cut]
        if piece and (piece.strip() or not pieces):
            pieces.append(piece)
        elif piece:
            pieces[-1] += piece
        start = cut
    if len(pieces) > 1 and not pieces[0].strip():
        pieces[:2] = [pieces[0] + pieces[1]]
    return pieces


def count(text: str) -> int:
    """Number of sentences; what has no letter or digit is none."""
    return sum(any(map(str.isalnum, piece)) for piece in split(text))


def words(text: str) -> int:
    """Number of words, as word processors count them: runs between blanks, and each character of Han or kana."""
    return sum(any(map(str.isalnum, word)) for word in _WORD.findall(text))


def _stops(text: str) -> list[int]:
    """Where a sentence ends, behind the blanks that follow it."""
    found = []
    for match in _END.finditer(text):
        after = text[match.end() : match.end() + 24]
        blanks = len(after) - len(after.lstrip())
        if match[0][0] not in _WIDE and after and not blanks:
            continue
        if match[0][0] in _WIDE and match[0][-1] in "」』" and after[:1] in ("と", "っ", "な", "、", "，"):
            continue  # the end of what someone says, inside a sentence
        following = after.lstrip().lstrip("\"'“‘«‹([{¿¡„")
        if following[:1].islower() or (match[0][0] == "." and _goes_on(text, match, following)):
            continue
        rest = re.compile(r"\s*").match(text, match.end())
        found.append(rest.end() if rest else match.end())
    return found


def _goes_on(text: str, stop: re.Match[str], following: str) -> bool:
    """Whether a single full stop belongs to the word before it."""
    if stop[0].startswith(".."):
        return False
    # A window: on one endless line, looking back to its beginning would take forever.
    near = text[max(0, stop.start() - _NEAR) : stop.start()]
    line = near[near.rfind("\n") + 1 :]
    word = (re.split(r"\s", line)[-1]).lstrip("\"'“‘«‹([{¿¡„-–—").casefold()
    if len(line) < _NEAR and _MARKER.match(line + "."):  # "1. First": the number of an item
        return True
    coming = "".join(re.findall(r"^[\w'’]+", following)).casefold()
    if word in _NEVER:
        return True
    if word.isdecimal() and len(word) < 3:  # an ordinal, as German writes it
        return coming in _MONTHS
    short = (len(word) == 1 and word.isalpha()) or word in _SOMETIMES or bool(re.fullmatch(r"(?:\w\.)+\w", word))
    return short and bool(following) and coming not in _STARTERS
