"""What kills a batch: signals, engines, disks, editors, sizes. Samples in the default run; `-m slow` runs the whole of it.

Whole runs, by name: `pytest -m slow -s tests/test_batch_survival.py -k kills`, `-k poison`, `-k disk`, `-k sparse`.
"""

from __future__ import annotations

import json
import random
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

Script = Callable[..., None]
SCRIPTED = ("--engine", "scripted", "--context", "512")


def command(*arguments: Any, task: str = "chat", engine: Iterable[str] = SCRIPTED) -> list[str]:
    return [sys.executable, "-m", "edgellm", "batch", task, *map(str, arguments), "-m", "demo", *engine]


def ended(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments, **options), capture_output=True, text=True, check=False, timeout=600)


def texts(count: int) -> list[dict[str, Any]]:
    return [{"text": f"text {number % 97}", "n": number} for number in range(count)]


def write_rows(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def written(target: Path) -> int:
    return target.read_bytes().count(b"\n") if target.exists() else 0


# kill -9


def kill_often(run: list[str], target: Path, *, rows: int, kills: int) -> None:
    """Kill -9 at random instants, early ones too, until everything is nearly done; nothing that was written may go."""
    chance = random.Random(11)
    done = unfinished = progressed = 0
    for kill in range(kills):
        process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        goal = rows * (kill + 1) // (kills + 1)
        # Who is ahead of the plan is killed while it starts, reads the ledger, or mends it.
        until = time.monotonic() + (60 if done < goal else chance.uniform(0, 1.2))
        while process.poll() is None and time.monotonic() < until and written(target) < max(goal, done + 1):
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.01) if done < goal else 0)
        process.kill()
        process.wait()
        before, done = done, written(target)
        assert done >= before
        unfinished += done < rows
        progressed += done > before
    assert unfinished > 0.9 * kills
    assert progressed > 0.3 * kills


def killed(tmp_path: Path, source: Path, *, rows: int, kills: int, bad: int = 0, **how: Any) -> None:
    """Kill a run, let the last one end, and compare it byte by byte with one in peace."""
    target, peace = tmp_path / "out.jsonl", tmp_path / "peace.jsonl"
    kill_often(command(source, target, **how), target, rows=rows, kills=kills)
    last = ended(source, target, **how)
    assert last.returncode == (3 if bad else 0), last.stderr
    assert ended(source, peace, **how).returncode == last.returncode
    assert target.read_bytes() == peace.read_bytes()
    found = lines(target)
    assert len({line["id"] for line in found}) == len(found) == rows
    assert sum(line["error"] is not None for line in found) == bad
    print(
        f"\n{kills} kills over {rows} rows: 0 lost, 0 twice, 0 torn; byte-identical to a run in peace; {bad} failed rows"
    )


def killed_scripted(tmp_path: Path, script: Script, *, rows: int, kills: int, step_s: float) -> None:
    script(rules=[{"when": f"text {n}", "say": f"{n}!"} for n in range(0, 97, 7)], otherwise="ok", step_s=step_s)
    given = [{"text": "x" * 9000} if n % 41 == 5 else row for n, row in enumerate(texts(rows))]
    source = write_rows(tmp_path / "in.jsonl", given)
    killed(tmp_path, source, rows=rows, kills=kills, bad=sum(n % 41 == 5 for n in range(rows)))


def killed_embedded(tmp_path: Path, *, rows: int, kills: int) -> None:
    """On llama.cpp, one row at a time: rows decoded together may round differently, and near-ties then fall otherwise."""
    people = [f"name: Ann{n}\nlastname: Smith{n * n}\naddress: #{n} Bisson St." for n in range(rows)]
    source = write_rows(tmp_path / "in.jsonl", ({"text": one, "id": n} for n, one in enumerate(people)))
    options = ("--fields", "name, lastname, address", "--slots", "1")
    killed(tmp_path, source, rows=rows, kills=kills, task="extract", engine=options)


def test_five_kills_over_a_hundred_rows_lose_and_double_nothing(tmp_path: Path, script: Script) -> None:
    killed_scripted(tmp_path, script, rows=100, kills=5, step_s=0.002)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_two_hundred_kills_over_five_hundred_rows_lose_and_double_nothing(tmp_path: Path, script: Script) -> None:
    killed_scripted(tmp_path, script, rows=500, kills=200, step_s=0.005)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_kills_on_the_embedded_model_change_no_byte(tmp_path: Path) -> None:
    killed_embedded(tmp_path, rows=60, kills=20)


# Poison


def poisoned(tmp_path: Path, script: Script, *, rows: int, poison: int) -> None:
    """Rows that cannot be read, do not fit, say nothing, or kill the engine; all others are answered."""
    script(otherwise='{"name": "ok"}', crash_when="KILL")
    bad = [
        b"not json",
        b'{"text": "\xff"}',
        b'{"text": "KILL"}',
        b'{"text": "' + b"long " * 400 + b'"}',
        b'{"text": ""}',
    ]
    given = [json.dumps({"text": f"row {number}", "id": number}).encode() for number in range(rows)]
    places = sorted(random.Random(5).sample(range(rows), poison))
    for count, place in enumerate(places):
        given[place] = bad[count % len(bad)]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(given))
    done = ended(tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--fields", "name", task="extract")
    assert done.returncode == 3, done.stderr
    found = lines(tmp_path / "out.jsonl")
    assert [number for number, line in enumerate(found) if line["error"]] == places
    assert all(line["result"] == {"name": "ok"} for line in found if not line["error"])
    kinds = Counter(line["error"]["class"] for line in found if line["error"])
    share = poison // len(bad)
    assert kinds == {"RowUnreadable": 2 * share, "EngineCrashed": share, "PromptTooLong": share, "EmptyText": share}
    assert f"{rows - poison:,} ok, {poison} failed" in done.stderr
    assert f"{share} EngineCrashed" in done.stderr
    print(f"\n{poison} poison rows in {rows}: {rows - poison} answers, {poison} errors: {dict(kinds)}")


def test_five_poison_rows_in_sixty_cost_five_rows(tmp_path: Path, script: Script) -> None:
    poisoned(tmp_path, script, rows=60, poison=5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_25_poison_rows_in_500_cost_25_rows(tmp_path: Path, script: Script) -> None:
    poisoned(tmp_path, script, rows=500, poison=25)


# Disks and editors


def resumed(source: Path, target: Path, rows: int) -> None:
    """The same command completes what was begun."""
    done = ended(source, target)
    assert done.returncode == 0, done.stderr
    found = lines(target)
    assert [line["n"] for line in found] == list(range(rows))


def stopped(done: subprocess.CompletedProcess[str], words: str) -> None:
    """An end in words, with the right code."""
    assert done.returncode in (1, 2), done
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("limit", [4096, pytest.param(9999, marks=pytest.mark.slow)])
def test_a_full_disk_stops_a_run_in_words_and_the_next_goes_on(tmp_path: Path, script: Script, limit: int) -> None:
    script(otherwise="ok")
    source, target = write_rows(tmp_path / "in.jsonl", texts(150)), tmp_path / "out.jsonl"

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = subprocess.run(
        command(source, target), capture_output=True, text=True, check=False, timeout=100, preexec_fn=little_room
    )
    stopped(done, "What was written before is whole")
    assert 0 < written(target) < 150
    assert target.read_bytes().endswith(b"\n")
    resumed(source, target, 150)


def mounted(tmp_path: Path, shell: str) -> subprocess.CompletedProcess[str]:
    """Run a shell with a file system of 64 KiB at $DISK, in a mount namespace of its own."""
    disk = tmp_path / "disk"
    disk.mkdir(exist_ok=True)
    first = f"mount -t tmpfs -o size=64k edgellm {disk} && touch {tmp_path}/mounted && {shell}"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", first],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    if not (tmp_path / "mounted").exists():
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()[:100]}")
    return done


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a mount namespace")
def test_a_real_disk_that_is_full_or_read_only_stops_a_run_in_words(tmp_path: Path, script: Script) -> None:
    script(otherwise="ok " * 10)
    source, target = write_rows(tmp_path / "in.jsonl", texts(900)), tmp_path / "disk" / "out.jsonl"
    run = shlex.join(command(source, target))
    saved = tmp_path / "saved"
    copy = f"mkdir -p {saved}; cp {target}* {saved}/"
    stopped(mounted(tmp_path, f"{run}; code=$?; {copy}; exit $code"), "No space left on device")
    kept = saved / "out.jsonl"
    assert 0 < written(kept) < 900
    assert kept.read_bytes().endswith(b"\n")
    resumed(source, kept, 900)
    locked = f"mount -o remount,ro {tmp_path / 'disk'}; {run}"
    stopped(mounted(tmp_path, locked), "Read-only file system")
    begun = f"cp {saved}/out.jsonl* {target.parent}/; mount -o remount,ro {tmp_path / 'disk'}; {run}"
    head = b"".join(kept.read_bytes().splitlines(keepends=True)[:9])
    kept.write_bytes(head)
    stopped(mounted(tmp_path, begun), "Read-only file system")
    resumed(source, kept, 900)


@pytest.mark.parametrize("edit", ["a row more", "another last row"])
def test_an_input_that_is_edited_during_a_run_stops_it_and_a_resume_completes(
    tmp_path: Path, script: Script, edit: str
) -> None:
    script(otherwise="ok", step_s=0.02)
    given = texts(1000)
    source, target = write_rows(tmp_path / "in.jsonl", given), tmp_path / "out.jsonl"
    with subprocess.Popen(command(source, target), stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while written(target) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        first = 1000 if edit == "a row more" else 999
        given[first:] = [{"text": "new", "n": first}]
        write_rows(source, given)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert "was changed while it was read" in said
    assert 5 <= written(target) < 1000
    assert target.read_bytes().endswith(b"\n")
    script(otherwise="ok")
    resumed(source, target, len(given))


def test_the_summary_counts_rows_with_warnings(tmp_path: Path, script: Script) -> None:
    script(rules=[{"when": "{name}", "say": "Bonjour"}], otherwise="Salut")
    source = write_rows(tmp_path / "in.jsonl", [{"text": "Hello {name}"}, {"text": "Hello"}])
    done = ended(source, tmp_path / "out.jsonl", "--to", "fr", task="translate")
    assert done.returncode == 0
    assert "2 ok, 0 failed. With warnings: 1." in done.stderr
    warned, fine = lines(tmp_path / "out.jsonl")
    assert "{name}" in warned["warnings"][0]
    assert "warnings" not in fine


# Size


def peak_bytes(run: list[str]) -> tuple[int, int]:
    """The exit code of a run, and how much memory its process held at most, that of its engine not counted."""
    code = "import resource, sys; from edgellm.cli import main\ntry: main()\nfinally: print(resource.getrusage("
    code += "resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, *run[3:]], capture_output=True, text=True, check=False, timeout=600
    )
    return done.returncode, int(done.stderr.split()[-1]) * 1024


def sparse(tmp_path: Path, script: Script, hole_bytes: int) -> None:
    """A few rows, a hole that costs no disk and is one bad line, and a few rows; against the same without the hole."""
    script(otherwise="ok")
    small, large = write_rows(tmp_path / "small.jsonl", texts(20)), write_rows(tmp_path / "large.jsonl", texts(10))
    with large.open("r+b") as file:
        file.seek(hole_bytes)
        file.write(b"\n" + "".join(json.dumps(row) + "\n" for row in texts(20)[10:]).encode())
    code, least = peak_bytes(command(small, tmp_path / "small.out"))
    assert code == 0
    code, most = peak_bytes(command(large, tmp_path / "large.out"))
    assert code == 3
    found = lines(tmp_path / "large.out")
    assert [line.get("n") for line in found] == [*range(10), None, *range(10, 20)]
    assert "longer than 32 MiB" in found[10]["error"]["message"]
    print(
        f"\n{hole_bytes / 2**30:.2f} GiB of input: {most / 2**20:.0f} MiB at most, {least / 2**20:.0f} MiB for 20 rows"
    )
    assert most - least < 100 << 20  # a line of 32 MiB would still be read


def test_a_sparse_input_of_256_mib_costs_no_memory(tmp_path: Path, script: Script) -> None:
    sparse(tmp_path, script, 256 << 20)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sparse_input_of_10_gib_costs_no_memory(tmp_path: Path, script: Script) -> None:
    sparse(tmp_path, script, 10 << 30)
