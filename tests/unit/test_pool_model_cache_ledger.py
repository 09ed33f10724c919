"""Which of the files in a model's folder a download has brought."""

from __future__ import annotations

from msgspec.structs import replace

from llorch.wire.models import FileFacts
from roles.pool.model_cache.ledger import DownloadRecord

NEW = DownloadRecord(
    model_ref="hf:org/repo",
    sources=[],
    evict=False,
    created_ms=1,
    files=[FileFacts(path=f"sub/{name}", size_bytes=1) for name in ("config.json", "a", "b")],
)


def test_what_nobody_has_begun_to_fetch_is_somebody_elses() -> None:
    assert NEW.own(["config.json", "a"]) == set()


def test_what_was_there_before_or_is_none_of_its_files_is_somebody_elses() -> None:
    begun = NEW.begun(["a", "c"])

    assert begun.own(["config.json", "a", "b", "c", "d"]) == {"config.json", "b"}
    assert begun.begun(["a", "b", "c"]) == begun


def test_what_an_earlier_try_brought_stays_its_own() -> None:
    again = replace(NEW, brought=["b"])

    assert again.own(["a", "b"]) == {"b"}
    assert again.begun(["a", "b"]).own(["a", "b"]) == {"b"}
    assert again.begun(["a", "b"]).own(["a"]) == set()
    assert replace(again, files=[]).begun(["a", "b"]).own(["a", "b"]) == {"b"}
