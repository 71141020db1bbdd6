"""A model as llama.cpp holds it: weights, adapters and one context, opened by C alone, in a thread that needs no interpreter.

It knows nothing of tokens: `llama_cpp` computes with it. Kept small, and free of numpy, so that weights are being read while the
rest of the code still is.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edgellm.decision import Plan
from edgellm.engines.devices import hush, low_level
from edgellm.engines.parameters import context_parameters, model_parameters
from edgellm.errors import EngineFailed, EngineMissing

# C holds only the address of a log callback, and calls it as long as the library is loaded: none may ever be freed.
_LOGS: list[Any] = []


class Loaded:
    """A loaded model, and its context once that is made. `complaints` are llama.cpp's last warnings and errors."""

    def __init__(self, paths: Sequence[str], plan: Plan, adapters: Sequence[str] = ()) -> None:
        """Load weights and adapters. Raises EngineMissing and EngineFailed."""
        self.lib = lib = _library()
        self.complaints: deque[str] = deque(maxlen=8)
        self.model: Any = None
        self.context: Any = None
        self._kept: list[Any] = []  # what C only points to
        self._paths, self._plan = [os.fsencode(path) for path in paths], plan
        hush(lib)  # a callback of ours would make C wait for the interpreter, line by line
        lib.llama_backend_init()
        self.model = self._heard(self._load, f"load {paths[0]}")
        # Before the context, which makes room in its graphs for the adapters that are there (graph_max_nodes).
        try:
            self.adapters = [self._load_adapter(path) for path in adapters]
        except EngineFailed:
            self.close()
            raise

    def make_context(self) -> Loaded:
        """Make the context; returns itself. Raises EngineFailed."""
        self.context = self._heard(self._make_context, f"make a context of {self._plan.cells:,} tokens")
        self._listen()
        return self

    def why(self) -> str:
        """What llama.cpp said last, to end a sentence with."""
        return f": {self.complaints[-1]}" if self.complaints else ""

    def close(self) -> None:
        """Free the context and the model, and with it the adapters; may be called twice."""
        if self.context:
            self.lib.llama_free(self.context)
        if self.model:
            self.lib.llama_model_free(self.model)
        self.context = self.model = None

    def _heard(self, attempt: Any, what: str) -> Any:
        """Try in silence; what fails is tried again with open ears, to say why."""
        found = attempt()
        if not found:
            self._listen()
            found = attempt()
            hush(self.lib)
        if not found:
            raise EngineFailed(f"llama.cpp could not {what}{self.why()}.")
        return found

    def _listen(self) -> None:
        """Keep llama.cpp's warnings and errors for our own messages instead of the terminal."""
        complaints = self.complaints

        def note(level: int, text: bytes, _: object) -> None:
            if level >= 3 and text.strip():  # ggml.h: GGML_LOG_LEVEL_WARN = 3, ERROR = 4, CONT = 5
                complaints.append(text.decode("utf-8", "replace").strip())

        log = self.lib.llama_log_callback(note)
        self.lib.llama_log_set(log, None)
        _LOGS.append(log)

    def _load(self) -> Any:
        params = model_parameters(self.lib, asdict(self._plan), self._kept)
        if len(self._paths) == 1:
            return self.lib.llama_model_load_from_file(self._paths[0], params)
        count = len(self._paths)
        return self.lib.llama_model_load_from_splits((ctypes.c_char_p * count)(*self._paths), count, params)

    def _load_adapter(self, path: str) -> Any:
        name = os.fsencode(path)
        return self._heard(lambda: self.lib.llama_adapter_lora_init(self.model, name), f"load the adapter {path}")

    def _make_context(self) -> Any:
        return self.lib.llama_init_from_model(self.model, context_parameters(self.lib, asdict(self._plan)))


class Loading:
    """A model that a thread is opening."""

    def __init__(self, paths: Sequence[str], plan: Plan, adapters: Sequence[str] = ()) -> None:
        """Begin."""
        self._loaded: Loaded | None = None
        self._mishap: BaseException | None = None
        self._half = threading.Event()
        self._thread = threading.Thread(target=self._open, args=(paths, plan, adapters))
        self._thread.start()

    def half(self) -> Loaded | None:
        """Wait for the model, whose vocabulary can be read while the context is still made; None if it went wrong."""
        self._half.wait()
        return self._loaded

    def wait(self) -> Loaded:
        """Return the model when it is open. Raises what went wrong."""
        self._thread.join()
        if self._mishap:
            if self._loaded:  # only now: the caller may have read its vocabulary
                self._loaded.close()
            raise self._mishap
        assert self._loaded
        return self._loaded

    def _open(self, paths: Sequence[str], plan: Plan, adapters: Sequence[str]) -> None:
        try:
            self._loaded = Loaded(paths, plan, adapters)
            self._half.set()
            self._loaded.make_context()
        except BaseException as mishap:  # whatever it is, it is told to whom it concerns
            self._mishap = mishap
        finally:
            self._half.set()


def _library() -> Any:
    try:
        return low_level()
    except (ImportError, OSError, RuntimeError) as error:  # not there, or its shared library cannot be loaded
        raise EngineMissing(
            f"llama-cpp-python cannot be used ({error}). Install it: pip install llama-cpp-python "
            "(compiles for some minutes), or from conda-forge, where it is prebuilt."
        ) from error
