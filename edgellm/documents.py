"""Files that people have, as text: plain text, Markdown, HTML and PDF.

Every other kind is refused by name, and so is a file that holds no text. Knows no model and no terminal.
"""

from __future__ import annotations

import html.parser
import io
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgellm.errors import UsageError

# More than this is no text that someone wants to talk about, and would not fit any context.
LIMIT_BYTES = 16 << 20

_KINDS = {
    b"PK\x03\x04": "a ZIP or Office document",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"GGUF": "a model",
}
_HTML = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype html|html)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Document:
    """The text of a file, what it was taken from, and what its reader must know, one sentence each."""

    text: str
    kind: Literal["text", "html", "pdf"] = "text"
    notes: tuple[str, ...] = ()


def read(path: Path, *, limit_bytes: int = LIMIT_BYTES) -> str:
    """Return the text of a file. Raises UsageError, in one sentence, for what is no text or holds none."""
    return look(path, limit_bytes=limit_bytes).text


def look(path: Path, *, limit_bytes: int = LIMIT_BYTES) -> Document:
    """Read a file as a document. Raises UsageError as `read` does."""
    data = _bytes(path, limit_bytes)
    if data.startswith(b"%PDF"):
        found = _pdf(path, data)
    elif path.suffix.lower() in (".html", ".htm", ".xhtml") or _HTML.match(data[:4096]):
        found = Document(_from_html(_markup(path, data)), "html")
    else:
        found = Document(_decoded(path, data))
    if not found.text.strip():
        raise UsageError(f"{path} is empty.")
    return found


def _bytes(path: Path, limit_bytes: int) -> bytes:
    try:
        if "\0" in str(path):
            raise UsageError(f"{str(path)!r} is no file's name.")
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise UsageError(f"{path} is {'a folder' if path.is_dir() else 'no ordinary file'}: name a text file.")
        if about.st_size > limit_bytes:
            raise UsageError(
                f"{path} has {about.st_size >> 20:,} MiB: no more than {limit_bytes >> 20} MiB can be read."
            )
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}.") from error


def _decoded(path: Path, data: bytes) -> str:
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # what Windows' Notepad calls Unicode
            return data.decode("utf-16")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _no_text(path, data, error.start) from error
    if "\0" in text:
        raise _no_text(path, data, text.index("\0"))
    return text


def _no_text(path: Path, data: bytes, at: int) -> UsageError:
    kind = next((words for magic, words in _KINDS.items() if data.startswith(magic)), None)
    if kind:
        return UsageError(f"{path} is {kind}, which cannot be read here: save its text as .txt or .md first.")
    return UsageError(f"{path} is not UTF-8 text (byte {at:,}): convert it first.")


# PDF.


def _pdf(path: Path, data: bytes) -> Document:
    """Return the text of a PDF's pages. Only its text: a scanned page has none, which is noted."""
    try:
        import pypdf
    except ImportError:
        raise UsageError(f"{path} is a PDF: reading one needs pypdf: pip install 'edgellm[documents]'.") from None
    import logging

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it complains about is told below, or not worth telling
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        pages = [page.extract_text() for page in reader.pages]
    except Exception as error:  # a foreign format's parser on a foreign file: it may raise anything
        raise UsageError(f"{path} is a PDF that cannot be read ({type(error).__name__}: {error}).") from error
    # Some fonts say nothing of what their glyphs mean; NUL and the like would not survive a template.
    texts = [re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", "", page).strip() for page in pages]
    empty = texts.count("")
    if empty == len(texts):
        raise UsageError(f"{path} has {len(pages):,} pages and no text on them: it may be scanned.")
    notes = (f"there is no text on {empty:,} of its {len(pages):,} pages, which may be scanned",) if empty else ()
    return Document(_flowing([text for text in texts if text]) + "\n", "pdf", notes)


def _flowing(pages: list[str]) -> str:
    """Undo what the margins did: lines of one paragraph become one line, words that were hyphenated one word."""
    found = ""
    width = max((len(line) for page in pages for line in page.split("\n")), default=0)
    last = ""
    for page in pages:
        for number, line in enumerate(map(str.strip, page.split("\n"))):
            if re.search(r"\w-$", last) and line[:1].islower():
                found = found[:-1] + line
            elif _goes_on(last, line, width):
                found += " " + line
            else:
                found += ("\n\n" if not number and found else "\n" if found else "") + line
            last = line
    return re.sub(r"\n{3,}", "\n\n", found)


def _goes_on(last: str, line: str, width: int) -> bool:
    """Whether a line continues the one before: that was full, or ended nothing and this begins nothing."""
    if not last or not line or re.match(r"[-*•‣–]\s|\d+[.)]\s", line) or re.search(r"[.!?:;。！？][\"'”’»)]*$", last):
        return bool(last and line and len(last) > 0.8 * width and line[:1].islower())
    return line[:1].islower() or len(last) > 0.8 * width


# HTML.

_CHARSET = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)


def _markup(path: Path, data: bytes) -> str:
    """Decode a page: as UTF-8, else by what it says of itself."""
    try:
        return _decoded(path, data)
    except UsageError:
        if not (named := _CHARSET.search(data[:4096])):
            raise
    try:
        return data.decode(named[1].decode())
    except (LookupError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} is not the {named[1].decode()} that it says it is ({error}): convert it first."
        ) from error


_UNSEEN = {"script", "style", "head", "template", "noscript", "svg"}
_BLOCK = re.compile(
    "address|article|aside|blockquote|br|dd|div|dl|dt|fieldset|figcaption|figure|footer|form|h[1-6]|header|hr|li|main|nav|ol|p"
    "|pre|section|table|tbody|td|tfoot|th|thead|tr|ul"
)


class _Page(html.parser.HTMLParser):
    """The words of a page as Markdown-like text: headings, lists and paragraphs on lines of their own."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen: list[str] = []
        self._verbatim = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - HTMLParser's call
        if tag == "body":  # which also ends a head that nobody closed
            self._unseen.clear()
        if tag in _UNSEEN:
            self._unseen.append(tag)
        elif re.fullmatch(r"h[1-6]", tag):
            self.parts.append("\n\n" + "#" * int(tag[1]) + " ")
        elif tag == "li":
            self.parts.append("\n- ")
        elif tag in ("td", "th"):
            self.parts.append("\t")
        elif _BLOCK.fullmatch(tag):
            self.parts.append("\n" if tag in ("br", "tr") else "\n\n")
        self._verbatim += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unseen:
            while self._unseen.pop() != tag:
                pass
        elif _BLOCK.fullmatch(tag) and tag not in ("br", "tr", "td", "th", "li"):
            self.parts.append("\n\n")
        self._verbatim = max(0, self._verbatim - (tag == "pre"))

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(data if self._verbatim else re.sub(r"\s+", " ", data))


def _from_html(source: str) -> str:
    page = _Page()
    page.feed(source)
    page.close()
    lines = [line.strip(" ") for line in "".join(page.parts).replace("\xa0", " ").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n\t ") + "\n"
