"""The names and sizes of a model's files, from its record and from a real disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.wire.models import FileFacts
from roles.pool.model_cache.catalogue import Entry
from roles.pool.model_cache.file_facts import facts_of
from roles.pool.model_cache.ledger import ModelRecord

HUB = f"hf:org/repo@{'a' * 40}::file="


def entry(ref: str, folder: Path, *names: str) -> Entry:
    for name in names:
        (folder / name).write_bytes(b"1234")
    return Entry(
        ref=ref,
        origin="hub",
        paths=tuple(folder / name for name in names),
        size_bytes=4 * len(names),
        modified_ms=0,
        metadata=None,
    )


@pytest.mark.parametrize(
    ("path", "names", "expected"),
    [
        ("sub/m.gguf", ["m.gguf"], ["sub/m.gguf"]),
        ("m-00001-of-00002.gguf", ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"], None),
        ("sub/config.json", ["config.json", "model.safetensors"], ["sub/config.json", "sub/model.safetensors"]),
    ],
)
def test_files_have_the_names_that_the_hub_has_for_them(
    tmp_path: Path, path: str, names: list[str], expected: list[str] | None
) -> None:
    found = facts_of(entry(HUB + path, tmp_path, *names), None)

    assert found == [FileFacts(path=name, size_bytes=4) for name in expected or names]


def test_files_of_a_folder_of_the_users_own_have_their_whole_names(tmp_path: Path) -> None:
    found = facts_of(entry(f"file:{tmp_path}", tmp_path, "config.json", "model.safetensors"), None)

    assert [file.path for file in found] == [str(tmp_path / "config.json"), str(tmp_path / "model.safetensors")]


def test_a_record_tells_what_they_must_be_where_it_is_of_the_same_files(tmp_path: Path) -> None:
    ref, told = f"{HUB}m.gguf", FileFacts(path="m.gguf", size_bytes=9, sha256="0" * 64)
    there = entry(ref, tmp_path, "m.gguf")

    assert facts_of(there, ModelRecord(model_ref=ref, files=[told])) == [told]
    assert facts_of(there, ModelRecord(model_ref=ref, files=[told, told])) == [FileFacts(path="m.gguf", size_bytes=4)]
