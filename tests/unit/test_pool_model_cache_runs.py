"""Which downloads a process remembers, and what they still have to write."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llorch.errors import NotFound
from llorch.models import HubRef, model_id
from roles.pool.model_cache import progress
from roles.pool.model_cache.ledger import DownloadRecord
from roles.pool.model_cache.runs import KEEP_ENDED, Run, Runs


def entered(runs: Runs, name: str) -> Run:
    ref = HubRef("org/repo", "0a1b", name)
    return runs.enter(ref, DownloadRecord(model_ref=str(ref), sources=[], evict=False, created_ms=1))


def test_the_oldest_that_ended_are_forgotten_and_what_may_go_on_is_not() -> None:
    runs = Runs()
    going, kept = entered(runs, "going.gguf"), entered(runs, "kept.gguf")
    kept.view = progress.ended(kept.view, "failed", None)
    kept.record = replace(kept.record, brought=["kept.gguf"])
    ended = [entered(runs, f"{number}.gguf") for number in range(KEEP_ENDED + 2)]
    for run in ended:
        run.view = progress.ended(run.view, "complete", None)

    last = entered(runs, "last.gguf")

    assert runs.all() == [going, kept, *ended[2:], last]
    assert runs.find(ended[0].view.download_id) is None
    with pytest.raises(NotFound):
        runs.get(ended[0].view.download_id)


def test_a_model_has_one_download_and_the_newest_takes_its_place() -> None:
    runs = Runs()
    first, other = entered(runs, "a.gguf"), entered(runs, "b.gguf")

    again = entered(runs, "a.gguf")

    assert first.view.download_id == again.view.download_id == model_id("hf:org/repo@0a1b::file=a.gguf")
    assert runs.all() == [other, again]
    assert runs.get(first.view.download_id) is again


def test_what_is_still_to_be_written_is_that_of_all_or_of_all_others() -> None:
    runs = Runs()
    for name, total, done in (("a.gguf", 100, 30), ("b.gguf", 50, 0)):
        run = entered(runs, name)
        run.view = progress.found(run.view, total, done)
    entered(runs, "unknown.gguf")

    assert (runs.promised_bytes(), runs.promised_bytes(beside=run)) == (120, 70)
