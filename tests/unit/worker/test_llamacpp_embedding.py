"""How many tokens llama.cpp has to compute at once for a vector; test_worker_embedding.py has it make some."""

from __future__ import annotations

import pytest

from llorch.abilities import LAST, MEAN, RANK
from roles.worker.backend.llamacpp_embedding import batch_of


@pytest.mark.parametrize(("pooling", "expected"), [(0, 128), (MEAN, 512), (RANK, 512), (LAST, 128)])
def test_a_text_is_computed_at_once_unless_its_last_token_says_it_all(pooling: int, expected: int) -> None:
    assert batch_of(pooling, ctx=512, batch=128) == expected
