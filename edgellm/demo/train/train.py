"""The training loop: batches in, checkpoints out; may be stopped and resumed at any time.

The learning rate is flat and falls to zero at the end, by the clock: the same command fits a fast and a slow machine.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from edgellm.demo.train import data
from edgellm.demo.train.export import read
from edgellm.demo.train.model import Llama, Shape, grown, structured_start
from edgellm.demo.train.optimizer import Optimizer
from edgellm.demo.train.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how."""

    seed: int = 1
    minutes: float = 60.0
    decay: float = 0.5  # the share of the time in which the rate falls to zero
    rate: float = 1e-3  # measured: three times as much breaks what the structured start wrote
    warm_steps: int = 40
    tokens: int = 3072  # of one micro-batch
    micro_batches: int = 2
    longest: int = 1024
    save_s: float = 120.0
    average: float = 0.99  # of the running mean of weights that checkpoints carry
    mix: tuple[tuple[str, int], ...] = ()  # tasks and their weights; empty: text.TASKS


def number_type() -> torch.dtype:
    """bfloat16 where the machine is fast at it (GPUs; AMX or AVX512-BF16: 4.6 times on a Zen 5 core), else float32."""
    if torch.cuda.is_available():
        return torch.bfloat16
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    fast = any(getattr(torch.cpu, one, lambda: False)() for one in asked)
    return torch.bfloat16 if fast else torch.float32


def train(folder: Path, tokenizer: Tokenizer, shape: Shape, plan: Plan, *, start: Path | None = None) -> Path:
    """Train from `start`, a checkpoint or an exported file (or from the structured start), for the planned time.

    An exported file may have fewer layers than `shape`. Returns the checkpoint's path.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = Llama(shape)
    structured_start(net, plan.seed)
    net.to(device)
    optimizer = Optimizer(net)
    seen = 0
    if start is not None and start.suffix == ".gguf":
        net.load_state_dict(grown(read(start)[0], shape.layers))
    elif start is not None:
        saved = torch.load(start, weights_only=True, map_location=device)
        net.load_state_dict(saved["weights"])
        optimizer.restore(saved["optimizer"])
        seen = saved["tokens"]
    net.type = number_type()
    mean = {name: each.detach().clone() for name, each in net.named_parameters()}
    if device.type == "cpu" and shutil.which("g++"):
        net.compile()
    return _loop(folder, net, optimizer, mean, tokenizer, plan, seen, device)


def _loop(
    folder: Path,
    net: Llama,
    optimizer: Optimizer,
    mean: dict[str, torch.Tensor],
    tokenizer: Tokenizer,
    plan: Plan,
    seen: int,
    device: torch.device,
) -> Path:
    stream = data.batches(
        tokenizer, plan.seed * 7919 + optimizer.steps, tokens=plan.tokens, longest=plan.longest, tasks=dict(plan.mix)
    )
    began = saved_at = time.monotonic()
    total, count, first = 0.0, 0, optimizer.steps
    before = seen
    while (spent := time.monotonic() - began) < plan.minutes * 60:
        for _ in range(plan.micro_batches):
            batch = next(stream)
            seen += batch.tokens.numel()
            loss = _loss(net, batch, device)
            (loss / (plan.tokens * plan.micro_batches / 4)).backward()
            total, count = total + loss.item(), count + len(batch.targets)
        optimizer.step(_rate(plan, optimizer.steps - first, spent))
        with torch.no_grad():
            for name, each in net.named_parameters():
                mean[name].lerp_(each, 1 - plan.average)
        if optimizer.steps % 20 == 0:
            speed = (seen - before) / (time.monotonic() - began)
            print(
                f"step {optimizer.steps} {spent / 60:.1f} min {seen / 1e6:.2f}M tokens {speed:.0f}/s loss {total / count:.4f}",
                flush=True,
            )
            total, count = 0.0, 0
        if time.monotonic() - saved_at > plan.save_s:
            _save(folder / "last.pt", net, optimizer, mean, seen)
            saved_at = time.monotonic()
    _save(folder / "last.pt", net, optimizer, mean, seen)
    _save(folder / f"done-{seen // 1000}k.pt", net, optimizer, mean, seen)
    return folder / "last.pt"


def _loss(net: Llama, batch: data.Batch, device: torch.device) -> torch.Tensor:
    hidden = net(batch.tokens.to(device), batch.places.to(device))
    return functional.cross_entropy(net.logits(hidden), batch.targets.to(device), reduction="sum")


def _rate(plan: Plan, step: int, spent_s: float) -> float:
    left = 1 - spent_s / (plan.minutes * 60)
    return plan.rate * min(1.0, (step + 1) / plan.warm_steps, max(0.0, left / plan.decay) if plan.decay else 1.0)


def _save(path: Path, net: Llama, optimizer: Optimizer, mean: dict[str, torch.Tensor], seen: int) -> None:
    """Write whole, then rename: a stopped run leaves the last good file."""
    state = {
        "weights": net.state_dict(),
        "mean": mean,
        "optimizer": optimizer.as_dict(),
        "tokens": seen,
        "shape": net.shape.as_dict(),
    }
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)
