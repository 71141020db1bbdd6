"""The README and docs/ cannot rot: the map names every room, Python runs, flags and links exist, CI runs the commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from edgellm.cli import edgellm

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"]
# Where a command stands: at the prompt of a console block, or in a code span.
COMMANDS = {
    command.split("#")[0].strip()
    for page in PAGES
    for command in re.findall(r"(?:^\$ (?:.*\| )?|`)edgellm ([^`\n]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
}


def blocks(language: str, *pages: Path) -> list[str]:
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages) if pages else README
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_map_names_every_room_once() -> None:
    rooms = {
        path.name + ("/" if path.is_dir() else "")
        for path in (ROOT / "edgellm").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    mapped = re.findall(r"^\|[^|]*\| `([\w.]+/?)`", README.split("## The map of the house")[1], re.MULTILINE)
    assert sorted(mapped) == sorted(set(mapped))
    assert rooms - {"__init__.py"} == set(mapped)


@pytest.mark.parametrize("code", blocks("python", *PAGES), ids=lambda code: code.strip().splitlines()[-1][:40])
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


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_flag_that_is_shown_exists(command: str) -> None:
    words = re.sub(r"'[^']*'|\"[^\"]*\"", "X", command).split()
    found: click.Command = edgellm
    while isinstance(found, click.Group) and words and (inner := found.get_command(click.Context(found), words[0])):
        found, words = inner, words[1:]
    assert found is not edgellm, f"there is no verb {words[0]!r}"
    known = {name for option in found.params for name in option.opts}
    assert {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)} - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)|(?:src|srcset)=\"([^\":]+)\"", page.read_text(encoding="utf-8"))
    assert [link for pair in links if (link := "".join(pair)) and not (page.parent / link).exists()] == []
