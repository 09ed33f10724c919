"""What workers have computed: as many prompts as they have slots, the right one replaced, all forgotten in time."""

from __future__ import annotations

from dataclasses import replace

from llorch.job import JobId
from llorch.policy import ModelPolicy
from llorch.wire.conversation import Message
from llorch.wire.events import WorkerEnd
from llorch.wire.tasks import SubmitTask
from roles.orchestrator.scheduler.affinity import MOST_HOLDERS, MOST_MISSES, Affinity
from roles.orchestrator.scheduler.facts import Facts
from roles.orchestrator.scheduler.prefix import Prefix, prefix_of
from roles.orchestrator.scheduler.snapshot import Pace
from roles.orchestrator.scheduler.supply import Supply
from tests.support.worlds import demand, device, model, report

SYSTEM = "You answer in one sentence. " * 40


def asked(topic: str, *turns: str, system: str = SYSTEM) -> Prefix:
    """Return the prefix of a conversation: what was said in turn, the user first."""
    said = [
        Message(role="assistant" if number % 2 else "user", content=turn)
        for number, turn in enumerate([f"{topic} " * 100, *turns])
    ]
    return prefix_of(SubmitTask(model="m", messages=[Message(role="system", content=system), *said]), "m", key=b"k")


def end(*, tokens_in: int = 100, cached: int = 0, prefill_ms: int = 1_000, decode_ms: int = 500) -> WorkerEnd:
    return WorkerEnd(
        tokens_in=tokens_in,
        tokens_out=1,
        stop_reason="eos",
        prefill_ms=prefill_ms,
        decode_ms=decode_ms,
        tokens_cached=cached,
    )


def run(known: Affinity, worker_id: str, prefix: Prefix, *, slots: int = 2, cached: int = 90) -> None:
    """Let a job begin and end."""
    known.began(worker_id, JobId("job"), prefix=prefix, slots=slots)
    known.ended(worker_id, JobId("job"), model_ref="m", end=end(cached=cached), answer="yes")


def test_a_worker_has_a_prompt_and_its_answer_once_the_job_has_ended() -> None:
    known, first = Affinity(), asked("rain")
    next_turn = asked("rain", "yes", "and why?")

    known.began("w", JobId("job"), prefix=first, slots=2)
    while_it_runs = known.kept("w", next_turn)
    known.ended("w", JobId("job"), model_ref="m", end=end(), answer="yes")

    assert while_it_runs == (0, first.length_bytes, 1)
    assert known.kept("w", next_turn) == (first.followed_by("yes").length_bytes, 0, 0)


def test_a_conversation_replaces_its_own_beginning_and_another_one_the_oldest() -> None:
    known = Affinity()
    one, two, three = (asked(topic, system=topic) for topic in ("rain", "snow", "hail"))

    run(known, "w", one)
    run(known, "w", two)
    run(known, "w", asked("rain", "yes", "and why?", system="rain"))
    run(known, "w", three)

    assert known.kept("w", one)[0] == one.length_bytes
    assert known.kept("w", three)[0] == three.length_bytes
    assert known.kept("w", two) == (0, 0, 0)


def test_a_job_that_did_not_end_leaves_nothing() -> None:
    known, prefix = Affinity(), asked("rain")

    known.began("w", JobId("job"), prefix=prefix, slots=2)
    known.ended("w", JobId("job"), model_ref="m", end=None)

    assert known.kept("w", prefix) == (0, 0, 0)
    assert len(known) == 0


def test_a_worker_with_one_slot_computes_every_prompt_anew() -> None:
    known, prefix = Affinity(), asked("rain")

    run(known, "w", prefix, slots=1)

    assert known.kept("w", prefix) == (0, 0, 0)


def test_an_engine_that_does_not_reuse_is_found_out() -> None:
    known, prefix = Affinity(), asked("rain")

    for _ in range(MOST_MISSES + 1):
        known_before = known.kept("w", prefix)[0]
        run(known, "w", prefix, cached=0)

    assert known_before == prefix.length_bytes
    assert known.kept("w", prefix) == (0, 0, 0)
    assert len(known) == 0


def test_a_worker_that_is_gone_leaves_nothing_behind() -> None:
    known = Affinity()
    for number in range(20):
        run(known, "w", asked(f"topic {number}"))
        run(known, "v", asked(f"topic {number}"))

    known.forget("w")
    only_one_worker = len(known)
    known.forget("v")

    assert only_one_worker > 0
    assert len(known) == 0


def test_only_prompts_that_were_read_tell_how_fast_that_is() -> None:
    known, prefix = Affinity(), asked("rain")

    before = known.pace("m")
    run(known, "w", prefix, cached=0)
    read = known.pace("m")
    run(known, "w", prefix, cached=99)

    assert before == Pace()
    assert read == Pace(prefill_ms_per_byte=1_000 / prefix.length_bytes, decode_ms=500)
    assert known.pace("m") == read


def test_a_prompt_with_pictures_does_not_tell_how_fast_text_is_read() -> None:
    known, prefix, pictured = Affinity(), asked("rain"), asked("snow")
    pictured.pictures = True

    run(known, "w", pictured, cached=0)
    unknown = known.pace("m")
    run(known, "w", prefix, cached=0)
    read = known.pace("m")
    run(known, "w", pictured, cached=0)

    assert unknown == Pace()
    assert read == known.pace("m") == Pace(prefill_ms_per_byte=1_000 / prefix.length_bytes, decode_ms=500)


def serving(workers: int, slots: int = 4) -> Supply:
    """Return a supply of so many ready workers of one model."""
    supply = Supply({}, ModelPolicy())
    reports = [report(f"w{number}", "m", gib=0.1, slots=slots) for number in range(workers)]
    supply.hear("p", Facts(devices=[device(gib=99)], models=[model("m")], workers=reports), now_ms=0)
    return supply


def test_a_snapshot_has_what_the_workers_have_of_the_first_jobs_and_not_more_of_them_than_matter() -> None:
    supply, prefix = serving(3 * MOST_HOLDERS), asked("rain")
    strange = asked("snow", system="another")
    prefixes: dict[str, Prefix | None] = {"known": prefix, "strange": strange, "unread": None}
    wanted = demand(3, heads=tuple(prefixes))
    for number in range(3 * MOST_HOLDERS):
        run(supply.affinity, f"w{number}", prefix, cached=0)

    found = supply.snapshot("m", replace(wanted, prefix=lambda job_id: (prefixes[job_id], 7)), now_ms=1)

    (wish,) = found.wishes
    assert (wish.job_id, wish.prompt_bytes, wish.held_since_ms) == ("known", prefix.length_bytes, 7)
    assert MOST_HOLDERS <= len(wish.kept) <= 2 * MOST_HOLDERS
    assert {kept.kept_bytes for kept in wish.kept} == {prefix.length_bytes}


def test_a_worker_that_ends_is_not_in_a_snapshot_any_more() -> None:
    supply, prefix = serving(1), asked("rain")
    run(supply.affinity, "w0", prefix, cached=0)

    supply.lost("w0")

    assert supply.affinity.kept("w0", prefix) == (0, 0, 0)
