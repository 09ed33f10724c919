"""What is told of the files beside a model: their names, and the scales of adapters."""

from __future__ import annotations

import msgspec
import pytest

from llorch.wire.codec import encode
from llorch.wire.engine_options import EngineOptions, fields_of, files, options_of, renamed, scaled
from llorch.wire.pools import SpawnWorker

ALL = EngineOptions(kv_type="q8_0", lora=("file:/a.gguf", "file:/b.gguf:0.5"), draft="file:/d", projector="file:/p")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("file:/a.gguf", ("file:/a.gguf", 1.0)),
        ("file:/a.gguf:0.25", ("file:/a.gguf", 0.25)),
        ("file:/a.gguf:-2", ("file:/a.gguf", -2.0)),
        ("hf:org/repo@main::file=a.gguf", ("hf:org/repo@main::file=a.gguf", 1.0)),
        ("hf:org/repo@main::file=a.gguf:3", ("hf:org/repo@main::file=a.gguf", 3.0)),
        ("file:/a:b.gguf", ("file:/a:b.gguf", 1.0)),
        ("file:/a.gguf:1e9", ("file:/a.gguf:1e9", 1.0)),
    ],
)
def test_a_scale_is_a_number_behind_the_last_colon(told: str, expected: tuple[str, float]) -> None:
    assert scaled(told) == expected


def test_all_files_are_listed_without_scales() -> None:
    assert files(ALL) == ["file:/a.gguf", "file:/b.gguf", "file:/d", "file:/p"]
    assert files(EngineOptions()) == []


def test_files_get_other_names_and_keep_their_scales() -> None:
    assert renamed(ALL, str.upper) == EngineOptions(
        kv_type="q8_0", lora=("FILE:/A.GGUF", "FILE:/B.GGUF:0.5"), draft="FILE:/D", projector="FILE:/P"
    )
    assert renamed(EngineOptions(), str.upper) == EngineOptions()
    assert renamed(EngineOptions(lora=("a:0.00001", "b:12.345678")), str.upper).lora == ("A:0.00001", "B:12.345678")


def test_only_what_is_no_default_is_told() -> None:
    assert fields_of(EngineOptions(draft="d")) == {"draft": "d"}
    assert options_of(SpawnWorker(model_ref="m", slots=2, kv_type="q4_0")) == EngineOptions(kv_type="q4_0")


@pytest.mark.parametrize(
    "body", [b'{"kv_type": "q3"}', b'{"lora": "file:/a"}', b'{"lora": [""]}', b'{"draft": null}', b'{"projector": 1}']
)
def test_what_cannot_be_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=EngineOptions)


def test_a_pool_of_an_older_version_is_told_nothing_that_it_does_not_know() -> None:
    assert encode(SpawnWorker(model_ref="m", slots=2)) == b'{"model_ref":"m","slots":2}'
    assert b'"kv_type":"q8_0"' in encode(SpawnWorker(model_ref="m", kv_type="q8_0"))
