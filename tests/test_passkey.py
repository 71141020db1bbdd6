"""A hidden number stands where it should, fills the context to the brim, and is counted when it comes back."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import edgellm
from edgellm.cli import edgellm as verbs
from edgellm.cli.passkey import lengths
from edgellm.errors import EngineMissing, PromptTooLong, UsageError
from edgellm.evaluation import passkey
from edgellm.prompt import Prompt, Reply, Task


def answered(task: Task[passkey.Cell], answer: str = "") -> tuple[passkey.Cell, list[Prompt]]:
    """Drive a task by hand, with a word for a token."""
    asked: list[Prompt] = []
    prompts = next(task)
    while True:
        asked += prompts
        counts = [len((one.completion or one.messages[0].content).split()) for one in prompts]
        replies = [Reply(text=answer, finish="stop", prompt_tokens=count, tokens=1) for count in counts]
        try:
            prompts = task.send(replies)
        except StopIteration as done:
            return done.value, asked


@pytest.mark.parametrize("depth", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("raw", [False, True])
def test_the_number_stands_where_it_should_and_the_text_fills_the_context(depth: float, raw: bool) -> None:
    cell, asked = answered(passkey.trial(1024, depth, "12345", raw=raw), "It is 12345.")
    text = asked[-1].completion or asked[-1].messages[0].content
    assert cell.found
    assert 1024 - 24 - 25 < cell.prompt_tokens <= 1024 - 24
    place = text.index("The pass key is 12345") / len(text)
    assert abs(place - depth) < 0.1
    assert text.endswith("The pass key is" if raw else "What is the pass key?")


def test_another_number_is_not_the_one() -> None:
    assert not answered(passkey.trial(512, 0.5, "12345"), "12354")[0].found


def test_a_context_that_holds_not_even_the_question_is_refused() -> None:
    with pytest.raises(PromptTooLong, match="too small"):
        answered(passkey.trial(64, 0.5, "12345"))
    with pytest.raises(UsageError):
        passkey.trials([512], 1, 1)


def test_a_grid_has_a_share_for_every_position_and_length() -> None:
    cells = [answered(task, "12345")[0] for task in passkey.trials([512, 256], 3, 2)]
    shares = passkey.grid([passkey.Cell(512, 0.0, 1, "1", "1"), passkey.Cell(512, 0.0, 1, "1", "2"), *cells])
    assert list(shares) == [0.0, 0.5, 1.0]
    assert set(shares[0.0]) == {256, 512}
    assert len({cell.key for cell in cells}) == len(cells)


def test_a_real_model_reads_prompts_of_exactly_that_length() -> None:
    with edgellm.load("demo", slots=1, context=512) as model:
        [cell] = [outcome.value for outcome in model.drive(passkey.trials([512], 2, 1)) if outcome.index == 0]
    assert 512 - 24 - 40 < cell.prompt_tokens <= 512 - 24


def test_lengths_are_read() -> None:
    assert lengths("1k, 512,2K,1024") == [512, 1024, 2048]
    for text in ("", "1m", "k", "0", "1k,,2k", "99999999"):
        with pytest.raises(UsageError):
            lengths(text)


def test_the_verb_shows_and_draws_what_was_found(tmp_path: Path, script: Callable[..., None]) -> None:
    script(otherwise="no idea")
    command = ["eval", "passkey", "--engine", "scripted", "-m", "demo", "--context", "1k,2k", "--depths", "2"]
    done = CliRunner().invoke(verbs, command, catch_exceptions=False)
    assert "1,024" in done.stdout
    assert "0% of the numbers were found." in done.stdout
    found = json.loads(CliRunner().invoke(verbs, [*command, "--json"], catch_exceptions=False).stdout)
    assert found["found"] == 0
    assert [cell["depth"] for cell in found["cells"]] == [0, 1, 0, 1]
    picture = tmp_path / "heat.png"
    if importlib.util.find_spec("matplotlib"):
        CliRunner().invoke(verbs, [*command, "--png", str(picture)], catch_exceptions=False)
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_drawing_without_the_library_is_refused_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineMissing, match=r"edgellm\[plot\]"):
        CliRunner().invoke(verbs, ["eval", "passkey", "--png", "x.png"], catch_exceptions=False)
