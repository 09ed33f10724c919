"""A worker needs nothing but a model."""

from __future__ import annotations

from pathlib import Path

from roles.worker.options import WorkerOptions


def test_a_model_is_all_that_must_be_given() -> None:
    options = WorkerOptions(Path("m.gguf"))

    assert (options.backend, options.engine, options.slots, options.token, options.callback_url) == (
        "cpu",
        "llamacpp",
        4,
        "",
        "",
    )
