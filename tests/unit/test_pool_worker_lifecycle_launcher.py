"""What a worker is told."""

from __future__ import annotations

from dataclasses import replace
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


def test_a_worker_over_several_devices_is_told_how_much_goes_where() -> None:
    command = worker_command(replace(SPEC, split=(("cuda:0", 17), ("cuda:2", 16))))

    assert '"split": "cuda:0 = 17, cuda:2 = 16"' in command[-1]
    assert '"split": ""' in worker_command(SPEC)[-1]
