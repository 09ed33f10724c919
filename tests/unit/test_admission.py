"""Admission: what is refused at the door, at exactly which value, and what is still left open."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert
from msgspec.structs import replace

from llorch.errors import Draining, InvalidRequest, QueueFull
from llorch.wire.codec import encode
from llorch.wire.conversation import FunctionCall, Message, ToolCall
from llorch.wire.embedding import Rerank
from llorch.wire.pools import Model
from llorch.wire.tasks import SubmitTask
from roles.orchestrator.queue.admission import (
    TEMPLATE_BYTES_PER_MESSAGE,
    Fit,
    QueueState,
    admit,
    prompt_bytes,
    prompt_sha256,
    retry_after_s,
    too_long,
)

PROMPT = SubmitTask(model="m", prompt="hello")


def queue(waiting: int = 0, capacity: int = 10, *, finished_per_s: float = 1.0, draining: bool = False) -> QueueState:
    return QueueState(waiting, capacity, finished_per_s, draining)


def model(context: int, max_token_bytes: int = 4) -> Model:
    return Model(
        model_ref="file:/m.gguf",
        size_bytes=1,
        architecture="llama",
        quantization="Q4_0",
        context_length=context,
        vocab_size=100,
        max_token_bytes=max_token_bytes,
    )


@pytest.mark.parametrize(("waiting", "capacity"), [(0, 1), (9, 10), (0, -1), (10**9, -1)])
def test_a_job_is_taken_while_there_is_a_place(waiting: int, capacity: int) -> None:
    assert admit(PROMPT, queue(waiting, capacity), None) == Fit(0, certainly_fits=False)


@pytest.mark.parametrize(("waiting", "capacity"), [(0, 0), (10, 10), (11, 10)])
def test_a_full_queue_refuses_and_says_when_to_come_back(waiting: int, capacity: int) -> None:
    with pytest.raises(QueueFull) as raised:
        admit(PROMPT, queue(waiting, capacity), None)

    assert raised.value.details == {"waiting": waiting, "capacity": capacity}
    assert raised.value.retry_after_s == 1


def test_a_draining_orchestrator_refuses_also_when_there_is_a_place() -> None:
    with pytest.raises(Draining) as raised:
        admit(PROMPT, queue(draining=True), model(8))

    assert raised.value.retry_after_s == 5


def test_draining_is_told_before_a_full_queue() -> None:
    with pytest.raises(Draining):
        admit(PROMPT, queue(10, 10, draining=True), None)


@pytest.mark.parametrize("max_tokens", [1, 99, 100])
def test_as_many_tokens_as_the_context_has_may_be_asked_for(max_tokens: int) -> None:
    task = SubmitTask(model="m", prompt="hello", max_tokens=max_tokens)

    assert admit(task, queue(), model(100)) == Fit(2, certainly_fits=True)


@pytest.mark.parametrize(("context", "max_token_bytes", "least"), [(2048, 0, 0), (0, 0, 0), (0, 4, 625)])
def test_what_a_file_does_not_say_refuses_nothing(context: int, max_token_bytes: int, least: int) -> None:
    task = SubmitTask(model="m", prompt="word " * 500, max_tokens=5)

    assert admit(task, queue(), model(context, max_token_bytes)) == Fit(least, certainly_fits=False)


def test_one_token_more_than_the_context_has_is_refused() -> None:
    task = SubmitTask(model="m", prompt="hello", max_tokens=101)

    with pytest.raises(InvalidRequest) as raised:
        admit(task, queue(), model(100))

    problem = "101 is more than the model's context of 100"
    assert raised.value.details == {"fields": [{"field": "max_tokens", "problem": problem}]}


def test_an_unknown_context_leaves_everything_open() -> None:
    task = SubmitTask(model="m", prompt="x" * 10_000, max_tokens=2**31 - 1)

    assert admit(task, queue(), None) == Fit(0, certainly_fits=False)


@pytest.mark.parametrize(
    ("length", "fit"),
    [
        (1, Fit(1, certainly_fits=True)),
        (4, Fit(1, certainly_fits=True)),
        (5, Fit(2, certainly_fits=True)),
        (17, Fit(5, certainly_fits=True)),
        (18, Fit(5, certainly_fits=False)),
        (76, Fit(19, certainly_fits=False)),
    ],
)
def test_a_prompt_is_judged_by_its_bytes(length: int, fit: Fit) -> None:
    task = SubmitTask(model="m", prompt="x" * length)

    assert admit(task, queue(), model(20)) == fit


def test_a_prompt_that_cannot_fit_even_in_the_longest_tokens_is_refused() -> None:
    task = SubmitTask(model="m", prompt="x" * 77)

    with pytest.raises(InvalidRequest) as raised:
        admit(task, queue(), model(20))

    problem = "the prompt is at least 20 tokens long, the context of the model is 20, and one must be left"
    assert raised.value.message == f"the request is not valid: {problem}"
    assert raised.value.details == {
        "fields": [{"field": "prompt", "problem": problem}],
        "prompt_tokens": 20,
        "context_length": 20,
        "exact": False,
    }


def test_a_counted_prompt_is_refused_with_its_exact_length() -> None:
    refused = too_long(7, 5, exact=True)

    problem = "the prompt is 7 tokens long, the context of the model is 5, and one must be left"
    assert refused.message == f"the request is not valid: {problem}"
    assert refused.details == {
        "fields": [{"field": "prompt", "problem": problem}],
        "prompt_tokens": 7,
        "context_length": 5,
    }


def test_a_prompt_fits_a_model_of_unknown_tokens_where_each_of_its_bytes_may_be_one() -> None:
    task = SubmitTask(model="m", prompt="x" * 10)

    assert admit(task, queue(), model(100, max_token_bytes=0)) == Fit(0, certainly_fits=True)


def test_characters_are_counted_in_bytes() -> None:
    assert prompt_bytes(SubmitTask(model="m", prompt="é😀")) == (6, 2)


def test_messages_are_counted_with_room_for_what_the_template_adds() -> None:
    task = SubmitTask(model="m", messages=[Message("system", "é"), Message("user", "abc")])

    assert prompt_bytes(task) == (5, 3 * TEMPLATE_BYTES_PER_MESSAGE)


def test_calls_of_tools_that_are_not_offered_any_more_are_counted_too() -> None:
    call = ToolCall("c1", FunctionCall("f", "{}"))
    said = [
        Message("user", "abc"),
        Message("assistant", "", tool_calls=[call]),
        Message("tool", "5", tool_call_id="c1"),
    ]

    text, around = prompt_bytes(SubmitTask(model="m", messages=said))

    assert text == 4
    assert around > 4 * TEMPLATE_BYTES_PER_MESSAGE


@pytest.mark.parametrize(
    ("waiting", "finished_per_s", "wait_s"),
    [
        (1_000, 0.0, 10),
        (1_000, 10.0, 10),
        (10_000, 1.0, 1_000),
        (100, 1e9, 1),
        (0, 1.0, 1),
        (10_000, 1e-9, 3_600),
    ],
)
def test_the_advised_wait_is_that_of_a_tenth_of_the_queue_within_bounds(
    waiting: int, finished_per_s: float, wait_s: int
) -> None:
    assert retry_after_s(queue(waiting, finished_per_s=finished_per_s)) == wait_s


def test_the_hash_of_a_prompt_is_of_its_text() -> None:
    assert prompt_sha256(PROMPT) == hashlib.sha256(b"hello").hexdigest()


def test_the_hash_of_messages_is_of_their_compact_json() -> None:
    task = SubmitTask(model="m", messages=[Message("user", "é")])

    assert prompt_sha256(task) == hashlib.sha256('[{"role":"user","content":"é"}]'.encode()).hexdigest()
    assert encode(task.messages) == '[{"role":"user","content":"é"}]'.encode()


@given(
    text=st.text(min_size=1, max_size=300),
    context=st.integers(min_value=1, max_value=200),
    max_token_bytes=st.integers(min_value=1, max_value=16),
)
def test_what_certainly_fits_fits_in_single_byte_tokens_and_what_is_refused_does_not_in_the_longest(
    text: str, context: int, max_token_bytes: int
) -> None:
    length = len(text.encode())
    task = SubmitTask(model="m", prompt=text)

    try:
        fit = admit(task, queue(), model(context, max_token_bytes))
    except InvalidRequest:
        assert length > (context - 1) * max_token_bytes
    else:
        assert fit.least_tokens * max_token_bytes >= length
        assert not fit.certainly_fits or length < context


def fields_of(refused: InvalidRequest) -> list[dict[str, str]]:
    return convert(refused.details, dict[str, list[dict[str, str]]])["fields"]


@pytest.mark.parametrize(
    ("task", "can", "field", "said"),
    [
        (PROMPT, ["embedding"], "prompt", "it is for embeddings"),
        (SubmitTask(model="m", messages=[Message("user", "hi")]), ["rerank"], "messages", "it is for reranking"),
        (
            SubmitTask(model="m", input=["a"]),
            ["text-gen"],
            "input",
            'it is for text; for embeddings, set pooling = "last"',
        ),
        (SubmitTask(model="m", input=["a"]), ["rerank"], "input", "it is for reranking"),
        (SubmitTask(model="m", rerank=Rerank("q", ["d"])), ["text-gen", "embedding"], "rerank", "text and embeddings"),
    ],
)
def test_a_job_that_the_model_was_not_made_for_is_refused_with_what_it_is_for(
    task: SubmitTask, can: list[str], field: str, said: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        admit(task, queue(), replace(model(8), capabilities=can))

    [problem] = fields_of(raised.value)
    assert problem["field"] == field
    assert said in problem["problem"]


@pytest.mark.parametrize(
    "task",
    [
        SubmitTask(model="m", input=["a text", [1, 2]]),
        SubmitTask(model="m", input=[[1] * 8]),
        SubmitTask(model="m", input=[[1] * 9], truncate=True),
        SubmitTask(model="m", input=["w " * 100]),
    ],
    ids=["short", "exactly the context", "to be cut", "a text, which only the model can count"],
)
def test_inputs_that_fit_or_may_are_let_through(task: SubmitTask) -> None:
    assert admit(task, queue(), replace(model(8), capabilities=["embedding"])) == Fit(0, certainly_fits=True)


def test_each_input_with_more_tokens_than_the_context_is_refused_by_its_number() -> None:
    task = SubmitTask(model="m", input=[[1] * 8, [1] * 9, "w " * 100, [1] * 20])

    with pytest.raises(InvalidRequest) as raised:
        admit(task, queue(), replace(model(8), capabilities=["embedding"]))

    assert fields_of(raised.value) == [
        {"field": "input[1]", "problem": "9 tokens are more than the context of 8"},
        {"field": "input[3]", "problem": "20 tokens are more than the context of 8"},
    ]


def test_a_context_that_nobody_has_told_refuses_no_input() -> None:
    task = SubmitTask(model="m", input=[[1] * 9000])

    assert admit(task, queue(), replace(model(0), capabilities=["embedding"])) == Fit(0, certainly_fits=True)
