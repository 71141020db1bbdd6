"""The README cannot rot: its map names every room, its Python runs, its commands are those that CI runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_map_names_every_room_once() -> None:
    rooms = {
        path.name + ("/" if path.is_dir() else "")
        for path in (ROOT / "edgellm").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    mapped = re.findall(r"^\|[^|]*\| `([\w.]+/?)`", README.split("## The map of the house")[1], re.MULTILINE)
    assert sorted(mapped) == sorted(set(mapped))
    assert rooms - {"__init__.py"} == set(mapped)


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.strip().splitlines()[-1][:40])
def test_python_examples_run(code: str) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_two_commands_and_ci_runs_exactly_these() -> None:
    setup, tests = blocks("bash")
    assert "edgellm demo" in setup
    assert tests.strip() == ".venv/bin/python -m pytest"
    assert "readme_command 1" in (ROOT / ".ci" / "run").read_text()
    assert "readme_command 2" in (ROOT / ".ci" / "run").read_text()
