"""What a job is in the words of OpenAI's Responses API."""

from __future__ import annotations

import json
from typing import Any

from llorch.errors import WorkerLost
from llorch.sse import parse
from llorch.wire.codec import decode
from llorch.wire.conversation import FunctionCall, FunctionDelta, ToolCall, ToolCallDelta
from llorch.wire.events import End, Token
from llorch.wire.responses import (
    CallItem,
    Incomplete,
    MessageItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    ResponsesRequest,
    ResponseUsage,
)
from roles.orchestrator.dialects.answer import Answer
from roles.orchestrator.dialects.responses_replies import Events, whole_reply
from roles.orchestrator.queue.admission import too_long

ASKED = decode(b'{"model": "m", "input": "hi"}', ResponsesRequest)


def ended(reason: Any = "eos") -> End:  # noqa: ANN401 - one of three words
    return End(tokens_in=7, tokens_out=3, stop_reason=reason, queue_ms=1, first_token_ms=2, decode_time_ms=3)


def test_thoughts_text_and_calls_are_items_of_their_own() -> None:
    answer = Answer("j", "so", "e", ended(), "hm", [ToolCall("c", FunctionCall("f", "{}"))])

    reply = whole_reply(answer, ASKED, created_s=5, ended_s=9)

    assert reply.output == [
        ReasoningItem("rs_j", [ReasoningText("hm")]),
        MessageItem("msg_j", [OutputText("so")]),
        CallItem("fc_j_0", "c", "f", "{}"),
    ]
    assert (reply.id, reply.status, reply.usage) == ("resp_j", "completed", ResponseUsage(7, 3, 10))
    assert (reply.created_at, reply.completed_at) == (5, 9)


def test_an_answer_that_was_cut_off_says_so() -> None:
    reply = whole_reply(Answer("j", "so", "e", ended("max_tokens")), ASKED, created_s=5, ended_s=9)

    assert (reply.status, reply.incomplete_details) == ("incomplete", Incomplete("max_output_tokens"))
    assert reply.completed_at is None


def test_a_stream_builds_every_item_and_ends_with_the_whole() -> None:
    events = Events("j", ASKED, created_s=5)
    pieces = [
        Token(0, "", reasoning_content="hm"),
        Token(1, "s"),
        Token(2, "o"),
        Token(3, "", tool_calls=[ToolCallDelta(0, FunctionDelta("f"), "c"), ToolCallDelta(0, FunctionDelta("", "{}"))]),
    ]

    data = events.first() + b"".join(events.piece(piece) for piece in pieces) + events.last(ended(), ended_s=9)

    found = [(event.kind, json.loads(event.data)) for event in parse(data)]
    assert [kind.removeprefix("response.") for kind, _ in found] == [
        *["created", "in_progress"],
        *["output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done"],
        *["content_part.done", "output_item.done"],
        *["output_item.added", "content_part.added", "output_text.delta", "output_text.delta", "output_text.done"],
        *["content_part.done", "output_item.done"],
        *["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"],
        "completed",
    ]
    assert [body["sequence_number"] for _, body in found] == list(range(len(found)))
    assert all(body["type"] == kind for kind, body in found)
    done = [body["item"] for kind, body in found if kind == "response.output_item.done"]
    assert done == found[-1][1]["response"]["output"]
    assert [item["type"] for item in done] == ["reasoning", "message", "function_call"]
    assert done[1]["content"] == [{"type": "output_text", "text": "so", "annotations": [], "logprobs": []}]


def test_another_attempt_does_not_begin_the_response_again() -> None:
    events = Events("j", ASKED, created_s=5)

    begun, again = events.first(), events.first()
    [delta, *_] = reversed(list(parse(events.piece(Token(0, "so")))))

    assert [event.kind for event in parse(begun)] == ["response.created", "response.in_progress"]
    assert (again, events.first()) == (b"", b"")
    assert json.loads(delta.data)["sequence_number"] == 4


def test_an_answer_without_a_word_has_its_events() -> None:
    events = Events("j", ASKED, created_s=5)

    [*_, completed] = parse(events.first() + events.last(ended(), ended_s=9))

    [item] = json.loads(completed.data)["response"]["output"]
    assert item["content"][0]["text"] == ""


def test_an_answer_that_fails_begins_before_and_ends_with_why() -> None:
    fresh, half = Events("j", ASKED, created_s=5), Events("j", ASKED, created_s=5)

    early = list(parse(fresh.failed(too_long(513, 512, exact=True))))
    written = half.first() + half.piece(Token(0, "so"))
    late = list(parse(half.failed(WorkerLost("gone"))))

    bodies = [json.loads(event.data) for event in early]
    assert written
    assert [event.kind for event in early] == ["response.created", "response.in_progress", "error", "response.failed"]
    assert [event.kind for event in late] == ["error", "response.failed"]
    assert [body["sequence_number"] for body in bodies] == [0, 1, 2, 3]
    assert (bodies[2]["code"], bodies[2]["param"]) == ("context_length_exceeded", "input")
    assert bodies[3]["response"]["status"] == "failed"
    assert bodies[3]["response"]["error"] == {"code": "context_length_exceeded", "message": bodies[2]["message"]}
    assert json.loads(late[1].data)["response"]["error"] == {"code": "WORKER_LOST", "message": "gone"}
