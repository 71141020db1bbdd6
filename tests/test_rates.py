"""What bounds a model on a device is measured with ggml's own operations, and a device that cannot be measured is no failure."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from edgellm import bandwidth
from edgellm.cli import forecasts
from edgellm.engines import rates


def test_the_processor_is_measured_as_any_device_is() -> None:
    found = rates.ask("CPU")
    assert found
    # The same memory, read by one thread through memchr: half as fast or four times as fast is noise and threads.
    assert 0.25 < found.bytes_s / bandwidth.read_bytes_s(1) < 16
    assert 1e9 < found.flops < 1e15


def test_what_is_copied_and_multiplied_is_neither_zero_nor_nothing_a_float_can_be() -> None:
    noise = np.frombuffer(rates._noise(1 << 16), np.float16)
    assert np.isfinite(noise).all()
    assert (noise < 0).any()
    assert (noise > 0).any()
    assert np.count_nonzero(noise) == len(noise)
    assert math.isclose(abs(noise).mean(), 0.1, rel_tol=0.5)


@pytest.mark.parametrize("name", ["CUDA7", "", "a\nb"])
def test_a_device_that_is_not_there_has_no_rates(name: str) -> None:
    assert rates.ask(name) is None
    assert forecasts._measured(name) == 0


def test_a_driver_that_hangs_or_dies_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    for script in ("sleep 60", "kill -9 $$", "echo nonsense", "echo '[1]'", "exit 3"):
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        assert rates.ask(f"CUDA{len(script)}", timeout_s=0.5) is None
