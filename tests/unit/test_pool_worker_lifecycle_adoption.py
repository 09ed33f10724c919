"""What a pool makes of a worker that it finds written down."""

from __future__ import annotations

import re
from dataclasses import replace

import msgspec
import pytest

from llorch.wire.workers import WorkerHealth
from roles.pool.worker_lifecycle.adoption import judge
from roles.pool.worker_lifecycle.identity import Seen
from roles.pool.worker_lifecycle.ledger import Saved
from tests.unit.test_pool_worker_lifecycle_records import READY, health

SAVED = Saved(record=replace(READY, pid=7), model_path="/m", birth="boot:1")
ITSELF = Seen(7, "boot:1", named=True, trusted=True)


@pytest.mark.parametrize(
    ("process", "answer", "fate", "reason"),
    [
        (ITSELF, health(), "adopt", ""),
        (ITSELF, None, "adopt", ""),
        (replace(ITSELF, trusted=None), health(), "adopt", ""),
        (None, None, "gone", "while no pool was watching"),
        (replace(ITSELF, birth="boot:2"), None, "gone", "while no pool was watching"),
        (replace(ITSELF, birth="other boot:1"), health(), "gone", "while no pool was watching"),
        (replace(ITSELF, named=None), health(), "strange", "process 7 .* cannot be looked at"),
        (replace(ITSELF, named=False), health(), "strange", "its command line is another one"),
        (replace(ITSELF, trusted=False), health(), "strange", "does not have the worker's token"),
        (ITSELF, msgspec.structs.replace(health(), worker_id="v"), "strange", "another worker answers"),
        (ITSELF, msgspec.structs.replace(health(), model_ref="file:/n"), "strange", "another model"),
    ],
)
def test_only_a_process_that_is_surely_the_worker_is_taken_over(
    process: Seen | None, answer: WorkerHealth | None, fate: str, reason: str
) -> None:
    found = judge(SAVED, process, answer)

    assert found.fate == fate
    assert re.search(reason, found.reason)
    assert bool(reason) == bool(found.reason)


def test_a_process_that_was_never_written_down_is_known_by_what_it_says() -> None:
    saved = Saved(record=replace(READY, pid=None), model_path="/m")

    assert judge(saved, ITSELF, None).fate == "adopt"
    assert judge(saved, None, None).fate == "gone"
