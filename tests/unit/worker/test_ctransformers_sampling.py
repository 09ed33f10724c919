"""Which token the rules of the engine ctransformers choose."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from roles.worker.backend.ctransformers_sampling import choose, likeliest
from roles.worker.backend.engine_text import Rules

CHANCES = [0.15, 0.5, 0.25, 0.03, 0.07]
SCORES = np.log(np.array(CHANCES, np.float32))


def often(rules: Rules) -> dict[int, float]:
    """Return how often each token comes in many places of a text."""
    found = Counter(choose(SCORES, rules, [1] * place) for place in range(3000))
    return {token: count / 3000 for token, count in found.items()}


def test_neutral_rules_leave_the_models_own_distribution_alone() -> None:
    found = often(Rules(temperature=1.0))

    assert [found[token] for token in range(5)] == pytest.approx(CHANCES, abs=0.03)


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        (Rules(temperature=0.0), {1}),
        (Rules(temperature=1.0, top_k=1), {1}),
        (Rules(temperature=2.0, top_k=3), {0, 1, 2}),
        (Rules(temperature=2.0, top_k=1000), {0, 1, 2, 3, 4}),
        (Rules(temperature=2.0, top_p=0.0), {1}),
        (Rules(temperature=2.0, top_p=0.7), {1, 2}),
        (Rules(temperature=2.0, min_p=0.2), {0, 1, 2}),
        (Rules(temperature=2.0, min_p=1.0), {1}),
        (Rules(temperature=1.0, logit_bias={4: 100.0}), {4}),
        (Rules(temperature=0.0, logit_bias={1: -100.0}), {2}),
    ],
    ids=str,
)
def test_each_rule_leaves_the_tokens_it_should(rules: Rules, left: set[int]) -> None:
    assert set(often(rules)) == left


def test_penalties_look_at_the_last_64_tokens_alone() -> None:
    rules = Rules(presence_penalty=2.0)

    assert choose(SCORES, rules, [1, *[4] * 63]) == 2
    assert choose(SCORES, rules, [1, *[4] * 64]) == 1


def test_a_repetition_makes_a_token_less_likely_whatever_the_sign_of_its_score() -> None:
    rules = Rules(repetition_penalty=2.0)

    assert choose(np.array([3.0, 2.0], np.float32), rules, [0]) == 1
    assert choose(np.array([-2.0, -3.0], np.float32), rules, [0]) == 1
    assert choose(np.array([3.0, 2.0], np.float32), Rules(repetition_penalty=0.0), [0]) == 0


def test_a_frequency_counts_each_time_and_the_scores_stay_as_they_are() -> None:
    rules, scores = Rules(frequency_penalty=0.5, logit_bias={1: 0.1}), np.array([3.0, 2.0], np.float32)

    assert [choose(scores, rules, [0] * times) for times in (1, 3)] == [0, 1]
    assert scores.tolist() == [3.0, 2.0]


def test_the_likeliest_tokens_are_told_with_the_chances_of_the_model_itself() -> None:
    chance, others = likeliest(SCORES, 2, 2)

    assert chance == pytest.approx(SCORES[2], abs=1e-6)
    assert [token for token, _ in others] == [1, 2]
    assert [logprob for _, logprob in others] == pytest.approx([SCORES[1], SCORES[2]], abs=1e-6)
