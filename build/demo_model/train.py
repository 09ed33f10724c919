"""Trains the demo model from generated text (seeded); `python -m demo_model` runs it and writes the GGUF file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import torch
from torch.nn import functional
from torch.optim import AdamW

from . import tokenizer as bpe
from .data import Batch, Encoder, batches
from .dialogues import dialogue
from .model import Config, Llama
from .muon import Muon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train; the defaults make the published model."""

    seed: int = 5757
    steps: int = 2600
    tokens: int = 2048
    short: int = 500
    matrix_rate: float = 0.02
    other_rate: float = 0.006
    # (step, share of the full learning rate), for the default number of steps.
    shares: tuple[tuple[int, float], ...] = (
        (-1, 0.0),
        (29, 1.0),
        (1200, 1.0),
        (2400, 4 / 7),
        (2500, 8 / 21),
        (2600, 0.0),
    )
    threads: int = 2
    bfloat16: bool = False
    compiled: bool = False


def learn_tokenizer(seed: int, samples: int = 6000) -> Tokenizer:
    """Learn the tokenizer from a sample of the training text."""
    rng = Random(seed)
    texts: Iterator[str] = (
        text for _ in range(samples) for turn in dialogue(rng).turns for text in (turn.user, turn.answer)
    )
    return bpe.train(texts)


def _rate(plan: Plan, step: int) -> float:
    """Return the share of the full learning rate at a step: on the lines between the points of the plan."""
    at = step * Plan.steps / plan.steps
    for (left, low), (right, high) in pairwise(plan.shares):
        if at <= right:
            return low + (high - low) * (at - left) / (right - left)
    return 0.0


def _step(model: Llama, batch: Batch, *, bfloat16: bool) -> tuple[float, float]:
    """Add the gradient of a batch; return its mean loss, and the loss at the tokens of the asked words."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        logits = model(batch.ids, batch.keep)
    losses = functional.cross_entropy(logits.float(), batch.targets, reduction="none")
    (losses @ batch.weights / batch.weights.sum()).backward()
    seen = losses.detach()
    return float(seen.mean()), float(seen[batch.weights > 1].mean())


def train(plan: Plan) -> tuple[Tokenizer, Llama]:
    """Train the model; print the loss and the time now and then."""
    begun = time.monotonic()
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    tokenizer = learn_tokenizer(plan.seed)
    model = Llama(Config(vocab=tokenizer.get_vocab_size()))
    if plan.compiled:
        for block in model.blk:
            block.compile()
    matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and name != "token_embd.weight"]
    others = [p for name, p in model.named_parameters() if p.ndim == 1 or name == "token_embd.weight"]
    optimizers: tuple[torch.optim.Optimizer, ...] = (
        Muon(matrices, lr=plan.matrix_rate, weight_decay=0.01, momentum=0.95),
        AdamW(others, lr=plan.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    )
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: _rate(plan, step)) for o in optimizers]
    source = batches(Encoder(tokenizer), plan.seed + 1, plan.tokens, model.config.context, plan.short)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {model.config.vocab} tokens", flush=True)
    for step in range(plan.steps):
        loss, asked = _step(model, next(source), bfloat16=plan.bfloat16)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        model.zero_grad(set_to_none=True)
        if step % 25 == 0 or step == plan.steps - 1:
            print(f"step {step} loss {loss:.3f} asked {asked:.3f} {time.monotonic() - begun:.0f} s", flush=True)
    print(f"{time.process_time():.0f} s of processor time", flush=True)
    return tokenizer, model
