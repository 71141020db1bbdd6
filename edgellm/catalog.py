"""The catalogue: which models have a name here, where their files are, and under what licence.

Reads `models.toml` (ours, then the user's own, which adds to it or replaces entries), and makes sense of what people
type after `-m`. Knows nothing of the network, of what is installed, or of what is inside a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from edgellm.errors import ModelUnknown, UsageError

_HERE = Path(__file__).parent
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)

_ON_HUB = re.compile(
    r"(?:hf://|hf\.co/|huggingface\.co/)?(?P<repo>[^/:@\s]+/[^/:@\s]+)"
    r"(?::(?P<quant>[\w.-]+))?(?:@(?P<revision>[^/:@\s]+))?(?:/(?P<file>[^:@]+))?",
    re.ASCII,
)
_HUB_PAGE = re.compile(
    r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<repo>[^/?#]+/[^/?#]+)"
    r"(?:/(?:blob|resolve|tree)/(?P<revision>[^/?#]+)(?:/(?P<file>[^?#]+))?)?/?(?:[?#].*)?"
)


@dataclass(frozen=True, slots=True)
class File:
    """One file of a model; size and hash are None where they could not be told for sure."""

    name: str
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model with a name: either files at a commit on the hub, or a `path` on this machine."""

    name: str
    repo: str = ""
    revision: str = ""  # 40 hexadecimal digits: a name such as `main` may lose files
    files: tuple[File, ...] = ()  # of a split model all parts, the first first
    path: str | None = None
    license: str = ""  # of the upstream weights
    license_url: str = ""
    commercial: bool = True  # False where the licence forbids commercial use
    recommended: bool = False  # what we would name to somebody who asks for one model of about this size
    upstream: str = ""  # the repository of the original weights
    parameters: str = ""
    good_at: tuple[str, ...] = ()
    template: str | None = None  # name of the chat template, for files that carry none
    adapter: str | Mapping[str, str] | None = None  # FILE[:SCALE] of a LoRA beside it, or several by name
    notes: str = ""

    @property
    def bytes(self) -> int | None:
        """Size of the download, or None where it is not known."""
        sizes = [file.bytes for file in self.files if file.bytes is not None]
        return sum(sizes) if sizes and len(sizes) == len(self.files) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What somebody meant by `-m TEXT`: a catalogue `entry`, something on the hub, or a `path`."""

    kind: Literal["catalogue", "hub", "file"]
    entry: Entry | None = None
    repo: str = ""
    quant: str | None = None
    revision: str | None = None
    file: str | None = None
    path: str | None = None


def entries() -> tuple[Entry, ...]:
    """Every model of the catalogue and of the user's own, in the order of the files.

    Raises UsageError that names file, entry and key where one of them makes no sense.
    """
    found, own = _read(_ours(), _HERE), _users()
    return tuple((found if own is None else found | _read(own, own.parent)).values())


def find(name: str) -> Entry:
    """The entry of this name, in any case of letters; raises ModelUnknown with the nearest names."""
    known = {entry.name.casefold(): entry for entry in entries()}
    wanted = name.strip().casefold()
    if wanted in known:
        return known[wanted]
    near = _near(wanted, known)
    hint = f" Did you mean {_either(known[match].name for match in near)}?" if near else ""
    raise ModelUnknown(f"no model {name!r}.{hint} `edgellm models` lists all {len(known)}.")


def reference(text: str) -> Reference:
    """Decide what `text` names: a catalogue name, `user/repo[:QUANT][@revision]`, or a path to a .gguf file.

    `hf.co/user/repo:QUANT`, `hf://user/repo@revision/file.gguf` and a page's address are understood too. A catalogue
    name wins over a file of the same name; `./name` is always a file. Raises ModelUnknown, with near names.
    """
    text = text.strip()
    if not text or "\0" in text:
        raise ModelUnknown("a model is a catalogue name, user/repo[:QUANT][@revision], or a path to a .gguf file.")
    if not {"/", "\\"} & set(text) and text.casefold() in {entry.name.casefold() for entry in entries()}:
        return Reference(kind="catalogue", entry=find(text))
    if page := _HUB_PAGE.fullmatch(text):
        return _on_hub(text, page)
    if _looks_like_a_path(text):
        return Reference(kind="file", path=str(_existing(text)))
    if (remote := _ON_HUB.fullmatch(text)) or "/" in text:
        return _on_hub(text, remote)
    return Reference(kind="catalogue", entry=find(text))


def _looks_like_a_path(text: str) -> bool:
    if text.startswith(("hf://", "hf.co/", "huggingface.co/")):
        return False
    if text.startswith(("./", "../", "~", "/", ".\\", "..\\")) or text in (".", ".."):
        return True
    return text.lower().endswith(".gguf") or os.path.isfile(text)


def _existing(text: str) -> Path:
    """The file at this path; raises ModelUnknown with the .gguf files that are near."""
    path = Path(os.path.expanduser(text))
    if os.path.isfile(path):  # unlike Path.is_file, False rather than an error for a name that is too long
        return path
    if os.path.isdir(path):
        raise ModelUnknown(f"{text} is a folder; a model is a .gguf file.{_suggest(path, '')}")
    if not os.path.isdir(path.parent):
        on_hub = not path.is_absolute() and text.count("/") >= 2 and not text.startswith((".", "~"))
        hint = f" For a file on the hub, write hf://{text}." if on_hub else ""
        raise ModelUnknown(f"no file {text}: there is no folder {path.parent}.{hint}")
    raise ModelUnknown(f"no file {text}.{_suggest(path.parent, path.name)}")


def _suggest(folder: Path, name: str) -> str:
    """A sentence about the .gguf files of a folder, the nearest to `name` first."""
    try:
        present = sorted(path.name for path in folder.iterdir() if path.suffix.lower() == ".gguf")
    except OSError:
        return ""
    if near := _near(name, present):
        return f" Did you mean {_either(near)}?"
    if not present:
        return " That folder has no .gguf files."
    return f" That folder has {', '.join(present[:3])}{', ...' if len(present) > 3 else ''}."


def _on_hub(text: str, match: re.Match[str] | None) -> Reference:
    parts = match.groupdict() if match else {}
    repo, file = parts.get("repo") or "", parts.get("file")
    quant = parts.get("quant")
    if not _REPO.fullmatch(repo) or (file is not None and not file.lower().endswith(".gguf")):
        raise ModelUnknown(
            f"{text!r} names no model: on the hub they are user/repo[:QUANT][@revision] or "
            f"hf://user/repo[@revision]/file.gguf. A path to a file starts with ./ or ends in .gguf."
        )
    from urllib.parse import unquote

    return Reference(
        kind="hub",
        repo=repo,
        quant=None if quant in (None, "latest") else quant,  # `latest` is what others write for no choice at all
        revision=unquote(parts["revision"]) if parts["revision"] else None,
        file=unquote(file) if file else None,
    )


def _near(word: str, known: Iterable[str], cutoff: float = 0.5) -> list[str]:
    import difflib

    return difflib.get_close_matches(word, list(known), n=3, cutoff=cutoff)


def _either(names: Iterable[str]) -> str:
    *others, last = [f"'{name}'" for name in names]
    return f"{', '.join(others)} or {last}" if others else last


def _ours() -> Path:
    """Our catalogue: beside this module in an installed package, one folder up in a source checkout."""
    packaged = _HERE / "models.toml"
    return packaged if packaged.is_file() else _HERE.parent / "models.toml"


def _users() -> Path | None:
    """The user's own catalogue, if there is one; $EDGELLM_MODELS must exist when it is set."""
    if named := os.environ.get("EDGELLM_MODELS"):
        path = Path(os.path.expanduser(named))
        if not path.is_file():
            raise UsageError(f"EDGELLM_MODELS names {named}, which is not a file.")
        return path
    from platformdirs import user_config_dir

    path = Path(user_config_dir("edgellm")) / "models.toml"
    return path if path.is_file() else None


def _read(source: Path, folder: Path) -> dict[str, Entry]:
    """The entries of one file by case-folded name; relative paths in it are relative to `folder`."""
    try:
        now = source.stat()
        return _parsed(source, folder, (now.st_mtime_ns, now.st_size))
    except OSError as error:
        raise UsageError(f"{source}: cannot be read ({error.strerror}).") from error


@lru_cache(maxsize=4)  # names are completed while somebody types, and parsing takes 8 ms
def _parsed(source: Path, folder: Path, version: tuple[int, int]) -> dict[str, Entry]:  # noqa: ARG001
    try:
        import tomllib

        tables = tomllib.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise UsageError(f"{source}: not a TOML file ({error}).") from error
    found: dict[str, Entry] = {}
    for name, table in tables.items():
        if name.casefold() in found:
            raise _wrong(source, name, "there is already an entry of this name")
        found[name.casefold()] = _entry(source, folder, name, table)
    return found


def _wrong(source: Path, name: str, problem: str, key: str = "") -> UsageError:
    where = f"model {name!r}, key {key!r}" if key else f"model {name!r}"
    return UsageError(f"{source}: {where}: {problem}.")


def _text(value: object) -> str | None:
    return None if isinstance(value, str) and value.strip() else f"must be text, not {value!r}"


def _matching(pattern: re.Pattern[str], wanted: str) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        good = isinstance(value, str) and pattern.fullmatch(value)
        return None if good else f"must be {wanted}, not {value!r}"

    return check


def _texts(value: object) -> str | None:
    good = isinstance(value, list) and value and all(isinstance(item, str) and item for item in value)
    return None if good else f"must be a list of texts, not {value!r}"


def _tables(value: object) -> str | None:
    good = isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
    return None if good else f'must be a list of {{ name = "...", bytes = ..., sha256 = "..." }}, not {value!r}'


def _adapters(value: object) -> str | None:
    good = value and all(
        isinstance(one, str) and one for one in (value.values() if isinstance(value, dict) else [value])
    )
    return None if good else f'must be "FILE[:SCALE]", or a table of such texts by name, not {value!r}'


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else f"must be true or false, not {value!r}"


def _size(value: object) -> str | None:
    good = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return None if good else f"must be a number of bytes, not {value!r}"


def _file_name(value: object) -> str | None:
    parts = value.split("/") if isinstance(value, str) else [""]
    good = str(value).endswith(".gguf") and not {"", ".", ".."} & set(parts) and "\\" not in str(value)
    return None if good else f"must be the name of a .gguf file in the repository, not {value!r}"


_KEYS: dict[str, Callable[[object], str | None]] = {
    "repo": _matching(_REPO, "user/repo"),
    "revision": _matching(_COMMIT, "all 40 hexadecimal digits of a commit"),
    "files": _tables,
    "path": _text,
    "license": _text,
    "license_url": _matching(re.compile(r"https?://\S+"), "a web address"),
    "commercial": _flag,
    "recommended": _flag,
    "upstream": _matching(_REPO, "user/repo"),
    "parameters": _text,
    "good_at": _texts,
    "template": _text,
    "adapter": _adapters,
    "notes": _text,
}
_FILE_KEYS: dict[str, Callable[[object], str | None]] = {
    "name": _file_name,
    "bytes": _size,
    "sha256": _matching(_SHA256, "all 64 hexadecimal digits of a sha256"),
}
"""Every key of an entry and of its files, with a function that says what is wrong with a value."""


def _entry(source: Path, folder: Path, name: str, table: Any) -> Entry:
    if not isinstance(table, dict):
        raise _wrong(source, name, 'every model is a table: ["name"] and its keys below')
    if not _NAME.fullmatch(name):
        raise _wrong(source, name, "a name is letters, digits, dots, dashes and underscores")
    _check(source, name, table, _KEYS, "")
    for file in table.get("files", []):
        _check(source, name, file, _FILE_KEYS, "files.")
        if "name" not in file:
            raise _wrong(source, name, "every file needs a name", "files")
    _one_place(source, name, table)
    values = {key: value for key, value in table.items() if key not in ("files", "good_at", "path", "adapter")}
    if "upstream" in table:
        values.setdefault("license_url", f"https://huggingface.co/{table['upstream']}")
    return Entry(
        name=name,
        files=tuple(File(**file) for file in table.get("files", ())),
        good_at=tuple(table.get("good_at", ())),
        adapter=_beside(folder, table.get("adapter")),
        path=str(folder / os.path.expanduser(table["path"])) if "path" in table else None,
        **values,
    )


def _beside(folder: Path, adapter: Any) -> Any:
    """Read the paths of adapters as they are meant: from the folder of the file that names them."""
    if isinstance(adapter, dict):
        return {name: _beside(folder, one) for name, one in adapter.items()}
    return str(folder / os.path.expanduser(adapter)) if adapter else None


def _check(
    source: Path, name: str, table: dict[str, object], keys: dict[str, Callable[[object], str | None]], prefix: str
) -> None:
    for key, value in table.items():
        if key not in keys:
            near = _near(key, keys, cutoff=0.6)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(keys)}"
            raise _wrong(source, name, f"unknown key; {hint}".rstrip("."), prefix + key)
        if problem := keys[key](value):
            raise _wrong(source, name, problem, prefix + key)


def _one_place(source: Path, name: str, table: dict[str, object]) -> None:
    """A model is on the hub (repo, revision and files, all three) or at a path, and not both."""
    hub = [key for key in ("repo", "revision", "files") if key in table]
    if "path" in table and hub:
        raise _wrong(source, name, f"has a path and {', '.join(hub)}: give one place", "path")
    if "path" not in table and len(hub) < 3:
        missing = [key for key in ("repo", "revision", "files") if key not in hub]
        raise _wrong(source, name, "a model needs repo, revision and files, or a path", missing[0])
