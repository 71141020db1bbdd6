"""The house stands: imports only fall, every third-party library enters through one room, and files stay readable."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "edgellm"

FLOORS = {
    "ground": ["errors"],
    "facts": [
        "catalog",
        "hub",
        "records",
        "outputs",
        "form",
        "gguf_bytes",
        "gguf",
        "preflight",
        "machine",
        "hardware",
        "bandwidth",
        "states",
        "documents",
        "adapter",
    ],
    "craft": [
        "decision",
        "sizes",
        "plan",
        "speed",
        "sampling",
        "prompt",
        "sandbox",
        "spelling",
        "formats",
        "history",
        "template",
        "text",
        "thoughts",
        "lookup",
        "constraint",
        "tasks",
    ],
    "engines": ["engines"],
    "loop": ["slots", "sequence", "loop", "scoring"],
    "model": [
        "source",
        "forecast",
        "opening",
        "margins",
        "tune",
        "service",
        "wire",
        "session",
        "here",
        "spawn",
        "child",
        "worker",
        "drive",
        "rows",
        "model",
        "route",
        "loading",
        "mapper",
        "demo",
    ],
    "doors": ["repl", "batch", "bench", "finetune", "evaluation", "compare", "quantize"],
    "roof": ["cli", "__init__", "__main__"],
}
"""Every room of the package, from the ground up. A module imports from lower floors only, and along STAIRS."""

STAIRS = {
    ("gguf", "gguf_bytes"),
    ("gguf", "preflight"),
    ("preflight", "gguf_bytes"),
    ("adapter", "gguf"),
    ("adapter", "outputs"),
    ("hardware", "machine"),
    ("sizes", "decision"),
    ("plan", "decision"),
    ("plan", "sizes"),
    ("speed", "decision"),
    ("speed", "plan"),
    ("speed", "sizes"),
    ("prompt", "sampling"),
    ("form", "records"),
    ("template", "prompt"),
    ("template", "sandbox"),
    ("template", "formats"),
    ("template", "spelling"),
    ("history", "prompt"),
    ("tasks", "prompt"),
    ("tasks", "sampling"),
    ("tasks", "thoughts"),
    ("service", "margins"),
    ("loop", "slots"),
    ("loop", "sequence"),
    ("service", "opening"),
    ("loading", "model"),
    ("loading", "route"),
    ("loading", "spawn"),
    ("route", "model"),
    ("route", "source"),
    ("route", "worker"),
    ("route", "here"),
    ("worker", "spawn"),
    ("child", "spawn"),
    ("here", "spawn"),
    ("route", "margins"),
    ("route", "tune"),
    ("wire", "opening"),
    ("here", "opening"),
    ("here", "service"),
    ("here", "session"),
    ("child", "service"),
    ("child", "wire"),
    ("worker", "opening"),
    ("worker", "session"),
    ("worker", "wire"),
    ("drive", "session"),
    ("model", "here"),
    ("demo", "model"),
    ("demo", "loading"),
    ("mapper", "model"),
    ("mapper", "loading"),
    ("mapper", "rows"),
    ("rows", "drive"),
    ("rows", "opening"),
    ("model", "rows"),
    ("forecast", "source"),
    ("model", "source"),
    ("loading", "source"),
    ("route", "forecast"),
    ("route", "opening"),
    ("loading", "worker"),
    ("loading", "here"),
    ("model", "drive"),
    ("model", "opening"),
    ("model", "worker"),
    ("__main__", "cli"),
}
"""Imports inside one floor."""

ENTRANCES = {
    "click": {"cli"},
    "ctransformers": {"engines"},
    "filelock": {"hub", "batch"},
    "httpx": {"hub"},
    "httpx2": {"hub"},
    "huggingface_hub": {"hub"},
    "jinja2": {"sandbox"},
    "jsonschema": {"tasks", "constraint"},
    "llama_cpp": {"engines", "demo"},
    "llguidance": {"constraint"},
    "numpy": {"scoring", "adapter", "engines", "sequence", "sampling", "constraint", "bench", "demo"},
    "markdown_it": {"tasks"},
    "platformdirs": {"catalog", "hub", "repl", "hardware", "states", "margins", "tune"},
    "prompt_toolkit": {"repl"},
    "pydantic": set(),
    "pynvml": {"hardware"},
    "pypdf": {"documents"},
    "rich": {"cli", "repl"},
    "gguf": {"adapter", "demo"},
    "sacrebleu": {"evaluation"},
    "safetensors": {"adapter"},
    "torch": {"demo", "finetune"},
    "transformers": {"finetune"},
    "tokenizers": {"finetune"},
    "peft": {"finetune"},
    "matplotlib": {"finetune", "evaluation"},
}
"""The rooms through which a third-party library may enter."""

LEVEL = {room: level for level, rooms in enumerate(FLOORS.values()) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Every imported module as a dotted name, wherever in the file the import stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            base = str(node.module)
            found += [f"{base}.{alias.name}" for alias in node.names] if base == "edgellm" else [base]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_fall(path: Path) -> None:
    here = room(path)
    assert here in LEVEL, f"{here} is on no floor: put it into FLOORS and into the README's map"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "edgellm":
            there = parts[1]
            assert there in LEVEL, f"{path.name} imports the package root"
            falls = LEVEL[there] < LEVEL[here]
            assert falls or there == here or (here, there) in STAIRS, f"{here} must not import {there}"
        elif parts[0] in ENTRANCES:
            assert here in ENTRANCES[parts[0]], f"{parts[0]} may not enter through {here}"


def test_every_third_party_library_has_an_entrance() -> None:
    import sys

    known = set(sys.stdlib_module_names) | {"edgellm"} | set(ENTRANCES)
    strangers = {name.split(".")[0] for path in FILES for name in imports(path)} - known
    assert strangers == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_readable(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)), "a room says what it is for"
    assert len(source.splitlines()) <= (800 if room(path) == "demo" else 600)  # what the demo teaches is data
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is too long"
