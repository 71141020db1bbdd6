"""Which GPUs the installed llama.cpp build can use, asked in a child process: broken drivers hang, or crash.

`python -m edgellm.engines.devices` prints the answer as one line of JSON. It knows nothing about models or plans.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
import sys
import types
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from edgellm.machine import Answer, Device

# ggml-backend.h, enum ggml_backend_dev_type
_GPU, _INTEGRATED = 1, 2
_LOOK_S = 30.0  # a cold CUDA driver can take ten seconds to wake


class _Properties(ctypes.Structure):  # ggml-backend.h, struct ggml_backend_dev_props
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("free", ctypes.c_size_t),
        ("total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("id", ctypes.c_char_p),
        ("capabilities", ctypes.c_bool * 16),  # five today; room for more
    )


def low_level() -> Any:
    """Return llama-cpp-python's low-level module without importing its high-level package, which costs 0.2 s more.

    A bare parent module stands in while the submodule loads; a later `import llama_cpp` still gets the real one. Raises
    ImportError (not installed) or whatever the library raises when its shared object cannot be loaded.
    """
    name = "llama_cpp.llama_cpp"
    if name in sys.modules:
        return sys.modules[name]
    if "llama_cpp" in sys.modules:
        return importlib.import_module(name)
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("llama-cpp-python is not installed")
    bare = types.ModuleType("llama_cpp")
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules["llama_cpp"] = bare
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules["llama_cpp"]


def ask(timeout_s: float = _LOOK_S) -> Answer:
    """Ask the installed build in a child process; never raises.

    A build that is missing, crashes or hangs gives no devices, `offload` None, and a note that says which.
    """
    import subprocess  # not needed where the question is answered: a worker's process starts with this room

    command = [sys.executable, "-m", "edgellm.engines.devices"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, env=environment(), check=False)
    except subprocess.TimeoutExpired:
        return Answer((), None, f"llama.cpp was asked for its GPUs and did not answer within {timeout_s:g} s.")
    except OSError as error:
        return Answer((), None, f"llama.cpp could not be asked for its GPUs: {error}.")
    return _read(done.returncode, done.stdout, done.stderr)


def environment() -> dict[str, str]:
    """The environment of a child that finds modules where this process does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _read(code: int, said: bytes, complaint: bytes) -> Answer:
    """Turn what the child printed into an answer."""
    if code != 0:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        last = complaint.decode("utf-8", "replace").strip().splitlines()[-1:]
        return Answer((), None, f"llama.cpp could not be asked for its GPUs ({how}{': ' + last[0] if last else ''}).")
    try:
        facts = json.loads(said.splitlines()[-1])  # drivers may print lines of their own before it
        return Answer(tuple(Device(**device) for device in facts["devices"]), facts["offload"], facts["note"])
    except (ValueError, IndexError, KeyError, TypeError) as error:
        return Answer((), None, f"llama.cpp's answer about its GPUs could not be read ({error}).")


def look() -> Answer:
    """Ask the installed build here and now: this loads C code into the process."""
    try:
        lib = low_level()
    except (ImportError, OSError, RuntimeError) as error:
        return Answer((), None, f"llama-cpp-python cannot be used: {error}.")
    hush(lib)
    lib.llama_backend_init()
    devices = tuple(_devices(lib))
    lib.llama_log_set(lib.llama_log_callback(), None)
    return Answer(devices, bool(lib.llama_supports_gpu_offload()), "")


def hush(lib: Any) -> None:
    """Let llama.cpp's log lines go nowhere: libc's abs takes a level as a log callback does, and waits for nobody.

    A Python callback would take the interpreter's lock for every line, which a thread that reads code holds for long.
    """
    libc = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
    lib.llama_log_set(ctypes.cast(libc.abs, lib.llama_log_callback), None)


def free_bytes() -> dict[str, int]:
    """Free memory of every GPU by name, here and now, in a process that has llama.cpp loaded."""
    return {device.name: device.free_bytes for device in _devices(low_level())}


def symbol(lib: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Bind a function that libllama or one of the ggml libraries beside it exports."""
    for handle in _handles(lib):
        try:
            function = handle[name]
        except AttributeError:
            continue
        function.restype, function.argtypes = result, list(arguments)
        return function
    raise ImportError(f"the installed llama.cpp build does not export {name}")


def _handles(lib: Any) -> Iterator[Any]:
    """Yield the shared libraries to search: on Linux and macOS libllama reaches the others, on Windows nothing does."""
    yield lib._lib
    folder = os.path.dirname(os.path.abspath(lib._lib._name))
    for stem in ("ggml", "ggml-base", "ggml-cpu"):
        for file in (f"lib{stem}.so", f"lib{stem}.dylib", f"{stem}.dll"):
            if os.path.exists(path := os.path.join(folder, file)):
                yield ctypes.CDLL(path)


def _devices(lib: Any) -> Iterator[Device]:
    """Yield the GPUs that llama.cpp would use: integrated ones only where there is no other (src/llama.cpp)."""
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    count = symbol(lib, "ggml_backend_dev_count", size)
    get = symbol(lib, "ggml_backend_dev_get", pointer, size)
    properties = symbol(lib, "ggml_backend_dev_get_props", None, pointer, ctypes.POINTER(_Properties))
    buffers = symbol(lib, "ggml_backend_dev_buffer_type", pointer, pointer)
    alignment = symbol(lib, "ggml_backend_buft_get_alignment", size, pointer)
    registry = symbol(lib, "ggml_backend_dev_backend_reg", pointer, pointer)
    backend = symbol(lib, "ggml_backend_reg_name", ctypes.c_char_p, pointer)
    found = []
    for index in range(count()):
        device, facts = get(index), _Properties()
        properties(device, ctypes.byref(facts))
        if facts.type in (_GPU, _INTEGRATED):
            name = backend(registry(device)).decode()
            found.append(_device(facts, name, alignment(buffers(device))))
    discrete = [device for device in found if device.kind == "gpu"]
    yield from discrete or found


def _device(facts: _Properties, backend: str, alignment_bytes: int) -> Device:
    return Device(
        name=_decoded(facts.name),
        description=_decoded(facts.description),
        kind="gpu" if facts.type == _GPU else "integrated",
        total_bytes=facts.total,
        free_bytes=min(facts.free, facts.total),
        backend=backend,
        alignment_bytes=alignment_bytes,
        row_padding=backend in ("CUDA", "ROCm", "MUSA"),
        id=_decoded(facts.id),
    )


def _decoded(text: bytes | None) -> str:
    return (text or b"").decode("utf-8", "replace")


if __name__ == "__main__":
    answer = look()
    print(json.dumps({**answer._asdict(), "devices": [asdict(device) for device in answer.devices]}), flush=True)
    os._exit(0)  # drivers take their time, and sometimes crash, while they unload
