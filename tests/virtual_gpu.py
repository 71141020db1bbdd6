"""Runs plans on virtual GPUs in a child process, for real or dry, and tells what llama.cpp's allocator asked for.

`ask` takes a list of cases, because devices can only be registered, never removed: one child, many cases.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from edgellm.engines import dry_run, parameters, virtual
from edgellm.engines.devices import low_level
from edgellm.engines.virtual import Card, Virtual
from edgellm.plan import Plan

KEPT: list[Any] = []


@dataclass
class Case:
    """One model and plan to be loaded on the cards whose numbers are in `cards`."""

    path: str
    plan: dict[str, Any]
    cards: list[int]
    dry: bool = False  # llama.cpp's dry run instead of real allocations
    room: dict[int, int] = field(default_factory=dict)  # bytes of a card in this case only
    decode: int = 0  # tokens to run through the model afterwards


# -- the child ---------------------------------------------------------------------------------------------------------


class Bench:
    """Virtual GPUs and the cases run on them."""

    def __init__(self, cards: Sequence[Card]) -> None:
        self.lib = lib = low_level()
        self.said: list[str] = []
        KEPT.append(
            lib.llama_log_callback(lambda level, text, _: self.said.append(text.decode()) if level >= 3 else None)
        )
        lib.llama_log_set(KEPT[-1], None)
        lib.llama_backend_init()
        self.cards = [Virtual(lib, card) for card in cards]

    def run(self, case: Case) -> dict[str, Any]:
        lib, plan = self.lib, case.plan
        keep: list[Any] = []
        used = [self.cards[number] for number in case.cards]
        for number, card in zip(case.cards, used, strict=True):
            card.peak, card.refused = card.used, 0
            card.total = case.room.get(number, card.card.total)
        self.said.clear()
        params = parameters.model_parameters(lib, plan, keep)
        params.load_mode = lib.LLAMA_LOAD_MODE_NONE
        params.no_alloc = case.dry
        virtual.use_only(params, used, keep)
        model = lib.llama_model_load_from_file(case.path.encode(), params)
        if not model:
            return self.failure(used)
        context = lib.llama_init_from_model(model, parameters.context_parameters(lib, plan))
        if not context:
            lib.llama_model_free(model)
            return self.failure(used)
        answer = self.answer(case, used, context)
        if case.decode:
            answer["decoded"] = self.decode(model, context, case)
            answer["after"] = [card.used for card in used]
        lib.llama_free(context)
        lib.llama_model_free(model)
        answer["left"] = [card.used for card in used]
        return answer

    def failure(self, used: Sequence[Virtual]) -> dict[str, Any]:
        return {"ok": False, "said": "".join(self.said)[-600:], "refused": sum(card.refused for card in used)}

    def answer(self, case: Case, used: Sequence[Virtual], context: Any) -> dict[str, Any]:
        rows = {row.buffer: row for row in dry_run.breakdown(self.lib, context)}
        devices = []
        for card in used:
            row = rows.pop(card.card.name, None)
            seen = card.shares() if not case.dry else None
            told = {"weights": row.weights_bytes, "kv": row.kv_bytes, "compute": row.compute_bytes} if row else {}
            devices.append({"told": told, "seen": seen, "peak": card.peak})
        host = {"weights": 0, "kv": 0, "compute": 0}
        for row in rows.values():
            host["weights"] += row.weights_bytes
            host["kv"] += row.kv_bytes
            host["compute"] += row.compute_bytes
        return {"ok": True, "devices": devices, "host": host, "said": "".join(self.said)[-300:]}

    def decode(self, model: Any, context: Any, case: Case) -> list[int]:
        """Feed tokens in batches as big as allowed, then greedily choose three more."""
        lib, chosen = self.lib, []
        size = case.plan["batch"]
        batch = lib.llama_batch_init(size, 0, 1)
        tokens, position = [3 + index % 200 for index in range(case.decode)], 0
        while tokens and len(chosen) < 3:
            part, tokens = tokens[:size], tokens[size:]
            for index, token in enumerate(part):
                batch.token[index], batch.pos[index] = token, position + index
                batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
                batch.logits[index] = not tokens and index == len(part) - 1
            batch.n_tokens, position = len(part), position + len(part)
            if lib.llama_decode(context, batch):
                break
            if not tokens:
                row = lib.llama_get_logits_ith(context, -1)
                count = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
                chosen.append(max(range(count), key=lambda token: row[token]))
                tokens = [chosen[-1]]
        lib.llama_batch_free(batch)
        return chosen


def child() -> None:
    """Read cards and cases from stdin, write one line of JSON per case."""
    question = json.load(sys.stdin)
    bench = Bench([Card(**card) for card in question["cards"]])
    for case in question["cases"]:
        case["room"] = {int(number): size for number, size in case["room"].items()}
        print(json.dumps(bench.run(Case(**case))), flush=True)
    os._exit(0)


# -- the parent --------------------------------------------------------------------------------------------------------


def case(path: Path | str, plan: Plan, cards: Sequence[int] = (0,), **options: Any) -> Case:
    """A case as `ask` wants it."""
    return Case(str(path), asdict(plan), list(cards), **options)


def ask(cards: Sequence[Card], cases: Sequence[Case], timeout_s: float = 110) -> list[dict[str, Any]]:
    """Run cases on virtual GPUs in one child process; an answer per case."""
    question = json.dumps({"cards": [asdict(card) for card in cards], "cases": [asdict(one) for one in cases]})
    done = subprocess.run(
        [sys.executable, __file__], input=question, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(cases), f"the child died after {len(answers)} cases: {done.stderr[-2000:]}"
    return answers


if __name__ == "__main__":
    child()
