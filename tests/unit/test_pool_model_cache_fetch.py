"""What another pool says about a model is believed only where that can be the model's files."""

from __future__ import annotations

import pytest

from llorch.models import HubRef
from llorch.wire.models import FileFacts
from roles.pool.model_cache.fetch import are_its

COMMIT = "a" * 40
TOKENIZED = ["model.safetensors", "tokenizer.json"]


def facts(*paths: str) -> list[FileFacts]:
    return [FileFacts(path=path, size_bytes=1, sha256="0" * 64) for path in paths]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("sub/m.gguf", ["sub/m.gguf"]),
        ("m-00001-of-00002.gguf", ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]),
        ("config.json", ["config.json", *TOKENIZED]),
        ("sub/config.json", ["sub/config.json", "sub/model.safetensors", "sub/tokenizer.json"]),
    ],
)
def test_the_files_that_a_model_has_are_believed(path: str, told: list[str]) -> None:
    assert are_its(HubRef("org/repo", COMMIT, path), facts(*told))


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("m.gguf", []),
        ("m.gguf", ["../../../../victim/.bashrc"]),
        ("m.gguf", ["/home/victim/.bashrc"]),
        ("m.gguf", ["m.gguf", "../../../../victim/.bashrc"]),
        ("m.gguf", ["m.gguf", "m.gguf"]),
        ("m.gguf", ["other.gguf"]),
        ("m-00001-of-00002.gguf", ["m-00001-of-00002.gguf"]),
        ("m-00001-of-00002.gguf", ["m-00002-of-00002.gguf", "m-00001-of-00002.gguf"]),
        ("config.json", ["config.json"]),
        ("config.json", ["config.json", *TOKENIZED, "run.py"]),
        ("config.json", ["config.json", *TOKENIZED, "../config.json"]),
    ],
)
def test_other_files_are_not(path: str, told: list[str]) -> None:
    assert not are_its(HubRef("org/repo", COMMIT, path), facts(*told))
