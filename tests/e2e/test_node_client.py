"""OpenAI's own library for Node, unmodified, against a running system: only its base URL was changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.processes import finish, role
from tests.support import scribes
from tests.support.scribes import PLACE

SOURCE = Path(__file__).resolve().parents[1] / "clients" / "node"
TOKEN = "a token"


@pytest.fixture
async def library(tmp_path: Path) -> Path:
    """Return a folder with the library, in the version that package-lock.json names, and our script."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path / "node"
    shutil.copytree(SOURCE, folder)
    install = (npm, "ci", "--prefix", str(folder), "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts")
    status, _, said = await finish(*install)
    if status and any(sign in said for sign in ("ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN", "ETIMEDOUT")):
        pytest.skip("no package source can be reached, and npm has not kept the library")
    assert status == 0, said
    return folder


async def test_nodes_library_chats_calls_forms_and_batches(tmp_path: Path, library: Path) -> None:
    scribe = f"file:{scribes.write(tmp_path / 'scribe.gguf', scribes.CALLING)}"
    secret = {"LLORCH_API_TOKEN": TOKEN}
    serve = ("all", "--port", "0", "--pool-port", "0", "--data-dir", str(tmp_path / "all"))

    async with role(*serve, log=tmp_path / "log", env=secret, token=TOKEN) as system:
        ask = ("node", str(library / "ask.js"), system.url, "haiku", scribe)
        status, out, said = await finish(*ask, env={**secret, "SCHEMA": json.dumps(PLACE)})

    assert (status, said) == (0, "")
    got = json.loads(out)
    assert "haiku" in got["models"]
    whole, streamed = got["chat"]["whole"], got["chat"]["streamed"]
    text = whole["choices"][0]["message"]["content"]
    assert text
    assert (streamed["text"], streamed["usage"]["total_tokens"]) == (text, whole["usage"]["total_tokens"])
    assert got["tool"]["pieces"] > 2
    assert got["tool"]["message"]["content"] == "Let me look. "
    [call] = got["tool"]["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Berlin", "days": 2}
    assert sorted(got["form"]) == ["city", "days"]
    assert got["responses"]["whole"] == got["responses"]["streamed"] != ""
    assert {"response.created", "response.output_text.delta", "response.completed"} <= set(got["responses"]["kinds"])
    batch = got["batch"]
    assert (batch["status"], batch["counts"]) == ("completed", {"total": 1, "completed": 1, "failed": 0})
    assert batch["answer"]["response"]["body"]["choices"][0]["message"]["content"] == text
    refusals = {name: (got[name]["kind"], got[name]["status"]) for name in ("unknown", "hot", "stranger")}
    assert refusals == {
        "unknown": ("NotFoundError", 404),
        "hot": ("BadRequestError", 400),
        "stranger": ("AuthenticationError", 401),
    }
    assert (got["unknown"]["code"], got["hot"]["param"]) == ("MODEL_NOT_FOUND", "temperature")
