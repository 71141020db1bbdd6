"""Every example runs as its first line says, offline, on the embedded model."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parent.parent

# Ray warns about itself; tests/test_rows.py runs its example.
EXAMPLES = sorted(set((ROOT / "examples").glob("*.py")) - {ROOT / "examples" / "ray_data.py"})


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(path: Path) -> None:
    if path.name == "finetune_story.py":
        for needed in ("torch", "transformers", "peft"):
            pytest.importorskip(needed, reason="needs the extra finetune")
    command = [sys.executable, "-W", "error", str(path)]
    done = subprocess.run(command, input="Hello!\n", capture_output=True, text=True, timeout=280)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    assert path.name in (path.parent / "README.md").read_text()


COMMANDS = re.findall(r"^\|[^|]+\| `edgellm ([^`]+)` \|", (ROOT / "examples" / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "command", [pytest.param(one, marks=pytest.mark.slow if index % 4 else ()) for index, one in enumerate(COMMANDS)]
)
def test_command_runs(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgellm.cli import edgellm

    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(edgellm, shlex.split(command), catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stdout.strip()


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 10
