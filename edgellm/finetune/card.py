"""What an adapter came from and how well it learned, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edgellm.finetune.base import Base
from edgellm.finetune.data import Data
from edgellm.finetune.rows import Rows
from edgellm.finetune.settings import Settings
from edgellm.finetune.train import Curve, Run, perplexity


def facts(base: Base, data: Data, settings: Settings, train: Rows, validation: Rows, run: Run) -> dict[str, Any]:
    """Everything worth knowing about a finished run, as plain data."""
    return {
        "base": {"name": base.name, "revision": base.fingerprint(), "gguf": base.is_gguf},
        "data": {
            "files": [path.name for path in data.files],
            "sha256": data.sha256,
            "kind": data.kind,
            "rows": len(data.train) + len(data.validation),
            "train": _rows(train),
            "validation": _rows(validation),
        },
        "settings": settings.facts(),
        "steps": run.steps,
        "parameters": run.trained_parameters,
        "device": run.device,
        "seconds": round(run.seconds, 1),
        "loss": losses(run.curve),
        "versions": {name: _version(name) for name in ("edgellm", "torch", "transformers", "peft")},
    }


def losses(curve: Curve) -> dict[str, float | None]:
    """First and last losses (nats per token that counts) and perplexities."""
    before, after = curve.before, curve.after
    return {
        "train_first": round(curve.train[0], 4),
        "train_last": round(curve.train[-1], 4),
        "validation_before": _rounded(before),
        "validation_after": _rounded(after),
        "perplexity_before": _rounded(None if before is None else perplexity(before)),
        "perplexity_after": _rounded(None if after is None else perplexity(after)),
    }


def markdown(card: Mapping[str, Any], name: str) -> str:
    """The card for people."""
    data, loss, settings = card["data"], card["loss"], card["settings"]
    rows = {
        "base": f"{card['base']['name']}, revision `{card['base']['revision']}`",
        "data": f"{', '.join(data['files'])}: {data['rows']:,} rows ({data['kind']}), sha256 `{data['sha256']}`",
        "trained on": f"{data['train']['samples']:,} samples, {data['train']['tokens']:,} tokens, "
        f"{data['train']['learned']:,} of them count for the loss, {data['train']['cut']:,} samples cut",
        "adapter": f"LoRA, rank {settings['rank']}, alpha {settings['alpha']:g}, on {', '.join(settings['targets'])}: "
        f"{card['parameters']:,} parameters",
        "steps": f"{card['steps']:,} in {card['seconds']:,.0f} s on {card['device']}",
        "training loss": f"{loss['train_first']} → {loss['train_last']}",
        "validation loss": f"{loss['validation_before']} → {loss['validation_after']}",
        "validation perplexity": f"{loss['perplexity_before']} → {loss['perplexity_after']}",
    }
    table = "\n".join(f"| {key} | {_cell(value)} |" for key, value in rows.items())
    written = json.dumps(settings, ensure_ascii=False)
    versions = ", ".join(f"{key} {value}" for key, value in card["versions"].items())
    return (
        f"# {_cell(name)}\n\nAn adapter made with `edgellm finetune train`. It runs beside its base, which stays as it is.\n\n"
        f"| | |\n|---|---|\n{table}\n\nSettings: `{written}`\n\nMade with {versions}. The curve is in `losses.json`.\n"
    )


def _rows(rows: Rows) -> dict[str, int]:
    return {"samples": len(rows.samples), "tokens": rows.tokens, "learned": rows.learned, "cut": rows.cut}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
