"""Decoding a request: everything that is refused, by name of field, and never with the value that was given."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.errors import InvalidRequest
from llorch.wire.codec import LARGE_BYTES, MAX_DEPTH, MAX_KEYS, decode, decode_reply, encode, pieces
from llorch.wire.conversation import Message
from llorch.wire.meta import ReadyReply
from llorch.wire.ollama import EmbedRequest, Embeds
from llorch.wire.openai_embeddings import Embedded, Embeddings, ReadUsage
from llorch.wire.tasks import MAX_SEED, SubmitTask
from llorch.wire.workers import CancelJob
from tests.support.refusals import refused


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "the body is not JSON (Expecting value at character 0)"),
        (b"   ", "the body is not JSON (Expecting value at character 3)"),
        (b"hello", "the body is not JSON (Expecting value at character 0)"),
        (b'{"model": "m"', "the body is not JSON (Expecting ',' delimiter at character 13)"),
        (b'{"model": "m', "the body is not JSON (Unterminated string starting at at character 10)"),
        (b'{"model": "m"} {}', "the body is not JSON (Extra data at character 15)"),
        (b'{"model": "a\nb"}', "the body is not JSON (Invalid control character at at character 12)"),
        (b'{"model": "\xff"}', "the body is not UTF-8 (byte 11)"),
        (b'{"model": "\xed\xa0\x80"}', "the body is not UTF-8 (byte 11)"),
        ('{"model": "m"}'.encode("utf-16"), "the body is not UTF-8 (byte 0)"),
        (b'{"top_p": NaN}', "NaN is not a JSON number"),
        (b'{"top_p": Infinity}', "Infinity is not a JSON number"),
        (b'{"x": [{"y": -Infinity}]}', "-Infinity is not a JSON number"),
        (b'{"seed": ' + b"9" * 5_000 + b"}", "a number has too many digits"),
        (b'{"top_p": 1e400}', "a number is out of range"),
        (b'{"x": [-1e400]}', "a number is out of range"),
        (rb'{"prompt": "\ud800"}', "a string holds half of a surrogate pair, which is not a character"),
        (rb'{"prompt": "\uDE00\uD83D"}', "a string holds half of a surrogate pair, which is not a character"),
        (rb'{"\udc00": 1}', "a string holds half of a surrogate pair, which is not a character"),
        (b"[" * 10_000, "the body is nested deeper than 64 levels"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "the body is nested deeper than 64 levels"),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "the body is nested deeper than 64 levels"),
        (b"null", "the body must be a JSON object"),
        (b"[]", "the body must be a JSON object"),
        (b"12", "the body must be a JSON object"),
        (b'"{}"', "the body must be a JSON object"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_a_body_that_is_not_a_json_object_is_refused(body: bytes, problem: str) -> None:
    assert refused(body) == [("", problem)]


def test_a_byte_order_mark_is_refused() -> None:
    ((field, problem),) = refused(b"\xef\xbb\xbf{}")

    assert field == ""
    assert problem.startswith("the body is not JSON (Unexpected UTF-8 BOM")


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_a_body_as_deep_as_allowed_is_read(opening: bytes, closing: bytes) -> None:
    body = b'{"a":' + opening * (MAX_DEPTH - 1) + b"1" + closing * (MAX_DEPTH - 1) + b"}"

    assert refused(body) == [
        ("a", "unknown field"),
        ("model", "required"),
    ]


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert decode(rb'{"model": "m", "prompt": "\ud83d\ude00"}', SubmitTask).prompt == "😀"


def test_a_backslash_before_the_letters_of_a_surrogate_is_text() -> None:
    assert decode(rb'{"model": "m", "prompt": "\\ud800"}', SubmitTask).prompt == "\\ud800"


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'{"model": "a", "model": "b"}', ["model"]),
        (b'{"model": "a", "model": "a", "model": "a"}', ["model"]),
        (b'{"seed": 1, "model": "a", "seed": 1, "model": "b"}', ["model", "seed"]),
        (b'{"messages": [{"role": "user", "content": "a", "content": "b"}]}', ["content"]),
        (rb'{"model": "a", "m\u006fdel": "b"}', ["model"]),
    ],
)
def test_a_doubled_key_is_refused_wherever_it_is(body: bytes, names: list[str]) -> None:
    assert refused(body) == [(name, "given more than once") for name in names]


def test_a_body_between_roles_may_have_fields_that_are_not_known_yet() -> None:
    assert decode(b'{"job_id": "j", "added_later": 1}', CancelJob) == CancelJob("j")


def test_a_reply_may_have_fields_that_are_not_known_yet() -> None:
    assert decode_reply(b'{"ready": true, "added_later": 1}', ReadyReply) == ReadyReply(ready=True)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"ready": "yes"}', b"[]", b"\xff", b'{"ready": true, "reason": 1}'])
def test_a_reply_that_is_something_else_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_reply(body, ReadyReply)


LARGE = b'"prompt": "' + b"x" * LARGE_BYTES + b'"'


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"[" * LARGE_BYTES + b"]", ("", "expected `object`, got `array`")),
        (b"{" + LARGE, ("", "the body is not JSON (Input data was truncated)")),
        (
            b'{"model": "m"' + b" " * LARGE_BYTES + b", x}",
            ("", "the body is not JSON (object keys must be strings (byte 65551))"),
        ),
        (b'{"model": "\xff", ' + LARGE + b"}", ("", "the body is not UTF-8")),
        (b'{"model": "m", "x": 1, ' + LARGE + b"}", ("x", "unknown field")),
        (b"{" + LARGE + b"}", ("model", "required")),
        (b'{"model": 5, "top_k": -1, ' + LARGE + b"}", ("model", "expected `str`, got `int`")),
        (
            b'{"model": "m", "messages": [{"role": 5}], ' + LARGE + b"}",
            ("messages[0].role", "expected `str`, got `int`"),
        ),
        (b'{"model": "m", "messages": [{"y": 5}], ' + LARGE + b"}", ("messages[0]", "contains an unknown field")),
        (b'{"model": "m", "top_k": "5", ' + LARGE + b"}", ("top_k", "expected `int`, got `str`")),
        (b'{"model": "m", "model": "m", ' + LARGE + b"}", ("model", "given more than once")),
        (b'{"prompt": "p"' + b', "model" : "m"' * (MAX_KEYS + 1) + b"}", ("", "keys are given more than once")),
        (
            b'{"model": "m", "messages": [{"role": "user", "content": "x"}], ' + LARGE + b"}",
            ("prompt", "exactly one of prompt, messages, input and rerank is required"),
        ),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_a_large_body_is_refused_for_the_first_thing_that_is_wrong(body: bytes, problem: tuple[str, str]) -> None:
    assert refused(body) == [problem]


def test_a_large_body_is_read_like_a_small_one() -> None:
    code = json.dumps({str(number): "value" for number in range(2 * MAX_KEYS)})
    given_body = {"model": "m", "prompt": code + "\\", "top_k": 40.0, "temperature": 1, "stop": ["é"]}

    read = decode(json.dumps(given_body, ensure_ascii=False).encode(), SubmitTask)

    assert read == SubmitTask(model="m", prompt=code + "\\", top_k=40, temperature=1.0, stop=["é"])


def test_a_large_body_between_roles_may_have_fields_that_are_not_known_yet() -> None:
    body = b'{"job_id": "j", "added_later": "' + b"x" * LARGE_BYTES + b'"}'

    assert decode(body, CancelJob) == CancelJob("j")


def test_an_answer_does_not_grow_with_the_request() -> None:
    body = json.dumps({f"key{number}": 1 for number in range(1_000)}).encode()

    with pytest.raises(InvalidRequest) as raised:
        decode(body, SubmitTask)

    assert len(body) < LARGE_BYTES
    assert raised.value.message.endswith("key19: unknown field; and 981 more")
    assert len(json.dumps(raised.value.details)) < 2_000


secrets = st.text(st.characters(codec="utf-8", categories=["L", "N"]), max_size=12).map(lambda text: f"SECRET{text}")
around = st.sampled_from(
    [
        '{{"model": "m", "prompt": {0}, "temperature": 9}}',
        '{{"model": "m", "prompt": {0}, "prompt": {0}}}',
        '{{"model": "m", "prompt": {0}, "messages": {0}}}',
        '{{"model": "m", "prompt": {0}, "max_tokens": {0}, "seed": {0}, "stop": {0}, "on_disconnect": {0}}}',
        '{{"model": "m", "prompt": {0}, "priority": {0}, "top_k": {0}, "top_p": {0}, "session_id": 1}}',
        '{{"model": "m", "prompt": [{0}]}}',
        '{{"model": "m", "messages": [{{"role": {0}, "content": {0}}}]}}',
        '{{"model": "m", "messages": [{{"role": "user", "content": {{{0}: {0}}}}}]}}',
        '{{"model": "m", "messages": [{{"role": "user", {0}: {0}}}]}}',
        '{{"model": "m", "messages": [{{"role": "user", "content": "x", {0}: 1}}]}}',
        '{{"model": "m", "messages": {{{0}: {0}}}}}',
        '{{"model": "m", "messages": {0}}}',
        '{{"model": "m", "prompt": {0}',
        '{{"model": "m", "prompt": {0} {0}}}',
        '{{"model": "m", "prompt": {0}, "x": NaN}}',
        "[{0}]",
        "{0}",
    ]
)


@given(secrets, around)
def test_an_error_never_repeats_what_was_given(secret: str, body: str) -> None:
    given_body = body.format(json.dumps(secret)).encode()

    with pytest.raises(InvalidRequest) as raised:
        decode(given_body, SubmitTask)

    assert "SECRET" not in raised.value.message
    assert "SECRET" not in json.dumps(raised.value.details)


tasks = st.builds(
    SubmitTask,
    model=st.text(min_size=1, max_size=20),
    prompt=st.text(min_size=1),
    seed=st.integers(min_value=0, max_value=MAX_SEED),
    temperature=st.floats(min_value=0, max_value=2),
    stop=st.lists(st.text(min_size=1, max_size=9), max_size=4),
) | st.builds(
    SubmitTask,
    model=st.just("m"),
    messages=st.lists(
        st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=st.text()), min_size=1
    ),
    priority=st.sampled_from(["interactive", "batch"]),
)


@pytest.mark.parametrize(
    "value",
    [
        Embeds(model="é", embeddings=[[0.5, 1.0], []]),
        Embeds(model="m", embeddings=[]),
        Embeddings(data=[Embedded(index=0, embedding="AAAA")], model="m", usage=ReadUsage(1, 1)),
        EmbedRequest(model="\0", input=["\0", "b"], keep_alive=1),
    ],
)
def test_the_pieces_of_what_is_encoded_are_the_whole(value: msgspec.Struct) -> None:
    assert b"".join(pieces(value)) == encode(value)


@given(tasks)
def test_what_is_encoded_decodes_to_the_same(task: SubmitTask) -> None:
    assert decode(encode(task), SubmitTask) == task


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_body_whatever_raises_anything_but_the_one_error(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode(body, SubmitTask)
