"""What must survive is found, and found missing: no text loses anything against itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgellm.tasks.keep import losses, spans


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hi {name}!", ["{name}"]),
        ("{{ user.name }} has {0} of {}", ["{{ user.name }}", "{0}", "{}"]),
        ("{price:.2f} {x!r} {items[0]}", ["{price:.2f}", "{x!r}", "{items[0]}"]),
        ("{n, plural, one {# file} other {# files}}", ["{n, plural"]),
        ("%s and %d, %(count)d %1$s %.2f %@ %lu %%", ["%s", "%d", "%(count)d", "%1$s", "%.2f", "%@", "%lu", "%%"]),
        ("$1 or ${x} or $name, %{n}", ["$1", "${x}", "$name", "%{n}"]),
        (r"one\ntwo\tthree", [r"\n", r"\t"]),
        ("<b>x</b><br />", ["<b>", "</b>", "<br/>"]),
        ('<a href="/x" title="Read me">', ['<a href="/x" title>']),
        ("a&nbsp;b &amp; c&#160;d", ["&nbsp;", "&amp;", "&#160;"]),
        (
            "See https://example.org/a_(b)?q=1, or www.example.org.",
            ["https://example.org/a_(b)?q=1", "www.example.org"],
        ),
        ("[text](https://example.org/x) (https://example.org)", ["https://example.org/x", "https://example.org"]),
        ("Mail a.b+c@example.co.uk.", ["a.b+c@example.co.uk"]),
        ("Run `rm -r {x}` or ``a`b``", ["`rm -r {x}`", "``a`b``"]),
        ("请访问https://example.org，谢谢", ["https://example.org"]),
    ],
)
def test_what_must_survive_is_found_whole(text: str, found: list[str]) -> None:
    assert [span for kind, span in spans(text) if kind != "number"] == found


@pytest.mark.parametrize(
    "text",
    [
        "It is 100% sure.",
        "A 50%discount, 20 % de plus",
        "It costs $5.00, $1 million, $20 or $3,000.",
        "don&#39;t, &quot;caf&eacute;&quot;",
        "x < y and y > z, a<3, {this is a remark}",
    ],
)
def test_what_only_looks_like_a_placeholder_is_none(text: str) -> None:
    assert [span for kind, span in spans(text) if kind != "number"] == []


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("1,234.56 dollars", "1 234,56 dollars"),
        ("1,234.56 dollars", "1.234,56 dólares"),
        ("1,234.56 dollars", "1\u202f234,56 dollars"),
        ("10000 people", "10 000 personnes"),
        ("10 000 personnes", "10,000 people"),
        ("3.5 km in 10:30", "3,5 km en 10 h 30"),
        ("on 12/31/2024", "le 31.12.2024"),
        ("in 2024, 3 of 5", "٣ من ٥ في ٢٠٢٤"),
        ("page 12", "第１２页"),
        ("B2B since 1999", "B2B depuis 1999"),
        ("<b>Hi</b> {a} {b}", "{b} {a} <b>Salut</b>"),
        ('<a title="Read" href="x">y</a>', '<a title="Lire" href="x">z</a>'),
        ("See https://example.org.", "Siehe https://example.org!"),
        ("Use `x`.", "« `x` »"),
        ("%s of %s", "%s von %s"),
    ],
)
def test_what_languages_write_differently_is_kept(source: str, answer: str) -> None:
    assert losses(source, answer) == ()


@pytest.mark.parametrize(
    ("source", "answer", "told"),
    [
        ("Hi {name}", "Salut", "placeholder {name} is missing"),
        ("Hi {name}", "Salut {name} {name}", "placeholder {name} stands 2 times, not 1"),
        ("Hi {name}", "Salut {{name}}", "placeholder {name} is missing"),
        ("Hi {name}", "Salut ${name}", "placeholder {name} is missing"),
        ("Hi {name}", "Salut { name }", "placeholder {name} is missing"),
        ("Hi {name}", "Salut {Name}", "placeholder {name} is missing"),
        ("Hi", "Salut {nom}", "placeholder {nom} was added"),
        ("%s", "% s", "placeholder %s is missing"),
        ("%(n)d", "%(n) d", "placeholder %(n)d is missing"),
        ("pay $1", "payez $10", "placeholder $1 is missing"),
        ("pay $1", "payez 1 $", "placeholder $1 is missing"),
        ("<b>x</b>", "<b>x<b>", "tag </b> is missing"),
        ("<b>x</b>", "**x**", "tag <b> is missing"),
        ("<br>", "<br> <i>", "tag <i> was added"),
        ("a&nbsp;b", "a b", "entity &nbsp; is missing"),
        ("https://example.org/a", "https://example.org/b", "url https://example.org/a is missing"),
        ("https://example.org/a", "https://example.org/a/b", "url https://example.org/a is missing"),
        ("https://example.org", "https://example.org.fr", "url https://example.org is missing"),
        ("me@example.org", "moi@example.org", "email me@example.org is missing"),
        ("me@example.org", "me@example.org.fr", "email me@example.org is missing"),
        ("`ls -l`", "ls -l", "code `ls -l` is missing"),
        ("3.5 km", "35 km", "number 3.5 is missing"),
        ("42 km", "4 2 km", "number 42 is missing"),
        ("42 km", "420 km", "number 42 is missing"),
        ("5 km", "3,5 km", "number 5 is missing"),
        ("in 2024 and 2024", "en 2024", "number 2024 stands 1 times, not 2"),
    ],
)
def test_what_is_lost_is_named(source: str, answer: str, told: str) -> None:
    assert told in map(str, losses(source, answer))


_PIECES = st.sampled_from(
    ["{a}", "{{b}}", "%s", "%(n)d", "$1", "${x}", "<b>", "</b>", "&nbsp;", "https://example.org/x", "a@example.org", "`c d`",
     "1,234.5", "7", "word", "Wort.", "%", "$", "{", "}", "\n", "日本", "&", "<"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(_PIECES).map(" ".join)))
def test_no_text_loses_anything_against_itself(text: str) -> None:
    assert losses(text, text) == ()


@given(st.lists(_PIECES, max_size=8), st.text())
def test_any_two_texts_can_be_compared(pieces: list[str], answer: str) -> None:
    for loss in losses(" ".join(pieces), answer):
        assert str(loss)
        assert loss.found != loss.wanted


def test_a_hostile_text_takes_no_time() -> None:
    for text in (
        "a" * 50_000,
        "{" * 50_000,
        "<a " * 20_000,
        "%(" * 20_000,
        "1." * 20_000,
        "(" * 50_000,
        "www." * 10_000,
    ):
        losses(text, text)
