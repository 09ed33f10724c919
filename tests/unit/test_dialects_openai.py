"""What a request of OpenAI's API is as jobs, and what a job is in its words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET

from llorch.errors import InvalidRequest, QueueFull
from llorch.wire.codec import decode, encode
from llorch.wire.conversation import Message
from llorch.wire.events import End
from llorch.wire.openai import ApiError, ChatRequest, CompletionRequest, Usage
from llorch.wire.tasks import SubmitTask
from roles.orchestrator.dialects.answer import Answer
from roles.orchestrator.dialects.openai import (
    DONE,
    Chunks,
    chat_reply,
    chat_tasks,
    completion_tasks,
    error_reply,
)

ENDED = End(tokens_in=7, tokens_out=3, stop_reason="eos", queue_ms=1, first_token_ms=2, decode_time_ms=3)
USER = {"role": "user", "content": "hi"}


def chat(**fields: object) -> ChatRequest:
    return decode(json.dumps({"model": "m", "messages": [USER], **fields}).encode(), ChatRequest)


def completion(**fields: object) -> CompletionRequest:
    return decode(json.dumps({"model": "m", "prompt": "hi", **fields}).encode(), CompletionRequest)


def problems(error: InvalidRequest) -> list[str]:
    assert error.details is not None
    fields: Any = error.details["fields"]
    return [field["field"] for field in fields]


def test_a_chat_without_wishes_gets_openais_defaults_and_ends_with_its_reader() -> None:
    assert chat_tasks(chat(), room=4096) == [
        SubmitTask(
            model="m", messages=[Message("user", "hi")], temperature=1.0, max_tokens=4096, on_disconnect="cancel"
        )
    ]


def test_every_wish_arrives() -> None:
    wishes = {"temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1, "seed": 9}
    more = {"stop": "x", "max_tokens": 5, "priority": "batch", "session_id": "s"}

    [task] = completion_tasks(completion(**wishes, **more))

    expected = SubmitTask(
        model="m",
        prompt="hi",
        on_disconnect="cancel",
        **{**wishes, **more, "stop": ["x"]},  # type: ignore[arg-type]
    )
    assert task == expected


def test_several_answers_are_several_jobs_with_seeds_of_their_own() -> None:
    tasks = completion_tasks(completion(prompt=["a", "b"], n=2, seed=2**63 - 1))

    assert [(task.prompt, task.seed) for task in tasks] == [
        ("a", 2**63 - 1),
        ("a", 2**63),
        ("b", 2**63 + 1),
        ("b", 2**63 + 2),
    ]


@pytest.mark.parametrize(("asked", "room", "expected"), [({}, None, UNSET), ({"max_completion_tokens": 9}, 50, 9)])
def test_the_room_counts_only_where_nothing_was_asked(asked: dict[str, object], room: int, expected: object) -> None:
    [task] = chat_tasks(chat(**asked), room=room)

    assert task.max_tokens == expected


def test_a_message_may_come_in_parts_of_text_and_from_a_developer() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    [task] = chat_tasks(
        chat(messages=[{"role": "developer", "content": "be"}, {"role": "user", "content": parts}]), room=1
    )

    assert task.messages == [Message("system", "be"), Message("user", "ab")]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
        ({"messages": [USER, {"role": "assistant"}]}, "messages[1]"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0]"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat_tasks(chat(**fields), room=None)

    assert problems(refused.value) == [named]


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [], "tool_choice": "none", "logprobs": False, "logit_bias": {}, "presence_penalty": 0},
        {"response_format": {"type": "text"}, "modalities": ["text"], "n": None, "stream": None, "seed": None},
        {"user": "me", "metadata": {"a": "b"}, "store": False, "reasoning_effort": "low", "something": {"new": 1}},
    ],
)
def test_neutral_and_unknown_fields_change_nothing(fields: dict[str, object]) -> None:
    assert chat_tasks(chat(**fields), room=5) == chat_tasks(chat(), room=5)


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1], [2]], ["a", ""]])
def test_prompts_that_are_not_texts_are_refused(prompt: list[object]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        completion_tasks(completion(prompt=prompt))

    assert problems(refused.value) == ["prompt"]


def test_usage_counts_the_prompt_once_and_every_answer() -> None:
    answers = [Answer(f"j{number}", text, "e", ENDED) for number, text in enumerate("ab")]

    reply = chat_reply(answers, name="m", created_s=5)

    assert (reply.id, reply.system_fingerprint, reply.usage) == ("chatcmpl-j0", "e", Usage(7, 6, 13))
    assert [(choice.index, choice.message.content, choice.finish_reason) for choice in reply.choices] == [
        (0, "a", "stop"),
        (1, "b", "stop"),
    ]


def chunk(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data.removeprefix(b"data: "))
    return found


@pytest.mark.parametrize("with_usage", [True, False])
def test_a_streamed_chat_has_the_shape_that_clients_know(*, with_usage: bool) -> None:
    chunks = Chunks("j", name="m", created_s=5, chat=True, with_usage=with_usage)
    common = {
        "id": "chatcmpl-j",
        "created": 5,
        "model": "m",
        "system_fingerprint": "",
        "object": "chat.completion.chunk",
    }
    common |= {"usage": None} if with_usage else {}

    first, text, end, last = chunks.first(0), chunks.text(0, "é"), chunks.end(0, ENDED), chunks.last([ENDED])

    def choice(delta: dict[str, str], reason: str | None = None) -> dict[str, object]:
        return {**common, "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]}

    assert chunk(first) == choice({"content": "", "role": "assistant"})
    assert chunk(text) == choice({"content": "é"})
    assert chunk(end) == choice({}, "stop")
    assert last.endswith(DONE)
    if with_usage:
        used = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        assert chunk(last.removesuffix(DONE)) == {**common, "choices": [], "usage": used}
    else:
        assert last == DONE


def test_errors_keep_their_code_and_name_the_first_field() -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode(b'{"model":"m","messages":[],"temperature":9}', ChatRequest)

    reply = error_reply(refused.value, "c")
    full = error_reply(QueueFull("full"), "c")

    assert (reply.error.type, reply.error.code, reply.error.param) == (
        "invalid_request_error",
        "INVALID_REQUEST",
        "temperature",
    )
    assert full.error == ApiError(
        message="full", type="rate_limit_error", code="QUEUE_FULL", retriable=True, correlation_id="c"
    )
    assert b'"param":null' in encode(full)
