"""What a job asks for, in the words of OpenAI's API and of the servers that speak it. Pure.

Each kind of server has fields of its own beside OpenAI's. What a job says is always said, neutral values too: a server
may have other defaults (vLLM takes a model's `generation_config.json`). What one cannot be told is refused by name.

Sources: https://platform.openai.com/docs/api-reference; vLLM, `vllm/entrypoints/openai` (`chat_completion/protocol.py`,
`completion/protocol.py`); SGLang, `python/sglang/srt/entrypoints/openai/protocol.py`; llama.cpp, `tools/server`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import UNSET

from llorch import errors
from llorch.server_facts import Family
from llorch.wire.codec import FieldProblem, invalid
from llorch.wire.conversation import Message
from llorch.wire.tasks import Sampling, Talk
from roles.worker.backend import Prompt
from roles.worker.backend.llamacpp_options import PENALTY_WINDOW_TOKENS, SAMPLERS, top_logprobs

MAX_SEED = 2**31
"""Every server takes a seed below this one."""
CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
NEUTRAL_PENALTIES = (0.0, 1.0)
COUNTS_ALONG: frozenset[Family] = frozenset({"vllm", "sglang"})
"""These tell with every chunk how many tokens there have been."""
GOES_ON: frozenset[Family] = frozenset({"vllm", "sglang"})
"""These write on behind the beginning of an answer, if a conversation ends with one."""


def check(talk: Sampling, family: Family, *, has_messages: bool) -> None:
    """Make sure that a server can be told what a job asks for.

    Raises:
        InvalidRequest: It cannot; every such field is named.
    """
    problems = []
    if family == "openai":
        asked = {"top_k": talk.top_k > 0, "min_p": talk.min_p > 0}
        asked["repetition_penalty"] = talk.repetition_penalty not in NEUTRAL_PENALTIES
        problems = [
            FieldProblem(name, "this model's server does not know it") for name, is_asked in asked.items() if is_asked
        ]
    formed = talk.response_format is not UNSET and talk.response_format.type != "text"
    if formed and not has_messages and family in {"openai", "llorch"}:
        problems.append(FieldProblem("response_format", "this model's server keeps to it for messages alone"))
    if problems:
        raise invalid(problems)


def chat(
    prompt: Prompt, talk: Talk, *, model: str, family: Family, max_tokens: int | None, seed: int
) -> dict[str, object]:
    """Return the body of a `/v1/chat/completions` request.

    Args:
        prompt: The conversation, and the beginning of the answer that is there already.
        talk: What the client asked for; its stop sequences stay with the worker.
        model: What the server calls it.
        family: What it understands.
        max_tokens: None leaves it to the server.
        seed: uint64.

    Raises:
        CannotContinue: The server begins every answer anew.
    """
    body = _sampled(talk, model=model, family=family, max_tokens=max_tokens, seed=seed)
    messages: list[object] = [_message(message, family) for message in prompt.messages]
    if prompt.continue_text:
        if family not in GOES_ON:
            raise errors.CannotContinue("this model's server cannot go on behind the part of an answer that is there")
        messages.append({"role": "assistant", "content": prompt.continue_text})
        body["continue_final_message"] = True
        if family == "vllm":
            body["add_generation_prompt"] = False
    body["messages"] = messages
    if talk.logprobs is True:
        body |= {"logprobs": True, "top_logprobs": top_logprobs(talk)}
    if prompt.tools:
        body["tools"] = prompt.tools
        body["tool_choice"] = "auto" if talk.tool_choice is UNSET else talk.tool_choice
        if talk.parallel_tool_calls is not UNSET:
            body["parallel_tool_calls"] = talk.parallel_tool_calls
    if (formed := _format(talk)) is not None:
        body["response_format"] = formed
    thinks = talk.reasoning_format == "auto"
    if family == "llama-server":
        body["reasoning_format"] = "auto" if thinks else "none"
    elif family == "sglang":
        body["separate_reasoning"] = thinks
    elif family == "llorch" and thinks:
        body["reasoning_effort"] = "medium"
    return body


def completion(
    prompt: str | Sequence[int], talk: Sampling, *, model: str, family: Family, max_tokens: int, seed: int
) -> dict[str, object]:
    """Return the body of a `/v1/completions` request, which goes on behind *prompt*; see `chat`."""
    body = _sampled(talk, model=model, family=family, max_tokens=max_tokens, seed=seed)
    body["prompt"] = prompt
    if talk.logprobs is True:
        body["logprobs"] = max(1, top_logprobs(talk)) if family == "llama-server" else top_logprobs(talk)
    formed = _format(talk)
    if formed is not None and family == "llama-server":
        described = talk.response_format.json_schema if talk.response_format is not UNSET else UNSET
        body["json_schema"] = {"type": "object"} if described is UNSET else described.schema
    elif formed is not None:
        body["response_format"] = formed
    return body


def estimate(prompt: Prompt) -> int:
    """Return about how many tokens a prompt is, where the server cannot be asked; never much more than it is."""
    texts = [prompt.text, prompt.continue_text]
    texts += [message.content for message in prompt.messages if isinstance(message.content, str)]
    characters = sum(map(len, texts))
    return max(1, characters // CHARACTERS_PER_TOKEN + TOKENS_PER_MESSAGE * len(prompt.messages))


def _sampled(talk: Sampling, *, model: str, family: Family, max_tokens: int | None, seed: int) -> dict[str, object]:
    """Return what every request for a stream of tokens says."""
    usage = {"include_usage": True}
    if family in COUNTS_ALONG:
        usage["continuous_usage_stats"] = True
    body: dict[str, object] = {
        "model": model,
        "stream": True,
        "stream_options": usage,
        "temperature": talk.temperature,
        "top_p": talk.top_p,
        "seed": seed % MAX_SEED,
    }
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    if talk.frequency_penalty or talk.presence_penalty:
        body |= {"frequency_penalty": talk.frequency_penalty, "presence_penalty": talk.presence_penalty}
    if talk.logit_bias is not UNSET and talk.logit_bias:
        body["logit_bias"] = talk.logit_bias
    return {**body, **_beside(talk, family)}


def _beside(talk: Sampling, family: Family) -> Mapping[str, object]:
    """Return the fields that OpenAI's own servers do not know."""
    penalty = talk.repetition_penalty or 1.0
    if family in {"vllm", "sglang"}:
        return {"top_k": talk.top_k or -1, "min_p": talk.min_p, "repetition_penalty": penalty}
    if family == "llorch":
        return {"top_k": talk.top_k, "min_p": talk.min_p, "repetition_penalty": penalty}
    if family == "llama-server":
        return {
            "top_k": talk.top_k,
            "min_p": talk.min_p,
            "repeat_penalty": penalty,
            "repeat_last_n": PENALTY_WINDOW_TOKENS,
            "samplers": SAMPLERS,
            "timings_per_token": True,
            "return_progress": True,
        }
    return {}


def _message(message: Message, family: Family) -> object:
    """Return a message as a server takes it: what a model thought before is no field of OpenAI's."""
    told = {name: getattr(message, name) for name in message.__struct_fields__}
    if family == "openai":
        told.pop("reasoning_content")
    return {name: value for name, value in told.items() if value is not UNSET}


def _format(talk: Sampling) -> dict[str, object] | None:
    """Return the form that an answer must have; None where it may have any."""
    asked = talk.response_format
    if asked is UNSET or asked.type == "text":
        return None
    if asked.json_schema is UNSET:
        return {"type": "json_object"}
    described = asked.json_schema
    name = described.name if isinstance(described.name, str) and described.name else "answer"
    return {"type": "json_schema", "json_schema": {"name": name, "schema": described.schema, "strict": True}}
