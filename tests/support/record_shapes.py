"""Writes down the shapes of answers that vendors' servers gave, from recordings that other projects have published.

Run it with a folder that has clones of the repositories named below, each as `OWNER+NAME/repo`; the shapes go to
`recorded/`. Only structure is kept: names of events and fields, JSON types, their order; no text of anybody's.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]  # its types are not worth a dependency: only who records anew runs this

from tests.support.shapes import Step, steps

FOLDER = Path(__file__).with_name("recorded")
AI = ("pydantic/pydantic-ai", "4fda38988f2939fa6ea9cdefcf120693e10ef491", "tests/")
LLM = ("simonw/llm", "f3f4f29c6e5e623c3776cbf6455dda2345638214", "tests/cassettes/test_openai_responses/")
SDK = ("anthropics/anthropic-sdk-python", "009b035305e0724ce108ebd796935f91711fc6e1", "tests/lib/streaming/fixtures/")
OPENAI = ("openai/openai-openapi", "f85dbe223d40e1a31cba812ab2d755c7e98a92a3", "openapi.yaml")
OLLAMA = ("ollama/ollama", "fb30760996871fa9460115c753afd2c60d4ab0f7", "docs/")
EVENTS = "text/event-stream; charset=utf-8"
JSON = "application/json"
SUGGESTED = "cassettes/test_model_name_suggestions/test_model_name_suggestion"
GPT, CLAUDE, VECTORS = "models/cassettes/test_openai/", "models/cassettes/test_anthropic/", "cassettes/test_embeddings/"


class Source(NamedTuple):
    """Where a recording is: `which` is the number of an exchange in a cassette, or what is above an example."""

    name: str
    repository: tuple[str, str, str]
    path: str
    which: int | str = 0


CASSETTES = (
    Source("openai chat", AI, GPT + "test_max_completion_tokens[gpt-4o-mini].yaml"),
    Source("openai chat stream", AI, GPT + "test_run_stream_sync_streams_real_model.yaml", 1),
    Source("openai chat tool stream", AI, GPT + "test_run_stream_sync_streams_real_model.yaml", 0),
    Source("openai chat tool", AI, GPT + "test_multiple_agent_tool_calls.yaml", 2),
    Source("openai responses", AI, GPT + "test_openai_instructions_with_responses_logprobs.yaml"),
    Source("openai responses stream", LLM, "test_responses_basic_streaming.yaml"),
    Source(
        "openai responses logprobs stream", AI, GPT + "test_openai_instructions_with_responses_logprobs_streaming.yaml"
    ),
    Source("openai responses tool stream", LLM, "test_responses_tool_use_streaming.yaml"),
    Source("openai embeddings", AI, VECTORS + "TestOpenAI.test_query.yaml"),
    Source("openai error 400", AI, GPT + "test_openai_o1_mini_system_role[system].yaml"),
    Source("openai error 404", AI, SUGGESTED + "[openai-chat].yaml"),
    Source("anthropic messages", AI, CLAUDE + "test_anthropic_opus_46_features[basic].yaml"),
    Source("anthropic messages stream", AI, CLAUDE + "test_request_stream_fallback_for_high_max_tokens.yaml"),
    Source("anthropic thinking", AI, CLAUDE + "test_anthropic_opus_46_features[adaptive-thinking].yaml"),
    Source("anthropic thinking stream", AI, CLAUDE + "test_anthropic_model_thinking_part_stream.yaml"),
    Source("anthropic tool", AI, CLAUDE + "test_anthropic_mixed_strict_tool_run.yaml"),
    Source("anthropic count", AI, CLAUDE + "test_anthropic_count_tokens_with_native_tools.yaml"),
    Source("anthropic error 400", AI, CLAUDE + "test_anthropic_explicit_effort_xhigh_unsupported_model_errors.yaml"),
    Source("anthropic error 404", AI, SUGGESTED + "[anthropic].yaml"),
)
STREAMS = (Source("anthropic tool stream", SDK, "tool_use_response.txt"),)
EXAMPLES = (
    Source("openai chat logprobs", OPENAI, "/chat/completions", "post Logprobs"),
    Source("openai completions", OPENAI, "/completions", "post No streaming"),
    Source("openai models", OPENAI, "/models", "get"),
    Source("openai files", OPENAI, "/files", "get"),
    Source("openai file", OPENAI, "/files", "post"),
    Source("openai file deleted", OPENAI, "/files/{file_id}", "delete"),
    Source("openai batch", OPENAI, "/batches/{batch_id}", "get"),
)
DOCUMENTED = (
    Source("ollama generate stream", OLLAMA, "api.md", "#### Generate request (Streaming)"),
    Source("ollama generate", OLLAMA, "api/usage.mdx", "## Example response"),
    Source("ollama generate raw", OLLAMA, "api.md", "#### Request (Reproducible outputs)"),
    Source("ollama generate unload", OLLAMA, "api.md", "#### Unload a model"),
    Source("ollama chat", OLLAMA, "api.md", "#### Chat request (Structured outputs)"),
    Source("ollama chat tool", OLLAMA, "api.md", "#### Chat request (No streaming, with tools)"),
    Source("ollama chat tool stream", OLLAMA, "api.md", "#### Chat request (Streaming with tools)"),
    Source("ollama tags", OLLAMA, "api.md", "## List Local Models"),
    Source("ollama ps", OLLAMA, "api.md", "## List Running Models"),
    Source("ollama embed", OLLAMA, "api.md", "## Generate Embeddings"),
    Source("ollama embeddings", OLLAMA, "api.md", "## Generate Embedding"),
    Source("ollama version", OLLAMA, "api.md", "## Version"),
    Source("ollama error", OLLAMA, "api/errors.mdx", "## Error messages"),
)


class Clones:
    """The repositories, each at its commit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def text(self, source: Source, path: str) -> str:
        """Return a file."""
        repository, commit, under = source.repository
        clone = self._folder / repository.replace("/", "+") / "repo"
        command = ("git", "-C", str(clone), "show", f"{commit}:{under}{path}")
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def from_cassette(clones: Clones, source: Source) -> tuple[int, str, str]:
    """Return the status, content type and body of an exchange that a test recorded."""
    exchange = yaml.safe_load(clones.text(source, source.path))["interactions"][source.which]["response"]
    headers = {name.lower(): values[0] for name, values in exchange["headers"].items()}
    body = json.dumps(exchange["parsed_body"]) if "parsed_body" in exchange else exchange["body"]["string"]
    return exchange["status"]["code"], headers["content-type"], body.rstrip("\n") + "\n\n"


def from_reference(described: dict[str, Any], source: Source) -> str:
    """Return an example of OpenAI's description of its API; some have commas that JSON has not, and YAML allows."""
    method, _, title = str(source.which).partition(" ")
    found = described["paths"][source.path][method]["x-oaiMeta"]["examples"]
    examples = found if isinstance(found, list) else [found]
    return json.dumps(yaml.safe_load(next(each["response"] for each in examples if each.get("title", "") == title)))


def from_page(page: str, title: str) -> list[str]:
    """Return the answers that Ollama's documentation shows under a title."""
    section = page[page.index(f"\n{title}\n") + len(title) + 2 :]
    section = re.split(f"\n##{{1,{title.index(' ') - 1}}} ", section)[0]
    blocks = re.findall(r"```json5?\n(.*?)\n```", section, re.DOTALL)
    return [line for block in blocks for line in (block.split("\n") if block.count("\n{") else [block])]


def record(clones: Clones) -> dict[str, dict[str, object]]:
    """Return all shapes, by name."""
    kept: dict[str, dict[str, object]] = {}

    def keep(source: Source, status: int, content_type: str, shape: list[Step], at: str) -> None:
        repository, commit, under = source.repository
        told = f"https://github.com/{repository}/blob/{commit}/{under}{at}"
        about = {"source": told, "which": source.which, "status": status, "content_type": content_type}
        kept[source.name] = {**about, "steps": [step._asdict() for step in shape]}

    for source in CASSETTES:
        status, content_type, body = from_cassette(clones, source)
        keep(source, status, content_type, steps(content_type, body), source.path)
    for source in STREAMS:
        keep(source, 200, EVENTS, steps(EVENTS, clones.text(source, source.path).rstrip("\n") + "\n\n"), source.path)
    described = yaml.load(clones.text(EXAMPLES[0], ""), Loader=yaml.CSafeLoader)
    for source in EXAMPLES:
        keep(source, 200, JSON, steps(JSON, from_reference(described, source)), "")
    for source in DOCUMENTED:
        found = from_page("\n" + clones.text(source, source.path), str(source.which))
        streamed = source.name.endswith("stream")
        content_type = "application/x-ndjson" if streamed else JSON
        lines = "".join(json.dumps(json.loads(each)) + "\n" for each in (found if streamed else found[:1]))
        keep(source, 200, content_type, steps(content_type, lines), source.path)
    return kept


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    shapes = record(Clones(Path(sys.argv[1])))
    for vendor in ("openai", "anthropic", "ollama"):
        of_vendor = {name: shape for name, shape in shapes.items() if name.startswith(vendor)}
        (FOLDER / f"{vendor}.json").write_text(json.dumps(of_vendor, indent=1, ensure_ascii=False) + "\n")
