"""A job in the words of each kind of server, field by field; what one cannot be told is refused by name."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from llorch.errors import CannotContinue, InvalidRequest
from llorch.server_facts import Family
from llorch.wire.codec import encode
from llorch.wire.conversation import Message
from llorch.wire.tasks import Talk
from roles.worker.backend import Prompt
from roles.worker.backend.llamacpp_options import SAMPLERS
from roles.worker.backend.openai_words import chat, check, completion, estimate

ASKED = Prompt(messages=[Message("user", content="hello")])
SAID = {"role": "user", "content": "hello"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}
FORMED: dict[str, Any] = {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FAMILIES: tuple[Family, ...] = get_args(Family)


def talk(**fields: object) -> Talk:
    return msgspec.convert(fields, Talk)


def said(prompt: Prompt, family: Family, max_tokens: int | None = 9, **fields: object) -> dict[str, object]:
    """Return a chat's body as it crosses the wire."""
    body = chat(prompt, talk(**fields), model="m", family=family, max_tokens=max_tokens, seed=2**63 + 5)
    return msgspec.json.decode(encode(body), type=dict[str, object])


def fields_of(error: InvalidRequest) -> list[dict[str, str]]:
    """Return the fields that a refusal names."""
    found = (error.details or {})["fields"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    ("family", "beside"),
    [
        ("openai", {}),
        ("llorch", {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}),
        (
            "vllm",
            {
                "stream_options": {"include_usage": True, "continuous_usage_stats": True},
                "top_k": -1,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
            },
        ),
        (
            "sglang",
            {
                "stream_options": {"include_usage": True, "continuous_usage_stats": True},
                "top_k": -1,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "separate_reasoning": False,
            },
        ),
        (
            "llama-server",
            {
                "top_k": 0,
                "min_p": 0.0,
                "repeat_penalty": 1.0,
                "repeat_last_n": 64,
                "samplers": SAMPLERS,
                "timings_per_token": True,
                "return_progress": True,
                "reasoning_format": "none",
            },
        ),
    ],
)
def test_neutral_values_are_told_to_every_server_that_has_others_of_its_own(
    family: Family, beside: dict[str, object]
) -> None:
    body = said(ASKED, family, temperature=0)

    assert body == {
        "model": "m",
        "messages": [SAID],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": 5,
        "max_tokens": 9,
        **beside,
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_fields_of_openai_are_said_alike_to_all(family: Family) -> None:
    prompt = Prompt(messages=ASKED.messages, tools=talk(tools=[TOOL]).tools)  # type: ignore[arg-type]  # they are given
    body = said(
        prompt,
        family,
        None,
        stop=["x"],
        frequency_penalty=0.5,
        logit_bias={"7": -100},
        tools=[TOOL],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    formed = said(ASKED, family, **FORMED)
    chances = said(ASKED, family, logprobs=True, top_logprobs=3)

    assert "stop" not in body
    assert "max_tokens" not in body
    assert (body["frequency_penalty"], body["presence_penalty"], body["logit_bias"]) == (0.5, 0.0, {"7": -100.0})
    assert (body["tools"], body["tool_choice"], body["parallel_tool_calls"]) == ([TOOL], "required", False)
    described = {"name": "answer", "schema": SCHEMA, "strict": True}
    assert formed["response_format"] == {"type": "json_schema", "json_schema": described}
    assert (chances["logprobs"], chances["top_logprobs"]) == (True, 3)


@pytest.mark.parametrize(
    ("family", "field", "value"),
    [
        ("llama-server", "reasoning_format", "auto"),
        ("sglang", "separate_reasoning", True),
        ("llorch", "reasoning_effort", "medium"),
    ],
)
def test_thoughts_are_asked_for_as_each_server_has_it(family: Family, field: str, value: object) -> None:
    assert said(ASKED, family, reasoning_format="auto")[field] == value


def test_what_a_model_thought_before_is_kept_from_servers_that_may_not_know_the_field() -> None:
    prompt = Prompt(messages=[*ASKED.messages, Message("assistant", content="hi", reasoning_content="hm")])

    assert said(prompt, "openai")["messages"] == [SAID, {"role": "assistant", "content": "hi"}]
    assert said(prompt, "vllm")["messages"] == [SAID, {"role": "assistant", "content": "hi", "reasoning_content": "hm"}]


def test_a_conversation_goes_on_where_the_server_can_and_nowhere_else() -> None:
    prompt = Prompt(messages=ASKED.messages, continue_text="Once upon")
    behind = [SAID, {"role": "assistant", "content": "Once upon"}]

    vllm, sglang = said(prompt, "vllm"), said(prompt, "sglang")

    assert (vllm["messages"], vllm["continue_final_message"], vllm["add_generation_prompt"]) == (behind, True, False)
    assert (sglang["messages"], sglang["continue_final_message"]) == (behind, True)
    for family in ("openai", "llorch"):
        with pytest.raises(CannotContinue):
            said(prompt, family)


@pytest.mark.parametrize(
    ("family", "fields", "told"),
    [
        ("openai", {"logprobs": True}, {"logprobs": 0}),
        ("vllm", {"logprobs": True, "top_logprobs": 2}, {"logprobs": 2}),
        ("llama-server", {"logprobs": True}, {"logprobs": 1}),
        ("llama-server", FORMED, {"json_schema": SCHEMA}),
        ("llama-server", {"response_format": {"type": "json_object"}}, {"json_schema": {"type": "object"}}),
        ("sglang", {"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
    ],
)
def test_a_plain_prompt_is_completed_in_the_servers_words(
    family: Family, fields: dict[str, object], told: dict[str, object]
) -> None:
    body = completion("Once", talk(**fields), model="m", family=family, max_tokens=5, seed=0)

    assert (body["prompt"], body["max_tokens"], body["model"]) == ("Once", 5, "m")
    assert body.items() >= told.items()


@pytest.mark.parametrize(
    ("family", "has_messages", "fields", "named"),
    [
        (
            "openai",
            True,
            {"top_k": 3, "min_p": 0.1, "repetition_penalty": 1.2},
            ["top_k", "min_p", "repetition_penalty"],
        ),
        ("openai", False, FORMED, ["response_format"]),
        ("llorch", False, FORMED, ["response_format"]),
        ("openai", True, {**FORMED, "top_k": 0, "repetition_penalty": 0}, []),
        ("vllm", False, {**FORMED, "top_k": 3, "min_p": 0.1}, []),
    ],
)
def test_what_a_server_cannot_be_told_is_refused_by_name(
    family: Family, has_messages: bool, fields: dict[str, object], named: list[str]
) -> None:
    if not named:
        check(talk(**fields), family, has_messages=has_messages)
        return
    with pytest.raises(InvalidRequest) as refused:
        check(talk(**fields), family, has_messages=has_messages)

    assert [problem["field"] for problem in fields_of(refused.value)] == named


def test_an_estimate_counts_the_text_of_everything() -> None:
    prompt = Prompt(
        messages=[Message("user", content="x" * 400), Message("assistant", content="y" * 40)], continue_text="z" * 8
    )

    assert estimate(prompt) == 448 // 4 + 2 * 4
    assert estimate(Prompt(text="a")) == 1
