"""The first look at a model file: right for sound files, one clear error for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llorch import errors
from roles.worker.backend.model_file import Header, read_header
from tests.support import models


def test_a_sound_file_says_its_architecture_and_context(tmp_path: Path) -> None:
    path = models.make(tmp_path / "m.gguf")

    assert read_header(path) == Header("llama", 512)


@pytest.mark.parametrize("kept", [0, 3, 4, 20, 40, 90])
def test_a_header_that_is_cut_off_is_invalid(tmp_path: Path, kept: int) -> None:
    path = models.make(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(errors.ModelInvalid):
        read_header(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_no_bytes_make_anything_but_an_expected_error(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00" + rest)

    with pytest.raises(errors.ModelInvalid):
        read_header(path)


def test_a_missing_file_and_a_folder_are_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(errors.ModelNotFound):
            read_header(path)
