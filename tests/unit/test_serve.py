"""How many open files a role asks the system for; the rest of serving is every end-to-end test's."""

from __future__ import annotations

import resource

import pytest

from llorch.serve import MAC_FILES, MAX_FILES, file_limits


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (256, resource.RLIM_INFINITY, [MAX_FILES, MAC_FILES]),  # a service on a Mac
        (1024, 1_048_576, [MAX_FILES, MAC_FILES]),
        (1024, 20_000, [20_000, MAC_FILES]),
        (1024, 4096, [4096, 4096]),
        (20_000, resource.RLIM_INFINITY, [MAX_FILES]),
        (MAX_FILES, MAX_FILES, []),
        (4096, 4096, []),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, []),
    ],
)
def test_a_role_asks_for_more_files_than_it_has_and_for_fewer_where_that_is_refused(
    soft: int, hard: int, expected: list[int]
) -> None:
    assert file_limits(soft, hard) == expected
