"""What a request of Anthropic's API is as a job, and what a job is in its words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llorch.errors import AllSlotsBusy, InvalidRequest
from llorch.sse import parse
from llorch.wire.anthropic import MessageReply, MessagesRequest, TextBlock, Usage
from llorch.wire.codec import decode, encode
from llorch.wire.conversation import Message
from llorch.wire.events import End
from llorch.wire.tasks import SubmitTask
from roles.orchestrator.dialects.answer import Answer
from roles.orchestrator.dialects.anthropic import count, error_reply, first, last, task, text, whole_reply


def asked(**fields: object) -> MessagesRequest:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **fields}
    return decode(json.dumps(body).encode(), MessagesRequest)


def ended(reason: Any = "eos") -> End:  # noqa: ANN401 - one of three words
    return End(tokens_in=7, tokens_out=3, stop_reason=reason, queue_ms=1, first_token_ms=2, decode_time_ms=3)


def test_a_message_without_wishes_gets_anthropics_defaults_and_ends_with_its_reader() -> None:
    expected = SubmitTask(
        model="m", messages=[Message("user", "hi")], max_tokens=9, temperature=1.0, on_disconnect="cancel"
    )

    assert task(asked()) == expected
    assert (
        task(asked(metadata={"user_id": "u"}, thinking={"type": "disabled"}, tools=[], service_tier="auto")) == expected
    )


def test_every_wish_arrives() -> None:
    found = task(asked(system="be", temperature=0, top_p=0.5, top_k=3, stop_sequences=["x", "y"]))

    assert found == SubmitTask(
        model="m",
        messages=[Message("system", "be"), Message("user", "hi")],
        max_tokens=9,
        temperature=0,
        top_p=0.5,
        top_k=3,
        stop=["x", "y"],
        on_disconnect="cancel",
    )


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tools": [{"name": "f"}]}, ["tools"]),
        ({"tool_choice": {"type": "any"}}, ["tool_choice"]),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, ["thinking"]),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}], "tools": [{}]}, ["tools", "messages[0]"]),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, object], named: list[str]) -> None:
    for ask in (task, count):
        with pytest.raises(InvalidRequest) as refused:
            ask(asked(**fields))

        assert refused.value.details is not None
        problems: Any = refused.value.details["fields"]
        assert [problem["field"] for problem in problems] == named


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
        usage=Usage(7, 3),
        stop_reason=expected[0],  # type: ignore[arg-type]  # one of its words
        stop_sequence=expected[1],
    )


def test_a_stream_begins_and_ends_a_message_and_its_block() -> None:
    found = list(parse(first("j", asked(), tokens_in=7) + text("é") + last(ended(), asked())))

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
    assert bodies[0]["message"]["usage"] == {"input_tokens": 7, "output_tokens": 0}
    assert bodies[2]["delta"] == {"type": "text_delta", "text": "é"}
    assert bodies[4]["usage"] == {"input_tokens": 7, "output_tokens": 3}


def test_errors_have_anthropics_kind_and_our_code() -> None:
    body = json.loads(encode(error_reply(AllSlotsBusy("busy"), "c")))

    assert body["type"] == "error"
    assert (body["error"]["type"], body["error"]["code"]) == ("overloaded_error", "ALL_SLOTS_BUSY")
