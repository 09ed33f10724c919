"""The shape of an answer, and what two of them differ in."""

from __future__ import annotations

import pytest

from tests.support.shapes import Step, differences, fields, steps

EVENTS = "text/event-stream; charset=utf-8"


def test_fields_are_told_by_place_and_type_and_words_of_the_protocol_by_themselves() -> None:
    value = {
        "object": "list",
        "data": [{"id": "a", "n": 1.5}, {"id": None, "on": True}],
        "empty": {},
        "none": [],
        "metadata": {"mine": 1},
    }

    assert fields(value) == {
        "data[].id": "null|string",
        "data[].n": "number",
        "data[].on": "boolean",
        "empty": "{}",
        "metadata": "object",
        "none": "[]",
        "object": "'list'",
    }


def test_events_of_one_shape_are_one_step_and_pings_and_comments_are_none() -> None:
    delta = 'event: delta\ndata: {"text":"%s"}\n\n'
    body = delta % "a" + 'event: ping\ndata: {"type":"ping"}\n\n: alive\n\n' + delta % "b" + "data: [DONE]\n\n"

    assert steps(EVENTS, body) == [Step("delta", {"text": "string"}), Step("", {"": "'[DONE]'"})]
    assert steps("application/x-ndjson", '{"a":1}\n{"a":2}\n{"b":1}\n') == [
        Step("", {"a": "number"}),
        Step("", {"b": "number"}),
    ]


@pytest.mark.parametrize(
    "body",
    [
        'data: {"a":1}\n',
        'data:{"a":1}\n\n',
        'data: {"a":\ndata: 1}\n\n',
        'data: {"a":1}\nevent: late\n\n',
        'data: {"a":1}\r\n\r\n\n\n',
        'id: 1\ndata: {"a":1}\n\n',
        'data: {"a":1}\n\n\n\n',
    ],
)
def test_another_layout_of_a_stream_is_refused(body: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with it
        steps(EVENTS, body)


def test_differences_are_what_is_only_here_only_there_and_of_another_type() -> None:
    ours = [Step("a", {"x": "number", "y": "null", "mine": "string"}), Step("b", {})]
    theirs = [Step("a", {"x": "number", "y": "string", "theirs": "[]"}), Step("b", {})]

    assert differences(ours, theirs) == {"a: +mine string", "a: -theirs []", "a: y null"}
    assert differences(theirs, theirs) == set()


def test_where_the_order_is_another_it_is_told_and_events_of_one_name_are_compared() -> None:
    ours = [Step("", {"x": "number"}), Step("", {"y": "null"}), Step("end", {})]
    theirs = [Step("", {"x": "number"}), Step("end", {"z": "null"})]

    assert differences(ours, theirs) == {"order: … … end / … end", "+y null", "end: -z null"}
