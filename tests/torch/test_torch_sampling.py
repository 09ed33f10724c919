"""Which token the torch engine's rules choose."""

from __future__ import annotations

from collections import Counter

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from roles.worker.backend.engine_text import Rules, draw  # noqa: E402 - after the skip
from roles.worker.backend.torch_sampling import choose, likeliest  # noqa: E402 - after the skip

CHANCES = [0.5, 0.25, 0.15, 0.07, 0.03]
SCORES = torch.tensor(CHANCES).log()


def often(rules: Rules) -> dict[int, float]:
    """Return how often each token comes in many places of a text."""
    found = Counter(choose(SCORES, rules, [0] * place) for place in range(3000))
    return {token: count / 3000 for token, count in found.items()}


def test_draws_are_spread_evenly_and_the_same_for_the_same_place() -> None:
    draws = [draw(1, place) for place in range(2000)]

    assert draws == [draw(1, place) for place in range(2000)]
    assert draws != [draw(2, place) for place in range(2000)]
    assert all(0 <= each < 1 for each in draws)
    assert sum(draws) / 2000 == pytest.approx(0.5, abs=0.03)


def test_neutral_rules_leave_the_models_own_distribution_alone() -> None:
    found = often(Rules(temperature=1.0))

    assert [found[token] for token in range(5)] == pytest.approx(CHANCES, abs=0.03)


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        (Rules(temperature=0.0), {0}),
        (Rules(temperature=1.0, top_k=1), {0}),
        (Rules(temperature=2.0, top_k=3), {0, 1, 2}),
        (Rules(temperature=2.0, top_k=1000), {0, 1, 2, 3, 4}),
        (Rules(temperature=2.0, top_p=0.0), {0}),
        (Rules(temperature=2.0, top_p=0.7), {0, 1}),
        (Rules(temperature=2.0, min_p=0.2), {0, 1, 2}),
        (Rules(temperature=2.0, min_p=1.0), {0}),
        (Rules(temperature=1.0, logit_bias={4: 100.0}), {4}),
        (Rules(temperature=0.0, logit_bias={0: -100.0}), {1}),
    ],
    ids=str,
)
def test_each_rule_leaves_the_tokens_it_should(rules: Rules, left: set[int]) -> None:
    assert set(often(rules)) == left


def test_penalties_look_at_the_last_64_tokens_alone() -> None:
    rules = Rules(presence_penalty=2.0)

    assert choose(SCORES, rules, [0, *[4] * 63]) == 1
    assert choose(SCORES, rules, [0, *[4] * 64]) == 0


def test_a_repetition_makes_a_token_less_likely_whatever_the_sign_of_its_score() -> None:
    rules = Rules(repetition_penalty=2.0)

    assert choose(torch.tensor([3.0, 2.0]), rules, [0]) == 1
    assert choose(torch.tensor([-2.0, -3.0]), rules, [0]) == 1
    assert choose(torch.tensor([3.0, 2.0]), Rules(repetition_penalty=0.0), [0]) == 0


def test_a_frequency_counts_each_time() -> None:
    rules = Rules(frequency_penalty=0.5)

    assert choose(torch.tensor([3.0, 2.0]), rules, [0]) == 0
    assert choose(torch.tensor([3.0, 2.0]), rules, [0, 0, 0]) == 1


def test_the_likeliest_tokens_are_told_with_the_chances_of_the_model_itself() -> None:
    chance, others = likeliest(SCORES, 2, 2)

    assert chance == pytest.approx(SCORES[2].item(), abs=1e-6)
    assert [token for token, _ in others] == [0, 1]
    assert [logprob for _, logprob in others] == pytest.approx(SCORES[:2].tolist(), abs=1e-6)
