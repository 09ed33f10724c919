"""A worker serves its model only as long as its engine is told what the operator wants now."""

from __future__ import annotations

import pytest

from llorch.models import resolve
from llorch.wire.engine_options import EngineOptions, fields_of
from llorch.wire.pools import Worker
from roles.orchestrator.scheduler.identity import STRANGE, same, served

COMMIT = "0123456789012345678901234567890123456789"
PINNED = f"hf:org/repo@{COMMIT}::file=a.gguf"
LOOSE = "hf:org/repo@main::file=a.gguf"


def a_worker(options: EngineOptions) -> Worker:
    return Worker(
        worker_id="w",
        model_ref="file:/m.gguf",
        status="ready",
        backend="cpu",
        engine="llamacpp",
        device="cpu",
        slots=1,
        slots_busy=0,
        context_length=64,
        memory_bytes=1,
        started_ms=0,
        **fields_of(options),  # type: ignore[arg-type]  # each under its own name
    )


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (EngineOptions(), EngineOptions()),
        (EngineOptions(draft=LOOSE), EngineOptions(draft=PINNED)),
        (EngineOptions(draft="hf:org/repo"), EngineOptions(draft=PINNED)),
        (EngineOptions(lora=(f"{LOOSE}:0.5",)), EngineOptions(lora=(f"{PINNED}:0.5",))),
        (EngineOptions(projector="file:/p"), EngineOptions(projector="file:/p")),
        (EngineOptions(kv_type="q8_0"), EngineOptions(kv_type="q8_0")),
    ],
)
def test_these_are_the_same(wanted: EngineOptions, found: EngineOptions) -> None:
    assert same(wanted, found)
    assert served(a_worker(found), wanted) == "file:/m.gguf"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (EngineOptions(), EngineOptions(draft="file:/d")),
        (EngineOptions(draft="file:/d"), EngineOptions()),
        (EngineOptions(draft="file:/d"), EngineOptions(draft="file:/e")),
        (EngineOptions(lora=(LOOSE,)), EngineOptions(lora=(f"{PINNED}:0.5",))),
        (EngineOptions(lora=("file:/a", "file:/b")), EngineOptions(lora=("file:/b", "file:/a"))),
        (EngineOptions(lora=("file:/a",)), EngineOptions()),
        (EngineOptions(projector="file:/p"), EngineOptions()),
        (EngineOptions(kv_type="q8_0"), EngineOptions()),
    ],
)
def test_these_are_not(wanted: EngineOptions, found: EngineOptions) -> None:
    assert not same(wanted, found)
    assert served(a_worker(found), wanted) == f"{STRANGE}file:/m.gguf"


def test_no_job_can_ask_for_the_name_of_a_worker_with_other_options() -> None:
    with pytest.raises(Exception, match="no model is called"):
        resolve(f"{STRANGE}file:/m.gguf", {})
