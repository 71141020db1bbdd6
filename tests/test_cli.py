"""The command line as a user meets it: answers on stdout, one sentence per error on stderr, the right exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from edgellm.cli import VERBS, edgellm
from edgellm.cli.models import size_bytes
from edgellm.errors import UsageError
from edgellm.sampling import Sampling
from edgellm.tasks import extract, summarize, translate

SENTENCE = "My name is Suvojit Hore, working in company AB and my address is AZ Street NY"


def run(*arguments: str, stdin: bytes | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgellm", *arguments]
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    done = subprocess.run(command, capture_output=True, check=False, timeout=60, **given, **options)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def flags(verb: str) -> dict[str, Any]:
    command = edgellm.get_command(click.Context(edgellm), verb)
    assert command
    return {option.name: option for option in command.params if option.name}


def test_every_verb_has_help_and_stands_in_the_readme() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    for verb in VERBS:
        command = edgellm.get_command(click.Context(edgellm), verb)
        assert command
        assert command.help, verb
        assert f"`edgellm {verb}" in readme or f"`{verb}`" in readme, f"{verb} is not in the README"


@pytest.mark.parametrize(
    ("verb", "defaults"),
    [
        ("run", Sampling()),
        ("translate", translate.GREEDY),
        ("summarize", summarize.GREEDY),
        ("extract", extract.GREEDY),
    ],
)
def test_flag_defaults_are_those_of_the_dataclass(verb: str, defaults: Sampling) -> None:
    found = flags(verb)
    for name in Sampling.__slots__:
        assert found[name].default == getattr(defaults, name), name


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 << 30),
        ("8G", 8 << 30),
        ("8GB", 8_000_000_000),
        ("512MiB", 512 << 20),
        ("1.5 GiB", 3 << 29),
        ("100", 100),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-8GiB", "8 apples", "1e9"])
def test_nonsense_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot read the size"):
        size_bytes(text)


def test_help_answers_and_lists_every_verb() -> None:
    shown = CliRunner().invoke(edgellm, ["--help"])
    assert shown.exit_code == 0
    assert all(verb in shown.output for verb in VERBS)


WRONG = [
    (["translat", "x"], 2, "Did you mean `edgellm translate`?"),
    (["extract", "x"], 2, "give --fields or --schema"),
    (["extract", "x", "--fields", "a", "--schema", "b"], 2, "give --fields or --schema"),
    (["extract", "x", "--fields", "age years"], 2, "cannot read field 'age years'"),
    (["extract", "x", "--schema", "missing.json"], 2, "cannot read missing.json"),
    (["extract", "x", "--fields", "a", "--temperature", "hot"], 2, "--temperature"),
    (["extract", "x", "--fields", "a", "--temperature", "-1"], 2, "temperature"),
    (["extract", "x", "--fields", "a", "--no-such-flag"], 2, "--no-such-flag"),
    (["translate", "x", "--to", "Frensh"], 2, "Did you mean French"),
    (["translate", "x"], 2, "--to"),
    (["translate", "x", "-f", "y", "--to", "fr"], 2, "not both"),
    (["translate", "-f", "missing.txt", "--to", "fr"], 2, "cannot read missing.txt"),
    (["translate", "   ", "--to", "fr"], 2, "the text is empty"),
    (["summarize", "x", "--sentences", "2", "--words", "9"], 2, "not both"),
    (["summarize", "x", "--sentences", "0"], 2, "--sentences"),
    (["summarize"], 2, "the text is empty"),
    (["run", "hi", "-m", "mistral-7b-instruct-v2"], 1, "Did you mean"),
    (["run", "hi", "-m", "./missing.gguf"], 1, "missing.gguf"),
    (["run", "hi", "--gpu-layers", "some", "-m", "demo"], 2, "auto, all or a number"),
    (["show", "nosuchmodel"], 1, "`edgellm models` lists all"),
    (["verify", "qwen2.5-0.5b"], 2, "not installed"),
    (["plan", "demo", "--vram", "much"], 2, "cannot read the size"),
    (["run", "--messages", "missing.json"], 2, "cannot read missing.json"),
    (["eval", "passkey", "--png", "nowhere/heat.png"], 2, "there is no folder nowhere"),
    (["adapter", "show", "."], 1, "it is a folder"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "words"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_wrong_input_is_one_sentence_and_the_right_code(
    arguments: list[str], code: int, words: str, tmp_path: Path
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_gguf_is_refused_before_c(tmp_path: Path) -> None:
    for name, data in (("text.gguf", b"hello" * 100), ("empty.gguf", b""), ("cut.gguf", b"GGUF\3\0\0\0")):
        (tmp_path / name).write_bytes(data)
        done = run("run", "hi", "-m", f"./{name}", cwd=tmp_path)
        assert done.returncode == 1
        assert name in done.stderr
        assert "Traceback" not in done.stderr


def test_bad_schemas_are_refused_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"type": ')
    done = run("extract", "x", "--schema", "cut.json", "-m", "demo", cwd=tmp_path)
    assert done.returncode == 2
    assert "cut.json is not JSON" in done.stderr
    (tmp_path / "odd.json").write_text(
        '{"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}}'
    )
    done = run("extract", "x", "--schema", "odd.json", "-m", "demo", cwd=tmp_path)
    assert done.returncode == 2
    assert "uniqueItems" in done.stderr
    assert "/properties/a" in done.stderr


def test_schema_and_example_files_are_read_with_care(tmp_path: Path) -> None:
    def complaint(option: str, text: str) -> str:
        path = tmp_path / "given"
        path.write_text(text)
        fields = ["--fields", "a"] if option == "--examples" else []
        refused = CliRunner().invoke(edgellm, ["extract", "x", *fields, option, str(path)]).exception
        assert isinstance(refused, UsageError)
        return str(refused)

    assert "nested too deeply" in complaint("--schema", "[" * 200_000)
    assert "line 2 is not JSON" in complaint("--examples", '{"input": "a\u2028b\u0085", "output": 1}\n{')
    assert "line 1: need" in complaint("--examples", '{"input": 3, "output": 1}')
    assert "line 1: need" in complaint("--examples", '["input", "output"]')


def test_an_answer_that_was_cut_says_so_on_stderr(script: Any) -> None:
    script(otherwise="one two three")
    done = run("run", "hi", "--max-tokens", "3", "--engine", "scripted", "-m", "demo")
    assert (done.returncode, done.stdout) == (0, "one\n")
    assert "cut after 3 tokens: raise --max-tokens" in done.stderr


def test_text_comes_from_argument_file_or_pipe(script: Any, tmp_path: Path) -> None:
    script(rules=[{"when": "bonjour", "say": "it was there"}], otherwise="it was not there")
    (tmp_path / "text.txt").write_bytes("\ufeffbonjour".encode())
    common = ["summarize", "--engine", "scripted", "-m", "demo"]
    assert run(*common, "bonjour").stdout == "it was there\n"
    assert run(*common, "-f", str(tmp_path / "text.txt")).stdout == "it was there\n"
    assert run(*common, stdin=b"bonjour").stdout == "it was there\n"
    assert run(*common, "-", stdin=b"bonjour").stdout == "it was there\n"
    assert run("run", "Look:", "--engine", "scripted", "-m", "demo", stdin=b"bonjour").stdout == "it was there\n"


def test_text_that_is_not_utf8_is_refused_with_the_offset() -> None:
    done = run("summarize", stdin=b"abc\xff")
    assert done.returncode == 2
    assert "byte 0xff at offset 3" in done.stderr


def test_huge_text_is_refused_with_both_numbers_at_once() -> None:
    start = time.monotonic()
    done = run("run", "Sum up:", "-m", "demo", stdin=b"word " * 4_000_000)
    assert done.returncode == 1
    assert "tokens and the context" in done.stderr
    assert time.monotonic() - start < 15


def test_a_file_is_translated_into_a_file_of_the_same_structure(script: Any, tmp_path: Path) -> None:
    script(
        rules=[{"when": "Text: Hello {name}", "say": "Salut {nom}"}, {"when": "Text: Bye", "say": "Adieu"}],
        otherwise="?",
    )
    (tmp_path / "film.srt").write_text(
        "1\n00:00:01,000 --> 00:00:02,000\nHello {name}\n\n2\n00:00:03,000 --> 00:00:04,000\nBye\n"
    )
    (tmp_path / "terms.csv").write_text("source,target\nBye,Ciao\n")
    common = ["translate", "-f", str(tmp_path / "film.srt"), "--to", "fr", "--engine", "scripted", "-m", "demo"]
    done = run(*common, "-o", str(tmp_path / "out.srt"), "--glossary", str(tmp_path / "terms.csv"))
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "out.srt").read_text() == (
        "1\n00:00:01,000 --> 00:00:02,000\nSalut {nom}\n\n2\n00:00:03,000 --> 00:00:04,000\nAdieu\n"
    )
    assert done.stderr.splitlines() == [
        "Warning: placeholder {name} is missing.",
        "Warning: placeholder {nom} was added.",
        "Warning: term Ciao is missing.",
    ]
    report = json.loads(run(*common, "--json").stdout)["report"]
    assert (report["lost"][0]["text"], report["parts"], len(report["warnings"])) == ("{name}", 1, 2)
    strict = run(*common, "--strict")
    assert (strict.returncode, strict.stdout) == (1, "")
    assert "placeholder {name} is missing" in strict.stderr


def test_an_output_that_cannot_be_is_refused_before_a_model_is_opened(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Hello")
    common = ["translate", "-f", str(tmp_path / "a.txt"), "--to", "fr", "-m", "nowhere.gguf"]
    for target, words in ((tmp_path, "is a folder"), (tmp_path / "a.txt", "is what is read")):
        done = run(*common, "-o", str(target))
        assert done.returncode == 2
        assert words in done.stderr


def test_a_page_is_summarized_by_its_words(script: Any, tmp_path: Path) -> None:
    script(rules=[{"when": "Text: Hello & more", "say": "One. Two."}], otherwise="One.")
    (tmp_path / "a.html").write_text("<html><head><title>t</title></head><body><p>Hello &amp; more</p></body></html>")
    done = run("summarize", "-f", str(tmp_path / "a.html"), "--sentences", "3", "--engine", "scripted", "-m", "demo")
    assert (done.returncode, done.stdout) == (0, "One. Two.\n")
    assert "its text is read, without the markup" in done.stderr
    assert "Warning: it has 2 sentences, not 3." in done.stderr


def test_json_output_is_one_object(script: Any) -> None:
    script(otherwise="Bonjour")
    done = run("translate", "Good morning", "--to", "fr", "--json", "--engine", "scripted", "-m", "demo")
    assert json.loads(done.stdout)["result"] == "Bonjour"


def test_without_a_model_the_demo_answers_and_says_so_on_stderr(script: Any) -> None:
    script(otherwise="Bonjour")
    done = run("translate", "Good morning", "--to", "fr", "--engine", "scripted")
    assert done.stdout == "Bonjour\n"
    assert "Model: demo (no other model is installed)." in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes and signals")
class TestUnfriendlySurroundings:
    def test_closed_stdout_is_one_sentence(self, script: Any) -> None:
        script(otherwise="words " * 50)
        command = f"exec {sys.executable} -m edgellm run hi --engine scripted -m demo >&-"
        done = subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
        )
        assert done.returncode == 1
        assert done.stderr == "edgellm: there is no standard output to write the answer to.\n"

    def test_a_reader_that_leaves_is_one_sentence(self, script: Any) -> None:
        script(otherwise="words " * 50)
        reader, writer = os.pipe()
        command = [sys.executable, "-m", "edgellm", "run", "hi", "--engine", "scripted", "-m", "demo"]
        child = subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        os.close(writer)
        os.close(reader)
        said = child.communicate(timeout=60)[1]
        assert child.returncode == 1
        assert said == "edgellm: the output was closed before everything was written.\n"

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
    def test_a_full_disk_is_one_sentence(self, script: Any) -> None:
        script(otherwise="words")
        for verb in ("run", "summarize"):
            command = f"exec {sys.executable} -m edgellm {verb} hi --engine scripted -m demo >/dev/full"
            done = subprocess.run(
                ["sh", "-c", command], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
            )
            assert done.returncode == 1
            assert done.stderr == "edgellm: [Errno 28] No space left on device.\n"

    def test_ctrl_c_stops_with_130_and_leaves_no_child(self, script: Any) -> None:
        script(otherwise="never ending " * 1000, step_s=0.02)
        command = [sys.executable, "-m", "edgellm", "run", "hi", "--engine", "scripted", "-m", "demo"]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert child.stdout
        assert child.stdout.read(10) == b"never endi"
        start = time.monotonic()
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=10)[1]
        assert time.monotonic() - start < 1.0
        assert (child.returncode, said.strip()) == (130, b"edgellm: interrupted.")

    @pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux")
    def test_ctrl_c_while_loading_leaves_no_child(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        os.mkfifo(tmp_path / "endless.json")  # the child waits here for a writer that never comes
        monkeypatch.setenv("EDGELLM_SCRIPT", str(tmp_path / "endless.json"))
        command = [sys.executable, "-m", "edgellm", "run", "hi", "--engine", "scripted", "-m", "demo"]
        parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        while not (found := children.read_text().split()):
            time.sleep(0.02)
        time.sleep(1.0)
        parent.send_signal(signal.SIGINT)
        said = parent.communicate(timeout=20)[1]
        assert (parent.returncode, said.strip()) == (130, b"edgellm: interrupted.")
        assert not Path(f"/proc/{found[0]}").exists()

    def test_a_dead_engine_is_one_sentence(self, script: Any) -> None:
        script(crash_at=3)
        done = run("run", "hi", "--engine", "scripted", "-m", "demo")
        assert done.returncode == 1
        assert "the engine died while generating (killed by SIGABRT)" in done.stderr
        assert "Traceback" not in done.stderr
