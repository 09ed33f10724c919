"""What a job is in the words of OpenAI's API: whole answers, chunks, errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llorch.errors import InvalidRequest, QueueFull
from llorch.wire.codec import decode, encode
from llorch.wire.conversation import FunctionCall, FunctionDelta, TokenChance, TokenLogprob, ToolCall, ToolCallDelta
from llorch.wire.events import End, Token
from llorch.wire.openai import ApiError, ChatRequest
from llorch.wire.openai_replies import TextLogprobs, Usage
from roles.orchestrator.dialects.answer import Answer
from roles.orchestrator.dialects.openai_replies import DONE, Chunks, chat_reply, completion_reply, error_reply

ENDED = End(tokens_in=7, tokens_out=3, stop_reason="eos", queue_ms=1, first_token_ms=2, decode_time_ms=3)
LIKELY = [TokenLogprob("ab", -0.5, [97, 98], [TokenChance("c", -1.0, [99])]), TokenLogprob("c", -2.0, [99])]


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

    first, text, end, last = chunks.first(0), chunks.piece(0, Token(0, "é")), chunks.end(0, ENDED), chunks.last([ENDED])

    def choice(delta: dict[str, str | None], reason: str | None = None) -> dict[str, object]:
        return {**common, "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]}

    assert chunk(first) == choice({"content": "", "role": "assistant", "refusal": None})
    assert chunk(text) == choice({"content": "é"})
    assert chunk(end) == choice({}, "stop")
    assert last.endswith(DONE)
    if with_usage:
        used = {
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }
        assert chunk(last.removesuffix(DONE)) == {**common, "choices": [], "usage": used}
    else:
        assert last == DONE


def test_another_attempt_begins_none_of_the_answers_again() -> None:
    chunks = Chunks("j", name="m", created_s=5, chat=True, with_usage=False)

    begun = [chunks.first(index) for index in (0, 1, 0, 1)]
    chunks.piece(1, Token(0, "so"))

    assert [chunk(data)["choices"][0]["index"] for data in begun[:2]] == [0, 1]
    assert [*begun[2:], chunks.first(1)] == [b"", b"", b""]


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
    assert full.error == ApiError(message="full", type="rate_limit_error", code="QUEUE_FULL")
    assert b'"param":null' in encode(full)


def test_calls_and_thoughts_come_apart_and_say_why_the_answer_ended() -> None:
    calls = [ToolCall("c", FunctionCall("f", "{}"))]

    [choice] = chat_reply([Answer("j", "", "e", ENDED, "hm", calls)], name="m", created_s=5).choices

    assert (choice.message.content, choice.message.reasoning_content, choice.message.tool_calls) == (None, "hm", calls)
    assert choice.finish_reason == "tool_calls"


def test_streamed_calls_have_their_name_once_and_their_arguments_in_pieces() -> None:
    chunks = Chunks("j", name="m", created_s=5, chat=True, with_usage=False)
    begun = Token(0, "", tool_calls=[ToolCallDelta(0, FunctionDelta("f"), "c")])
    more = Token(1, "", tool_calls=[ToolCallDelta(0, FunctionDelta(arguments="{}"))])

    chunks.first(0)
    found = [
        chunk(data)["choices"][0] for data in (chunks.piece(0, begun), chunks.piece(0, more), chunks.end(0, ENDED))
    ]
    thought = chunk(chunks.piece(0, Token(2, "", reasoning_content="hm")))["choices"][0]["delta"]

    function = {"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    assert found[0]["delta"] == {"tool_calls": [{"index": 0, **function}]}
    assert found[1]["delta"] == {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}
    assert found[2]["finish_reason"] == "tool_calls"
    assert thought == {"reasoning_content": "hm"}


def test_odds_are_told_in_both_forms() -> None:
    answer = Answer("j", "abc", "e", ENDED, logprobs=LIKELY)
    chunks = Chunks("j", name="m", created_s=5, chat=False, with_usage=False)

    [chosen] = chat_reply([answer], name="m", created_s=5).choices
    [text] = completion_reply([answer], name="m", created_s=5).choices
    streamed = [chunk(chunks.piece(0, Token(n, one.token, logprobs=[one]))) for n, one in enumerate(LIKELY)]

    assert chosen.logprobs is not None
    assert chosen.logprobs.content == LIKELY
    assert text.logprobs == TextLogprobs(["ab", "c"], [-0.5, -2.0], [{"c": -1.0}, {}], [0, 2])
    assert [found["choices"][0]["logprobs"]["text_offset"] for found in streamed] == [[0], [2]]
