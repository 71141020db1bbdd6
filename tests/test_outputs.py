"""Files that are written: refused in words before the work, whole in their place or not there at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgellm import outputs
from edgellm.errors import DiskFull, OutputFailed, UsageError


def test_what_cannot_be_written_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    for refused, words in (
        (lambda: outputs.check(tmp_path), "is a folder"),
        (lambda: outputs.check(tmp_path / "no" / "b"), "there is no folder"),
        (lambda: outputs.check(tmp_path / "a", source=tmp_path / "a"), "is what is read"),
        (lambda: outputs.check(tmp_path / "a", overwrite=False), "is there already"),
    ):
        with pytest.raises(UsageError, match=words):
            refused()
    outputs.check(tmp_path / "a", source=tmp_path / "b")
    outputs.check(tmp_path / "b", overwrite=False)


def test_a_file_larger_than_the_disk_is_refused(tmp_path: Path) -> None:
    outputs.check_room(tmp_path / "a", 1)
    with pytest.raises(DiskFull, match="are free") as refused:
        outputs.check_room(tmp_path / "a", 1 << 62)
    assert refused.value.needed_bytes == 1 << 62


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    outputs.write(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(outputs.os, "replace", full)
        with pytest.raises(OutputFailed, match="No space left"):
            outputs.write(path, b"new")
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])
    outputs.write(path, b"new")
    assert path.read_bytes() == b"new"


def test_what_is_no_file_is_written_to_and_not_replaced() -> None:
    sink = Path("/dev/null")
    if not sink.is_char_device():
        pytest.skip("no /dev/null here")
    outputs.write(sink, b"gone")
    assert sink.is_char_device()
