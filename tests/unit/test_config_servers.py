"""Servers in the configuration: what makes one, and what is told of one that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.config import load
from llorch.errors import InvalidConfiguration
from llorch.settings import Server


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_servers_come_from_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.toml",
        """
        [pool]
        port = 1
        [pool.servers.gpu]
        url = "https://gpu.lan/openai/v1"
        api_key_file = "/k"
        [pool.servers."my.own"]
        url = "http://127.0.0.1:8000/v1"
        command = ["vllm", "serve", "org/M"]
        models = ["org/M"]
        device = "cuda:0"
        memory_bytes = 9
        """,
    )

    settings = load(file, env={})

    assert settings.pool.port == 1
    assert settings.servers == {
        "gpu": Server(url="https://gpu.lan/openai/v1", api_key_file="/k"),
        "my.own": Server(
            url="http://127.0.0.1:8000/v1",
            command=("vllm", "serve", "org/M"),
            models=("org/M",),
            device="cuda:0",
            memory_bytes=9,
        ),
    }


def test_what_makes_no_server_is_told(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.toml",
        """
        [pool.servers]
        "a b" = { url = "http://h/v1" }
        none = {}
        keyed = { url = "http://user@h/v1" }
        started = { url = "http://h/v1", command = ["x"] }
        placed = { url = "http://h/v1", device = "cuda:0" }
        """,
    )

    with pytest.raises(InvalidConfiguration) as refused:
        load(file, env={})

    assert refused.value.message.removeprefix("configuration: ").splitlines() == [
        f"{file}: [pool.servers.keyed] url: found 'http://user@h/v1', expected a base URL such as http://host:8000/v1",
        f"{file}: [pool.servers.a b] the name may have up to 64 letters, digits, dots, underscores and hyphens",
        f"{file}: [pool.servers.none] url: missing, expected a base URL such as http://host:8000/v1",
        f"{file}: [pool.servers.started] models: expected the one model of the command",
        f"{file}: [pool.servers.placed] device, memory_bytes: expected both or neither",
        f"{file}: [pool.servers.placed] device: expected a command beside it, which takes that memory",
    ]
