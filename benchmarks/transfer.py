"""What hashing while downloading costs: the same file through the real client, with SHA-256 and with a hash that does nothing.

    python benchmarks/transfer.py [--mib 192] [--rounds 5] [--mbit 1000]

A hub on the loopback sends at the rate of a fast line (1 Gbit/s unless told), and then as fast as it can. Rounds alternate;
medians are compared within this one run. On the loopback without a limit the client computes nothing but hashes, so that
figure is the worst there can be, and no user's network looks like it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent / "tests")]

import loopback_hub

from edgellm import hub
from edgellm.hub import cache

REPO = "somebody/Big-GGUF"
_PIECE_BYTES = 1 << 18


class Nothing:
    """A hash that agrees with everything."""

    def __init__(self, digest: str) -> None:
        self._digest = digest

    def update(self, data: Any) -> None:
        """Take data."""

    def hexdigest(self) -> str:
        """Say what was promised."""
        return self._digest


class Paced:
    """A socket's file that takes no more than so many bits a second."""

    def __init__(self, file: Any, mbit: float) -> None:
        self._file, self._mbit = file, mbit
        self.flush, self.close, self.closed = file.flush, file.close, False

    def write(self, data: bytes) -> int:
        """Write in pieces, each no sooner than the line would have it."""
        start = time.perf_counter()
        for at in range(0, len(data), _PIECE_BYTES):
            self._file.write(data[at : at + _PIECE_BYTES])
            if self._mbit and (early := at * 8 / (self._mbit * 1e6) - (time.perf_counter() - start)) > 0:
                time.sleep(early)
        return len(data)


def serve(mib: int, mbit: float) -> None:
    """Be the hub, in a process of its own, until standard input ends."""

    def paced(self: Any, answer: Any) -> None:
        self.wfile = Paced(self.wfile, mbit)
        send(self, answer)

    send = loopback_hub._Handler._send
    loopback_hub._Handler._send = paced  # type: ignore[method-assign]
    with loopback_hub.LoopbackHub() as server:
        server.add(REPO, {"big-Q4_K_M.gguf": os.urandom(1 << 20) * mib})
        print(server.url, flush=True)
        sys.stdin.read()


def download(*, hashed: bool) -> float:
    """Download into an empty cache; returns seconds."""
    real = cache.Promise.hasher
    if not hashed:
        cache.Promise.hasher = lambda self: Nothing(self.digest)  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            os.environ["HF_HOME"] = folder
            remote = hub.resolve(REPO)
            start = time.perf_counter()
            hub.fetch(remote.repo, remote.revision, remote.files)
            return time.perf_counter() - start
    finally:
        cache.Promise.hasher = real  # type: ignore[method-assign]


def compare(mib: int, rounds: int, mbit: float) -> float:
    """Print medians and their ratio; returns the share that hashing adds."""
    command = [sys.executable, __file__, "--serve", "--mib", str(mib), "--mbit", str(mbit)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        os.environ["HF_ENDPOINT"] = server.stdout.readline().strip()
        pairs = [(download(hashed=True), download(hashed=False)) for _ in range(rounds)]
        server.terminate()
    with_hash, without = (statistics.median(times) for times in zip(*pairs, strict=True))
    line = f"{mbit:,.0f} Mbit/s" if mbit else "no limit"
    print(
        f"{line:>14}  {mib} MiB  with SHA-256 {with_hash:.2f} s  without {without:.2f} s  cost {with_hash / without - 1:+.1%}"
    )
    return with_hash / without - 1


def main() -> None:
    """Read the options and compare."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mib", type=int, default=192)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--mbit", type=float, default=1000.0)
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    os.environ["NO_PROXY"] = "*"
    if chosen.serve:
        serve(chosen.mib, chosen.mbit)
    else:
        compare(chosen.mib, chosen.rounds, chosen.mbit)
        compare(chosen.mib, chosen.rounds, 0.0)


if __name__ == "__main__":
    main()
