"""The rules of one text, and its draws."""

from __future__ import annotations

import pytest

from roles.worker.backend.engine_messages import AskText
from roles.worker.backend.engine_text import Rules, Text, draw, text_of


def test_draws_are_spread_evenly_and_the_same_for_the_same_place() -> None:
    draws = [draw(1, place) for place in range(2000)]

    assert draws == [draw(1, place) for place in range(2000)]
    assert draws != [draw(2, place) for place in range(2000)]
    assert all(0 <= each < 1 for each in draws)
    assert sum(draws) / 2000 == pytest.approx(0.5, abs=0.03)


def test_a_text_has_the_rules_that_were_asked_for_and_nothing_of_it_is_read() -> None:
    asked = AskText(
        id=7,
        tokens=[1, 2],
        max_tokens=9,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        repetition_penalty=1.2,
        frequency_penalty=0.3,
        presence_penalty=0.4,
        logit_bias={3: 1.0},
        seed=5,
        top_logprobs=2,
    )

    text = text_of(asked)

    rules = Rules(0.5, 0.9, 40, 0.1, 1.2, 0.3, 0.4, {3: 1.0}, seed=5, top_logprobs=2)
    assert text == Text(id=7, tokens=[1, 2], rules=rules, left=9)


@pytest.mark.parametrize(
    ("rules", "plain"),
    [
        (Rules(), True),
        (Rules(top_k=5, top_p=0.1, repetition_penalty=0.0), True),
        (Rules(temperature=0.1), False),
        (Rules(repetition_penalty=1.1), False),
        (Rules(presence_penalty=-0.5), False),
        (Rules(logit_bias={1: 2.0}), False),
        (Rules(top_logprobs=0), False),
    ],
    ids=str,
)
def test_only_the_likeliest_token_and_nothing_told_of_it_is_plain(rules: Rules, plain: bool) -> None:
    assert rules.plain == plain
