"""How fast this machine's processors read memory: what bounds the speed of every answer computed from RAM.

Measured, in a fraction of a second, by searching pages for a byte that is not there. It knows no model.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
import time

_PIECE_BYTES = 64 << 20  # of each thread and turn; together more than the caches of most processors hold
_TURNS = 3


def read_bytes_s(threads: int) -> int:
    """Read pages of RAM with so many threads at once; returns bytes a second, the best of a few turns.

    A thread takes 64 MiB. The C library's memchr reads as fast as the machine can, and lets the other threads run.
    """
    libc = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
    libc.memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    libc.memchr.restype = ctypes.c_void_p
    pages = [_written_pages() for _ in range(threads)]
    places = [ctypes.addressof(ctypes.c_char.from_buffer(one)) for one in pages]
    return max(_turn(libc.memchr, places) for _ in range(_TURNS))


def _written_pages() -> mmap.mmap:
    """Memory that is really there: pages never written to are all the same one."""
    pages = mmap.mmap(-1, _PIECE_BYTES)
    pages.write(b"\1" * _PIECE_BYTES)
    return pages


def _turn(search: ctypes._NamedFuncPointer, places: list[int]) -> int:
    readers = [threading.Thread(target=search, args=(place, 0, _PIECE_BYTES)) for place in places]
    start = time.perf_counter()
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return int(len(places) * _PIECE_BYTES / (time.perf_counter() - start))
