"""llama.cpp's own quantizer in a child process: an assertion or a lack of memory ends the child, not us.

`python -m edgellm.engines.quantizer` reads one question as JSON, says how large the answer will be, waits for a line, and
then tells every tensor it comes to. It knows files and numbers of types; which are sensible is decided above.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any

from edgellm.engines.devices import environment, low_level
from edgellm.errors import EngineCrashed, EngineFailed, EngineMissing

_TENSOR = re.compile(r"\[\s*\d+/\s*\d+\]\s+(\S+)\s+-")
_SIZE = re.compile(r"quant size\s*=\s*([\d.]+) MiB")
_MIB = 1 << 20


def run(
    source: str,
    target: str,
    file_type: int,
    *,
    requantize: bool,
    threads: int,
    sized: Callable[[int], None],
    reached: Callable[[str], None],
) -> None:
    """Quantize a file into another, in a child process.

    `sized` is told the bytes of the result before the first is written, and may raise; `reached` is told every tensor.
    Raises EngineMissing, EngineFailed (the library refused) and EngineCrashed (it died).
    """
    question = {"source": source, "target": target, "type": file_type, "requantize": requantize, "threads": threads}
    command = [sys.executable, "-m", "edgellm.engines.quantizer"]
    with subprocess.Popen(
        command,
        bufsize=0,  # closing the pipe to a child that is dead must not try to say something
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**environment(), "GGML_NO_BACKTRACE": "1"},
    ) as child:
        assert child.stdin
        assert child.stdout
        try:
            _say(child.stdin, question)
            _converse(child.stdin, child.stdout, sized, reached)
            code = child.wait()
        except BaseException:
            child.kill()
            raise
    if code:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        died = -code if code < 0 else None
        raise EngineCrashed(f"llama.cpp died while quantizing {source} ({how}).", signal=died, phase="quantizing")


def _converse(to: IO[bytes], answers: IO[bytes], sized: Callable[[int], None], reached: Callable[[str], None]) -> None:
    for line in answers:
        try:
            said = json.loads(line)
        except ValueError:  # what some driver prints
            continue
        if "bytes" in said:
            sized(said["bytes"])
            _say(to, {"go": True})
        elif "tensor" in said:
            reached(said["tensor"])
        elif "missing" in said:
            raise EngineMissing(said["missing"])
        elif "failed" in said:
            raise EngineFailed(said["failed"])


def _say(pipe: IO[bytes], message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # its end is told by its exit code
        pipe.write(json.dumps(message).encode() + b"\n")
        pipe.flush()


def main() -> None:
    """Run the child."""
    questions = iter(sys.stdin.buffer.readline, b"")
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever C prints must not break the conversation
    for answer in _answers(questions):
        _say(out, answer)
    out.flush()
    os._exit(0)


def _answers(questions: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    question = json.loads(next(questions))
    try:
        lib = low_level()
    except (ImportError, OSError, RuntimeError) as error:
        yield {"missing": f"llama-cpp-python cannot be used ({error}). Install it: pip install llama-cpp-python."}
        return
    heard: list[tuple[int, str]] = []
    log = lib.llama_log_callback(lambda level, text, _: heard.append((level, text.decode("utf-8", "replace"))))
    lib.llama_log_set(log, None)
    lib.llama_backend_init()
    options = _options(lib, question)
    options.dry_run = True
    status = _quantize(lib, question, options)
    size = next((float(found[1]) for _, text in heard if (found := _SIZE.search(text))), None)
    if status or size is None:
        yield {"failed": _complaint(heard, question["source"])}
        return
    yield {"bytes": int(size * _MIB)}
    if not next(questions, b""):
        return
    heard.clear()
    yield from _told(lib, question, heard)


def _told(lib: Any, question: dict[str, Any], heard: list[tuple[int, str]]) -> Iterator[dict[str, Any]]:
    """Quantize in a thread, and pass on what it says meanwhile: ctypes lets go of the interpreter's lock."""
    import threading
    import time

    status: list[int] = []
    options = _options(lib, question)
    thread = threading.Thread(target=lambda: status.append(_quantize(lib, question, options)), daemon=True)
    thread.start()
    seen = 0
    while thread.is_alive() or seen < len(heard):
        if seen == len(heard):
            time.sleep(0.02)
            continue
        if found := _TENSOR.search(heard[seen][1]):
            yield {"tensor": found[1]}
        seen += 1
    if status != [0]:
        yield {"failed": _complaint(heard, question["source"])}


def _options(lib: Any, question: dict[str, Any]) -> Any:
    options = lib.llama_model_quantize_default_params()
    options.ftype, options.nthread = question["type"], question["threads"]
    options.allow_requantize = question["requantize"]
    return options


def _quantize(lib: Any, question: dict[str, Any], options: Any) -> int:
    return int(lib.llama_model_quantize(os.fsencode(question["source"]), os.fsencode(question["target"]), options))


def _complaint(heard: list[tuple[int, str]], source: str) -> str:
    """Return llama.cpp's last error: ggml.h, GGML_LOG_LEVEL_ERROR = 4."""
    words = [text.strip().rsplit(": ", 1)[-1] for level, text in heard if level == 4 and text.strip()]
    return f"llama.cpp could not quantize {source}{': ' + words[-1] if words else ''}."


if __name__ == "__main__":
    main()
