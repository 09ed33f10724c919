"""Which token comes next: the wire's sampling rules over one row of scores. Computes on the device; no state.

The order of the rules is llama.cpp's: bias, penalties, top_k, top_p, min_p, and the temperature last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from roles.worker.backend.engine_text import Rules, draw
from roles.worker.backend.llamacpp_options import PENALTY_WINDOW_TOKENS


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
