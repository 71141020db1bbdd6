"""A run's curve, drawn: one line of blocks for a terminal, a picture where matplotlib is installed."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence

from edgellm.finetune.train import Curve

_BLOCKS = "▁▂▃▄▅▆▇█"


def line(values: Sequence[float], width: int = 60) -> str:
    """Draw values as blocks, each the mean of its neighbours where there are more than `width`."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [len(values) * place // count for place in range(count + 1)]
    means = [sum(values[low:high]) / (high - low) for low, high in itertools.pairwise(edges)]
    least, span = min(means), max(means) - min(means)
    return "".join(_BLOCKS[round((value - least) / span * 7) if span else 0] for value in means)


def png(curve: Curve) -> bytes | None:
    """Draw a picture; None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(range(1, len(curve.train) + 1), curve.train, linewidth=1, alpha=0.7, label="training")
    if curve.validation:
        axes.plot(list(curve.validation), list(curve.validation.values()), "o-", label="validation")
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token that counts)")
    axes.grid(alpha=0.3)
    axes.legend()
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=120)
    return held.getvalue()
