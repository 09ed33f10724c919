"""What is said about workers of another version, and who has to be upgraded."""

from __future__ import annotations

import msgspec
import pytest

from llorch.wire.pools import Register
from llorch.wire.protocol import FIRST, PROTOCOL, differs, foreign, remedy


@pytest.mark.parametrize(("theirs", "ours", "expected"), [(1, 1, False), (1, 2, True), (2, 1, True), (2, 2, False)])
def test_only_the_same_number_is_understood(theirs: int, ours: int, expected: bool) -> None:
    assert foreign(theirs, ours=ours) == expected


def test_the_older_side_has_to_be_upgraded() -> None:
    older, newer = (remedy(theirs, pool_id="attic", whose="the orchestrator", ours=2) for theirs in (1, 3))

    assert older == "llorch hosts upgrade attic"
    assert newer == "upgrade the orchestrator, and restart it"
    assert differs(1, whose="its pool", ours=2) == "speaks version 1 of the workers' protocol, and its pool version 2"


def test_a_pool_that_does_not_say_speaks_the_first_version() -> None:
    told = msgspec.json.decode(b'{"pool_id":"p","endpoint":"http://h:1","version":"0.1.0"}', type=Register)

    assert (told.protocol, FIRST, PROTOCOL >= FIRST) == (1, 1, True)
