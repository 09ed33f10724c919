"""What llama.cpp's own chat is asked, and what its lines say."""

from __future__ import annotations

import json

import pytest

from llorch.errors import EngineFailed
from llorch.wire.conversation import Function, FunctionDelta, Message, Tool, ToolCallDelta
from llorch.wire.tasks import Talk
from roles.worker.backend import Chunk, Prompt
from roles.worker.backend.llamacpp_chat import ChatReader, chat

PROMPT = Prompt(messages=[Message("user", "x")], tools=[Tool(Function("f"))])


def line(delta: dict[str, object], *, count: int = 0, **more: object) -> bytes:
    timed = {"timings": {"predicted_n": count}} if count else {}
    body = {"choices": [{"index": 0, "delta": delta, "finish_reason": None} | more], **timed}
    return b"data: " + json.dumps(body).encode()


def test_the_model_may_call_tools_and_is_not_told_to() -> None:
    body = chat(PROMPT, Talk(parallel_tool_calls=True), max_tokens=5, seed=1, reuse_prompt=False)

    named = ("messages", "tools", "tool_choice", "parallel_tool_calls", "n_predict", "reasoning_format")
    assert [body[name] for name in named] == [PROMPT.messages, PROMPT.tools, "auto", True, 5, "auto"]


def test_text_thoughts_and_calls_are_read_with_the_count_so_far() -> None:
    reader = ChatReader()
    call = {"index": 1, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    lines = [
        line({"role": "assistant", "content": None}),
        line({"reasoning_content": "hm\ufffd"}, count=1),
        line({"content": "a"}, count=3),
        line({"tool_calls": [call]}),
        line({}, count=9, finish_reason="tool_calls"),
    ]

    chunks = [chunk for one in lines for chunk in reader.read(one)]

    assert chunks == [
        Chunk("", 1, reasoning_content="hm", tool_calls=[]),
        Chunk("a", 3, tool_calls=[]),
        Chunk("", 3, tool_calls=[ToolCallDelta(1, FunctionDelta("f", "{"), "c")]),
        Chunk("", 9, "eos"),
    ]


def test_progress_and_the_limit_are_read() -> None:
    progress = {"choices": [{"delta": {"content": None}}], "prompt_progress": {"total": 9, "processed": 4}}
    reader = ChatReader()

    [chunk] = reader.read(b"data: " + json.dumps(progress).encode())
    [end] = reader.read(line({}, finish_reason="length"))

    assert (chunk.prefilled, chunk.prefill_total, end.stop) == (4, 9, "max_tokens")


@pytest.mark.parametrize("broken", [b'error: {"message": "x"}', b'data: {"error": {"code": 500}}'])
def test_an_error_of_the_engine_is_one(broken: bytes) -> None:
    with pytest.raises(EngineFailed):
        list(ChatReader().read(broken))
