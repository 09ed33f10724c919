"""LiteLLM, LangChain's chat model and the command `llm`, unmodified, against a running system."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import Role, finish, role
from tests.support import scribes
from tests.support.scribes import PLACE

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "tests" / "clients"
PROGRAMS = ROOT / ".venv-clients" / "bin"
TOKEN = "a token"
QUIET = {
    "LLORCH_API_TOKEN": TOKEN,
    "SCHEMA": json.dumps(PLACE),
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches the prices of models
    "LITELLM_TELEMETRY": "False",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "PYTHONDONTWRITEBYTECODE": "",  # they are large: what is compiled once is kept
}
pytestmark = pytest.mark.skipif(
    not (PROGRAMS / "llm").exists(), reason="not installed: make .venv-clients/stamp brings them"
)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Role, str]]:
    """Run all roles with a token; tell the name of a model that calls get_weather."""
    scribe = f"file:{scribes.write(folder / 'scribe.gguf', scribes.CALLING)}"
    serve = ("all", "--port", "0", "--pool-port", "0", "--data-dir", str(folder / "all"))
    async with role(*serve, log=folder / "log", env={"LLORCH_API_TOKEN": TOKEN}, token=TOKEN) as system:
        yield system, scribe


async def asked(script: str, system: Role, scribe: str) -> dict[str, Any]:
    """Run a script in the clients' environment, and return the object that it prints."""
    command = (str(PROGRAMS / "python"), str(CLIENTS / script), system.url, "haiku", scribe)
    status, out, said = await finish(*command, env=QUIET)
    assert status == 0, said
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


async def test_litellm_chats_calls_tools_keeps_to_forms_and_knows_our_errors(tmp_path: Path) -> None:
    async with serving(tmp_path) as (system, scribe):
        got = await asked("ask_litellm.py", system, scribe)

    assert got["whole"] == got["streamed"] != ""
    assert got["streamed_usage"] == [got["usage"]]
    assert got["calls"] == [["get_weather", {"city": "Berlin", "days": 2}]]
    assert sorted(got["form"]) == ["city", "days"]
    assert (got["unknown"], got["hot"]) == (["NotFoundError", 404], ["BadRequestError", 400])
    assert got["stranger"] == ["AuthenticationError", 401]
    assert got["long"] == [["ContextWindowExceededError", 400, True]] * 4


async def test_langchains_chat_model_streams_calls_tools_and_fills_types(tmp_path: Path) -> None:
    async with serving(tmp_path) as (system, scribe):
        got = await asked("ask_langchain.py", system, scribe)

    assert got["whole"] == got["streamed"] != ""
    assert got["usage"][0] == got["usage"][1] > 10
    assert got["calls"] == [["get_weather", {"city": "Berlin", "days": 2}]]
    assert (got["answers"], got["again"]) == (["rain in Berlin for 2 days"], ["get_weather"])
    assert sorted(got["place"]) == ["city", "days"]
    assert got["forced"] == [["Place", ["city", "days"]]]
    assert (got["unknown"], got["hot"]) == (["NotFoundError", 404], ["BadRequestError", 400])
    assert got["stranger"] == ["AuthenticationError", 401]
    assert got["long"] == [True] * 3


async def test_the_command_llm_talks_streamed_and_whole_and_shows_our_errors(tmp_path: Path) -> None:
    home = tmp_path / "llm"
    home.mkdir()
    async with serving(tmp_path) as (system, _):
        named = (("mine", "haiku", "right"), ("none", "haik", "right"), ("closed", "haiku", "wrong"))
        entries = [
            {"model_id": name, "model_name": model, "api_base": f"{system.url}/v1", "api_key_name": key}
            for name, model, key in named
        ]
        (home / "extra-openai-models.yaml").write_text(json.dumps(entries))  # JSON is YAML, too
        (home / "keys.json").write_text(json.dumps({"right": TOKEN, "wrong": "wrong"}))

        async def llm(*arguments: str) -> tuple[int, str, str]:
            return await finish(str(PROGRAMS / "llm"), *arguments, env={**QUIET, "LLM_USER_PATH": str(home)})

        question = ("Write a haiku about rain", "-m", "mine", "-o", "temperature", "0")
        streamed = await llm(*question)
        whole = await llm(*question, "--no-stream")
        unknown = await llm("x", "-m", "none")
        stranger = await llm("x", "-m", "closed")

    assert (streamed[0], whole[0]) == (0, 0), streamed[2] + whole[2]
    assert streamed[1].strip() == whole[1].strip() != ""
    assert (unknown[0], "did you mean haiku" in unknown[2]) == (1, True)
    assert (stranger[0], "401" in stranger[2]) == (1, True)
