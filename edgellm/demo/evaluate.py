"""How good the embedded model is, measured through edgellm itself on held-out text: `python -m edgellm.demo.evaluate`.

Values, sentences and some phrasings of these sets never occur in training. Decoding is greedy.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any

from edgellm.demo import text
from edgellm.prompt import Message, Prompt, Reply
from edgellm.sampling import Sampling
from edgellm.tasks import extract

if TYPE_CHECKING:
    from edgellm.model import Model

GREEDY = Sampling(temperature=0.0, max_tokens=400)
SEED = 20_240
_GIVEN = (
    "You are a helpful code assistant. Your task is to generate a valid JSON object based on the given information:\n\n"
    "{}\n\nJust generate the JSON object without explanations:"
)


@dataclass(slots=True)
class Score:
    """What was counted for one set."""

    task: str
    examples: int = 0
    exact: int = 0
    parts: int = 0  # fields of an object, facts of a summary
    parts_right: int = 0
    by_fields: dict[int, list[int]] = field(default_factory=dict)  # number of fields -> right, all
    seconds: float = 0.0
    wrong: list[tuple[str, str, str]] = field(default_factory=list)  # question, wanted, got

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {
            "task": self.task,
            "examples": self.examples,
            "exact": _share(self.exact, self.examples),
        }
        if self.parts:
            found["parts"] = _share(self.parts_right, self.parts)
        if self.by_fields:
            found["exact_by_fields"] = {count: _share(*pair) for count, pair in sorted(self.by_fields.items())}
        return found | {"seconds": round(self.seconds, 1)}

    def line(self) -> str:
        """For people."""
        told = f"{self.task:<10} {self.examples:>5} examples   exact {_share(self.exact, self.examples):.3f}"
        if self.parts:
            told += f"   {'facts' if self.task == 'summarize' else 'fields'} {_share(self.parts_right, self.parts):.3f}"
        if self.by_fields:
            told += "   " + "  ".join(f"{count}: {_share(*pair):.2f}" for count, pair in sorted(self.by_fields.items()))
        return f"{told}   ({self.seconds:.1f} s)"


def _share(right: int, whole: int) -> float:
    return round(right / whole, 4) if whole else 0.0


def measure(model: Model, task: str, limit: int, *, verbatim: bool = False) -> Score:
    """Ask `limit` held-out examples of one kind, and count; with `verbatim`, extracted texts are quoted."""
    asked = list(islice(text.examples(SEED, evaluation=True, tasks={task: 1}), limit))
    score, began = Score(f"{task} *" if verbatim else task), time.monotonic()
    replies = model.ask(_prompt(one, task, verbatim) for one in asked)
    score.seconds = time.monotonic() - began
    for one, reply in zip(asked, replies, strict=True):
        _count(score, one, reply.text.strip())
    return score


def _prompt(one: text.Example, task: str, verbatim: bool) -> Prompt:
    if task != "extract":
        return Prompt(messages=one.messages, sampling=GREEDY)
    quotes = one.messages[-1].content.partition("Text: ")[2] or one.messages[-1].content
    return Prompt(messages=one.messages, sampling=GREEDY, schema=one.schema, quotes=quotes if verbatim else None)


def _count(score: Score, one: text.Example, got: str) -> None:
    score.examples += 1
    right = got == one.answer
    if one.schema is not None:
        wanted, value = json.loads(one.answer), _parsed(got)
        right = value == wanted
        pair = score.by_fields.setdefault(len(wanted), [0, 0])
        pair[0] += right
        pair[1] += 1
        score.parts += len(wanted)
        score.parts_right += sum(value.get(key, _MISSING) == wanted[key] for key in wanted)
    score.parts += len(one.facts)
    score.parts_right += sum(fact in got for fact in one.facts)
    score.exact += right
    if not right:
        score.wrong.append((one.messages[-1].content, one.answer, got))


_MISSING = object()


def _parsed(got: str) -> dict[str, Any]:
    try:
        value = json.loads(got)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def known_examples() -> list[tuple[Prompt, str]]:
    """The extractions that people try first, each with the exact JSON that is right."""
    suvojit = "My name is Suvojit Hore, working in company AB and my address is AZ Street NY"
    john = "name: John\nlastname: Smith\naddress: #1 Samuel St."
    ted = "name: Ted\nlastname: Pot\naddress: #1 Bisson St."
    one = {"name": "Suvojit Hore", "company": "AB", "address": "AZ Street NY"}
    two = {"name": "John", "lastname": "Smith", "address": "#1 Samuel St."}
    three = {"name": "Ted", "lastname": "Pot", "address": "#1 Bisson St."}
    found = [_asked(suvojit, one)]
    for keys in (("name", "lastname", "address"), ("address", "lastname", "name")):
        second, third = ({key: each[key] for key in keys} for each in (two, three))
        found += [_asked(john, second), _asked(ted, third)]
        found += [_asked(ted, third, (john, second)), _asked(john, second, (ted, third))]
    for given, wanted in ((john, two), (ted, three)):
        found.append((_said(_GIVEN.format(given)), extract.dump(wanted)))
    found.append((_said(f"Extract name, company and address as JSON: {suvojit}"), extract.dump(one)))
    return found


def _asked(given: str, wanted: dict[str, str], *examples: tuple[str, Any]) -> tuple[Prompt, str]:
    schema = extract.fields(", ".join(wanted))
    return extract.ask(given, schema, examples=examples, sampling=GREEDY), extract.dump(wanted)


def _said(question: str) -> Prompt:
    return Prompt(messages=(Message("user", question),), sampling=GREEDY)


def known(model: Model) -> Score:
    """Ask the known examples; only a word-for-word answer counts."""
    pairs, score, began = known_examples(), Score("known"), time.monotonic()
    replies: Sequence[Reply] = model.ask(prompt for prompt, _ in pairs)
    score.seconds = time.monotonic() - began
    for (prompt, wanted), reply in zip(pairs, replies, strict=True):
        got = reply.text.strip()
        score.examples += 1
        score.exact += got == wanted
        if got != wanted:
            score.wrong.append((prompt.messages[-1].content, wanted, got))
    return score


def main(arguments: Iterable[str] | None = None) -> int:
    """Run the sets and print what was counted."""
    parser = argparse.ArgumentParser(prog="python -m edgellm.demo.evaluate", description=__doc__)
    parser.add_argument("--model", default="demo", help="what to evaluate: a name or the path of a .gguf")
    parser.add_argument("--limit", type=int, default=200, help="examples of each kind (default 200)")
    parser.add_argument(
        "--task", action="append", choices=[*text.TASKS, "known"], help="only this kind; may be repeated"
    )
    parser.add_argument("--verbatim", action="store_true", help="measure extract twice: free, and quoted (marked *)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--wrong", type=int, default=0, metavar="N", help="show the first N wrong answers of each kind")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    from edgellm.loading import load

    scores: list[Score] = []
    # A second thread does not help a model this small.
    with load(options.model, context=2048, slots=8, threads=1) as model:
        for task in options.task or ["known", *text.TASKS]:
            scores.append(known(model) if task == "known" else measure(model, task, options.limit))
            if task == "extract" and options.verbatim:
                scores.append(measure(model, task, options.limit, verbatim=True))
        if not options.json:
            for score in scores:
                _show(score, Random(0), options.wrong)
    if options.json:
        print(json.dumps([score.as_dict() for score in scores], indent=1))
    return 0


def _show(score: Score, random: Random, wrong: int) -> None:
    print(score.line(), flush=True)
    for question, wanted, got in random.sample(score.wrong, min(wrong, len(score.wrong))):
        print(f"  asked  {question!r}\n  wanted {wanted}\n  got    {got!r}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
