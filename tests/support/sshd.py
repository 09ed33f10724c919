"""A real sshd with keys of its own, which makes this machine another host, and the client that reaches it."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.processes import until

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def why_not() -> str:
    """Return why no sshd can be run here; empty where one can."""
    if SSHD is None or shutil.which("ssh") is None:
        return "there is no OpenSSH server and client here: apt-get install openssh-server"
    if os.geteuid() == 0 and not Path("/run/sshd").is_dir():
        return "sshd wants the folder /run/sshd when root runs it: mkdir /run/sshd"
    return ""


@dataclass(frozen=True, slots=True)
class SshHost:
    """A host that answers as `far` for who uses `environment`; `bin` is first in the PATH of its shell."""

    folder: Path
    port: int

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.folder / "bin"

    @property
    def home(self) -> Path:
        """Its user's home directory."""
        return self.folder / "home"

    @property
    def client_config(self) -> Path:
        """The configuration of who reaches it."""
        return self.folder / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """The host keys that the client knows."""
        return self.folder / "known_hosts"

    @property
    def environment(self) -> dict[str, str]:
        """What makes llorch use that configuration."""
        return {"LLORCH_SSH": shlex.join(["ssh", "-F", str(self.client_config)])}

    def install(self, program: Sequence[str], env: Mapping[str, str]) -> None:
        """Put `llorch` there, with an environment of its own."""
        lines = ["#!/bin/sh", *(f"export {name}={shlex.quote(value)}" for name, value in env.items())]
        script = self.bin / "llorch"
        script.write_text("\n".join([*lines, f'exec {shlex.join(program)} "$@"', ""]))
        script.chmod(0o755)

    def client(self, *, port: int | None = None, key: str = "user") -> None:
        """Write the configuration of who reaches it."""
        lines = (
            "Host far",
            "  HostName 127.0.0.1",
            f"  Port {self.port if port is None else port}",
            f"  IdentityFile {self.folder / key}",
            "  IdentitiesOnly yes",
            "  IdentityAgent none",
            f"  UserKnownHostsFile {self.known_hosts}",
            "  GlobalKnownHostsFile /dev/null",
            "  StrictHostKeyChecking yes",
        )
        self.client_config.write_text("\n".join([*lines, ""]))

    def know(self, key: str, *, port: int | None = None) -> None:
        """Have the client know that key as the host's."""
        public = (self.folder / f"{key}.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port if port is None else port} {public}")


@asynccontextmanager
async def ssh_host(folder: Path) -> AsyncIterator[SshHost]:
    """Run an sshd on a free port of this machine until the block ends; the client knows it and is let in."""
    assert SSHD is not None
    folder.mkdir()
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = SshHost(folder, free.getsockname()[1])
    host.bin.mkdir()
    host.home.mkdir()
    host.client()
    host.know("host")
    config = folder / "sshd_config"
    lines = (
        f"ListenAddress 127.0.0.1:{host.port}",
        f"HostKey {folder / 'host'}",
        f"AuthorizedKeysFile {folder / 'user.pub'}",
        "AuthenticationMethods publickey",
        "PermitRootLogin prohibit-password",
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        f"SetEnv PATH={host.bin}:/usr/bin:/bin HOME={host.home}",
    )
    config.write_text("\n".join([*lines, ""]))
    said = folder / "sshd.log"
    with said.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            SSHD, "-D", "-e", "-f", str(config), stdin=asyncio.subprocess.DEVNULL, stderr=log
        )

    async def listening() -> bool:
        assert process.returncode is None, said.read_text()
        return "Server listening" in said.read_text()

    try:
        await until(listening)
        yield host
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
