"""What the documentation says of the chat is kept by tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from edgellm.repl import table

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "chat.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="docs/ is not part of an installed package")


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def known_tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }


def test_every_yes_of_ours_names_a_test_that_exists() -> None:
    known = known_tests()
    assert len(rows()) > 30
    for row in rows():
        assert len(row) == 8, row
        named = re.fullmatch(r"`(test_\w+)`", row[2])
        assert row[1] == "–" if named is None else named[1] in known, row


def test_every_command_is_on_the_page() -> None:
    page = PAGE.read_text()
    assert [name for name in table.COMMANDS if f"/{name}" not in page] == []


def test_every_picture_is_there_and_loads_nothing() -> None:
    linked = re.findall(r"\]\((pictures/[^)]+\.svg)\)", PAGE.read_text())
    assert linked
    for path in (ROOT / "docs" / "pictures").glob("*.svg"):
        assert "url(http" not in path.read_text()
        assert "@font-face" not in path.read_text()
    assert all((ROOT / "docs" / path).exists() for path in linked)
