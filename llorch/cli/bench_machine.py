"""The machine that measures: figures mean little without it. Reads, changes nothing."""

from __future__ import annotations

import ipaddress
import os
import platform
import socket
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psutil

from llorch import __version__
from llorch.cli.figures import size
from roles.pool import mac


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the load came from. `cores` are those that this process may use, `load_average` that of the last minute."""

    cpu: str
    cores: int
    memory_bytes: int
    system: str
    python: str
    llorch: str
    load_average: float


def this_machine() -> Machine:
    """Return what this machine is, and how busy it was."""
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        cpu=_cpu_name() or platform.machine(),
        cores=len(affinity(0)) if affinity is not None else os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        llorch=__version__,
        load_average=round(os.getloadavg()[0], 2),
    )


def described(machine: Machine) -> str:
    """Return it as one line."""
    cores = f"{machine.cores} core{'' if machine.cores == 1 else 's'}"
    return (
        f"{cores} of {machine.cpu}, {size(machine.memory_bytes)}, {machine.system}, Python {machine.python}, "
        f"llorch {machine.llorch}, load average {machine.load_average:.1f} before"
    )


def is_here(url: str, own: Collection[str]) -> bool:
    """Tell whether *url* leads to this machine, whose addresses are *own*. Pure but for names, which are looked up."""
    host = urlsplit(url).hostname or ""
    try:
        found = {host} if _is_address(host) else {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return any(ipaddress.ip_address(one.partition("%")[0]).is_loopback or one in own for one in found)


def own_addresses() -> set[str]:
    """Return the addresses of this machine's network interfaces."""
    return {address.address for known in psutil.net_if_addrs().values() for address in known}


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return mac.processor() or platform.processor()
