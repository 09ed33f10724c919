"""Which token comes next: the wire's sampling rules over one row of scores, with numpy. No state.

The order of the rules is llama.cpp's: bias, penalties, top_k, top_p, min_p, and the temperature last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from roles.worker.backend.engine_text import Rules, draw
from roles.worker.backend.llamacpp_options import PENALTY_WINDOW_TOKENS

Scores = npt.NDArray[np.float32]


def choose(scores: Scores, rules: Rules, before: Sequence[int]) -> int:
    """Return the next token.

    Args:
        scores: One for each token of the vocabulary.
        rules: How to choose.
        before: The text so far, prompt included.
    """
    scores = _penalised(_biased(scores, rules), rules, before[-PENALTY_WINDOW_TOKENS:])
    if rules.temperature == 0:
        return int(scores.argmax())
    tokens = np.argsort(-scores, kind="stable")[: rules.top_k or None]
    kept = scores[tokens].astype(np.float64)
    if rules.top_p < 1:
        chances = _softmax(kept)
        wanted = chances.cumsum() - chances < rules.top_p
        wanted[0] = True
        kept = kept[wanted]
    if rules.min_p:
        kept = kept[np.exp(kept - kept[0]) >= rules.min_p]
    reached = _softmax(kept / rules.temperature).cumsum()
    place = int((reached <= draw(rules.seed, len(before)) * reached[-1]).sum())
    return int(tokens[min(place, len(kept) - 1)])


def likeliest(scores: Scores, token: int, count: int) -> tuple[float, list[tuple[int, float]]]:
    """Return the logarithm of a token's probability before any rule, and the *count* likeliest with theirs."""
    wide = scores.astype(np.float64)
    logarithms = wide - wide.max()
    logarithms -= np.log(np.exp(logarithms).sum())
    found = np.argsort(-logarithms, kind="stable")[:count]
    return float(logarithms[token]), [(int(other), float(logarithms[other])) for other in found]


def _softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    raised = np.exp(scores - scores.max())
    found: npt.NDArray[np.float64] = raised / raised.sum()
    return found


def _biased(scores: Scores, rules: Rules) -> Scores:
    if not rules.logit_bias:
        return scores
    scores = scores.copy()
    for token, amount in rules.logit_bias.items():
        scores[token] += amount
    return scores


def _penalised(scores: Scores, rules: Rules, recent: Sequence[int]) -> Scores:
    repetition = rules.repetition_penalty or 1.0
    if repetition == 1 and not rules.frequency_penalty and not rules.presence_penalty:
        return scores
    counts = Counter(recent)
    tokens = np.fromiter(counts, dtype=np.intp)
    times = np.fromiter(counts.values(), dtype=np.float32)
    seen = scores[tokens]
    seen = np.where(seen > 0, seen / np.float32(repetition), seen * np.float32(repetition))
    scores = scores.copy()
    scores[tokens] = seen - times * np.float32(rules.frequency_penalty) - np.float32(rules.presence_penalty)
    return scores
