"""Every example runs as its first line says, offline, on the embedded model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
