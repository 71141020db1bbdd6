"""What runs in a worker's child process: it reads one opening, then prompts and cancels, until the pipe ends.

The other end is `worker`. Whatever C prints goes to standard error; the answers go through a pipe of their own.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from edgellm import engines, wire
from edgellm.engines.devices import look
from edgellm.errors import EdgeError, to_wire
from edgellm.spawn import longest_step_s

if TYPE_CHECKING:
    from edgellm.prompt import Event
    from edgellm.service import Service


def main() -> None:
    """Run the child: read one opening, then prompts and cancels, until the pipe ends."""
    # While code is read, nothing is garbage, and who hears what to load must not wait 5 ms for the interpreter.
    gc.disable()
    turn_s = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _no_core_dumps()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever C prints must not break the protocol
    try:
        _live(out, turn_s)
    except BaseException:
        traceback.print_exc()  # its last line is what the parent quotes
        sys.stderr.flush()
        os._exit(1)  # without the interpreter's farewell, which would abort over the reading thread's lock on stdin


def _live(out: IO[bytes], turn_s: float) -> None:
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    service: list[Service] = []
    threading.Thread(target=_read, args=(sys.stdin.buffer, inbox, service), daemon=True).start()

    looked = "look" in (message := inbox.get())
    if looked:
        _write(out, {"seen": wire.seen(look())})

    # Most of this process's code is read while the parent plans, and while C reads the weights.
    reader = threading.Thread(target=_read_code, daemon=True)
    reader.start()
    if looked:
        message = inbox.get()
    opening = wire.opening(message["open"])
    begun = engines.begin(opening.engine, opening.paths, opening.plan, opening.adapter_paths)
    sys.setswitchinterval(turn_s)
    reader.join()  # two threads that want the interpreter hold each other up
    from edgellm.service import Service

    try:
        service.append(Service(opening, begun))
    except EdgeError as error:
        _write(out, {"failed": to_wire(error)})
        os._exit(1)
    _write(out, {"ready": True})
    gc.freeze()  # what is there now stays, and is not searched again
    gc.enable()
    _serve(service[0], inbox, out, Watch())


def _read_code() -> None:
    for name in ("service", "engines.llama_cpp", "sandbox"):  # templates need the last
        with contextlib.suppress(ImportError):  # whoever needs it then says so
            importlib.import_module(f"edgellm.{name}")


def _serve(service: Service, inbox: queue.SimpleQueue[dict[str, Any]], out: IO[bytes], watch: Watch) -> None:
    from edgellm.service import added

    while True:
        events: list[Event] = []
        while (service.idle and not events) or not inbox.empty():
            message = inbox.get()
            if "ask" in message:
                events += added(service, message["ask"], wire.prompt(message["prompt"]))
            elif event := service.cancel(message["cancel"]):
                events.append(event)
        if not service.idle:
            with watch:
                events += service.step()
        if events:
            _write(out, {"events": [wire.described(event) for event in events]})


class Watch:
    """Ends this process when a step takes longer than any step may: a driver that hangs would be waited for all night.

    $EDGELLM_HANG_S is the longest time in seconds; 0 waits forever.
    """

    def __init__(self) -> None:
        self._longest_s = longest_step_s()
        self._begun: float | None = None
        if self._longest_s:
            threading.Thread(target=self._look, daemon=True).start()

    def __enter__(self) -> None:
        self._begun = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._begun = None

    def _look(self) -> None:
        while True:
            time.sleep(min(1.0, self._longest_s / 4))
            begun = self._begun
            if begun is not None and time.monotonic() - begun > self._longest_s:
                print(f"no step ended within {self._longest_s:g} s: the engine hangs.", file=sys.stderr, flush=True)
                os._exit(1)


def _read(stdin: IO[bytes], inbox: queue.SimpleQueue[dict[str, Any]], service: list[Service]) -> None:
    """Read the parent's lines; a cancel also interrupts the running step. The end of the pipe ends the process at once."""
    try:
        for line in stdin:
            message = json.loads(line)
            inbox.put(message)
            if "cancel" in message and service:
                service[0].stop()
    finally:  # also after half a line, the last word of a parent that was killed
        os._exit(0)


def _write(out: IO[bytes], message: Mapping[str, Any]) -> None:
    try:
        out.write(wire.line(message))
        out.flush()
    except BrokenPipeError:
        os._exit(0)


def _no_core_dumps() -> None:
    """Prompts must not end up in a core file."""
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
