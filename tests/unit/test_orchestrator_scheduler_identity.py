"""A worker serves its model only as long as its engine is told what the operator wants now."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llorch.models import resolve, stands_for
from llorch.policy import ModelPolicy
from llorch.wire.engine_options import EngineOptions, fields_of
from llorch.wire.pools import Worker
from llorch.wire.protocol import PROTOCOL
from roles.orchestrator.scheduler.decisions import Dispatch, Reject
from roles.orchestrator.scheduler.facts import Facts
from roles.orchestrator.scheduler.identity import STRANGE, same, served
from roles.orchestrator.scheduler.progress import Loading
from roles.orchestrator.scheduler.supply import Supply
from tests.support.supplies import NOW_MS, decided, started
from tests.support.worlds import GIB, demand, device, model, report

COMMIT = "0123456789012345678901234567890123456789"
PINNED = f"hf:org/repo@{COMMIT}::file=a.gguf"
LOOSE = "hf:org/repo@main::file=a.gguf"


def a_worker(options: EngineOptions) -> Worker:
    return Worker(
        worker_id="w",
        model_ref="file:/m.gguf",
        status="ready",
        backend="cpu",
        engine="llamacpp",
        device="cpu",
        slots=1,
        slots_busy=0,
        context_length=64,
        memory_bytes=1,
        started_ms=0,
        **fields_of(options),  # type: ignore[arg-type]  # each under its own name
    )


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (EngineOptions(), EngineOptions()),
        (EngineOptions(draft=LOOSE), EngineOptions(draft=PINNED)),
        (EngineOptions(draft="hf:org/repo"), EngineOptions(draft=PINNED)),
        (EngineOptions(lora=(f"{LOOSE}:0.5",)), EngineOptions(lora=(f"{PINNED}:0.5",))),
        (EngineOptions(projector="file:/p"), EngineOptions(projector="file:/p")),
        (EngineOptions(kv_type="q8_0"), EngineOptions(kv_type="q8_0")),
        (EngineOptions(pooling="mean"), EngineOptions(pooling="mean")),
    ],
)
def test_these_are_the_same(wanted: EngineOptions, found: EngineOptions) -> None:
    assert same(wanted, found, means=stands_for)
    assert served(a_worker(found), wanted, means=stands_for) == "file:/m.gguf"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (EngineOptions(), EngineOptions(draft="file:/d")),
        (EngineOptions(draft="file:/d"), EngineOptions()),
        (EngineOptions(draft="file:/d"), EngineOptions(draft="file:/e")),
        (EngineOptions(lora=(LOOSE,)), EngineOptions(lora=(f"{PINNED}:0.5",))),
        (EngineOptions(lora=("file:/a", "file:/b")), EngineOptions(lora=("file:/b", "file:/a"))),
        (EngineOptions(lora=("file:/a",)), EngineOptions()),
        (EngineOptions(projector="file:/p"), EngineOptions()),
        (EngineOptions(kv_type="q8_0"), EngineOptions()),
        (EngineOptions(pooling="mean"), EngineOptions()),
        (EngineOptions(pooling="mean"), EngineOptions(pooling="last")),
    ],
)
def test_these_are_not(wanted: EngineOptions, found: EngineOptions) -> None:
    assert not same(wanted, found, means=stands_for)
    assert served(a_worker(found), wanted, means=stands_for) == f"{STRANGE}file:/m.gguf"


def test_no_job_can_ask_for_the_name_of_a_worker_with_other_options() -> None:
    with pytest.raises(Exception, match="no model is called"):
        resolve(f"{STRANGE}file:/m.gguf", {})


def test_a_worker_with_other_options_gets_no_job_and_does_not_count_as_one_of_its_model() -> None:
    policy = ModelPolicy(kv_type="q8_0")
    known = Supply({"file:/m": policy}, ModelPolicy())
    here = {"devices": [device(gib=8)], "models": [model("file:/m", gib=1)]}
    plain, wanted = report("plain", "file:/m"), replace(report("wanted", "file:/m"), kv_type="q8_0")

    known.hear("pool", Facts(workers=[replace(plain, status="starting")], **here), now_ms=NOW_MS)  # type: ignore[arg-type]
    loading = known.snapshot("file:/m", demand(), now_ms=NOW_MS).starting
    known.hear("pool", Facts(workers=[plain], **here), now_ms=NOW_MS)  # type: ignore[arg-type]
    asked = started(decided(known, "file:/m", heads=("job",)))
    known.hear("pool", Facts(workers=[plain, wanted], **here), now_ms=NOW_MS)  # type: ignore[arg-type]
    [dispatch] = decided(known, "file:/m", heads=("job",))

    assert loading == 0
    assert asked == [("pool", "d")]
    assert isinstance(dispatch, Dispatch)
    assert dispatch.worker_id == "wanted"
    assert [tenant.worker_id for tenant in known.serving.expired(now_ms=NOW_MS + 400_000)] == ["plain", "wanted"]


def test_what_is_wanted_of_a_model_of_the_hub_holds_for_the_commit_that_it_is_pinned_to() -> None:
    known = Supply({LOOSE: ModelPolicy(kv_type="q8_0")}, ModelPolicy())

    assert known.serving.policy(PINNED) == ModelPolicy(kv_type="q8_0")
    assert known.serving.policy(f"{STRANGE}{PINNED}") == known.serving.policy("file:/m") == ModelPolicy()


TAG = "hf:org/draft@v1.0::file=d.gguf"
DRAFT = f"hf:org/draft@{COMMIT}::file=d.gguf"
OTHER = f"hf:org/draft@{COMMIT[::-1]}::file=d.gguf"


def with_draft(found: str, *, status: str = "ready") -> Facts:
    worker = replace(report("worker", "file:/m", status=status), draft=found)
    models = [model("file:/m"), model(DRAFT, gib=0.5)]
    return Facts(devices=[device(gib=8)], models=models, workers=[worker])


@pytest.mark.parametrize("known_first", [True, False])
def test_a_worker_with_the_commit_of_the_wanted_tag_is_one_of_its_model(known_first: bool) -> None:
    known = Supply({"file:/m": ModelPolicy(draft=TAG)}, ModelPolicy())
    if known_first:
        known.learn(TAG, DRAFT, beside=True, now_ms=NOW_MS)

    known.hear("pool", with_draft(DRAFT, status="starting"), now_ms=NOW_MS)
    loading = started(decided(known, "file:/m", heads=("job",)))
    known.hear("pool", with_draft(DRAFT), now_ms=NOW_MS)
    [dispatch] = decided(known, "file:/m", heads=("job",))

    assert loading == []
    assert isinstance(dispatch, Dispatch)
    assert known.needs.of("file:/m") == {"pool": 3 * GIB // 2}


def test_a_worker_with_another_commit_is_not_once_it_is_known_which_is_meant() -> None:
    known = Supply({"file:/m": ModelPolicy(draft=TAG)}, ModelPolicy())
    known.hear("pool", with_draft(OTHER), now_ms=NOW_MS)
    before = known.serving.slots("file:/m")

    known.learn(TAG, DRAFT, beside=True, now_ms=NOW_MS)

    assert before == 4
    assert known.serving.slots("file:/m") == 0
    assert started(decided(known, "file:/m", heads=("job",))) == [("pool", "d")]
    known.learn(TAG, OTHER, beside=True, now_ms=NOW_MS)
    assert known.serving.slots("file:/m") == 4


def test_a_worker_that_speaks_another_version_gets_no_job() -> None:
    worker = a_worker(EngineOptions())

    assert served(worker, EngineOptions(), means=stands_for) == "file:/m.gguf"
    assert served(replace(worker, protocol=PROTOCOL + 1), EngineOptions(), means=stands_for) == f"{STRANGE}file:/m.gguf"


@pytest.mark.parametrize("answered_first", [True, False])
def test_a_pool_that_does_not_take_the_options_it_is_told_is_not_asked_again(answered_first: bool) -> None:
    known = Supply({"file:/m": ModelPolicy(kv_type="q8_0")}, ModelPolicy())
    here = {"devices": [device(gib=8)], "models": [model("file:/m", gib=1)]}
    plain = report("worker", "file:/m", status="starting")
    loading = Loading("worker", "pool", "file:/m", "d", known=True, options=EngineOptions(kv_type="q8_0"))
    by_hand = Facts(workers=[report("by hand", "file:/m")], **here)  # type: ignore[arg-type]
    known.hear("pool", by_hand, now_ms=NOW_MS)
    asked = started(decided(known, "file:/m"))

    if answered_first:
        known.asked("worker", loading, need_bytes=GIB, now_ms=NOW_MS)
    known.hear("pool", Facts(workers=[plain], **here), now_ms=NOW_MS)  # type: ignore[arg-type]
    if not answered_first:
        known.asked("worker", loading, need_bytes=GIB, now_ms=NOW_MS)
    [decision] = decided(known, "file:/m")

    assert asked == [("pool", "d")]
    assert isinstance(decision, Reject)
    assert decision.text == "pool pool started a worker without the options it was told; it may be of an old version"
    known.hear("pool", Facts(**here), now_ms=NOW_MS, anew=True)  # type: ignore[arg-type]
    assert started(decided(known, "file:/m")) == [("pool", "d")]


def test_a_worker_is_compared_with_what_it_was_asked_for_with_not_with_what_is_wanted_by_now() -> None:
    commit = f"hf:a/b@{'1' * 40}::file=x.gguf"
    known = Supply({"hf:a/b@v1::file=x.gguf": ModelPolicy(kv_type="q8_0")}, ModelPolicy())
    here = {"devices": [device(gib=8)], "models": [model(commit, gib=1)]}
    known.hear("pool", Facts(**here), now_ms=NOW_MS)  # type: ignore[arg-type]
    asked = EngineOptions()
    known.asked("w", Loading("w", "pool", commit, "d", known=True, options=asked), need_bytes=GIB, now_ms=NOW_MS)
    known.learn("hf:a/b@v1::file=x.gguf", commit, beside=False, now_ms=NOW_MS)
    known.hear("pool", Facts(workers=[report("w", commit, status="starting")], **here), now_ms=NOW_MS)  # type: ignore[arg-type]

    assert not known.backoff.of(commit)
