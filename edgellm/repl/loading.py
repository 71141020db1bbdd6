"""A model on its way into memory while the person already types, and the key that stops an answer."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from edgellm.repl.show import gib

if TYPE_CHECKING:
    from edgellm.model import Model

Progress = Callable[[str, int, int], None]
Opener = Callable[[str | None, Progress], "Model"]
"""Opens a model by name (None: the default one); tells its progress as (file, bytes so far, bytes in all)."""


class Loading:
    """A model that is being opened in a thread."""

    def __init__(self, opener: Opener, name: str | None) -> None:
        self._name = name or "the model"
        self._progress = ""
        self._model: Model | None = None
        self._error: BaseException | None = None
        self._abandoned = False
        self._lock = threading.Lock()
        # Not the thread's own end: a `join` that Ctrl-C interrupts takes a running thread for a finished one (Python 3.11).
        self._ended = threading.Event()
        threading.Thread(target=self._open, args=(opener, name), daemon=True).start()

    @property
    def done(self) -> bool:
        """The model is there, or will never be."""
        return self._ended.is_set()

    @property
    def failed(self) -> bool:
        """The model will never be there."""
        return self.done and self._error is not None

    def __str__(self) -> str:
        return f"loading {self._name}{self._progress}"

    def wait(self, longest_s: float | None = None) -> bool:
        """Wait for the end, in turns that Ctrl-C can interrupt; says whether it came."""
        until = time.monotonic() + (longest_s if longest_s is not None else float("inf"))
        while not self.done and time.monotonic() < until:
            self._ended.wait(min(0.05, max(0.0, until - time.monotonic())))
        return self.done

    def result(self) -> Model:
        """Wait, and return the model. Raises what opening it raised."""
        self.wait()
        if self._error:
            raise self._error
        assert self._model
        return self._model

    def abandon(self) -> None:
        """Close the model as soon as it is there; nobody wants it any more."""
        with self._lock:
            self._abandoned = True
            if self._model:
                self._model.close()

    def _open(self, opener: Opener, name: str | None) -> None:
        try:
            model = opener(name, self._report)
        except BaseException as error:  # raised again by `result`, in the thread that asks
            self._error = error
        else:
            with self._lock:
                self._model = model
                if self._abandoned:
                    model.close()
        self._ended.set()

    def _report(self, file: str, done_bytes: int, total_bytes: int) -> None:
        share = f", {100 * done_bytes // total_bytes} %" if total_bytes else ""
        self._progress = f": {file}, {gib(done_bytes)} of {gib(total_bytes)}{share}"


class Brake:
    """Ctrl-C while an answer runs: raises KeyboardInterrupt inside `on`, never in the middle of printing or saving."""

    def __init__(self) -> None:
        self._armed = False
        self._pulled = False
        self._ours = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Brake:
        if self._ours:
            self._before = signal.signal(signal.SIGINT, self._pull)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Let Ctrl-C through, also one that came a moment before."""
        self._armed = True
        try:
            if self._pulled:
                raise KeyboardInterrupt
            yield
        finally:
            self._armed = self._pulled = False

    def _pull(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the shape of a signal handler
        if self._armed:
            self._armed = False
            raise KeyboardInterrupt
        self._pulled = True
