"""What the package offers at its root is what it says it offers, at no cost to import."""

from __future__ import annotations

import json
import subprocess
import sys

import edgellm

HEAVY = [
    "llama_cpp",
    "ctransformers",
    "torch",
    "jinja2",
    "huggingface_hub",
    "numpy",
    "rich",
    "click",
    "pydantic",
    "asyncio",
]


def test_all_names_are_sorted_and_there() -> None:
    assert sorted(edgellm.__all__) == edgellm.__all__
    assert [name for name in edgellm.__all__ if getattr(edgellm, name, None) is None] == []
    assert set(edgellm.__all__) <= set(dir(edgellm))


def test_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(edgellm, "Lama")


def loaded(code: str) -> set[str]:
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_is_light() -> None:
    assert loaded("import edgellm") & set(HEAVY) == set()


def test_load_keeps_c_and_numpy_out_of_this_process() -> None:
    assert (
        loaded("from edgellm import load") & {"llama_cpp", "torch", "numpy", "jinja2", "huggingface_hub", "rich"}
        == set()
    )


def test_help_loads_nothing_heavy() -> None:
    code = "sys.argv = ['edgellm', '--help']\nfrom edgellm.cli import main\ntry: main()\nexcept SystemExit: pass"
    assert (
        loaded(code) & {"llama_cpp", "numpy", "jinja2", "huggingface_hub", "rich", "prompt_toolkit", "asyncio"} == set()
    )
