"""Hosts of their own on this one machine: each has a network namespace, a name, a home directory and an sshd.

They are joined by a switch, which is a namespace, too, so that this machine's own network is not touched. Their
cables can be pulled.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from tests.e2e.processes import until
from tests.support import sshd

IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
PREFIX = f"llorch-{os.getpid()}"
SWITCH = f"{PREFIX}-switch"
NETWORK = "10.88.0"
HUB_PORT = 8081  # in a namespace of our own nobody else has it
BINARIES = "/usr/bin:/bin:/usr/sbin:/sbin"
_CLONE_NEWNET = 0x40000000
_OURS = re.compile(r"llorch-(\d+)-\S+")


def why_not() -> str:
    """Return why there can be no such hosts here; empty where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if IP is None:
        return "there is no `ip` here: apt-get install iproute2"
    tried = subprocess.run([IP, "netns", "add", f"{PREFIX}-try"], check=False, capture_output=True, text=True)
    if tried.returncode:
        return f"network namespaces cannot be made here: {tried.stderr.strip()}"
    subprocess.run([IP, "netns", "del", f"{PREFIX}-try"], check=True)
    return sshd.why_not()


@dataclass(frozen=True, slots=True)
class Host:
    """A host: what runs *inside* it, with *env*, is its own; *ssh* is the command that reaches the others."""

    name: str
    address: str
    home: Path
    env: Mapping[str, str]
    ssh: str

    @property
    def namespace(self) -> str:
        """Its network namespace."""
        return f"{PREFIX}-{self.name}"

    @property
    def inside(self) -> list[str]:
        """What goes before a command that is to run there."""
        assert IP is not None
        return [IP, "netns", "exec", self.namespace]

    def plug(self, *, in_: bool) -> None:
        """Pull its cable out of the switch, or plug it in."""
        ip("-n", SWITCH, "link", "set", self.name, "up" if in_ else "down")

    def left(self) -> list[str]:
        """Return everything in its home directory."""
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*"))

    def pids(self) -> list[int]:
        """Return the processes that run there."""
        return [int(pid) for pid in ip("netns", "pids", self.namespace).split()]

    def commands(self) -> list[list[str]]:
        """Return the command lines of the processes that run there."""
        found = []
        for pid in self.pids():
            with suppress(psutil.Error):
                found.append(psutil.Process(pid).cmdline())
        return found


def ip(*arguments: str) -> str:
    """Run `ip`; return what it prints."""
    assert IP is not None
    return subprocess.run([IP, *arguments], check=True, capture_output=True, text=True).stdout


def listen_at_switch() -> socket.socket:
    """Return a socket that listens at the switch, which hosts know as `hub` and `store`."""

    def listen() -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/run/netns", SWITCH).open("rb") as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return socket.create_server((f"{NETWORK}.254", HUB_PORT))

    with ThreadPoolExecutor(1) as a_thread_of_its_own:  # it alone enters the namespace, and ends
        return a_thread_of_its_own.submit(listen).result()


@asynccontextmanager
async def network(folder: Path, names: Sequence[str], env: Mapping[str, str]) -> AsyncIterator[list[Host]]:
    """Have hosts until the block ends; every one reaches every other by its name, by ssh as well.

    Args:
        folder: For keys, settings and home directories.
        names: What they are called.
        env: What everything that runs on them finds in its environment, besides HOME and PATH.
    """
    keys, config = folder / "keys", folder / "ssh_config"
    keys.mkdir(parents=True)
    for key in ("user", *names):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / key)], check=True)
    _write_ssh_config(config, keys, names)
    hosts = []
    for number, name in enumerate(names, 1):
        home = folder / name
        home.mkdir()
        own = {**env, "HOME": str(home), "PATH": BINARIES}
        hosts.append(Host(name, f"{NETWORK}.{number}", home, own, shlex.join(["ssh", "-F", str(config)])))
    clear_away()
    async with AsyncExitStack() as stack:
        stack.callback(_dismantle, hosts)
        stack.enter_context(_also_when_terminated(hosts))
        _wire(hosts)
        for host in hosts:
            await stack.enter_async_context(_sshd(host, keys, folder))
        yield hosts


def _wire(hosts: Sequence[Host]) -> None:
    ip("netns", "add", SWITCH)
    ip("-n", SWITCH, "link", "add", "switch", "type", "bridge")
    ip("-n", SWITCH, "addr", "add", f"{NETWORK}.254/24", "dev", "switch")
    ip("-n", SWITCH, "link", "set", "switch", "up")
    told = [f"{host.address} {host.name}" for host in hosts]
    known = "\n".join(["127.0.0.1 localhost", *told, f"{NETWORK}.254 hub store", ""])
    for host in hosts:
        names = Path("/etc/netns", host.namespace)
        names.mkdir(parents=True)
        (names / "hosts").write_text(known)
        ip("netns", "add", host.namespace)
        cable = ("type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        ip("-n", SWITCH, "link", "add", host.name, *cable)
        ip("-n", SWITCH, "link", "set", host.name, "master", "switch", "up")
        ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
        ip("-n", host.namespace, "link", "set", "eth0", "up")
        ip("-n", host.namespace, "link", "set", "lo", "up")


def _end(namespace: str) -> None:
    """Kill everything that runs there."""
    for pid in ip("netns", "pids", namespace).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _dismantle(hosts: Sequence[Host]) -> None:
    present = ip("netns", "list")
    for host in hosts:
        if host.namespace in present:
            _end(host.namespace)
            ip("netns", "del", host.namespace)
        shutil.rmtree(Path("/etc/netns", host.namespace), ignore_errors=True)
    if SWITCH in present:
        ip("netns", "del", SWITCH)


def clear_away() -> None:
    """Remove the hosts of processes that were killed and could not do so."""
    present = {line.split()[0] for line in ip("netns", "list").splitlines()}
    named = {path.name for path in Path("/etc/netns").glob("llorch-*")}
    for namespace in present | named:
        owner = _OURS.fullmatch(namespace)
        if owner is None or psutil.pid_exists(int(owner[1])):
            continue
        if namespace in present:
            _end(namespace)
            ip("netns", "del", namespace)
        shutil.rmtree(Path("/etc/netns", namespace), ignore_errors=True)


@contextmanager
def _also_when_terminated(hosts: Sequence[Host]) -> Iterator[None]:
    """Dismantle hosts also when a SIGTERM ends this process before the block."""

    def end(number: int, _frame: FrameType | None) -> None:
        _dismantle(hosts)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write_ssh_config(config: Path, keys: Path, names: Sequence[str]) -> None:
    known = keys / "known_hosts"
    known.write_text("".join(f"{name} {(keys / f'{name}.pub').read_text()}" for name in names))
    lines = []
    for name in names:
        lines += [f"Host {name}", f"  HostName {name}", "  Port 22"]
    lines += [
        "Host *",
        f"  IdentityFile {keys / 'user'}",
        "  IdentitiesOnly yes",
        "  IdentityAgent none",
        f"  UserKnownHostsFile {known}",
        "  GlobalKnownHostsFile /dev/null",
        "  StrictHostKeyChecking yes",
    ]
    config.write_text("\n".join([*lines, ""]))


@asynccontextmanager
async def _sshd(host: Host, keys: Path, folder: Path) -> AsyncIterator[None]:
    assert sshd.SSHD is not None
    config, said = folder / f"{host.name}.sshd_config", folder / f"{host.name}.sshd.log"
    lines = (
        f"ListenAddress {host.address}:22",
        f"HostKey {keys / host.name}",
        f"AuthorizedKeysFile {keys / 'user.pub'}",
        "AuthenticationMethods publickey",
        "PermitRootLogin prohibit-password",
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "Subsystem sftp internal-sftp",
        "SetEnv " + " ".join(f"{name}={shlex.quote(value)}" for name, value in host.env.items()),
    )
    config.write_text("\n".join([*lines, ""]))
    with said.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *host.inside, sshd.SSHD, "-D", "-e", "-f", str(config), stdin=asyncio.subprocess.DEVNULL, stderr=log
        )

    async def listening() -> bool:
        assert process.returncode is None, said.read_text()
        return "Server listening" in said.read_text()

    try:
        await until(listening)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
