"""What a job is in the words of Anthropic's API: whole answers, events, errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import structs

from llorch.errors import AllSlotsBusy
from llorch.sse import parse
from llorch.wire.anthropic import MessageReply, MessagesRequest, TextBlock, ThinkingBlock, ToolUseBlock, Usage
from llorch.wire.codec import decode, encode
from llorch.wire.conversation import FunctionCall, FunctionDelta, ToolCall, ToolCallDelta
from llorch.wire.events import End, Token
from roles.orchestrator.dialects.answer import Answer
from roles.orchestrator.dialects.anthropic_replies import Events, error_reply, whole_reply


def asked(**fields: object) -> MessagesRequest:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **fields}
    return decode(json.dumps(body).encode(), MessagesRequest)


def ended(reason: Any = "eos") -> End:  # noqa: ANN401 - one of three words
    return End(tokens_in=7, tokens_out=3, stop_reason=reason, queue_ms=1, first_token_ms=2, decode_time_ms=3)


@pytest.mark.parametrize(
    ("reason", "stops", "expected"),
    [
        ("eos", ["x"], ("end_turn", None)),
        ("max_tokens", None, ("max_tokens", None)),
        ("stop_sequence", ["x"], ("stop_sequence", "x")),
        ("stop_sequence", ["x", "y"], ("stop_sequence", None)),
    ],
)
def test_the_sequence_is_told_where_there_can_be_no_doubt(
    reason: str, stops: list[str] | None, expected: tuple[str, str | None]
) -> None:
    reply = whole_reply(Answer("j", "text", "e", ended(reason)), asked(stop_sequences=stops))

    assert reply == MessageReply(
        id="msg_j",
        model="m",
        content=[TextBlock("text")],
        usage=Usage(7, 3, 0),
        stop_reason=expected[0],  # type: ignore[arg-type]  # one of its words
        stop_sequence=expected[1],
    )


def test_a_stream_begins_and_ends_a_message_and_its_block() -> None:
    events = Events("j", asked())

    found = list(parse(events.first(tokens_in=7) + events.piece(Token(0, "é")) + events.last(ended())))

    bodies = [json.loads(event.data) for event in found]
    assert [event.kind for event in found] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert [body["type"] for body in bodies] == [event.kind for event in found]
    none = {"cache_creation_input_tokens": 0}
    unknown = {"input_tokens": 7, "output_tokens": 0, "cache_read_input_tokens": None}
    assert bodies[0]["message"]["usage"] == unknown | none
    assert bodies[2]["delta"] == {"type": "text_delta", "text": "é"}
    assert bodies[4]["usage"] == {"input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": 0} | none


@pytest.mark.parametrize(("cached", "told"), [(0, (7, 0)), (5, (2, 5)), (7, (0, 7)), (9, (0, 7))])
def test_cached_tokens_are_told_apart_from_the_others(cached: int, told: tuple[int, int]) -> None:
    end = structs.replace(ended(), tokens_cached=cached)

    whole = whole_reply(Answer("j", "a", "e", end), asked()).usage
    delta = json.loads(Events("j", asked()).last(end).split(b"event: message_delta\ndata: ")[1].split(b"\n")[0])[
        "usage"
    ]

    assert (whole.input_tokens, whole.cache_read_input_tokens) == told
    assert (delta["input_tokens"], delta["cache_read_input_tokens"], delta["output_tokens"]) == (*told, 3)


def test_errors_are_told_as_anthropic_tells_them() -> None:
    body = json.loads(encode(error_reply(AllSlotsBusy("busy"), "c")))

    assert body == {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}, "request_id": "c"}


def test_thoughts_text_and_calls_are_blocks_of_their_own() -> None:
    calls = [ToolCall("c", FunctionCall("f", '{"a": 1}')), ToolCall("d", FunctionCall("f", '{"a"'))]

    reply = whole_reply(Answer("j", "so", "e", ended(), "hm", calls), asked())
    called = whole_reply(Answer("j", "", "e", ended(), "", calls), asked())

    blocks = [ToolUseBlock("c", "f", {"a": 1}), ToolUseBlock("d", "f", {})]
    assert reply.content == [ThinkingBlock("hm"), TextBlock("so"), *blocks]
    assert called.content == blocks
    assert reply.stop_reason == "tool_use"


def test_streamed_blocks_come_one_behind_the_other() -> None:
    events = Events("j", asked())
    pieces = [
        Token(0, "", reasoning_content="h"),
        Token(1, "", reasoning_content="m"),
        Token(2, "so"),
        Token(3, "", tool_calls=[ToolCallDelta(0, FunctionDelta("f"), "c"), ToolCallDelta(0, FunctionDelta("", "{"))]),
        Token(4, "", tool_calls=[ToolCallDelta(0, FunctionDelta("", "}"))]),
        Token(5, "", tool_calls=[ToolCallDelta(1, FunctionDelta("g", "{}"), "d")]),
    ]

    found = list(parse(b"".join(events.piece(piece) for piece in pieces) + events.last(ended())))

    bodies = [json.loads(event.data) for event in found]
    told = [(b["type"].removeprefix("content_block_"), b["index"]) for b in bodies if "index" in b]
    assert told == [
        *[("start", 0), ("delta", 0), ("delta", 0), ("delta", 0), ("stop", 0)],
        *[("start", 1), ("delta", 1), ("stop", 1)],
        *[("start", 2), ("delta", 2), ("delta", 2), ("stop", 2)],
        *[("start", 3), ("delta", 3), ("stop", 3)],
    ]
    assert bodies[8]["content_block"] == {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    assert bodies[9]["delta"] == {"type": "input_json_delta", "partial_json": "{"}
    assert bodies[3]["delta"] == {"type": "signature_delta", "signature": ""}
    assert bodies[-2]["delta"]["stop_reason"] == "tool_use"


def test_another_attempt_does_not_begin_the_message_again() -> None:
    events = Events("j", asked())

    begun, again = events.first(tokens_in=7), events.first(tokens_in=8)
    events.piece(Token(0, "so"))
    behind = events.first(tokens_in=9)

    assert [event.kind for event in parse(begun)] == ["message_start"]
    assert (again, behind) == (b"", b"")


def test_an_answer_without_a_word_still_has_a_block() -> None:
    found = list(parse(Events("j", asked()).last(ended())))

    assert [event.kind for event in found][:2] == ["content_block_start", "content_block_stop"]
