"""What becomes of JSON Schemas as people write them: enforced or refused, what passes, and what a random model makes of them.

    python benchmarks/schemas.py enforce [COUNT]     3,000 generated schemas, each with values that obey it and that do not
    python benchmarks/schemas.py generate [COUNT]    10,000 answers of a random-weight model, 200 schemas, 1 to 64 tokens

No download is needed: schemas and values come from tests/schemas.py, and the model is 140 KB of noise. Every figure about
schemas in the README is printed here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent / "tests")]

import schemas

import edgellm
from edgellm.constraint import Grammar
from edgellm.engines.scripted import Script, Scripted
from edgellm.errors import InvalidOutput, SchemaUnsupported, TruncatedOutput
from edgellm.prompt import Prompt
from edgellm.sampling import Sampling
from edgellm.tasks import extract

_END = 257
_CHUNK = 250  # schemas in one process: a death costs only the one that killed it

# -- enforce -----------------------------------------------------------------------------------------------------------


def enforce(count: int = 3000) -> int:
    """Compile every schema, and try every value under it, letter by letter."""
    found, deaths = list[dict[str, Any]](), 0
    start = time.perf_counter()
    at = 0
    while at < count:
        for one in _in_child(at, min(at + _CHUNK, count)):
            found.append(one)
            at = one["number"] + 1
        if at < count and at % _CHUNK:
            deaths, at = deaths + 1, at + 1
    return report(found, deaths, time.perf_counter() - start)


def report(found: list[dict[str, Any]], deaths: int, seconds: float) -> int:
    """Print what was found; returns 1 when a goal is missed."""
    enforced = [one for one in found if not one["refused"]]
    refused = Counter(one["refused"] for one in found if one["refused"])
    unnamed = sum(not one["pointer"] for one in found if one["refused"])
    good = [passed for one in enforced for passed in one["valid"]]
    bad = [(keyword, passed) for one in enforced for keyword, passed in one["invalid"]]
    passed = Counter(keyword for keyword, through in bad if through)
    tried = Counter(keyword for keyword, _ in bad)
    dropped = [keyword for keyword in passed if passed[keyword] == tried[keyword]]
    print(f"{len(found):,} schemas in {seconds:.0f} s, {deaths} deaths")
    print(f"  enforced          {len(enforced):,}  ({len(enforced) / len(found):.1%})")
    print(f"  refused           {sum(refused.values()):,}  by keyword: {_listed(refused)}")
    print(f"  refused unnamed   {unnamed}")
    print(f"  silently dropped  {len(dropped)} keywords {', '.join(dropped)}".rstrip())
    accepted = sum(passed.values())
    print(f"  invalid accepted  {accepted:,} of {len(bad):,}  ({accepted / len(bad):.2%})  {_listed(passed)}".rstrip())
    print(f"  valid accepted    {sum(good):,} of {len(good):,}  ({sum(good) / len(good):.1%})")
    print(f"  breaches tried    {_listed(tried)}")
    fine = (
        not (deaths or unnamed or dropped)
        and sum(passed.values()) <= 0.005 * len(bad)
        and len(enforced) >= 0.75 * len(found)
    )
    return 0 if fine else 1


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.most_common())


def _in_child(start: int, stop: int) -> Iterator[dict[str, Any]]:
    command = [sys.executable, __file__, "judge", str(start), str(stop)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        for line in child.stdout:
            yield json.loads(line)


def judge(start: int, stop: int) -> int:
    """What becomes of each of these schemas, one JSON line each."""
    for one in schemas.cases(int(start), int(stop)):
        print(json.dumps(judged(one)), flush=True)
    return 0


def judged(case: schemas.Case) -> dict[str, Any]:
    """Whether a schema is enforced, and which of its values pass."""
    vocab = _VOCAB
    try:
        grammar = Grammar.compile(case.schema, vocab)
    except SchemaUnsupported as error:
        named = re.search(r"cannot enforce '([$\w]+)'", str(error))
        keyword = named[1] if named else error.pointer.rpartition("/")[2] or "the schema"
        return {"number": case.number, "refused": keyword, "pointer": error.pointer}
    return {
        "number": case.number,
        "refused": None,
        "valid": [says(grammar, value) for value in case.valid],
        "invalid": [(keyword, says(grammar, value)) for value, keyword in case.invalid],
    }


_VOCAB = Scripted(Script()).vocab


def says(grammar: Grammar, value: Any) -> bool:
    """Whether a value may be written, as edgellm writes JSON."""
    run = grammar.start()
    for token in json.dumps(value, ensure_ascii=False).encode():
        if not run.allows(token):
            return False
        run.accept(token)
    return run.allows(_END)


# -- generate ----------------------------------------------------------------------------------------------------------


def generate(count: int = 10_000, kinds: int = 200) -> int:
    """Let a model of random weights answer under many schemas, with budgets from 1 to 64 tokens."""
    import ggufs

    chosen = [case.schema for case in schemas.cases(0, 2 * kinds) if not judged(case)["refused"]][:kinds]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = ggufs.write_model(Path(folder) / "noise.gguf")
        with edgellm.load(path, context=512, slots=16, threads=1) as model:
            found = Counter(flag for _, flag in _answers(model, chosen, count))
    print(f"{sum(found.values()):,} answers under {len(chosen)} schemas in {time.perf_counter() - start:.0f} s")
    for flag, number in found.most_common():
        print(f"  {flag:<40} {number:,}")
    wrong = sum(number for flag, number in found.items() if flag.startswith("MISLABELLED"))
    print(f"  mislabelled {wrong}")
    return 1 if wrong else 0


def _answers(model: edgellm.Model, chosen: list[dict[str, Any]], count: int) -> Iterator[tuple[int, str]]:
    def task(number: int) -> Any:
        sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=number, max_tokens=number % 64 + 1)
        schema = chosen[number * 7919 % len(chosen)]
        [reply] = yield [Prompt(completion="Ann, 3.", schema=schema, sampling=sampling)]
        return extract.read(reply, schema)

    with model.drive(task(number) for number in range(count)) as drive:
        for outcome in drive:
            schema = chosen[outcome.index * 7919 % len(chosen)]
            yield outcome.index, flag_of(schema, outcome.result, outcome.error, outcome.index % 64 + 1)


def flag_of(schema: dict[str, Any], value: Any, error: Exception | None, budget: int) -> str:
    """How an answer was flagged, and whether that is right, judged anew."""
    valid = schemas.judge_of(schema).is_valid
    if error is None:
        return "ok" if valid(value) else "MISLABELLED ok"
    if isinstance(error, TruncatedOutput):
        if error.needed_tokens is not None:
            return "refused: no value fits the budget" if error.needed_tokens > budget else "MISLABELLED refusal"
        if error.partial is None and error.text:
            return "cut, nothing could close it"
        same = json.loads(error.text) == error.partial
        return "cut, closed: parses and validates" if same and valid(error.partial) else "MISLABELLED cut"
    if isinstance(error, InvalidOutput):
        return (
            f"invalid: {re.sub(r'.*: ', '', str(error))[:40]}"
            if not _is_fine(error.text, valid)
            else "MISLABELLED invalid"
        )
    return f"MISLABELLED {type(error).__name__}: {error}"


def _is_fine(text: str, valid: Any) -> bool:
    """Whether a text is strict JSON, with every name said once and every number finite, that obeys the schema."""
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except ValueError:
        return False
    return "inf" not in repr(value) and valid(value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)


def main(arguments: list[str]) -> int:
    """Run one of the parts."""
    parts = {"enforce": enforce, "generate": generate, "judge": judge}
    if not arguments or arguments[0] not in parts:
        print(__doc__)
        return 2
    return parts[arguments[0]](*map(int, arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
