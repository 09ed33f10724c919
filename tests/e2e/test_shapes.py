"""Every answer and every event, held against the types of the vendors' libraries and what the vendors' servers send."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import ollama
import pytest
import pytest_asyncio
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from openai.types import (
    Batch,
    Completion,
    CreateEmbeddingResponse,
    FileDeleted,
    FileObject,
    Model,
)
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.shared import ErrorObject

from tests.e2e.processes import role
from tests.support import encoders, scribes
from tests.support.exchanges import Exchange, Models, gather
from tests.support.shapes import Step, differences, steps
from tests.support.strictness import problems

pytestmark = pytest.mark.timeout(300)  # the first waits for all the answers
RECORDED = Path(scribes.__file__).with_name("recorded")
TYPES: Mapping[str, object] = {
    r"openai chat.*": ChatCompletion,
    r"openai chat .*stream": ChatCompletionChunk,
    r"openai completions.*": Completion,
    r"openai responses.*": Response,
    r"openai responses .*stream": ResponseStreamEvent,
    r"openai embeddings.*": CreateEmbeddingResponse,
    r"openai models?": Model,
    r"openai files?": FileObject,
    r"openai file deleted": FileDeleted,
    r"openai batch(es| begun)?": Batch,
    r"openai error .*": ErrorObject,
    r"anthropic (messages|tool|thinking)": Message,
    r"anthropic .*stream": RawMessageStreamEvent,
    r"anthropic count": MessageTokensCount,
    r"anthropic error .*": ErrorResponse,
    r"ollama chat.*": ollama.ChatResponse,
    r"ollama generate.*": ollama.GenerateResponse,
    r"ollama embed": ollama.EmbedResponse,
    r"ollama embeddings": ollama.EmbeddingsResponse,
    r"ollama tags": ollama.ListResponse,
    r"ollama ps": ollama.ProcessResponse,
    r"ollama show": ollama.ShowResponse,
    r"ollama pull stream": ollama.ProgressResponse,
}
UNTYPED = {"ollama version", "ollama error"}
"""The library reads the one by no type, and the other by hand."""
TOLERATED: Mapping[str, str] = {
    r"openai chat thinking.*\.reasoning_content: not declared": "where others have thoughts, for those alone who ask",
    r"openai completions stream: choices.0.finish_reason: ": "OpenAI's servers send null, too, until the text ends",
    r"openai responses logprobs stream: logprobs\[\]\.bytes: not declared": "OpenAI's servers send them, too",
    r"openai embeddings: data\.\d\.embedding: ": "base64, which the library decodes before it makes the type",
    r"openai models: capabilities: not declared": "told of models alone that cannot write",
    r"ollama .*logprobs.*\.bytes: not declared": "Ollama's servers send them, too",
    r"ollama tags: models\[\]\.name: not declared": "Ollama's servers send it, too",
}
"""What is in an answer against the letter of a type, and why."""
EXPLAINED: Mapping[str, str] = {
    r"openai .*: -(response\.)?(service_tier|billing\.payer) ": "tiers and payers are of OpenAI's prices",
    r"openai .*: -obfuscation ": "padding against who guesses words from the sizes of packets; it may be declined",
    r"openai chat tool stream: (order|choices\[\]\.delta\.content)": "the role comes before it is known what follows",
    r"openai chat logprobs: \+": "the example is older than these fields, which recordings have",
    r"openai completions: \+usage\.": "the example is older than these fields, which recordings of chats have",
    r"openai chat logprobs: -.*top_logprobs\[\]\.bytes null": "there is no token here whose bytes are not known",
    r"openai chat logprobs: system_fingerprint string": "null where OpenAI does not tell it",
    r"openai responses.*: \+.*cache_write_tokens number": "the library requires it; the recordings are older",
    r"openai responses: \+completed_at number": "the recording is older than the field, which others have",
    r"openai responses.*: -(response\.)?(prompt_cache_retention|text\.verbosity|moderation) ": "cannot be wished here",
    r"openai responses.*: -(response\.)?(store|frequency_penalty|presence_penalty) ": "not declared by the library",
    r"openai responses.*: -(response\.output\[\]|item)\.phase ": "only the newest models tell what text is for",
    r"openai responses logprobs stream: response\.content_part\.done: .part\.logprobs": "left out there, known here",
    r"openai error 404: content type": "JSON is UTF-8 without being told",
    r"openai models: \+data\[\]\.capabilities\[\] string": "llorch's own, of models alone that cannot write",
    r"openai models: data\[\]\.shutdown_date null": "no model here has a day on which it ends",
    r"openai files?: \+.*status 'processed'": "the library requires it; the examples lack it",
    r"openai files?: .*purpose '": "the examples are of files that are not for batches",
    r"anthropic .*: -.*usage\.(cache_creation\..*|inference_geo|service_tier) ": "Anthropic's own prices and places",
    r"anthropic tool stream: content_block_start: -content_block\.caller\.type ": "nothing but the model calls here",
    r"anthropic .* stream: message_start: message\.usage\.cache_read_input_tokens null": "known at the end only",
    r"anthropic tool stream: message_delta: \+usage\.": "the recording is older than the fields, which others have",
    r"ollama generate (stream|raw): \+done_reason 'stop'": "the example is older than the field, which others have",
    r"ollama generate stream: -context\[\] number": "deprecated, and refused in requests",
    r"ollama chat tool stream: order: ": "the model of this test says something before its call",
    r"ollama ps: \+models\[\]\.context_length number": "the example is older than the field, which api/types.go has",
}
"""What differs from the recordings, and why."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="answers")
async def _answers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Exchange]:
    folder = tmp_path_factory.mktemp("shapes")
    thinking = scribes.write(
        folder / "thinker.gguf", ["I see", " rain\n</think>\n\n", "It rains"], template=scribes.THINKING
    )
    models = Models(
        scribe=f"file:{scribes.write(folder / 'scribe.gguf', scribes.CALLING)}",
        thinker=f"file:{thinking}",
        embedder=f"file:{encoders.embedder(folder / 'embedder.gguf')}",
    )
    at = ("--port", "0", "--pool-port", "0", "--data-dir", str(folder / "all"))
    async with role("all", *at, log=folder / "log", env={"LLORCH_POOL_MODELS_DIR": str(folder)}) as system:
        return await gather(system.url, models)


def test_every_answer_is_of_the_librarys_own_type_and_has_no_field_that_is_not_declared(
    answers: Mapping[str, Exchange],
) -> None:
    found = {
        f"{name}: {problem}"
        for name, exchange in answers.items()
        if name not in UNTYPED
        for part in parts(name, exchange)
        for problem in problems(kind(name), part)
    }

    assert unexplained(found, TOLERATED) == ([], [])


def test_every_answer_has_the_shape_of_what_the_vendors_own_servers_send(answers: Mapping[str, Exchange]) -> None:
    found = set()
    for vendor in ("openai", "anthropic", "ollama"):
        for name, recorded in json.loads((RECORDED / f"{vendor}.json").read_text()).items():
            ours = answers[name]
            shape = steps(ours.content_type, ours.body)
            found |= {f"{name}: {each}" for each in differences(shape, [Step(**step) for step in recorded["steps"]])}
            if ours.content_type != recorded["content_type"]:
                found.add(f"{name}: content type {ours.content_type} / {recorded['content_type']}")
            if "error" in name and recorded["status"] not in (ours.status, 200):  # pages tell no status
                found.add(f"{name}: status {ours.status} / {recorded['status']}")

    assert unexplained(found, EXPLAINED) == ([], [])


def kind(name: str) -> object:
    """Return the type of an answer: the last that its name fits."""
    return [kind for names, kind in TYPES.items() if re.fullmatch(names, name)][-1]


def parts(name: str, exchange: Exchange) -> Iterator[str]:
    """Yield what has a type by itself: events, lines, elements of pages, errors."""
    if exchange.content_type.startswith("text/event-stream"):
        data = [line.removeprefix("data: ") for line in exchange.body.split("\n") if line.startswith("data: ")]
        yield from (each for each in data if each not in ("[DONE]", '{"type":"ping"}'))
    elif exchange.content_type == "application/x-ndjson":
        yield from exchange.body.removesuffix("\n").split("\n")
    elif name in ("openai models", "openai files", "openai batches"):
        yield from map(json.dumps, json.loads(exchange.body)["data"])
    elif name.startswith("openai error"):
        yield json.dumps(json.loads(exchange.body)["error"])
    else:
        yield exchange.body


def unexplained(found: set[str], explained: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return what nothing explains, and the explanations of what does not exist."""
    stale = [each for each in explained if not any(re.match(each, told) for told in found)]
    return sorted(told for told in found if not any(re.match(each, told) for each in explained)), stale
