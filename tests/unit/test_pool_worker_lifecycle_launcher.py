"""What a worker is told."""

from __future__ import annotations

from pathlib import Path

from roles.pool.worker_lifecycle.launcher import WorkerSpec
from roles.pool.worker_lifecycle.processes import worker_command

SPEC = WorkerSpec(
    worker_id="w",
    model_ref="file:/m",
    path=Path("/m"),
    backend="cpu",
    engine="llamacpp",
    device="cpu",
    slots=2,
    ctx=64,
    host="127.0.0.1",
    port=0,
    callback_url="http://127.0.0.1:9200",
    token="secret",
    orphan_s=600.0,
)


def test_the_token_is_not_shown_with_the_rest() -> None:
    assert "secret" not in repr(SPEC)


def test_the_token_is_not_in_the_command_line_that_everybody_can_read() -> None:
    assert "secret" not in " ".join(worker_command(SPEC))
