"""What of a job with inputs is given to the engine at once, and how an input is cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from llorch.errors import InvalidRequest
from llorch.wire.workers import Execute
from roles.worker.backend import ModelFacts
from roles.worker.inference.scoring import GROUP_INPUTS, GROUP_TOKENS, check_able, fitting, groups


@pytest.mark.parametrize(
    ("sizes", "first", "expected"),
    [
        ([], 0, []),
        ([5], 0, [(0, 1)]),
        ([5], 1, []),
        ([1] * (GROUP_INPUTS + 1), 0, [(0, GROUP_INPUTS), (GROUP_INPUTS, GROUP_INPUTS + 1)]),
        ([1] * (GROUP_INPUTS + 1), 1, [(1, GROUP_INPUTS + 1)]),
        ([GROUP_TOKENS - 1, 1, 1], 0, [(0, 2), (2, 3)]),
        ([9 * GROUP_TOKENS, 1, 9 * GROUP_TOKENS], 0, [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_groups_hold_every_input_from_the_first_on_and_not_too_many(
    sizes: Sequence[int], first: int, expected: list[tuple[int, int]]
) -> None:
    assert [(part.start, part.stop) for part in groups(sizes, first)] == expected


@pytest.mark.parametrize(
    ("tokens", "end", "expected"),
    [
        ([1, 2, 3], [9], [1, 2, 3]),
        ([1, 2, 3, 4, 9], [9], [1, 2, 9]),
        ([1, 2, 3, 4, 5], [9], [1, 2, 3]),
        ([1, 2, 3, 4, 5], [], [1, 2, 3]),
    ],
)
def test_what_ends_every_text_stays_at_the_end_of_one_that_is_cut(
    tokens: list[int], end: list[int], expected: list[int]
) -> None:
    assert fitting(tokens, 3, end) == expected


def test_a_model_that_generates_text_makes_no_embeddings() -> None:
    facts = ModelFacts(context_length=8, vocab_size=8, quant_kind="F32", memory_bytes=0)

    check_able(Execute(job_id="j", prompt="a"), facts)
    with pytest.raises(InvalidRequest, match="input: the model cannot do that: it is for text"):
        check_able(Execute(job_id="j", input=["a"]), facts)
