"""From what people type after `-m` to a model file: where it is, what its header says, and how to have it on this disk.

Walks through the fact rooms in order; the header of a file that is not here yet is read from the hub by range, so that a
model can be refused, or planned for, before gigabytes travel. Knows nothing of engines.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm import gguf
from edgellm.errors import Offline

if TYPE_CHECKING:
    from edgellm import catalog, hub

Progress = Callable[[str, int, int], None]
"""Called while downloading: file name, bytes so far, bytes in all."""

GB = 1_000_000_000
# A model that fills more of the free memory than this leaves nothing for the context and for the other programs.
_ROOM = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model file, here or on the hub."""

    name: str
    entry: catalog.Entry | None = None
    path: str | None = None
    repo: str = ""
    revision: str = ""
    files: tuple[hub.Wanted, ...] = ()
    ref: str | None = None

    @property
    def here(self) -> tuple[str, ...] | None:
        """Paths of all parts on this disk, the first first; None when something must be downloaded."""
        if self.path is not None:
            return (self.path,)
        from edgellm import hub  # a room that a file of one's own does not need

        found = hub.cached(self.repo, self.revision, self.files)
        return tuple(map(str, found)) if found is not None else None

    @property
    def download_bytes(self) -> int | None:
        """Size of all files, or None where nobody has stated it."""
        sizes = [file.bytes for file in self.files]
        return sum(size for size in sizes if size) if all(sizes) else None

    def header(self, *, offline: bool = False) -> gguf.Header:
        """Read the header, from this disk or by range from the hub; refuses files that no engine could open."""
        if paths := self.here:
            return gguf.read(paths[0])
        if offline:
            raise Offline(f"{self.name} is not on this machine, and the network may not be used. Pull it first.")
        from edgellm import hub

        parts = [
            gguf.read_from(*hub.ranged(self.repo, self.revision, file.name), f"{self.repo}/{file.name}", expect="part")
            for file in self.files
        ]
        return gguf.join(parts)

    def fetch(self, *, offline: bool = False, progress: Progress | None = None) -> tuple[str, ...]:
        """Have the files on this disk, verified; returns their paths."""
        if self.path is not None:
            return (self.path,)
        from edgellm import hub

        found = hub.fetch(self.repo, self.revision, self.files, ref=self.ref, offline=offline, progress=progress)
        return tuple(map(str, found))


def find(model: str, *, offline: bool = False) -> Source:
    """Make sense of a model's name. Asks the hub only for `user/repo`. Raises ModelUnknown, NotOnHub, Offline, Gated."""
    if model.startswith(("/", "./", "../")) and os.path.isfile(model):  # no name of a catalogue looks so
        return Source(name=Path(model).stem, path=model)
    from edgellm import catalog

    meant = catalog.reference(model)
    if meant.path is not None:
        return Source(name=Path(meant.path).stem, path=meant.path)
    if meant.entry is not None:
        entry = meant.entry
        return Source(
            name=entry.name, entry=entry, path=entry.path, repo=entry.repo, revision=entry.revision, files=entry.files
        )
    from edgellm import hub

    remote = hub.resolve(meant.repo, meant.quant, meant.revision, meant.file, offline=offline)
    return Source(name=model, repo=remote.repo, revision=remote.revision, files=remote.files, ref=remote.ref)


def default() -> tuple[str, str]:
    """Name the model that is used when none is named, and why: $EDGELLM_MODEL, the best installed one, or `demo`."""
    if name := os.environ.get("EDGELLM_MODEL"):
        return name, "named by EDGELLM_MODEL"
    from edgellm import hub

    here = [entry for entry in fitting() if entry.repo and hub.cached(entry.repo, entry.revision, entry.files)]
    if here:
        return here[0].name, "the largest installed model that fits this machine"
    return "demo", "no other model is installed"


def fitting() -> list[catalog.Entry]:
    """Entries of the catalogue that this machine's free memory can hold, the largest first."""
    from edgellm import catalog, hardware

    room = hardware.detect().ram_free_bytes * _ROOM
    sized = [(entry.bytes or 0, entry) for entry in catalog.entries() if entry.repo]
    return [entry for size, entry in sorted(sized, key=lambda pair: -pair[0]) if 0 < size <= room]


def advice() -> str:
    """Say which real model to pull for this machine."""
    best = next((entry for entry in fitting() if entry.recommended), None)
    if best is None:
        return "This machine is too small for the models of the catalogue."
    return f"For real work: edgellm pull {best.name} ({(best.bytes or 0) / GB:.1f} GB)."
