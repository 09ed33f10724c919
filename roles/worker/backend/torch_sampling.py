"""Which token comes next: the wire's sampling rules over one row of scores. Computes on the device; no state.

Strategy: a draw depends on the seed and on the token's place in its text alone. A text that is continued elsewhere, by
its ids, goes on as it would have, as far as the scores are the same.

The order of the rules is llama.cpp's: bias, penalties, top_k, top_p, min_p, and the temperature last.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from roles.worker.backend.llamacpp_options import PENALTY_WINDOW_TOKENS


@dataclass(frozen=True, slots=True)
class Rules:
    """How the next token is chosen; neutral values leave the model's own distribution alone.

    `top_logprobs` below 0 asks for none at all, 0 for that of the chosen token alone.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] | None = None
    seed: int = 0
    top_logprobs: int = -1

    @property
    def plain(self) -> bool:
        """Whether the likeliest token of the model itself is what is asked for, and nothing about it."""
        penalised = self.repetition_penalty not in {0.0, 1.0} or self.frequency_penalty or self.presence_penalty
        return self.temperature == 0 and not penalised and not self.logit_bias and self.top_logprobs < 0


def draw(seed: int, place: int) -> float:
    """Return a number from 0 to below 1 for one place of a text."""
    digest = hashlib.blake2b(f"{seed}:{place}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def choose(scores: torch.Tensor, rules: Rules, before: Sequence[int]) -> int:
    """Return the next token.

    Args:
        scores: One for each token of the vocabulary, float32.
        rules: How to choose.
        before: The text so far, prompt included.
    """
    scores = _penalised(_biased(scores, rules), rules, before[-PENALTY_WINDOW_TOKENS:])
    if rules.temperature == 0:
        return int(scores.argmax())
    kept, tokens = scores.sort(descending=True) if not rules.top_k else scores.topk(min(rules.top_k, len(scores)))
    chances = kept.softmax(-1)
    if rules.top_p < 1:
        wanted = chances.cumsum(-1) - chances < rules.top_p
        wanted[0] = True
        kept = kept[wanted]
    if rules.min_p:
        kept = kept[(kept - kept[0]).exp() >= rules.min_p]
    reached = (kept / rules.temperature).softmax(-1).cumsum(-1)
    place = int((reached <= draw(rules.seed, len(before)) * reached[-1]).sum())
    return int(tokens[min(place, len(kept) - 1)])


def likeliest(scores: torch.Tensor, token: int, count: int) -> tuple[float, list[tuple[int, float]]]:
    """Return the logarithm of a token's probability before any rule, and the *count* likeliest with theirs."""
    logarithms = scores.log_softmax(-1)
    found, tokens = logarithms.topk(min(count, len(logarithms)))
    return float(logarithms[token]), list(zip(tokens.tolist(), found.tolist(), strict=True))


def _biased(scores: torch.Tensor, rules: Rules) -> torch.Tensor:
    if not rules.logit_bias:
        return scores
    tokens = torch.tensor(list(rules.logit_bias), device=scores.device)
    return scores.index_add(0, tokens, torch.tensor(list(rules.logit_bias.values()), device=scores.device))


def _penalised(scores: torch.Tensor, rules: Rules, recent: Sequence[int]) -> torch.Tensor:
    repetition = rules.repetition_penalty or 1.0
    if repetition == 1 and not rules.frequency_penalty and not rules.presence_penalty:
        return scores
    counts = Counter(recent)
    tokens = torch.tensor(list(counts), device=scores.device, dtype=torch.long)
    times = torch.tensor(list(counts.values()), device=scores.device, dtype=scores.dtype)
    seen = scores[tokens]
    seen = torch.where(seen > 0, seen / repetition, seen * repetition)
    seen = seen - times * rules.frequency_penalty - rules.presence_penalty
    return scores.index_copy(0, tokens, seen)
