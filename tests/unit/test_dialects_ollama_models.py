"""Which model a client of Ollama's API means, and what it is shown of models."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llorch.models import HAIKU_REF
from llorch.wire.models import Download
from llorch.wire.ollama import Details, Progress
from llorch.wire.pools import Device, Model, WorkerReport
from roles.orchestrator.dialects.ollama_models import (
    FOR_EVER,
    Quantised,
    digest,
    host,
    progress,
    running,
    shown,
    shown_names,
    size_of,
    tags,
    wanted,
)

REF = f"hf:org/repo@{'0' * 40}::file=a.gguf"
MODEL = Model(
    model_ref=REF,
    size_bytes=9,
    architecture="llama",
    quantization="Q4_0",
    context_length=64,
    vocab_size=5,
    max_token_bytes=1,
    parameters=1_100_000_000,
    added_ms=1000,
)
DETAILS = Details(family="llama", families=["llama"], parameter_size="1.1B", quantization_level="Q4_0")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("haiku", "haiku"),
        ("haiku:latest", "haiku"),
        ("mine:7b", "mine:7b"),
        ("odd:latest", "odd:latest"),
        ("unknown:latest", "unknown:latest"),
        ("haiku:8b", "haiku:8b"),
        (REF, REF),
        ("hf.co/org/repo", "hf:org/repo"),
        ("hf.co/org/repo:latest", "hf:org/repo"),
        ("huggingface.co/org/repo:Q4_K_M", Quantised("org/repo", "Q4_K_M")),
        ("https://hf.co/org/repo:sub/a.gguf", "hf:org/repo::file=sub/a.gguf"),
    ],
)
def test_a_name_means_what_the_client_means_by_it(name: str, meant: str | Quantised) -> None:
    assert wanted(name, {"haiku", "mine:7b", "odd:latest"}) == meant


def test_a_model_is_shown_by_all_its_names_and_each_leads_back_to_it() -> None:
    aliases = {"small": REF, "small:1b": REF}
    names = shown_names(REF, list(aliases))

    assert names == ["small:latest", "small:1b"]
    assert [wanted(name, aliases) for name in names] == ["small", "small:1b"]
    assert shown_names(REF, []) == [REF]


def test_every_model_is_listed_once_however_many_hosts_have_it() -> None:
    called = {HAIKU_REF: ["haiku"], REF: []}
    found = tags([MODEL, replace(MODEL, model_ref=HAIKU_REF), MODEL], called.__getitem__)

    assert [(tag.name, tag.model, tag.size) for tag in found] == [("haiku:latest", "haiku:latest", 9), (REF, REF, 9)]
    assert (found[1].details, found[1].digest) == (DETAILS, digest(REF))
    assert found[1].modified_at == "1970-01-01T00:00:01.000Z"


def test_a_loaded_model_takes_memory_of_a_gpu_only_where_there_is_one() -> None:
    worker = WorkerReport(
        worker_id="w",
        model_ref=REF,
        status="ready",
        backend="cpu",
        engine="llamacpp",
        device="cpu",
        slots=1,
        slots_busy=0,
        context_length=64,
        memory_bytes=100,
        started_ms=0,
    )

    slow = running(worker, MODEL, "x", until_ms=0)
    fast = running(replace(worker, backend="cuda"), None, "x", until_ms=None)

    assert (slow.size, slow.size_vram, slow.expires_at) == (100, 0, "1970-01-01T00:00:00.000Z")
    assert (fast.size, fast.size_vram, fast.expires_at, fast.details.family) == (100, 100, FOR_EVER, "")


def test_a_model_tells_what_its_file_says() -> None:
    assert shown(MODEL).model_info == {
        "general.architecture": "llama",
        "general.parameter_count": 1_100_000_000,
        "llama.context_length": 64,
        "llama.vocab_size": 5,
    }


@pytest.mark.parametrize(
    ("can", "knows", "sees", "told"),
    [
        (["text-gen"], [], False, ["completion"]),
        (["text-gen"], ["tools"], False, ["completion", "tools"]),
        (["text-gen"], ["thinking", "tools", "else"], True, ["completion", "tools", "thinking", "vision"]),
        (["text-gen", "embedding"], ["thinking"], False, ["completion", "embedding", "thinking"]),
        (["embedding"], ["tools"], False, ["embedding"]),
    ],
)
def test_a_model_tells_what_it_can_do_in_ollamas_words(
    can: list[str], knows: list[str], sees: bool, told: list[str]
) -> None:
    assert shown(replace(MODEL, capabilities=can, template_knows=knows), sees=sees).capabilities == told


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999"), (1_400_000, "1.4M"), (494_000_000, "494.0M"), (7_240_000_000, "7.2B")]
)
def test_a_number_of_parameters_is_told_as_people_say_it(count: int, text: str) -> None:
    assert size_of(count) == text


def test_a_download_is_a_manifest_then_bytes_then_a_check() -> None:
    download = Download(download_id="d", model_ref=REF, state="downloading", bytes_done=3, bytes_total=9)
    name = f"sha256:{digest(REF)}"

    assert progress(replace(download, state="looking")) == Progress(status="pulling manifest")
    assert progress(download) == Progress(status=f"pulling {name[7:19]}", digest=name, total=9, completed=3)
    assert progress(replace(download, state="verifying")) == Progress(status="verifying sha256 digest")


def test_the_host_with_most_free_memory_is_asked_first() -> None:
    def device(free: int) -> Device:
        return Device(
            id="d", uuid="d", name="d", backend="cpu", memory_total_bytes=9, memory_used_bytes=0, memory_free_bytes=free
        )

    assert host({"b": [device(1), device(5)], "a": [device(5)], "c": [device(7)], "d": []}) == ["c", "a", "b", "d"]
