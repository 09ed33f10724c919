"""Whether a text is a reference for everybody who reads one."""

from __future__ import annotations

import os

import pytest

from roles.pool.model_cache.candidates import can_be_said


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("file:/models/modèle 2.gguf", True),
        ("hf:org/repo@main::file=sub/a.gguf", True),
        ("file:/models/" + os.fsdecode(b"mod\xe8le.gguf"), False),
        ("file:/models/a\nb.gguf", False),
        ("file:/models/../b.gguf", False),
        ("hf:gpt2@main::file=a.gguf", False),
        ("hf:org/repo@main::file=a\\b.gguf", False),
    ],
)
def test_a_reference_is_what_can_be_parsed_and_written_down(ref: str, said: bool) -> None:
    assert can_be_said(ref) is said
