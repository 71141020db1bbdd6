"""Muon for matrices, AdamW for embeddings and norms, in one step.

Muon: Jordan et al. 2024 (orthogonalised momentum), with the 0.2 * sqrt(max dimension) scale of Moonshot 2025, so that
one learning rate serves both.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

_ITERATION = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
)


def orthogonal(update: Tensor) -> Tensor:
    """Bring all singular values near one, by a Newton-Schulz iteration in bfloat16."""
    tall = update.shape[0] > update.shape[1]
    x = (update.T if tall else update).bfloat16()
    x = (x / (update.norm() * 1.02 + 1e-12)).contiguous()
    for a, b, c in _ITERATION:
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Optimizer:
    """Steps all parameters of a model; its state fits in a checkpoint."""

    def __init__(self, net: nn.Module, *, decay: float = 0.01, momentum: float = 0.95) -> None:
        self.decay, self.momentum = decay, momentum
        named = list(net.named_parameters())
        self.matrices = [(name, each) for name, each in named if each.ndim == 2 and "embedding" not in name]
        self.others = [(name, each) for name, each in named if each.ndim != 2 or "embedding" in name]
        self.state: dict[str, dict[str, Tensor]] = {}
        self.steps = 0
        for name, each in self.matrices:
            self.state[name] = {"momentum": torch.zeros_like(each)}
        for name, each in self.others:
            self.state[name] = {"mean": torch.zeros_like(each), "square": torch.zeros_like(each)}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Apply one update with the given learning rate and clear the gradients."""
        self.steps += 1
        self._muon(rate)
        self._adam(rate * 0.2)  # tied embeddings: noise in them spoils the copying of rare pieces

    def _muon(self, rate: float) -> None:
        for name, each in self.matrices:
            momentum = self.state[name]["momentum"]
            momentum.lerp_(each.grad, 1 - self.momentum)
            update = orthogonal(each.grad.lerp_(momentum, self.momentum))
            scale = 0.2 * math.sqrt(max(each.shape))
            each.mul_(1 - rate * self.decay).add_(update, alpha=-rate * scale)
            each.grad = None

    def _adam(self, rate: float) -> None:
        for name, each in self.others:
            mean, square = self.state[name]["mean"], self.state[name]["square"]
            mean.lerp_(each.grad, 0.1)
            square.lerp_(each.grad.square(), 0.02)
            mean_scale, square_scale = 1 - 0.9**self.steps, 1 - 0.98**self.steps
            each.addcdiv_(mean / mean_scale, (square / square_scale).sqrt_().add_(1e-9), value=-rate)
            each.grad = None

    def as_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"steps": self.steps, "state": self.state}

    def restore(self, saved: dict[str, Any]) -> None:
        """Take the state of a checkpoint."""
        self.steps, self.state = saved["steps"], saved["state"]
