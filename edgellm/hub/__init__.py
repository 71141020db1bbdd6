"""The hub: from a repository's name to verified files on this disk, in the cache that all Hugging Face tools share.

`resolve` says which files a name means, `cached` looks without a network, `fetch` brings what is missing, `ranged`
reads a piece of a file that is not here. It does not know what a GGUF holds, which models are good, or how to draw
progress. Within: `cache` is the folder, `wire` the questions over HTTP, `download` one file on its way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgellm.errors import EdgeError, HashMismatch, NotOnHub, Offline, UsageError
from edgellm.hub import cache, download, wire
from edgellm.hub.cache import Installed, Progress, RemoteFile, Wanted, cached, installed, remove, verify
from edgellm.hub.wire import ranged

__all__ = [
    "Installed",
    "Progress",
    "Remote",
    "RemoteFile",
    "Wanted",
    "cached",
    "choose",
    "fetch",
    "installed",
    "quantizations",
    "ranged",
    "remove",
    "resolve",
    "verify",
    "weights",
]

_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_QUANT = re.compile(
    r"(?<![A-Za-z0-9])(?:UD-)?(?:I?Q[1-8]_[A-Z0-9_]+|TQ[12]_0|BF16|F16|F32|MXFP4(?:_MOE)?|NVFP4)(?=[.-])", re.IGNORECASE
)
_TRAINABLE = re.compile(
    r"(?:config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|chat_template)\.json"
    r"|tokenizer\.model|chat_template\.jinja|model(?:-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
)
_DEFAULTS = ("Q4_K_M", "Q8_0")
_NOT_A_MODEL = ("mmproj", "mtp-", "eagle3-", "dflash-", "dspark-", "imatrix")


@dataclass(frozen=True, slots=True)
class Remote:
    """A model on the hub: its repository, the commit, and the files it consists of, the first part first."""

    repo: str
    revision: str  # 40 hexadecimal digits
    files: tuple[RemoteFile, ...]
    ref: str | None = None  # the branch or tag that was asked for


def resolve(
    repo: str, quant: str | None = None, revision: str | None = None, file: str | None = None, *, offline: bool = False
) -> Remote:
    """Say which files `user/repo[:QUANT]` means, and at which commit; offline, among those in the cache.

    Without `quant` it is Q4_K_M, else Q8_0, else the first. Raises NotOnHub, Gated, Offline, DownloadFailed.
    """
    ref = revision or "main"
    commit, present = _listing(repo, ref, offline=offline)
    files = {item.name: item for item in present}
    return Remote(repo, commit, tuple(files[name] for name in choose(list(files), quant, file, repo)), ref)


def weights(repo: str, revision: str | None = None, *, offline: bool = False) -> Remote:
    """Say which files are a model that can be trained: weights as safetensors, configuration and tokenizer.

    Of pickled weights, which run code when they are read, none is taken. Raises NotOnHub, Gated, Offline, DownloadFailed.
    """
    ref = revision or "main"
    commit, present = _listing(repo, ref, offline=offline)
    files = tuple(item for item in present if _TRAINABLE.fullmatch(item.name))
    names = {item.name for item in files}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        lacks = "no config.json" if "config.json" not in names else "no .safetensors"
        raise NotOnHub(f"{repo} has {lacks}: it holds no weights that can be trained.")
    return Remote(repo, commit, files, ref)


def _listing(repo: str, ref: str, *, offline: bool) -> tuple[str, list[RemoteFile]]:
    cache.folder(repo)  # refuses what is not a name
    if reason := wire.forbidden(offline):
        commit, present = cache.listing(repo, ref)
        if not present:
            raise Offline(f"{repo} is not on this machine, and {reason}.")
        return commit, present
    return wire.listing(repo, ref)


def choose(names: Sequence[str], quant: str | None, file: str | None = None, repo: str = "the repository") -> list[str]:
    """Pick the file of a quantization among a repository's names, with all its parts, as llama.cpp does.

    The rule is that of llama.cpp's common/download.cpp, except that F16 does not mean BF16. A quantization that was
    asked for by name is never replaced by another. Raises NotOnHub that lists what there is.
    """
    names = sorted(name for name in names if name.lower().endswith(".gguf"))
    if file is not None:
        if file not in names:
            raise NotOnHub(f"{repo} has no {file}. It has {_few(names)}.")
        return _parts(file, names, repo)
    models = [name for name in names if not any(mark in name.lower() for mark in _NOT_A_MODEL)]
    firsts = [name for name in models if not (split := _SPLIT.fullmatch(name)) or int(split[2]) == 1]
    if not firsts:
        raise NotOnHub(f"{repo} has no .gguf model. Look for a repository with GGUF in its name.")
    tagged = [name for tag in ([quant] if quant else _DEFAULTS) for name in _tagged(firsts, tag)]
    if quant and not tagged:
        quants = dict.fromkeys(match[0].upper() for name in firsts for match in _QUANT.finditer(name))
        raise NotOnHub(f"{repo} has no {quant}. It has {_few(list(quants) or firsts)}.")
    return _parts((tagged or firsts)[0], names, repo)


def quantizations(repo: str, revision: str) -> dict[str, int]:
    """Every quantization that a repository offers at a revision, and the bytes of its file or files, smallest first.

    Asks the hub; files whose size it does not state are left out. Raises NotOnHub, Gated, Offline, DownloadFailed.
    """
    if reason := wire.forbidden(offline=False):
        raise Offline(f"the files of {repo} cannot be listed: {reason}.")
    present = {item.name: item for item in wire.listing(repo, revision)[1]}
    found: dict[str, int] = {}
    for tag in dict.fromkeys(match[0].upper() for name in present for match in _QUANT.finditer(name)):
        with suppress(NotOnHub):  # a tag that only parts of other things carry: projectors, draft models
            parts = [present[name].bytes for name in choose(list(present), tag, repo=repo)]
            if all(parts):
                found[tag] = sum(size for size in parts if size)
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def _tagged(names: Sequence[str], tag: str) -> list[str]:
    """Names that carry the tag as a word of its own, the exact ones before the UD- variants."""
    edge = "A-Za-z0-9" if _QUANT.match(f"{tag}.") else r"\w"  # XS is no word of IQ4_XS, but Q4_0 is one of model_Q4_0
    word = re.compile(rf"(?<![{edge}]){re.escape(tag)}[.-]", re.IGNORECASE)
    variant = re.compile(rf"UD-{re.escape(tag)}[.-]", re.IGNORECASE)
    return sorted(filter(word.search, names), key=lambda name: bool(variant.search(name)))


def _parts(name: str, names: Sequence[str], repo: str) -> list[str]:
    """All parts of the model that `name` belongs to."""
    split = _SPLIT.fullmatch(name)
    if not split:
        return [name]
    stem, last = name[: split.end(1)], int(split[3])
    parts = [f"{stem}-{number:05}-of-{split[3]}{name[-5:]}" for number in range(1, last + 1)]
    if missing := [part for part in parts if part not in names]:
        raise NotOnHub(f"{repo} lacks {len(missing)} of the {last} parts of {name}: {missing[0]} is not there.")
    return parts


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more if names else "none"


def fetch(
    repo: str,
    revision: str,
    files: Sequence[Wanted | str],
    *,
    ref: str | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Bring files of a commit into the cache, those that are not there, and return their paths in order.

    A file that another tool put there is hashed once. `ref` is the branch or tag to note as this commit. Raises
    Offline, Gated, NotOnHub, DiskFull, HashMismatch, DownloadFailed.
    """
    wanted, say = [cache.wanted(file) for file in files], progress or cache.silent
    if not cache.COMMIT.fullmatch(revision):
        raise UsageError(f"{revision!r} is not a commit of 40 hexadecimal digits: resolve it first.")
    reason = wire.forbidden(offline)
    if (found := cached(repo, revision, wanted)) is not None:
        damaged = [path for path, file in zip(found, wanted, strict=True) if not cache.intact(path, repo, file, say)]
        if not damaged:
            return found
        if reason:
            raise HashMismatch(f"{damaged[0]} is damaged: its bytes do not have the promised hash. Pull it again.")
    if reason:
        raise Offline(f"{repo} is not on this machine, and {reason}.")
    return _bring(repo, revision, wanted, ref, say)


def _bring(repo: str, revision: str, wanted: Sequence[Wanted], ref: str | None, say: Progress) -> list[Path]:
    folder = cache.folder(repo)
    promises = [wire.promise(repo, revision, file) for file in wanted]
    try:
        for name in ("blobs", "snapshots"):  # other tools call a folder without snapshots corrupted
            (folder / name).mkdir(parents=True, exist_ok=True)
        download.check_room(folder, promises)
        paths = [download.install(repo, revision, promise, say) for promise in promises]
        if ref is not None and ref != revision:
            cache.note_ref(folder, ref, revision)
    except EdgeError:
        raise
    except OSError as error:
        raise download.disk_trouble(error, folder, promises) from error
    return paths
