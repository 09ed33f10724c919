"""From what clients saw to the table of tests/bench/proxies.py, and what LiteLLM's proxy is told."""

from __future__ import annotations

import json

import pytest

from tests.bench.litellm_proxy import configuration
from tests.bench.load import Streamed
from tests.bench.proxies import PIECE
from tests.bench.proxy_figures import Figures, Round, added, figures, table, tokens_told

USAGE = b'{"usage":{"completion_tokens":4,"completion_tokens_details":{"reasoning_tokens":0}}}'


def streamed(first_ms: float, total_ms: float) -> Streamed:
    return Streamed(first_token_s=first_ms / 1e3, total_s=total_ms / 1e3, tokens=4, ended=True, tail=USAGE)


def test_percentiles_are_of_all_rounds_rates_the_rounds_median_and_failures_only_counted() -> None:
    rounds = [
        Round([streamed(1, 10), streamed(2, 20), Streamed(total_s=9)], seconds=1, cpu_s=0.3),
        Round([streamed(3, 30)], seconds=1, cpu_s=0.1),
        Round([streamed(4, 40)] * 4, seconds=1, cpu_s=0.4),
    ]

    found = figures(rounds)

    assert (found.answers, found.failed) == (7, 1)
    assert (found.ttft_p50, found.ttft_p99) == (4, 4)
    assert (found.total_p50, found.total_p99) == (40, 40)
    assert (found.requests_per_s, found.tokens_per_s) == (2, 8)
    assert found.cpu_ms == pytest.approx(100)
    assert found.by_round == [10, 30, 40]
    assert found.cpu_by_round == pytest.approx([100, 100, 100])


def test_answers_in_one_piece_have_no_first_token_and_a_way_without_answers_no_times() -> None:
    whole = figures([Round([Streamed(total_s=0.5, ended=True, tail=USAGE)], seconds=1, cpu_s=0)])
    none = figures([Round([Streamed(tail=b"refused")], seconds=1, cpu_s=0)])

    assert (whole.ttft_p50, whole.ttft_p99, whole.total_p50) == (None, None, 500)
    assert (none.total_p50, none.requests_per_s, none.by_round) == (None, 0, [None])


def test_the_table_compares_each_way_with_the_first() -> None:
    direct = Figures(
        answers=9, failed=0, ttft_p50=1, ttft_p99=2, total_p50=3, total_p99=4, requests_per_s=100, tokens_per_s=1600,
        cpu_ms=0, by_round=[3, 3.5], cpu_by_round=[0, 0],
    )  # fmt: skip
    slower = Figures(
        answers=7, failed=1, ttft_p50=2.5, ttft_p99=6, total_p50=2, total_p99=9, requests_per_s=25, tokens_per_s=400,
        cpu_ms=7.25, by_round=[2, None], cpu_by_round=[7, 7.5],
    )  # fmt: skip

    _, first, second = table({"direct": direct, "proxy": slower}).splitlines()

    assert first.split() == "direct 9 0 1.0 2.0 3.0 4.0 100 1,600 - 3.0 3.5 -".split()
    assert second.split() == (
        "proxy 7 1 2.5 (+1.5) 6.0 (+4.0) 2.0 (-1.0) 9.0 (+5.0) 25 (25%) 400 (25%) 7.2 2.0 - 7.0 7.5".split()
    )


def test_memory_is_told_as_a_sum_with_its_parts() -> None:
    assert added([20.4, 150.2]) == "171 MB (150 + 20)"


@pytest.mark.parametrize(
    ("tail", "tokens"),
    [
        (USAGE, 4),
        (b'"usage":{"completion_tokens": 31}}\n\ndata: [DONE]\n\n', 31),
        (b'"choices":[]}\n\ndata: [DONE]', 0),
    ],
)
def test_an_answer_says_how_many_tokens_it_has(tail: bytes, tokens: int) -> None:
    assert tokens_told(tail) == tokens


def test_litellm_is_told_of_each_server_and_to_report_nothing() -> None:
    told = json.loads(configuration({"a": ("http://127.0.0.1:1", "org/A"), "b": ("http://127.0.0.1:2", "/x/b.gguf")}))

    assert told["model_list"] == [
        {
            "model_name": "a",
            "litellm_params": {"model": "openai/org/A", "api_base": "http://127.0.0.1:1/v1", "api_key": "none"},
        },
        {
            "model_name": "b",
            "litellm_params": {"model": "openai//x/b.gguf", "api_base": "http://127.0.0.1:2/v1", "api_key": "none"},
        },
    ]
    assert told["litellm_settings"]["telemetry"] is False


@pytest.mark.parametrize(
    ("line", "pieces"),
    [
        (b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}', 0),
        (b'data: {"choices":[{"delta":{"role":"assistant","content":null}}]}', 0),
        (b'data: {"choices":[{"delta":{"content": " word"}}]}', 1),
        (b'data: {"choices":[{"delta":{"content":"\\"Yes"}}]}', 1),
    ],
)
def test_a_line_brings_a_token_if_it_has_text(line: bytes, pieces: int) -> None:
    assert len(PIECE.findall(line)) == pieces
