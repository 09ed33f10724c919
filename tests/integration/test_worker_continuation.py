"""A text that was begun on one worker and goes on on another is the text that one worker writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from llorch.sse import Event, parse
from llorch.wire.events import WorkerToken
from tests.support import models
from tests.support.workers import (
    Worker,
    going_on,
    last,
    text_of,
    tokens_of,
    worker,
    worker_process,
)

HAIKU = Path(__file__).parents[2] / "llorch/assets/haiku.gguf"
WORDS = "bake kilo dumi lani"
MIXED = "😀🚀 漢 é"
MAX_TOKENS = 120
SEEDS = (0, 3)
"""Models that write no half of a character without the other: see `test_a_token_that_never_became_a_character`."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
async def two(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[tuple[Worker, Worker]]:
    """Run two workers of the model that the test names: the haiku model, or the seed of a random one."""
    seed = request.param
    model = HAIKU if seed == "haiku" else models.make(folder / f"{seed}.gguf", seed=seed)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(worker(model, slots=1))
        yield first, await stack.enter_async_context(worker(model, slots=1))


async def each_continuation(
    two: tuple[Worker, Worker], *, step: int = 1, max_tokens: int = MAX_TOKENS, **job: object
) -> list[tuple[list[WorkerToken], list[Event], list[Event]]]:
    """Cut a run on the first worker after every *step*-th event; return what was seen, was to come, and came."""
    first, second = two
    body = {"temperature": 0, **job}
    whole = await first.execute("whole", **body, max_tokens=max_tokens)
    tokens = tokens_of(whole)
    found = []
    for cut in range(0, len(tokens) + 1, step):
        asked = going_on(tokens[:cut], max_tokens)
        if asked["max_tokens"]:
            rest = await second.execute(f"cut{cut}", attempt=2, **body, **asked)
            came = [event for event in whole if event.kind == "token"][cut:] + whole[-1:]
            found.append((tokens[:cut], came, rest))
    assert len(found) > len(tokens) // step // 2
    return found


def outcome(events: list[Event]) -> tuple[str, object]:
    return text_of(events), last(events).get("stop_reason")


def indices(events: list[Event]) -> list[int]:
    return [token.i for token in tokens_of(events)]


@pytest.mark.parametrize("two", ["haiku"], indirect=True)
@pytest.mark.parametrize("stop", [[], ["\n"], ["the ", "of a"]], ids=str)
@pytest.mark.parametrize("word", ["rain", "autumn leaves"])
async def test_a_haiku_goes_on_wherever_it_was_cut(two: tuple[Worker, Worker], word: str, stop: list[str]) -> None:
    runs = await each_continuation(two, prompt=f"Write a haiku about {word}", stop=stop, max_tokens=80)

    for seen, to_come, came in runs:
        assert outcome(came) == outcome(to_come), len(seen)
        assert indices(came) == indices(to_come), len(seen)


@pytest.mark.parametrize("two", SEEDS, indirect=True)
@pytest.mark.parametrize("stop", [[], ["🚀u", "😀😀", "k🌧"], ["q"]], ids=str)
@pytest.mark.parametrize("prompt", [WORDS, MIXED])
async def test_a_text_of_split_characters_and_odd_tokens_goes_on_wherever_it_was_cut(
    two: tuple[Worker, Worker], prompt: str, stop: list[str]
) -> None:
    runs = await each_continuation(two, prompt=prompt, stop=stop, step=4)

    assert any(len(event.ids) > 1 for seen, _, _ in runs for event in seen)
    for seen, to_come, came in runs:
        assert outcome(came) == outcome(to_come), len(seen)
        assert indices(came) == indices(to_come), len(seen)


@pytest.mark.parametrize("two", [0], indirect=True)
async def test_a_stop_sequence_over_the_border_stops_and_is_not_shown(two: tuple[Worker, Worker]) -> None:
    whole = tokens_of(await two[0].execute("text", prompt=WORDS, temperature=0, max_tokens=60))
    stop = whole[30].t[-1:] + "".join(event.t for event in whole[31:34])

    runs = await each_continuation(two, prompt=WORDS, stop=[stop])

    text = "".join(event.t for event in whole)
    before = text[: text.index(stop)]
    in_the_middle = [seen for seen, _, _ in runs if seen and seen[-1].held]
    assert in_the_middle
    for seen, _, came in runs:
        assert "".join(event.t for event in seen) + text_of(came) == before
        assert last(came)["stop_reason"] == "stop_sequence"


@pytest.mark.parametrize("two", SEEDS, indirect=True)
async def test_the_ids_of_all_events_are_all_tokens_of_the_text(two: tuple[Worker, Worker]) -> None:
    first, _ = two
    for number, prompt in enumerate((WORDS, MIXED)):
        events = await first.execute(f"job{number}", prompt=prompt, temperature=0, max_tokens=MAX_TOKENS)
        ids = [token for event in tokens_of(events) for token in event.ids]

        assert MAX_TOKENS - 1 <= len(ids) <= MAX_TOKENS  # the last can be half a character
        assert last(events)["tokens_out"] == MAX_TOKENS


@pytest.mark.parametrize("two", [12], indirect=True)
async def test_a_token_that_never_became_a_character_is_left_out_of_the_ids(two: tuple[Worker, Worker]) -> None:
    events = await two[0].execute("job", prompt=WORDS, temperature=0, max_tokens=20)
    seen = tokens_of(events)
    rest = await two[1].execute("rest", prompt=WORDS, temperature=0, **going_on(seen, 25))

    assert sum(len(event.ids) for event in seen) == 19
    assert "\ufffd" not in text_of(events) + text_of(rest)
    assert rest[-1].kind == "end"


@pytest.mark.parametrize("two", [0], indirect=True)
async def test_a_continuation_counts_its_own_tokens_and_the_prompt_alone(two: tuple[Worker, Worker]) -> None:
    whole = await two[0].execute("whole", prompt=WORDS, temperature=0, max_tokens=50)

    rest = await two[1].execute("rest", prompt=WORDS, temperature=0, **going_on(tokens_of(whole)[:20], 50))

    ids = sum(len(event.ids) for event in tokens_of(whole)[:20])
    assert last(rest)["tokens_out"] == 50 - ids
    assert last(rest)["tokens_in"] == last(whole)["tokens_in"]


@pytest.mark.parametrize("two", [0], indirect=True)
async def test_a_continuation_without_room_or_behind_its_stop_sequence_ends_at_once(
    two: tuple[Worker, Worker],
) -> None:
    full = await two[0].execute("full", prompt=WORDS, continue_ids=[5] * 600, continue_held="EN", stop=["END"])
    stopped = await two[0].execute("stopped", prompt=WORDS, continue_ids=[5], continue_held="END b", stop=["END"])

    assert [event.kind for event in full] == ["started", "token", "end"]
    assert outcome(full) == ("EN", "max_tokens")
    assert [event.kind for event in stopped] == ["started", "end"]
    assert outcome(stopped) == ("", "stop_sequence")
    assert last(stopped)["tokens_out"] == 0


@pytest.mark.parametrize("two", [0], indirect=True)
async def test_ids_of_another_model_are_refused(two: tuple[Worker, Worker]) -> None:
    body = {"job_id": "job", "prompt": WORDS, "continue_ids": [1, 100_000]}

    status, code, details = await two[0].refusal("POST", "/execute", body)

    assert (status, code) == (400, "INVALID_REQUEST")
    assert "continue_ids" in str(details)


async def test_another_worker_goes_on_where_a_killed_one_was(folder: Path) -> None:
    model = models.make(folder / "killed.gguf", models.Shape(n_embd=256, n_layer=8, n_head=4, n_ff=704))
    job: dict[str, object] = {"prompt": MIXED, "temperature": 0}
    async with worker_process(model, slots=1) as killed:
        await killed.worker.ready()
        body = {"job_id": "job", "max_tokens": 300, **job}
        async with killed.worker.http.post("/execute", json=body) as response:
            got = await response.content.readuntil(b"id: 30.0")
            killed.process.kill()
    seen = tokens_of(list(parse(got)))

    async with worker(model, slots=1) as other:
        rest = await other.execute("job", attempt=2, **job, **going_on(seen, 300))
        whole = await other.execute("whole", **job, max_tokens=300)

    assert len(seen) == 29
    assert "".join(event.t for event in seen) + text_of(rest) == text_of(whole)
