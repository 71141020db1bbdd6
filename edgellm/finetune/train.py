"""The training loop: LoRA (Hu et al. 2021) by PEFT over a transformers model, one step at a time, resumable at each.

A step is its number: which rows it takes, its learning rate and what is drawn follow from that and the seed, so that a run
killed at any step goes on to the same curve.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgellm.errors import EngineFailed, UsageError
from edgellm.finetune import checkpoint
from edgellm.finetune.base import Base, quiet
from edgellm.finetune.layout import Sample
from edgellm.finetune.rows import Rows, taken
from edgellm.finetune.settings import Settings

_SAVED_S = 120.0  # at most so much is computed twice after a kill, however slow a step is
_TINY = 50_000_000  # parameters
_IGNORED = -100  # torch's cross_entropy leaves out targets of this value


@dataclass(frozen=True, slots=True)
class Step:
    """What is known after a step; `validation` is a mean loss where it was just measured."""

    number: int  # steps done
    of: int
    loss: float | None  # per token that counts; None before the first step
    tokens: int = 0  # seen by this run
    seconds: float = 0.0  # of this run's steps
    validation: float | None = None

    @property
    def tokens_per_s(self) -> float:
        """Tokens that went through the network per second, in this run."""
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Curve:
    """The losses of all steps, and those of the validation rows by the number of steps done."""

    train: list[float] = field(default_factory=list)
    validation: dict[int, float] = field(default_factory=dict)

    @property
    def before(self) -> float | None:
        """Validation loss before the first step."""
        return self.validation.get(0)

    @property
    def after(self) -> float | None:
        """Validation loss after the last measured step."""
        return self.validation[max(self.validation)] if self.validation else None


def perplexity(loss: float) -> float:
    """Of a mean loss in nats per token."""
    return math.exp(min(loss, 700.0))


def steps_of(settings: Settings, rows: int) -> int:
    """How many steps a run takes."""
    whole = settings.batch * settings.accumulate
    return settings.steps or max(1, math.ceil(rows * settings.epochs / whole))


class Run:
    """One run: a network with an adapter, its optimizer, and its curve. The one mutable thing of this room."""

    def __init__(self, base: Base, settings: Settings, train: Rows, validation: Rows, out: Path) -> None:
        import torch

        self.settings, self.out, self._rows, self._held = settings, out, train, validation
        self.steps = steps_of(settings, len(train.samples))
        self.curve = Curve()
        self.done = 0
        self.seconds = 0.0  # of all runs
        self.device = _device(settings.device)
        torch.manual_seed(settings.seed)
        self.model = _adapted(base, settings, self.device)
        self._trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.AdamW(self._trained, lr=settings.rate, weight_decay=0.0)
        self._restore(checkpoint.load(out))

    @property
    def trained_parameters(self) -> int:
        """How many numbers the adapter has."""
        return sum(weight.numel() for weight in self._trained)

    def go(self) -> Iterator[Step]:
        """Train to the end; every step is told. Leaves the adapter in `out`, without card."""
        with _told(self.device), self._threads():
            yield from self._steps()
            with quiet():
                self.model.save_pretrained(str(self.out), save_embedding_layers=False)

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """Threads of a tiny model wait for each other longer than they compute."""
        import torch

        before = torch.get_num_threads()
        tiny = sum(weight.numel() for weight in self.model.parameters()) < _TINY
        torch.set_num_threads(self.settings.threads or (1 if tiny else before))
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _steps(self) -> Iterator[Step]:
        begun, tokens, seconds, saved = self.seconds, 0, 0.0, time.monotonic()
        if self.done == 0:
            yield Step(0, self.steps, None, validation=self._validate())
        while self.done < self.steps:
            start = time.monotonic()
            places = taken(
                self.done, len(self._rows.samples), self.settings.batch * self.settings.accumulate, self.settings.seed
            )
            samples = [self._rows.samples[place] for place in places]
            self.curve.train.append(self._step(samples))
            self.done += 1
            tokens += sum(len(sample.ids) for sample in samples)
            seconds += time.monotonic() - start
            self.seconds = begun + seconds
            due = self.done == self.steps or (
                self.settings.validate_every is not None and self.done % self.settings.validate_every == 0
            )
            held = self._validate() if due else None
            late = time.monotonic() - saved >= _SAVED_S
            if late or self.done % self.settings.checkpoint_every == 0 or self.done == self.steps:
                self._save()
                saved = time.monotonic()
            yield Step(self.done, self.steps, self.curve.train[-1], tokens, seconds, held)

    def _step(self, samples: Sequence[Sample]) -> float:
        import torch

        self.model.train()
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.rate * _height(self.done, self.steps, self.settings.warmup)
        whole = sum(sum(sample.counts[1:]) for sample in samples)
        total = 0.0
        for start in range(0, len(samples), self.settings.batch):
            loss, _ = self._loss(samples[start : start + self.settings.batch])
            (loss / whole).backward()
            total += float(loss.detach())
        if not math.isfinite(total):
            raise EngineFailed(f"the loss became {total} at step {self.done + 1}: lower --rate.")
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total / whole

    def _validate(self) -> float | None:
        """Mean loss over the validation rows, the adapter's dropout off; noted in the curve."""
        import torch

        if not self._held.samples:
            return None
        self.model.eval()
        total, count = 0.0, 0
        with torch.no_grad():
            for start in range(0, len(self._held.samples), self.settings.batch):
                loss, counted = self._loss(self._held.samples[start : start + self.settings.batch])
                total, count = total + float(loss), count + counted
        self.curve.validation[self.done] = total / count
        return total / count

    def _loss(self, samples: Sequence[Sample]) -> tuple[Any, int]:
        """Summed loss of a batch, and over how many tokens."""
        import torch
        from torch.nn.functional import cross_entropy

        longest = max(len(sample.ids) for sample in samples)
        ids = torch.zeros(len(samples), longest, dtype=torch.long)
        mask = torch.zeros(len(samples), longest, dtype=torch.long)
        targets = torch.full((len(samples), longest), _IGNORED)
        for row, sample in enumerate(samples):
            size = len(sample.ids)
            ids[row, :size] = torch.tensor(sample.ids)
            mask[row, :size] = 1
            wanted = [token if counts else _IGNORED for token, counts in zip(sample.ids, sample.counts, strict=True)]
            targets[row, : size - 1] = torch.tensor(wanted[1:])
        ids, mask, targets = (each.to(self.device) for each in (ids, mask, targets))
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        chosen = targets != _IGNORED
        return cross_entropy(logits[chosen].float(), targets[chosen], reduction="sum"), int(chosen.sum())

    def _save(self) -> None:
        import torch
        from peft import get_peft_model_state_dict

        # Without the last word PEFT asks the hub whether the vocabulary has grown.
        adapter = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        weights = {name: weight.detach().cpu() for name, weight in adapter.items()}
        state = {
            "done": self.done,
            "adapter": weights,
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if self.device == "cuda" else None,
            "train": self.curve.train,
            "validation": self.curve.validation,
            "seconds": self.seconds,
        }
        checkpoint.save(self.out, state)

    def _restore(self, state: dict[str, Any] | None) -> None:
        import torch
        from peft import set_peft_model_state_dict

        if state is None:
            return
        set_peft_model_state_dict(self.model, state["adapter"])
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"])
        self.done, self.seconds = state["done"], state["seconds"]
        self.curve = Curve(list(state["train"]), dict(state["validation"]))


def _height(step: int, steps: int, warmup: float) -> float:
    """The learning rate at a step, as a share of the highest: a straight rise, a straight fall to zero."""
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return (steps - step) / max(1, steps - rise)


def _device(wished: str) -> str:
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wished == "auto":
        return next(name for name, there in here.items() if there)
    if not here[wished]:
        raise UsageError(f"--device {wished}: this torch sees no such device here.")
    return wished


def _adapted(base: Base, settings: Settings, device: str) -> Any:
    """The network with a fresh adapter; everything else stands still."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    halved = device == "cuda" and torch.cuda.is_bf16_supported()
    model = base.weights(four_bit=settings.four_bit, dtype=torch.bfloat16 if halved else torch.float32)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type,unused-ignore]  # PEFT computes with it as a number
        lora_dropout=settings.dropout,
        target_modules="all-linear" if settings.targets == ("all",) else list(settings.targets),
        task_type="CAUSAL_LM",
        bias="none",
    )
    with quiet():
        if settings.four_bit:
            model = prepare_model_for_kbit_training(model)
        else:
            model.to(device)
        try:
            adapted = get_peft_model(model, config)
        except ValueError as error:
            raise UsageError(f"--targets {','.join(settings.targets)} fits no layer: {_linear(model)}.") from error
    adapted.peft_config["default"].base_model_name_or_path = base.name
    adapted.peft_config["default"].revision = base.revision or None
    return adapted


def _linear(model: Any) -> str:
    names = {name.rsplit(".", 1)[-1] for name, layer in model.named_modules() if "Linear" in type(layer).__name__}
    return "this model has " + ", ".join(sorted(names))


@contextmanager
def _told(device: str) -> Iterator[None]:
    """Say in words what torch says when memory ends."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EngineFailed(
            f"the memory of the {device} device was not enough: lower --batch or --max-length."
        ) from error
