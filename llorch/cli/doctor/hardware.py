"""Checks of what this machine computes with and listens on: engines, devices and their drivers, memory, ports."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from llorch.cli.doctor.result import Examined, Result, failed, ok
from llorch.cli.figures import size
from llorch.client import Client
from llorch.config import near_host
from llorch.errors import LlorchError
from llorch.settings import Orchestrator, Pool
from llorch.wire.meta import Health
from llorch.wire.pools import Backend, Device, Engine

LEAST_MEMORY_BYTES = 2**29
ANSWER_S = 2.0
PORTS = {"orchestrator": Orchestrator().port, "pool": Pool().port}
DRIVER = Path("/proc/driver/nvidia/version")
GPU_BUILDS = "https://github.com/xorbitsai/xllamacpp#installation"
ARM_PYTHON = "python3 -c 'import platform; print(platform.machine())'  # has to be arm64; else install such a Python"
GPU_ENGINE = f"pip install --force-reinstall xllamacpp --index-url INDEX  # INDEX from {GPU_BUILDS}"


def devices(_examined: Examined) -> Sequence[Result]:
    """Measure all devices as the pool does."""
    from roles.pool.gpu_inventory.sampler import Sampler
    from roles.pool.worker_lifecycle.engines import installed

    sampler = Sampler()
    try:
        found = asyncio.run(sampler.sample())
    finally:
        sampler.close()
    return list(judged(found, installed(), driver=_driver()))


def judged(found: Sequence[Device], engines: Mapping[Engine, frozenset[Backend]], *, driver: str) -> Iterator[Result]:
    """Yield the engines, then each device: is it of use, and has it memory?

    Args:
        found: The devices, as measured.
        engines: What each installed engine computes on.
        driver: What NVIDIA's driver says of itself; empty where there is none.
    """
    named = [f"{name} on {', '.join(sorted(backends))}" for name, backends in sorted(engines.items())]
    yield ok("engines", "; ".join(named)) if named else failed("engines", "none", fix="pip install xllamacpp")
    usable = frozenset[Backend]().union(*engines.values())
    for device in found:
        what = f"{device.name}, {size(device.memory_free_bytes)} of {size(device.memory_total_bytes)} free"
        if device.backend not in usable:
            unused = f"{what}; but no engine here computes on {device.backend}"
            fix = _engine_for(device)
            yield failed(device.id, unused, fix=fix) if fix else ok(device.id, unused)
        elif device.memory_free_bytes < LEAST_MEMORY_BYTES:
            yield failed(device.id, what, fix="llorch pool worker stop-all")
        else:
            yield ok(device.id, what)
    if driver and "CUDA_VISIBLE_DEVICES" not in os.environ and not any(device.backend == "cuda" for device in found):
        yield failed("driver", f"{driver} is loaded, but its management library finds no GPU", fix="nvidia-smi")


def _engine_for(device: Device) -> str:
    """Return how to get an engine that computes on a device; empty for what none is made for: other GPUs of Macs."""
    if device.backend == "metal":
        return ARM_PYTHON if device.name.startswith("Apple") else ""
    return GPU_ENGINE


def ports(examined: Examined) -> Sequence[Result]:
    """See that the roles' ports are free, or that llorch has them."""
    own = examined.settings
    wanted = (("orchestrator", own.orchestrator.host, own.orchestrator.port), ("pool", own.pool.host, own.pool.port))
    return [port(role, host, number) for role, host, number in wanted if number]


def port(role: str, host: str, number: int) -> Result:
    """See whether a role could listen on a port."""
    name, where = f"port {number}", f"for the {role}, on {host}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return failed(name, f"{where}: {(error.strerror or str(error)).lower()}", fix=elsewhere(role, error))
        if asyncio.run(_is_llorch(f"http://{near_host(host)}:{number}")):
            return ok(name, f"{where}: llorch has it")
        return failed(name, f"{where}: another program has it", fix=who_listens(number, sys.platform))
    return ok(name, f"{where}: free")


def who_listens(number: int, system: str) -> str:
    """Return the command that names the program that has a port, on a system as `sys.platform` calls it."""
    return f"sudo lsof -nP -iTCP:{number} -sTCP:LISTEN" if system == "darwin" else f"sudo ss -ltnp 'sport = :{number}'"


def elsewhere(role: str, error: OSError) -> str:
    """Return the command that has a role listen where it can."""
    return f"llorch serve {role} {f'--port {PORTS[role]}' if error.errno == errno.EACCES else '--host 127.0.0.1'}"


async def _is_llorch(url: str) -> bool:
    async with Client(url) as client:
        try:
            await client.send("GET", "/health", Health, timeout_s=ANSWER_S)
        except LlorchError:
            return False
    return True


def _driver() -> str:
    try:
        first = DRIVER.read_text("utf-8").splitlines()[0]
    except (OSError, IndexError):
        return ""
    return "NVIDIA's driver" + next((f" {word}" for word in first.split() if word[0].isdigit()), "")
