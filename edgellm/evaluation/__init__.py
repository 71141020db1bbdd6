"""How good are a model's answers: questions with known answers, asked through the same tasks as everyone's, and counted.

Questions come from `cases`: those kept out of the embedded model's training, or a user's own. Knows no terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edgellm.evaluation.cases import Case, Set, embedded, given
from edgellm.evaluation.score import Score, Share
from edgellm.model import Model
from edgellm.rows import sweep

__all__ = ["Case", "Score", "Set", "Share", "embedded", "given", "measure"]


def measure(model: Model, cases: Set, *, watch: Callable[[int], None] | None = None) -> Score:
    """Ask every case, and count; a failed row is a wrong answer. `watch` is told how many are done."""
    score, began = Score(cases.task), time.monotonic()
    with sweep.over(model, [case.row for case in cases], cases.ask) as results:
        for case, result in zip(cases, results, strict=True):
            score.add(case, result)
            if watch:
                watch(score.cases)
    score.seconds = time.monotonic() - began
    return score
