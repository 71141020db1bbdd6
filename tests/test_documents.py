"""Files that people have come in as text, and what has none is refused by name."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgellm import documents
from edgellm.documents import _from_html
from edgellm.errors import UsageError

PAGE = """<!DOCTYPE html><html><head><title>no</title><style>p {}</style></head><body>
<h1>Report &amp; more</h1><p>One
   <b>bold</b> word,<br>two&nbsp;lines.</p><script>alert("no")</script>
<ul><li>first</li><li>second</li></ul><table><tr><td>a</td><td>b</td></tr></table>
<pre>x = 1
  y</pre></body></html>"""


def pdf(*pages: str) -> bytes:
    """The smallest PDF with text."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>"]
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(pages)))
    objects.append(f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode())
    for number, text in enumerate(pages):
        lines = text.replace("\n", ") Tj 0 -14 Td (")
        content = f"BT /F1 12 Tf 50 700 Td ({lines}) Tj ET".encode() if text else b" "
        font = "<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"
        page = f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Resources{font}/Contents {4 + 2 * number} 0 R>>"
        objects += [page.encode(), b"<</Length %d>>stream\n%s\nendstream" % (len(content), content)]
    out, offsets = io.BytesIO(b"%PDF-1.4\n"), []
    out.seek(0, os.SEEK_END)
    for number, data in enumerate(objects, 1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj%s endobj\n" % (number, data))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % offset for offset in offsets)
    out.write(b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, table))
    return out.getvalue()


def given_file(tmp_path: Path, name: str, data: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_plain_text_comes_as_it_is(tmp_path: Path) -> None:
    assert documents.read(given_file(tmp_path, "a.md", b"\xef\xbb\xbf# T\r\n<b>\xc3\xa9")) == "# T\r\n<b>é"
    assert documents.read(given_file(tmp_path, "a.txt", "Notepad é".encode("utf-16"))) == "Notepad é"


@pytest.mark.parametrize("name", ["page.html", "page.HTM", "page.txt"])
def test_a_page_comes_without_its_markup(tmp_path: Path, name: str) -> None:
    text = documents.read(given_file(tmp_path, name, PAGE.encode()))
    assert text == (
        "# Report & more\n\nOne bold word,\ntwo lines.\n\n- first\n- second\n\n\ta\tb\n\nx = 1\n  y\n".replace(
            "\n  y", "\ny"
        )
    )


def test_a_pdf_comes_page_by_page(tmp_path: Path) -> None:
    assert documents.read(given_file(tmp_path, "a.pdf", pdf("First page.", "", "Third."))) == "First page.\n\nThird.\n"
    with pytest.raises(UsageError, match="2 pages and no text on them"):
        documents.read(given_file(tmp_path, "scan.pdf", pdf("", "")))


def test_pages_without_text_are_noted(tmp_path: Path) -> None:
    found = documents.look(given_file(tmp_path, "a.pdf", pdf("One.", "", "")))
    assert (found.kind, found.text) == ("pdf", "One.\n")
    assert found.notes == ("there is no text on 2 of its 3 pages, which may be scanned",)


def test_lines_of_a_paragraph_flow_and_hyphens_at_the_margin_go(tmp_path: Path) -> None:
    page = "Summary\nThe quick brown fox jum-\nped over the lazy dog and\nran away. It was seen.\n- one\n- two\nEnd."
    text = documents.read(given_file(tmp_path, "a.pdf", pdf(page)))
    assert text == (
        "Summary\nThe quick brown fox jumped over the lazy dog and ran away. It was seen.\n- one\n- two\nEnd.\n"
    )


def test_a_page_is_read_in_the_characters_it_names(tmp_path: Path) -> None:
    page = '<html><head><meta charset="iso-8859-1"><title>no</title><body>caf\xe9</body>'
    assert documents.read(given_file(tmp_path, "a.html", page.encode("latin-1"))) == "café\n"
    wrong = page.replace("iso-8859-1", "klingon")
    with pytest.raises(UsageError, match="not the klingon that it says"):
        documents.read(given_file(tmp_path, "b.html", wrong.encode("latin-1")))


@pytest.mark.parametrize("end", [5, 100, 300])
def test_a_pdf_that_is_broken_is_told_in_words(tmp_path: Path, end: int) -> None:
    with pytest.raises(UsageError, match=r"PDF that cannot be read|no text on them"):
        documents.read(given_file(tmp_path, "a.pdf", pdf("text")[:end]))


def test_without_pypdf_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pypdf", None)
    with pytest.raises(UsageError, match=r"pip install 'edgellm\[documents\]'"):
        documents.read(given_file(tmp_path, "a.pdf", pdf("text")))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.docx", b"PK\x03\x04\xff", "a ZIP or Office document"),
        ("a.png", b"\x89PNG\r\n", "an image"),
        ("a.gguf", b"GGUF\0\0\xff", "a model"),
        ("a.txt", b"caf\xe9", "not UTF-8 text"),
        ("a.bin", b"a\0b", "not UTF-8 text"),
        ("a.txt", b" \n", "is empty"),
        ("a.html", b"<html><script>x</script>", "is empty"),
    ],
)
def test_what_is_no_text_is_refused_by_name(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        documents.read(given_file(tmp_path, name, data))


def test_what_is_too_long_or_no_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    with path.open("wb") as file:
        file.truncate(documents.LIMIT_BYTES + 1)
    for one, words in ((path, "no more than 16 MiB"), (tmp_path, "a folder"), (tmp_path / "x", "cannot read")):
        with pytest.raises(UsageError, match=words):
            documents.read(one)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("<>/!-ab h1pre\n&;\"'="), max_size=60))
def test_no_page_breaks_the_reader(source: str) -> None:
    _from_html(source)
