"""The model that an adapter is trained for: a Hugging Face folder, a name on the hub, or a GGUF file of the catalogue or disk.

Finds it, has it here, verified, and says how it wants to be asked. A GGUF's weights are read back by transformers: right for an
adapter that will run beside exactly these. torch and transformers are imported when weights are wanted, not before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgellm import catalog, gguf, hub, source, template
from edgellm.errors import EngineMissing, TemplateError, UsageError
from edgellm.finetune import lengths, vocab
from edgellm.finetune.layout import Layout
from edgellm.finetune.lengths import Count
from edgellm.finetune.vocab import Pieces

Shape = Literal["auto", "chat", "raw"]
Progress = source.Progress


@dataclass(frozen=True, slots=True)
class Base:
    """A base model, found but not necessarily here."""

    name: str
    path: Path | None = None  # a folder, or a .gguf file
    revision: str = ""  # the commit on the hub, or the sha256 of a file that came from nowhere
    remote: hub.Remote | None = None
    header: gguf.Header | None = field(default=None, repr=False)
    hint: str | None = None  # the chat format that the catalogue knows

    @property
    def is_gguf(self) -> bool:
        """Whether the weights come out of a GGUF file."""
        return self.header is not None

    def here(self, *, progress: Progress | None = None, offline: bool = False, weights: bool = True) -> Base:
        """Have it on this disk, verified; without `weights`, only what tells how it reads."""
        if self.remote is None or self.path is not None:
            return self
        files = [
            file for file in self.remote.files if weights or not file.name.endswith((".safetensors", ".index.json"))
        ]
        paths = hub.fetch(
            self.remote.repo, self.remote.revision, files, ref=self.remote.ref, progress=progress, offline=offline
        )
        return Base(self.name, paths[0].parent, self.remote.revision, self.remote)

    def layout(self, shape: Shape = "auto") -> Layout:
        """How it is asked: as a chat where it has a template, else raw. Raises UsageError for a chat without one."""
        if shape == "raw":
            return Layout()
        assert self.path
        found: template.Template | None
        if self.header:
            try:
                found = template.for_model(self.header.metadata, self.hint)
            except TemplateError:
                if shape == "chat" or self.header.chat_template:
                    raise
                found = None
        else:
            found = vocab.template(self.path)
        if found is None and shape == "chat":
            raise UsageError(f"{self.name} has no chat template: train it with --layout raw.")
        return Layout(found)

    def pieces(self) -> Pieces:
        """Its vocabulary, for laying examples out token by token."""
        assert self.path
        if self.header is None:
            return vocab.folder(self.path)
        with quiet():
            return vocab.of_gguf(self.path, self.header.metadata)

    @contextmanager
    def count(self, layout: Layout) -> Iterator[Count]:
        """Count tokens with the real tokenizer: llama.cpp's own in a worker for a GGUF file."""
        if self.header is None:
            yield lengths.by_pieces(self.pieces(), layout)
            return
        from edgellm.loading import load

        with load(str(self.path), slots=1, context=256, gpu_layers=0) as model:
            yield lengths.by_model(model, layout)

    def fingerprint(self) -> str:
        """What tells these weights from all others: the commit, or the sha256 of the files."""
        if self.revision:
            return self.revision
        assert self.path
        if self.header:
            return _sha256(self.path)
        return hashlib.sha256("".join(map(_sha256, sorted(self.path.glob("*.safetensors")))).encode()).hexdigest()

    def weights(self, *, four_bit: bool, dtype: Any) -> Any:
        """Read the network. Raises UsageError where the platform or the file cannot."""
        assert self.path
        with quiet():
            from transformers import AutoModelForCausalLM

            options: dict[str, Any] = {"dtype": dtype, "local_files_only": True, "trust_remote_code": False}
            if four_bit:
                options["quantization_config"] = four_bits(self)
            try:
                if self.header:
                    return AutoModelForCausalLM.from_pretrained(
                        str(self.path.parent), gguf_file=self.path.name, **options
                    )
                return AutoModelForCausalLM.from_pretrained(str(self.path), use_safetensors=True, **options)
            except MemoryError:
                raise
            except Exception as error:  # of transformers, safetensors and gguf, which have no common root
                said = " ".join(str(error).split())[:300].rstrip(".")
                raise UsageError(f"transformers cannot read the weights of {self.name}: {said}.") from error


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find(name: str, *, offline: bool = False) -> Base:
    """Make sense of BASE. Asks the hub only for `user/repo`. Raises UsageError, ModelUnknown, NotOnHub, Offline, Gated."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise UsageError(f"{name} is no model: it has no config.json.")
        return Base(folder.resolve().name, folder.resolve())
    meant = catalog.reference(name)
    if meant.path is None and meant.entry is None and meant.quant is None and meant.file is None:
        remote = hub.weights(meant.repo, meant.revision, offline=offline)
        return Base(meant.repo, revision=remote.revision, remote=remote)
    found = source.find(name, offline=offline)
    if found.here is None:
        raise UsageError(
            f"{name} is not on this machine. Train on its original weights, which the hub has as user/repo, or pull it first."
        )
    if len(found.here) > 1:
        raise UsageError(
            f"{name} is split into {len(found.here)} files, which cannot be read for training: name a folder."
        )
    path = Path(found.here[0])
    header = gguf.read(str(path))
    return Base(name, path, found.revision, header=header, hint=found.entry.template if found.entry else None)


def four_bits(base: Base) -> Any:
    """How to load the weights in 4 bits (NF4; Dettmers et al. 2023), where this machine can. Raises UsageError."""
    import importlib.util

    import torch

    if base.is_gguf:
        raise UsageError("--four-bit needs the original weights: name a Hugging Face folder or user/repo, not a GGUF.")
    if not torch.cuda.is_available():
        raise UsageError(
            "--four-bit needs an NVIDIA GPU and a torch built for it: leave it out to train in full precision."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError("--four-bit needs one more package: pip install bitsandbytes.")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def need() -> None:
    """Refuse to go on without the packages that training takes. Raises EngineMissing that says how to get them."""
    import importlib.util

    missing = [name for name in ("torch", "transformers", "peft") if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineMissing(f"{vocab.MISSING} ({', '.join(missing)} missing).")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' own bars and advice off the terminal; what goes wrong, they raise."""
    import io
    import warnings
    from contextlib import redirect_stderr

    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
