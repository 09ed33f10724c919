"""How a worker for a server's model is to be started: where the configuration says, whatever the request does."""

from __future__ import annotations

import pytest

from llorch.errors import BackendUnavailable, InsufficientMemory
from llorch.settings import Server
from llorch.wire.pools import Device, SpawnWorker
from roles.pool.worker_lifecycle.preflight import Commitment, Plan
from roles.pool.worker_lifecycle.served import plan_served

ASKED = SpawnWorker(model_ref="server:gpu/m")
URL = "http://h:8000/v1"
GPU = Device(
    id="cuda:1",
    uuid="GPU-1",
    name="a GPU",
    backend="cuda",
    memory_total_bytes=1000,
    memory_used_bytes=0,
    memory_free_bytes=1000,
)


def decide(server: Server, request: SpawnWorker = ASKED, *, held: int = 0) -> Plan:
    commitments = [Commitment("cuda:1", held, pending=False)] if held else []
    return plan_served(server, request, devices=[GPU], commitments=commitments)


def test_a_server_of_its_own_takes_nothing_here() -> None:
    assert decide(Server(url=URL)) == Plan("", "cpu", "openai", 8, 8192, 0)
    assert decide(Server(url=URL, slots=64, context=100), held=1000) == Plan("", "cpu", "openai", 64, 100, 0)


@pytest.mark.parametrize("name", ["cuda:1", "GPU-1", "1"])
def test_a_command_takes_what_is_configured_of_its_device_and_may_load_for_long(name: str) -> None:
    server = Server(url=URL, command=("x",), models=("m",), device=name, memory_bytes=900, ready_timeout_s=5)

    assert decide(server) == Plan("cuda:1", "cuda", "openai", 8, 8192, 900, patience_s=5.0)
    with pytest.raises(InsufficientMemory) as refused:
        decide(server, held=101)
    assert refused.value.details == {"required_bytes": 900, "available_bytes": 899, "device": "cuda:1"}


def test_what_is_not_there_or_not_meant_is_refused() -> None:
    with pytest.raises(BackendUnavailable, match="cuda:7; this host has cuda:1"):
        decide(Server(url=URL, command=("x",), models=("m",), device="cuda:7", memory_bytes=1))
    with pytest.raises(BackendUnavailable, match="openai alone"):
        decide(Server(url=URL), SpawnWorker(model_ref="server:gpu/m", engine="llamacpp"))
    with pytest.raises(BackendUnavailable, match="does not have kv_type"):
        decide(Server(url=URL), SpawnWorker(model_ref="server:gpu/m", kv_type="q8_0"))
