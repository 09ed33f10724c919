"""What a worker makes of a job, with the real engine and a random-weight model."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET
from msgspec.structs import replace

from llorch import sse
from llorch.wire import codec
from llorch.wire.events import WorkerToken
from tests.support import models
from tests.support.workers import Worker, last, text_of, worker

WORDS = "bake kilo dumi lani"
SAMPLED: dict[str, object] = {"prompt": WORDS, "temperature": 1.0, "seed": 7, "max_tokens": 40}


def decoded(event: sse.Event) -> WorkerToken:
    return msgspec.json.decode(event.data, type=WorkerToken)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.make(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture
async def one(model: Path) -> AsyncIterator[Worker]:
    """Run a worker with one slot, which promises the same text every time."""
    async with worker(model, slots=1) as running:
        yield running


async def test_the_events_of_a_job_are_one_line_each_with_the_ids_that_its_tokens_keep(one: Worker) -> None:
    async with one.http.post("/execute", json={"job_id": "job", "attempt": 2, "first_token": 5, **SAMPLED}) as response:
        raw = await response.read()

    events = list(sse.parse(raw))
    tokens = [event for event in events if event.kind == "token"]
    assert [event.kind for event in (events[0], events[-1])] == ["started", "end"]
    assert (
        b"".join(
            sse.encode_event("token", f"{i + 1}.0", codec.encode(replace(decoded(event), i=i)))
            for i, event in enumerate(tokens, start=5)
        )
        in raw
    )
    assert events[0].id.startswith("5.")
    assert events[-1].id.startswith(f"{5 + len(tokens)}.")
    assert json.loads(events[0].data)["attempt"] == 2
    assert last(events)["tokens_out"] == 40
    assert last(events)["stop_reason"] == "max_tokens"


@pytest.mark.parametrize(
    "changed",
    [
        {"temperature": 0},
        {"temperature": 1.9},
        {"seed": 8},
        {"top_k": 1},
        {"top_p": 0.1},
        {"min_p": 0.9},
        {"repetition_penalty": 2.0, "temperature": 0},
        {"max_tokens": 10},
    ],
    ids=str,
)
async def test_every_sampling_field_changes_the_output(one: Worker, changed: dict[str, object]) -> None:
    base = {**SAMPLED, "temperature": 0} if "repetition_penalty" in changed else SAMPLED

    plain = await one.text("plain", **base)
    other = await one.text("other", **{**base, **changed})

    assert plain != other


@pytest.mark.parametrize("off", [{"top_k": 0}, {"top_p": 1}, {"min_p": 0}, {"repetition_penalty": 1}], ids=str)
async def test_a_neutral_value_changes_nothing(one: Worker, off: dict[str, object]) -> None:
    plain = await one.text("plain", **SAMPLED)
    other = await one.text("other", **SAMPLED, **off)

    assert plain == other


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1, "seed": 2**64 - 1}], ids=str)
async def test_the_same_request_gives_the_same_text_every_time(one: Worker, sampling: dict[str, object]) -> None:
    texts = [await one.text(f"job{n}", prompt=WORDS, max_tokens=60, **sampling) for n in range(3)]
    await one.text("between", prompt="something else", max_tokens=60)
    texts.append(await one.text("again", prompt=WORDS, max_tokens=60, **sampling))

    assert len(set(texts)) == 1


async def test_a_stop_sequence_ends_the_text_also_across_tokens(one: Worker) -> None:
    events = await one.execute("plain", **SAMPLED)
    pieces = [json.loads(event.data)["t"] for event in events if event.kind == "token"]
    stop = pieces[5][-2:] + pieces[6] + pieces[7][:1]

    stopped = await one.execute("stopped", **SAMPLED, stop=["nowhere", stop])

    whole = "".join(pieces)
    assert text_of(stopped) == whole[: whole.index(stop)]
    assert last(stopped)["stop_reason"] == "stop_sequence"
    assert (await one.health()).slots_busy == 0


async def test_the_end_of_the_text_is_the_models_own(tmp_path: Path) -> None:
    async with worker(models.make(tmp_path / "eos.gguf", eos_logit=6), slots=1) as running:
        events = await running.execute(prompt=WORDS, temperature=1, max_tokens=400)

    assert last(events)["stop_reason"] == "eos"


async def test_nothing_but_whole_characters_is_ever_shown(one: Worker) -> None:
    hot = {"prompt": "😀🚀 漢 é", "temperature": 2, "seed": 1}

    whole = await one.text("whole", **hot, max_tokens=300)
    cut = [await one.text(f"cut{count}", **hot, max_tokens=count) for count in range(1, 60)]

    assert set(whole) & set("😀🚀🌧")
    assert "\ufffd" not in whole + "".join(cut)
    assert all(whole.startswith(text) for text in cut)


async def test_a_prompt_longer_than_the_context_is_refused_with_both_counts(one: Worker) -> None:
    counted = await one.http.post("/count", json={"prompt": WORDS * 200})
    count = await counted.json()

    status, code, details = await one.refusal("POST", "/execute", {"job_id": "job", "prompt": WORDS * 200})

    assert (status, code) == (400, "INVALID_REQUEST")
    assert details == {"prompt_tokens": count["tokens"], "context_length": 512}
    assert (await one.health()).slots_busy == 0


async def test_more_tokens_than_there_is_room_for_are_cut_to_the_room(one: Worker) -> None:
    events = await one.execute(prompt=WORDS, temperature=1, max_tokens=100_000)

    started = json.loads(events[0].data)
    assert started["tokens_in"] + started["max_tokens"] == 512
    assert last(events)["stop_reason"] == "max_tokens"
    assert started["max_tokens"] - 1 <= int(str(last(events)["tokens_out"])) <= started["max_tokens"]


async def test_messages_go_through_the_models_own_template(one: Worker) -> None:
    messages = [{"role": "system", "content": "be"}, {"role": "user", "content": "kilo"}]
    written = "<|system|>be\n<|user|>kilo\n<|assistant|>"

    templated = await one.text("messages", messages=messages, temperature=0, max_tokens=20)

    assert templated == await one.text("prompt", prompt=written, temperature=0, max_tokens=20)


async def test_an_attempt_goes_on_where_the_one_before_stopped(one: Worker) -> None:
    whole = await one.execute("whole", prompt=WORDS, temperature=0, max_tokens=30)
    pieces = [json.loads(event.data)["t"] for event in whole if event.kind == "token"]
    first = pieces[:10]

    rest = await one.execute(
        "rest",
        prompt=WORDS,
        temperature=0,
        max_tokens=30 - len(first),
        first_token=len(first),
        continue_text="".join(first),
    )

    assert json.loads(rest[1].data)["i"] == len(first)
    assert ("".join(first) + text_of(rest)).startswith("".join(pieces))  # a piece can be several tokens


async def test_more_jobs_than_slots_are_refused_and_the_others_finish(model: Path) -> None:
    async with worker(model, slots=4) as running:

        async def attempt(number: int) -> int:
            body = {"job_id": f"job{number}", "prompt": WORDS, "max_tokens": 400}
            async with running.http.post("/execute", json=body) as response:
                await response.read()
                return response.status

        async with asyncio.TaskGroup() as tasks:
            all_of_them = [tasks.create_task(attempt(number)) for number in range(64)]
        statuses = Counter(task.result() for task in all_of_them)

        assert set(statuses) == {200, 503}
        assert statuses[200] >= 4
        assert (await running.health()).slots_busy == 0


async def test_a_job_that_is_known_is_refused(one: Worker) -> None:
    await one.execute("job", **SAMPLED)

    again = await one.refusal("POST", "/execute", {"job_id": "job", **SAMPLED})
    next_attempt = await one.execute("job", attempt=2, **SAMPLED)

    assert again[:2] == (409, "CONFLICT")
    assert next_attempt[-1].kind == "end"


async def test_a_job_needs_exactly_one_of_prompt_and_messages(one: Worker) -> None:
    status, code, details = await one.refusal("POST", "/execute", {"job_id": "job"})

    assert (status, code) == (400, "INVALID_REQUEST")
    assert details["fields"] == [{"field": "prompt", "problem": "exactly one of prompt and messages is required"}]


async def test_draining_refuses_new_jobs_and_hands_back_those_that_take_too_long(model: Path) -> None:
    async with worker(model, slots=2, drain_s=0.1) as running:
        assert running.core is not None
        async with running.http.post(
            "/execute", json={"job_id": "job", "prompt": WORDS, "max_tokens": 500}
        ) as response:
            await response.content.readuntil(b"event: token")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(running.core.drain())
                await running.until(lambda health: health.status == "draining")
                refused = await running.refusal("POST", "/execute", {"job_id": "other", "prompt": WORDS})
            events = list(sse.parse(await response.read()))

    assert refused[:2] == (503, "DRAINING")
    assert events[-1].kind == "end" or last(events)["code"] == "DRAINING"


async def test_jobs_take_as_long_as_they_do_where_a_draining_worker_is_told_so(model: Path) -> None:
    async with worker(model, slots=2, drain_s=0) as running:
        assert running.core is not None
        async with running.http.post("/execute", json={"job_id": "job", "prompt": WORDS, "max_tokens": 30}) as response:
            await response.content.readuntil(b"event: token")
            told = (running.core.ends(None), running.core.ends(UNSET))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(running.core.drain())
                events = list(sse.parse((await response.read()).partition(b"\n\n")[2]))

    assert told == (True, False)
    assert events[-1].kind == "end"


async def test_a_worker_that_has_drained_takes_no_harm_from_being_told_to_end_again(model: Path) -> None:
    async with worker(model) as running:
        assert running.core is not None
        first = running.core.ends(5.0)
        await running.core.drain()
        again = running.core.ends(1.0)

    assert (first, again) == (True, False)
