"""`edgellm bench` measures real work: every figure is there, no answer ends early, and replayed answers obey their schema."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import edgellm
from edgellm import gguf, hardware, plan
from edgellm.bench import canned, measure
from edgellm.errors import EngineCrashed
from edgellm.plan import Wish

DEMO = Path(edgellm.__file__).parent / "demo" / "demo.gguf"


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgellm", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=110, check=False)


def test_canned_answers_obey_their_schema() -> None:
    texts = [canned.letter(number) for number in range(64)]
    assert len({text for text, _ in texts}) == 64
    for text, answer in texts:
        value = json.loads(answer)
        jsonschema.validate(value, canned.SCHEMA)
        assert all(str(value[key]) in text for key in ("name", "company", "city", "email", "age"))


def test_every_figure_is_measured() -> None:
    done = cli("demo", "--widths", "1,3", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    found = {(one["what"], one["at"]): one["value"] for one in told["figures"]}
    assert {at for what, at in found if what == "decode"} == {1, 3}
    assert {what for what, _ in found} == {
        *("open", "matrix", "prefill", "first token", "bare decode", "decode", "memory"),
        *("extraction", "extraction prefix", "extraction computed"),
    }
    assert all(value > 0 for value in found.values())
    # The loop cannot be faster than the library that it drives; much noise is allowed for.
    assert 0.2 < found["decode", 1] / found["bare decode", 1] < 3


def test_the_table_fits_eighty_columns() -> None:
    said = cli("demo", "--widths", "2").stdout
    assert "bare llama_decode" in said
    assert "documents/s" in said
    assert max(len(line) for line in said.splitlines()) <= 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo", "--widths", "0"], "between 1 and 128"),
        (["demo", "--widths", "x,2"], "between 1 and 128"),
        (["demo", "--synthetic", "7b"], "not both"),
        (["--synthetic", "9b"], "no shape is called '9b'"),
    ],
)
def test_bad_wishes_are_refused_in_words(arguments: list[str], words: str) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_measuring_process_that_dies_is_an_engine_crash(tmp_path: Path) -> None:
    made = plan.fit(gguf.read(str(DEMO)), hardware.detect(), Wish(gpu_layers=0, slots=1))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(EngineCrashed, match="could not load"):
        list(measure.run([str(broken)], made, widths=[1]))
