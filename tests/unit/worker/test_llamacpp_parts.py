"""What llama.cpp has to be shown instead of the parts' own names."""

from __future__ import annotations

import pytest

from roles.worker.backend.llamacpp_parts import names


@pytest.mark.parametrize("path", ["m.gguf", "m.GGUF", "m-00001-of-00002.gguf", "m-00001-of-00001.GGUF"])
def test_what_llama_cpp_takes_keeps_its_name(path: str) -> None:
    assert names(path) == {}


@pytest.mark.parametrize("ending", ["-of-00002.GGUF", "-OF-00002.gguf"])
def test_a_set_in_capitals_gets_other_names(ending: str) -> None:
    assert names(f"m-00001{ending}") == {
        "model-00001-of-00002.gguf": f"m-00001{ending}",
        "model-00002-of-00002.gguf": f"m-00002{ending}",
    }
