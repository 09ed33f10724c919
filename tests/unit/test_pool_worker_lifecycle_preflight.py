"""Whether a worker may be started, and how: decided from facts alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import UNSET
from msgspec.structs import replace as changed

from llorch.errors import BackendUnavailable, InsufficientMemory, ModelIncompatible
from llorch.wire.pools import Backend, Device, Model, SpawnWorker
from roles.pool.model_cache.gguf import Metadata
from roles.pool.worker_lifecycle.engines import Engines
from roles.pool.worker_lifecycle.estimate import estimate
from roles.pool.worker_lifecycle.preflight import (
    Commitment,
    Defaults,
    Plan,
    available,
    context,
    plan,
    runs_here,
    sized,
)

MODEL = Metadata(
    architecture="llama",
    name="test",
    context_length=2048,
    block_count=2,
    embedding_length=64,
    head_count=4,
    kv_heads=(2, 2),
    key_length=16,
    value_length=16,
    quantization="F16",
    vocab_size=100,
    max_token_bytes=8,
    chat_template="",
    parameters=1000,
    weights_bytes=2000,
    split_count=0,
)
DEFAULTS = Defaults(slots=4, ctx=0)
CPU_ONLY: Engines = {"llamacpp": frozenset({"cpu"})}
ALL: Engines = {"llamacpp": frozenset({"cpu", "cuda"})}


def device(name: str, backend: Backend, free: int, *, total: int = 2**40) -> Device:
    return Device(
        id=name,
        uuid=f"U-{name}",
        name=name.upper(),
        backend=backend,
        memory_total_bytes=total,
        memory_used_bytes=total - free,
        memory_free_bytes=free,
    )


CPU = device("cpu", "cpu", 2**30)
GPUS = [device("cuda:0", "cuda", 2**28), device("cuda:1", "cuda", 2**29)]


def decide(
    request: SpawnWorker | None = None,
    *,
    model: Metadata = MODEL,
    devices: list[Device] | None = None,
    commitments: list[Commitment] | None = None,
    engines: Engines = ALL,
    defaults: Defaults = DEFAULTS,
) -> Plan:
    return plan(
        model,
        request or SpawnWorker(model_ref="file:/m"),
        devices=devices or [CPU],
        commitments=commitments or [],
        engines=engines,
        defaults=defaults,
    )


def test_a_request_that_says_nothing_gets_the_defaults() -> None:
    memory = estimate(MODEL, slots=4, ctx=2048).total_bytes

    assert decide() == Plan("cpu", "cpu", "llamacpp", 4, 2048, memory)


@pytest.mark.parametrize(
    ("trained", "asked", "default", "ctx"),
    [
        (2048, 0, 0, 2048),
        (131_072, 0, 0, 8192),
        (131_072, 0, 16_384, 16_384),
        (2048, 0, 4096, 2048),
        (2048, 512, 1024, 512),
        (2048, 4096, 0, 2048),
        (0, 0, 0, 8192),
        (0, 100, 0, 100),
    ],
)
def test_the_context_is_never_above_what_the_model_was_trained_for(
    trained: int, asked: int, default: int, ctx: int
) -> None:
    assert context(replace(MODEL, context_length=trained), asked=asked, default=default) == ctx


@pytest.mark.parametrize(
    ("request_fields", "engines", "chosen"),
    [
        ({}, ALL, "cuda:1"),
        ({}, CPU_ONLY, "cpu"),
        ({"backend": "cpu"}, ALL, "cpu"),
        ({"backend": "cuda"}, ALL, "cuda:1"),
        ({"device": "cuda:0"}, ALL, "cuda:0"),
        ({"device": "U-cuda:0"}, ALL, "cuda:0"),
        ({"device": "0"}, ALL, "cuda:0"),
        ({"device": "cpu", "backend": "cpu"}, ALL, "cpu"),
    ],
)
def test_the_device_is_the_one_named_else_the_roomiest_of_the_best_kind(
    request_fields: dict[str, str], engines: Engines, chosen: str
) -> None:
    request = changed(SpawnWorker(model_ref="file:/m"), **request_fields)

    assert decide(request, devices=[CPU, *GPUS], engines=engines).device == chosen


def test_a_suspect_device_is_taken_only_where_no_other_has_room() -> None:
    doubted = changed(GPUS[1], suspect="its memory has not come back")
    small = changed(GPUS[0], memory_free_bytes=1000)

    assert decide(devices=[CPU, GPUS[0], doubted]).device == "cuda:0"
    assert decide(devices=[CPU, small, doubted]).device == "cuda:1"
    assert decide(SpawnWorker(model_ref="file:/m", device="cuda:1"), devices=[GPUS[0], doubted]).device == "cuda:1"


@pytest.mark.parametrize(
    ("request_fields", "engines"),
    [
        ({"backend": "metal"}, ALL),
        ({"backend": "cuda"}, CPU_ONLY),
        ({"device": "cuda:7"}, ALL),
        ({"device": "cpu", "backend": "cuda"}, ALL),
        ({"engine": "torch"}, ALL),
    ],
)
def test_what_this_host_cannot_compute_on_is_unavailable(request_fields: dict[str, str], engines: Engines) -> None:
    request = changed(SpawnWorker(model_ref="file:/m"), **request_fields)

    with pytest.raises(BackendUnavailable) as refused:
        decide(request, devices=[CPU, *GPUS], engines=engines)

    assert refused.value.details


@pytest.mark.parametrize("model", [replace(MODEL, architecture="strange"), replace(MODEL, split_count=3)])
def test_what_the_engine_does_not_know_is_incompatible(model: Metadata) -> None:
    with pytest.raises(ModelIncompatible):
        decide(model=model)


def test_what_does_not_fit_says_what_is_needed_and_what_is_there() -> None:
    with pytest.raises(InsufficientMemory) as refused:
        decide(SpawnWorker(model_ref="file:/m", slots=1, ctx=16), devices=[device("cpu", "cpu", 100)])

    required = estimate(MODEL, slots=1, ctx=16).total_bytes
    assert refused.value.details == {"required_bytes": required, "available_bytes": 100, "device": "cpu"}


def test_a_model_that_fits_no_device_alone_is_laid_over_several_of_one_kind_unless_one_is_named() -> None:
    whole = estimate(MODEL, slots=4, ctx=2048).total_bytes
    small = [device(f"cuda:{n}", "cuda", whole * 3 // 4) for n in range(3)]

    laid = decide(devices=[device("cpu", "cpu", whole * 3 // 4), *small])

    assert (laid.device, laid.backend) == ("cuda:0", "cuda")
    assert [share.device for share in laid.shares] == ["cuda:0", "cuda:1"]
    assert laid.memory_bytes == sum(share.memory_bytes for share in laid.shares)
    assert all(share.memory_bytes <= whole * 3 // 4 for share in laid.shares)
    with pytest.raises(InsufficientMemory):
        decide(SpawnWorker(model_ref="file:/m", device="cuda:0"), devices=small)


def test_a_suspect_device_gets_a_part_only_where_the_others_do_not_do() -> None:
    whole = estimate(MODEL, slots=4, ctx=2048).total_bytes
    one, two, three = (device(f"cuda:{n}", "cuda", whole * 3 // 4) for n in range(3))
    doubted = changed(one, suspect="its memory has not come back")

    assert [share.device for share in decide(devices=[doubted, two, three]).shares] == ["cuda:1", "cuda:2"]
    assert [share.device for share in decide(devices=[doubted, two]).shares] == ["cuda:0", "cuda:1"]


def test_a_model_that_fits_exactly_is_started() -> None:
    request = SpawnWorker(model_ref="file:/m", slots=1, ctx=16)
    required = estimate(MODEL, slots=1, ctx=16).total_bytes

    assert decide(request, devices=[device("cpu", "cpu", required)]).memory_bytes == required


@pytest.mark.parametrize(
    ("free", "commitments", "reserve", "left"),
    [
        (800, [], 0, 800),
        (800, [], 300, 500),
        (800, [], 900, 0),
        (800, [Commitment("cpu", 200, pending=True)], 0, 600),
        (800, [Commitment("cpu", 100, pending=False)], 0, 800),
        (800, [Commitment("cpu", 700, pending=False)], 0, 300),
        (800, [Commitment("cuda:0", 700, pending=True)], 0, 800),
        (800, [Commitment("cpu", 100, pending=True), Commitment("cpu", 500, pending=False)], 50, 350),
    ],
)
def test_memory_that_was_promised_or_given_is_not_available(
    free: int, commitments: list[Commitment], reserve: int, left: int
) -> None:
    there = changed(device("cpu", "cpu", free, total=1000), reserve_bytes=reserve)

    assert available(there, commitments) == left


def test_what_other_programs_hold_is_not_given_away_even_where_it_still_counts_as_free() -> None:
    there = changed(device("cuda:0", "cuda", 900, total=1000), others_bytes=400)

    assert available(there, [Commitment("cuda:0", 100, pending=False)]) == 500


def test_a_request_that_leaves_everything_open_is_the_default_of_the_wire() -> None:
    request = SpawnWorker(model_ref="file:/m")

    assert (request.backend, request.device, request.engine, request.slots, request.ctx) == (UNSET,) * 5


FOLDER = replace(MODEL, form="safetensors")
WITH_TORCH: Engines = {**ALL, "torch": frozenset({"cpu"})}


def test_the_engine_is_chosen_by_the_form_of_the_files() -> None:
    assert decide(engines=WITH_TORCH).engine == "llamacpp"
    assert decide(model=FOLDER, engines=WITH_TORCH).engine == "torch"


def test_a_host_without_torch_says_what_a_folder_of_safetensors_takes() -> None:
    with pytest.raises(BackendUnavailable, match="torch is not installed on this host, and folders of safetensors"):
        decide(model=FOLDER)
    assert runs_here(MODEL, ALL)
    assert not runs_here(FOLDER, ALL)
    assert runs_here(FOLDER, WITH_TORCH)


def test_an_engine_that_does_not_read_the_files_is_refused_with_the_one_that_does() -> None:
    with pytest.raises(ModelIncompatible, match="llamacpp does not read folders of safetensors; torch does"):
        decide(SpawnWorker(model_ref="file:/m", engine="llamacpp"), model=FOLDER, engines=WITH_TORCH)
    with pytest.raises(ModelIncompatible, match="torch does not read GGUF files; llamacpp does"):
        decide(SpawnWorker(model_ref="file:/m", engine="torch"), engines=WITH_TORCH)


def test_torch_is_never_laid_over_several_devices() -> None:
    large = replace(FOLDER, weights_bytes=2**29 + 2**27)
    engines: Engines = {"torch": frozenset({"cpu", "cuda"})}

    with pytest.raises(InsufficientMemory):
        decide(model=large, devices=GPUS, engines=engines)


OLD = replace(MODEL, form="ggml", architecture="mpt")
WITH_OLD: Engines = {**ALL, "ctransformers": frozenset({"cpu"})}


def test_a_file_from_before_gguf_has_an_engine_of_its_own_which_computes_one_job_at_a_time() -> None:
    chosen = decide(model=OLD, devices=[CPU, *GPUS], engines=WITH_OLD)
    known = Model(
        model_ref="file:/m",
        size_bytes=1,
        architecture="mpt",
        quantization="F16",
        context_length=2048,
        vocab_size=1,
        max_token_bytes=8,
    )
    listed = sized(known, OLD, DEFAULTS, WITH_OLD)

    assert (chosen.engine, chosen.slots, chosen.device) == ("ctransformers", 1, "cpu")
    assert (listed.memory_slots, listed.memory_bytes) == (1, chosen.memory_bytes)
    assert listed.backends == ["cpu"]
    assert decide(SpawnWorker(model_ref="file:/m", slots=1), model=OLD, engines=WITH_OLD).slots == 1
    with pytest.raises(BackendUnavailable, match="one job at a time; ask for 1 slot, not 3"):
        decide(SpawnWorker(model_ref="file:/m", slots=3), model=OLD, engines=WITH_OLD)


def test_a_host_without_the_engine_for_old_files_says_how_to_get_it() -> None:
    with pytest.raises(BackendUnavailable, match=r"files of before GGUF take it.*\[ctransformers\]"):
        decide(model=OLD)
    assert not runs_here(OLD, ALL)
    assert runs_here(OLD, WITH_OLD)


def test_llamacpp_reads_no_old_files_and_the_engine_for_them_reads_llamas_in_gguf() -> None:
    asked = SpawnWorker(model_ref="file:/m", engine="ctransformers")

    assert decide(asked, engines=WITH_OLD).engine == "ctransformers"
    with pytest.raises(ModelIncompatible, match="architecture 'qwen2'"):
        decide(asked, model=replace(MODEL, architecture="qwen2"), engines=WITH_OLD)
    with pytest.raises(ModelIncompatible, match="llamacpp does not read files of before GGUF; ctransformers does"):
        decide(SpawnWorker(model_ref="file:/m", engine="llamacpp"), model=OLD, engines=WITH_OLD)


@pytest.mark.parametrize(("torch", "none"), [(frozenset({"cuda"}), False), (frozenset({"cpu"}), True)])
def test_a_refused_device_says_whether_any_engine_here_computes_on_it(torch: frozenset[Backend], none: bool) -> None:
    engines: Engines = {"llamacpp": frozenset({"cpu"}), "torch": torch}

    with pytest.raises(BackendUnavailable) as refused:
        decide(SpawnWorker(model_ref="file:/m", device="cuda:0"), devices=[CPU, *GPUS], engines=engines)

    assert (refused.value.details or {})["no_engine"] is none
