"""Doctor on engines, devices and ports: this machine's own, recorded GPUs, real sockets."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator

import pytest
from aiohttp import web
from msgspec.structs import replace

from llorch.cli.doctor.hardware import devices, elsewhere, judged, port, ports, who_listens
from llorch.cli.doctor.result import Examined
from llorch.client import Client
from llorch.edge import reply
from llorch.serve import running
from llorch.settings import Orchestrator, Pool, Settings
from llorch.wire.meta import Health
from llorch.wire.pools import Device
from roles.pool.gpu_inventory.nvml import Nvml
from tests.support.nvml_session import Player
from tests.support.worlds import device

CPU_ONLY = {"llamacpp": frozenset({"cpu"})}


@pytest.fixture
def gpus() -> list[Device]:
    """Return eight recorded H200."""
    return Nvml(Player("h200x8")).read()


def test_this_machine_has_an_engine_and_a_processor() -> None:
    engines, *found = devices(Examined(settings=Settings()))

    assert (engines.state, engines.check) == ("ok", "engines")
    assert "llamacpp on " in engines.found
    assert found[0].check.startswith("cpu")


def test_a_gpu_that_no_engine_computes_on_is_told_with_what_to_install(gpus: list[Device]) -> None:
    _, *found = judged(gpus, CPU_ONLY, driver="NVIDIA's driver 570.1")  # type: ignore[arg-type]

    assert len(found) == 8
    assert {result.state for result in found} == {"failed"}
    assert "H200" in found[0].found
    assert "no engine here computes on cuda" in found[0].found
    assert "xllamacpp" in found[0].fix


def test_an_engine_for_the_gpu_of_a_mac_is_there_where_python_is_for_its_processor() -> None:
    apple, intel = (
        replace(device("metal:0", backend="metal"), name=name) for name in ("Apple M2 Max", "Intel UHD Graphics 630")
    )
    _, ours, other = judged([apple, intel], CPU_ONLY, driver="")  # type: ignore[arg-type]

    assert (ours.state, other.state) == ("failed", "ok")
    assert "platform.machine()" in ours.fix
    assert other.found.endswith("but no engine here computes on metal")


def test_a_gpu_with_an_engine_is_well_and_a_full_device_is_not(gpus: list[Device]) -> None:
    full = device("cpu", gib=16, free_gib=0.1)
    _, first, *_, last = judged([gpus[0], full], {"llamacpp": frozenset({"cpu", "cuda"})}, driver="a driver")

    assert (first.check, first.state) == (gpus[0].id, "ok")
    assert (last.state, last.fix) == ("failed", "llorch pool worker stop-all")


def test_a_driver_without_a_gpu_and_no_engine_at_all_are_told() -> None:
    engines, driver = judged([], {}, driver="NVIDIA's driver 570.1")

    assert (engines.state, engines.found) == ("failed", "none")
    assert driver.found == "NVIDIA's driver 570.1 is loaded, but its management library finds no GPU"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken


def test_a_port_that_is_free_one_that_another_program_has_and_one_that_cannot_be(listener: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
    number = listener.getsockname()[1]

    well, taken, wrong = (
        port("pool", "127.0.0.1", free),
        port("pool", "127.0.0.1", number),
        port("pool", "192.0.2.1", 1),
    )

    assert (well.state, taken.state, wrong.state) == ("ok", "failed", "failed")
    assert taken.found.endswith("another program has it")
    assert str(number) in taken.fix
    assert "192.0.2.1" in wrong.found


@pytest.mark.parametrize("host", ["127.0.0.3", "0.0.0.0", "::", "::1"])
async def test_our_own_role_is_known_again_wherever_it_listens(host: str) -> None:
    async def health(_request: web.Request) -> web.Response:
        return reply(Health("ok"))

    app = web.Application()
    app.router.add_get("/health", health)
    try:
        with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
            number = free.getsockname()[1]
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error}")

    async with running(app, host, number) as url:
        found = await asyncio.to_thread(port, "pool", host, number)
        async with Client(url) as client:
            reached = await client.send("GET", "/health", Health)

    assert (found.state, found.found) == ("ok", f"for the pool, on {host}: llorch has it")
    assert reached == Health("ok")


@pytest.mark.parametrize(
    ("number", "fix"),
    [(errno.EACCES, "llorch serve pool --port 9200"), (errno.EADDRNOTAVAIL, "llorch serve pool --host 127.0.0.1")],
)
def test_who_may_not_listen_on_a_port_is_told_another_and_who_has_no_such_address_too(number: int, fix: str) -> None:
    assert elsewhere("pool", OSError(number, "")) == fix


def test_port_0_is_no_port_to_look_at() -> None:
    assert ports(Examined(settings=Settings(orchestrator=Orchestrator(port=0), pool=Pool(port=0)))) == []


def test_who_has_a_port_is_asked_with_what_each_system_has() -> None:
    asked = {system: who_listens(8080, system).split()[1] for system in ("linux", "darwin")}

    assert asked == {"linux": "ss", "darwin": "lsof"}
