"""Embeddings and scores of a real engine, as a worker's events."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from llorch.abilities import NUMBERS
from llorch.sse import Event
from llorch.wire.embedding import read_score, read_vector
from llorch.wire.engine_options import EngineOptions, Pooling
from roles.worker.inference import job as jobs
from tests.support import encoders
from tests.support.workers import Worker, last, slots_processing, tokens_of, worker

TEXTS = ["bake kilo", "dumi lani", "a", "1 ba 2 bu", "bake kilo dumi lani ba be bi bo bu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    encoders.embedder(made / "embedder.gguf")
    encoders.reranker(made / "reranker.gguf")
    return made


@pytest.fixture
async def embedder(folder: Path) -> AsyncIterator[Worker]:
    async with worker(folder / "embedder.gguf", slots=2) as running:
        yield running


@pytest.fixture
async def reranker(folder: Path) -> AsyncIterator[Worker]:
    async with worker(folder / "reranker.gguf", slots=2) as running:
        yield running


def vectors(events: list[Event]) -> list[list[float]]:
    return [read_vector(event.t) for event in tokens_of(events)]


def near(a: list[float], b: list[float]) -> bool:
    return all(math.isclose(x, y, abs_tol=1e-4) for x, y in zip(a, b, strict=True))


async def test_each_input_is_one_event_with_its_vector_of_length_one(embedder: Worker) -> None:
    events = await embedder.execute(input=TEXTS)

    found = vectors(events)
    assert [event.i for event in tokens_of(events)] == list(range(len(TEXTS)))
    assert {len(vector) for vector in found} == {encoders.SMALL.n_embd}
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-5) for vector in found)
    assert not any(near(found[0], other) for other in found[1:])
    assert {key: last(events)[key] for key in ("kind", "tokens_out", "stop_reason")} == {
        "kind": "end",
        "tokens_out": 0,
        "stop_reason": "eos",
    }
    assert last(events)["tokens_in"] == json.loads(events[0].data)["tokens_in"] > len(TEXTS) * 2


async def test_tokens_give_the_vector_of_their_text(embedder: Worker) -> None:
    [begin, end] = [2, 3]
    [text] = vectors(await embedder.execute("a", input=["a"]))

    [tokens] = vectors(await embedder.execute("b", input=[[begin, len(encoders.SPECIAL), end]]))

    assert near(text, tokens)


async def test_an_attempt_that_takes_over_goes_on_with_the_next_input(embedder: Worker) -> None:
    whole = await embedder.execute("a", input=TEXTS)

    rest = await embedder.execute("b", attempt=2, first_token=3, input=TEXTS)

    assert [event.i for event in tokens_of(rest)] == [3, 4]
    assert all(near(a, b) for a, b in zip(vectors(whole)[3:], vectors(rest), strict=True))
    assert last(rest)["tokens_in"] == last(whole)["tokens_in"]


async def test_an_attempt_that_has_nothing_left_to_do_ends(embedder: Worker) -> None:
    events = await embedder.execute(attempt=2, first_token=len(TEXTS), input=TEXTS)

    assert [event.kind for event in events] == ["started", "end"]


async def test_an_input_that_fills_the_context_is_read_as_a_whole(embedder: Worker) -> None:
    longest = " ".join("a" * (encoders.SMALL.ctx - 2))

    events = await embedder.execute(input=[longest])

    assert last(events)["tokens_in"] == encoders.SMALL.ctx
    assert len(vectors(events)) == 1


async def test_an_input_that_is_too_long_is_refused_by_its_number_or_cut_when_asked(embedder: Worker) -> None:
    long = " ".join("ab" * encoders.SMALL.ctx)
    fits = " ".join("ab" * (encoders.SMALL.ctx // 2 - 1))

    status, code, details = await embedder.refusal("POST", "/execute", {"job_id": "a", "input": ["a", long]})
    cut = await embedder.execute("b", input=[long, fits], truncate=True)

    assert (status, code) == (400, "INVALID_REQUEST")
    problem = f"it has {2 * encoders.SMALL.ctx + 2} tokens; the context holds {encoders.SMALL.ctx}"
    assert details["fields"] == [{"field": "input[1]", "problem": f"{problem}: shorten or truncate it"}]
    assert last(cut)["tokens_in"] == 2 * encoders.SMALL.ctx
    assert near(*vectors(cut))


async def test_documents_are_scored_in_their_order(reranker: Worker) -> None:
    documents = ["be bi", "ka ke ki", "be bi", "", "bo"]

    events = await reranker.execute(rerank={"query": "ba bu", "documents": documents})
    alone = await reranker.execute("b", attempt=2, first_token=4, rerank={"query": "ba bu", "documents": documents})

    scores = [read_score(event.t) for event in tokens_of(events)]
    assert len(scores) == len(documents)
    assert math.isclose(scores[0], scores[2], abs_tol=1e-4)
    assert not math.isclose(scores[0], scores[1], abs_tol=1e-4)
    assert math.isclose(scores[4], read_score(tokens_of(alone)[0].t), abs_tol=1e-4)
    assert last(events)["tokens_in"] == sum(2 + 2 + len(document.split()) for document in documents)


async def test_a_document_that_is_too_long_is_refused_by_its_number_or_cut_when_asked(reranker: Worker) -> None:
    body = {"rerank": {"query": "a b", "documents": ["a", " ".join("ab" * encoders.SMALL.ctx)]}}
    same = {"rerank": {"query": "a b", "documents": [" ".join("ab" * (encoders.SMALL.ctx // 2 - 2))]}}

    status, _, details = await reranker.refusal("POST", "/execute", {"job_id": "a", **body})
    cut = await reranker.execute("b", truncate=True, **body)
    fitting = await reranker.execute("c", **same)

    assert status == 400
    assert json.dumps(details["fields"]).count("rerank.documents[1]") == 1
    assert math.isclose(read_score(tokens_of(cut)[1].t), read_score(tokens_of(fitting)[0].t), abs_tol=1e-4)


async def test_what_a_model_was_not_made_for_is_refused_and_told_before(embedder: Worker, reranker: Worker) -> None:
    asked: list[tuple[Worker, dict[str, object], str, str]] = [
        (embedder, {"prompt": "a"}, "prompt", "the model cannot do that: it is for embeddings"),
        (embedder, {"messages": [{"role": "user", "content": "a"}]}, "messages", "it is for embeddings"),
        (embedder, {"rerank": {"query": "a", "documents": ["b"]}}, "rerank", "it is for embeddings"),
        (reranker, {"input": ["a"]}, "input", "it is for reranking"),
        (embedder, {"input": ["a", [5, 9_999]]}, "input[1]", "the model has only"),
    ]

    for running, body, field, problem in asked:
        status, code, details = await running.refusal("POST", "/execute", {"job_id": "a", **body})
        fields = details["fields"]
        assert isinstance(fields, list)
        assert (status, code, fields[0]["field"]) == (400, "INVALID_REQUEST", field)
        assert problem in fields[0]["problem"]
    assert (await embedder.ready()).capabilities == ["embedding"]
    assert (await reranker.ready()).capabilities == ["rerank"]


async def test_a_cancelled_job_ends_in_the_middle_of_its_inputs(embedder: Worker) -> None:
    long = " ".join("ab" * (encoders.SMALL.ctx // 2 - 1))
    core = embedder.core
    assert core is not None
    async with embedder.http.post("/execute", json={"job_id": "a", "input": [long] * 400}) as response:
        data = b""
        while b"event: token" not in data:
            data += await response.content.readany()
        await embedder.http.post("/cancel", json={"job_id": "a"})
        data += await response.read()

    assert b'"code":"CANCELLED"' in data
    assert 0 < data.count(b"event: token") < 400
    async with asyncio.timeout(20):
        while await slots_processing(core):
            await asyncio.sleep(0.005)
    assert (await embedder.health()).slots_busy == 0


async def test_a_reader_who_does_not_read_is_waited_for(embedder: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    core = embedder.core
    assert core is not None
    monkeypatch.setattr(jobs.Job.__init__, "__kwdefaults__", {"first_token": 0, "buffer_bytes": 8_000})
    await embedder.ready()
    async with embedder.http.post("/execute", json={"job_id": "a", "input": TEXTS * 40}) as response:
        events = response.content
        await events.readuntil(b"\n\n")
        job = core.jobs.get("a")
        async with aclosing(job.follow(hang_up=None)) as reader:  # takes the place of the connection, and does not read
            first = await anext(reader)
            async with asyncio.timeout(20):
                while not job._crowded():
                    await asyncio.sleep(0.005)
            assert not job.done
            rest = b"".join([first, *[block async for block in reader]])

    assert rest.count(b"event: token") == len(TEXTS) * 40
    assert b"event: end" in rest


HAIKU = Path(__file__).parents[2] / "llorch/assets/haiku.gguf"
POEM: dict[str, object] = {"prompt": "Write a haiku about rain", "temperature": 0, "max_tokens": 24}


@pytest.mark.parametrize("pooling", NUMBERS)
async def test_a_model_that_writes_embeds_too_when_it_is_told_how(pooling: Pooling) -> None:
    texts = ["Write a haiku about rain", "Write a haiku about rain and snow", "five"]
    async with worker(HAIKU, ctx=96) as plain:
        poem = await plain.text("poem", **POEM)
        _, code, details = await plain.refusal("POST", "/execute", {"job_id": "e", "input": texts})
    async with worker(HAIKU, slots=2, ctx=96, engine_options=EngineOptions(pooling=pooling)) as found:
        before = await found.text("before", **POEM)
        events = await found.execute("vectors", input=texts)
        [alone] = vectors(await found.execute("alone", input=texts[1:2]))
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(found.text("beside", **POEM))
            again = group.create_task(found.execute("again", input=texts))
        health = await found.health()

    found_vectors = vectors(events)
    assert code == "INVALID_REQUEST"
    assert 'set pooling = "last"' in str(details)
    assert health.capabilities == ["text-gen", "embedding"]
    assert before == writing.result() == poem
    assert all(near(one, other) for one, other in zip(found_vectors, vectors(again.result()), strict=True))
    assert near(alone, found_vectors[1])
    assert all(math.isclose(math.fsum(x * x for x in vector), 1, abs_tol=1e-3) for vector in found_vectors)
    assert near(found_vectors[0], found_vectors[2]) == (pooling == "cls")  # every text begins with the same token
