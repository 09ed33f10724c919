"""Streams of servers, in the shapes that their own sources show or that were recorded, as an engine's chunks."""

from __future__ import annotations

import json

import pytest

from llorch.errors import EngineFailed, InvalidRequest
from llorch.wire.conversation import FunctionDelta, TokenChance, TokenLogprob, ToolCallDelta
from roles.worker.backend import Chunk
from roles.worker.backend.openai_reader import PIECES_A_TOKEN, Reader

FIRST = {
    "id": "c",
    "object": "chat.completion.chunk",
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}],
}
LLAMA_TEXT = """{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"The"},"logprobs":{"content":[{"id":544,
"token":"The","bytes":[84,104,101],"logprob":-1.5,"top_logprobs":[{"id":544,"token":"The","bytes":[84,104,101],
"logprob":-1.5},{"id":1,"token":"A","bytes":[65],"logprob":-2.5}]}]}}],"created":1795649332,"id":"c","model":"m",
"object":"chat.completion.chunk","timings":{"cache_n":0,"prompt_n":18,"predicted_n":3}}"""
LLAMA_USAGE = """{"choices":[],"created":1,"id":"c","usage":{"completion_tokens":12,"prompt_tokens":18,
"total_tokens":30,"prompt_tokens_details":{"cached_tokens":5}},"timings":{"prompt_n":18,"predicted_n":12}}"""


def delta(content: object = None, reason: str | None = None, **more: object) -> dict[str, object]:
    """Return a chunk of a chat as vLLM and others write it."""
    told = more.pop("delta", {"content": content})
    return {"id": "c", "choices": [{"index": 0, "delta": told, "logprobs": None, "finish_reason": reason}], **more}


def read(*lines: object, top: int = 0, must_call: bool = False) -> list[Chunk]:
    """Return the chunks of a whole stream."""
    reader = Reader(top=top, must_call=must_call)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return [*(chunk for text in [*texts, "[DONE]"] for chunk in reader.read(text.encode())), reader.end()]


def test_text_comes_piece_by_piece_and_is_counted_by_pieces_until_the_usage_says_better() -> None:
    usage = {"id": "c", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}}

    found = read(FIRST, delta("He"), delta("llo"), delta(reason="stop"), usage)

    assert found == [Chunk("He", 1), Chunk("llo", 2), Chunk(tokens_out=5, stop="eos", tokens_in=7)]


@pytest.mark.parametrize("count", [-1, 2**53, 2**70])
def test_a_number_of_tokens_that_cannot_be_is_not_believed(count: int) -> None:
    details = {"cached_tokens": count}
    usage = {"prompt_tokens": count, "completion_tokens": count, "prompt_tokens_details": details}

    found = read(FIRST, delta("He"), delta(reason="stop"), {"id": "c", "choices": [], "usage": usage})

    assert found == [Chunk("He", 1), Chunk(tokens_out=1, stop="eos")]


def test_servers_that_count_along_are_believed_at_once() -> None:
    along = [
        delta(text, usage={"prompt_tokens": 7, "completion_tokens": n, "total_tokens": 7 + n})
        for text, n in (("a", 1), ("b", 4))
    ]

    vllm = read(*along, delta(reason="length", usage={"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}))
    llama = read(LLAMA_TEXT, delta(reason="length"), LLAMA_USAGE)

    assert [(chunk.text, chunk.tokens_out, chunk.stop) for chunk in vllm] == [
        ("a", 1, None),
        ("b", 4, None),
        ("", 4, "max_tokens"),
    ]
    assert [(chunk.text, chunk.tokens_out, chunk.tokens_in, chunk.cached) for chunk in llama] == [
        ("The", 3, 0, 0),
        ("", 12, 18, 5),
    ]


def test_the_servers_count_is_the_last_word_also_where_its_pieces_are_smaller_than_tokens() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}

    found = read(*map(delta, "rain"), delta(reason="length"), usage)

    assert [chunk.tokens_out for chunk in found] == [1, 2, 3, 4, 1]


@pytest.mark.parametrize(
    ("limited", "pieces", "told", "over"),
    [
        (True, 4, None, False),
        (True, 3 * PIECES_A_TOKEN - 1, None, False),
        (True, 3 * PIECES_A_TOKEN, None, True),
        (True, 2, 3, False),
        (True, 2, 4, True),
        (False, 2, None, False),
        (False, 3, None, True),
        (False, 1, 3, True),
    ],
)
def test_a_server_that_knows_where_to_end_is_left_only_when_it_does_not(
    limited: bool, pieces: int, told: int | None, over: bool
) -> None:
    reader = Reader(max_tokens=3, limited=limited)
    piece = delta("x") | ({} if told is None else {"usage": {"prompt_tokens": 1, "completion_tokens": told}})

    counts = [[chunk.tokens_out for chunk in reader.read(json.dumps(piece).encode())] for _ in range(pieces)]

    assert reader.exceeds() is over
    assert counts[-1] == [told or min(pieces, 3)]


def test_prefill_is_told_by_llama_server() -> None:
    [progress, *_] = read(
        delta(prompt_progress={"total": 18, "processed": 9, "cache": 0, "time_ms": 1}), delta("x", reason="stop")
    )

    assert progress == Chunk(prefilled=9, prefill_total=18)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_are_apart_under_either_name(field: str) -> None:
    found = read(delta(delta={field: "hm"}), delta(delta={field: None, "content": "yes"}), delta(reason="stop"))

    assert [(chunk.reasoning_content, chunk.text) for chunk in found[:2]] == [("hm", ""), ("", "yes")]


def test_calls_of_tools_come_with_their_ids_once() -> None:
    calls = [
        {"index": 0, "id": "chatcmpl-tool-1", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a":'}},
        {"index": 0, "id": "chatcmpl-tool-1", "function": {"arguments": "1}"}},
        {"index": 1, "id": "chatcmpl-tool-2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]

    found = read(*(delta(delta={"tool_calls": [call]}) for call in calls), delta(reason="tool_calls"), must_call=True)

    assert [call for chunk in found for call in chunk.tool_calls] == [
        ToolCallDelta(0, FunctionDelta("f"), "chatcmpl-tool-1"),
        ToolCallDelta(0, FunctionDelta(arguments='{"a":')),
        ToolCallDelta(0, FunctionDelta(arguments="1}")),
        ToolCallDelta(1, FunctionDelta("g", "{}"), "chatcmpl-tool-2"),
    ]
    assert found[-1].stop == "eos"


def test_calls_without_numbers_or_ids_get_both() -> None:
    whole = [{"function": {"name": name, "arguments": "{}"}} for name in ("f", "g")]

    [first, second] = read(delta(delta={"tool_calls": whole}), delta(reason="stop"))[0].tool_calls

    assert (first.index, first.function.name, second.index, second.function.name) == (0, "f", 1, "g")
    assert [identity[:5] for identity in (first.id, second.id)] == ["call_", "call_"]
    assert first.id != second.id


def test_a_server_that_makes_no_call_where_one_was_required_is_found_out() -> None:
    with pytest.raises(InvalidRequest, match="cannot make the model call a tool"):
        read(delta("I would rather talk"), delta(reason="stop"), must_call=True)


def test_chances_are_read_in_the_form_of_chats_and_in_the_old_one() -> None:
    old = {
        "choices": [
            {
                "index": 0,
                "text": "Hi!",
                "finish_reason": "length",
                "logprobs": {
                    "text_offset": [0, 2],
                    "tokens": ["Hi", "!"],
                    "token_logprobs": [-0.5, None],
                    "top_logprobs": [{"Yo": -2.0, "Hi": -0.5}, None],
                },
            }
        ]
    }

    llama = read(LLAMA_TEXT, delta(reason="stop"), top=1)
    vllm = read(old, top=1)

    assert llama[0].logprobs == [TokenLogprob("The", -1.5, [84, 104, 101], [TokenChance("The", -1.5, [84, 104, 101])])]
    assert vllm[0].text == "Hi!"
    assert vllm[0].logprobs == [
        TokenLogprob("Hi", -0.5, [72, 105], [TokenChance("Hi", -0.5, [72, 105])]),
        TokenLogprob("!", -9999.0, [33], []),
    ]


@pytest.mark.parametrize(
    "line",
    [
        '{"error":{"message":"my secret prompt","type":"server_error","code":500}}',
        '{"object":"error","message":"my secret prompt","type":"InternalServerError","code":500}',
        '{"code":500,"message":"my secret prompt"}',
        "<html>my secret prompt",
        '{"choices":[{"index":0,"delta":{},"finish_reason":"abort"}]}',
    ],
)
def test_a_server_that_fails_on_the_way_is_an_engine_that_failed_and_nothing_is_quoted(line: str) -> None:
    with pytest.raises(EngineFailed) as failed:
        read(delta("x"), line)

    assert "secret" not in failed.value.message


def test_a_stream_that_breaks_off_is_no_end() -> None:
    with pytest.raises(EngineFailed, match="before the text's end"):
        read(delta("x"))
