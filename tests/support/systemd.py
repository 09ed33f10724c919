"""A machine of its own that systemd runs, as PID 1 of process, mount, network and cgroup namespaces.

It shares this machine's programs, and nothing that it changes outlives it: what is written goes to memory. There are
users and their logins (dbus, logind, PAM) and an sshd; nothing else is started, this machine's devices least of all.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.e2e.processes import Finished, until
from tests.support import sshd

SYSTEMD = Path("/usr/lib/systemd/systemd")
UNITS = Path("/usr/lib/systemd/system")
TAKEN_OVER = (
    "dbus.socket dbus.service systemd-logind.service user@.service user-runtime-dir@.service user.slice".split()
)
PARTS = (SYSTEMD, Path("/usr/bin/dbus-daemon"), *(UNITS / name for name in TAKEN_OVER))
PROGRAMS = "unshare nsenter setpriv mount ip useradd loginctl".split()
BUILD = Path(__file__).resolve().parents[2] / "build"
OWN = ("--propagation", "private", "--mount")
SPACES = (*OWN, "--pid", "--cgroup", "--net", "--uts", "--ipc", "--fork", "--kill-child")
OPERATOR = "/home/operator"

ENVIRONMENT = (
    f"HOME={OPERATOR}",
    "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "LLORCH_SSH=ssh -F /etc/systemd/system/ssh_config",
    "NO_COLOR=1",
)
CGROUP = f"llorch-{os.getpid()}"

_ENTER = f"""
set -e
mount -t cgroup2 none /mnt
mkdir -p /mnt/{CGROUP}
echo $$ >/mnt/{CGROUP}/cgroup.procs
umount /mnt
"""
_LEAVE = f"mount -t cgroup2 none /mnt && find /mnt/{CGROUP} -depth -type d -exec rmdir {{}} +"
_TRY = "mount -t tmpfs none /run && mount -t cgroup2 none /mnt && mount -t overlay -o lowerdir=/etc:/usr none /mnt"
# $1 is the executable, $2 the folder of the units, $3 that of the units which the machine starts with.
_BOOT = f"""
set -e
umask 022
mount -t proc proc /proc
umount --recursive /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs -o mode=755 none /mnt
for folder in etc usr/local var; do
  mkdir -p /mnt/$folder/new /mnt/$folder/work
  mount -t overlay -o lowerdir=/$folder,upperdir=/mnt/$folder/new,workdir=/mnt/$folder/work none /$folder
done
rm -rf /etc/systemd/system /etc/systemd/user /var/lib/systemd/linger
mkdir -p /etc/systemd /usr/local/bin /usr/local/share/llorch
cp "$1" /usr/local/bin/llorch
cp -r "$2"/* /usr/local/share/llorch
cp -r "$3" /etc/systemd/system
for unit in {" ".join(TAKEN_OVER)}; do ln -s {UNITS}/$unit /etc/systemd/system; done
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs -o mode=755 none /home
mount -t tmpfs -o mode=700 none /root
mount -t tmpfs -o mode=1777 none /tmp
mkdir -p /run/sshd {OPERATOR}/keys
cd {OPERATOR}/keys
for key in host user; do ssh-keygen -q -t ed25519 -N "" -f $key; done
echo "here $(cat host.pub)" >known_hosts
useradd --create-home --shell /bin/sh ann
ip link set lo up
exec env -i container=llorch PATH=/usr/bin:/bin:/usr/sbin:/sbin SYSTEMD_UNIT_PATH=/etc/systemd/system \\
    {SYSTEMD} --system --unit=default.target --show-status=no
"""
_SSHD_CONFIG = f"""
ListenAddress 127.0.0.1:22
HostKey {OPERATOR}/keys/host
AuthorizedKeysFile {OPERATOR}/keys/user.pub
AuthenticationMethods publickey
PidFile none
StrictModes no
UsePAM yes
"""
_SSH_CONFIG = f"""
Host ann
  User ann
Host root
  User root
Host *
  HostName 127.0.0.1
  HostKeyAlias here
  IdentityFile {OPERATOR}/keys/user
  IdentityAgent none
  UserKnownHostsFile {OPERATOR}/keys/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
"""
_TARGET = "[Unit]\nDefaultDependencies=no\n"
_UNITS = {
    "default.target": f"{_TARGET}Wants=dbus.socket systemd-logind.service sshd.service\n",
    **dict.fromkeys(["sysinit.target", "basic.target", "shutdown.target", "multi-user.target"], _TARGET),
    **dict.fromkeys(["network.target", "network-online.target", "sockets.target"], _TARGET),
    "sshd.service": (
        f"[Unit]\nAfter=dbus.socket\n[Service]\nExecStart={sshd.SSHD} -D -f /etc/systemd/system/sshd_config\n"
    ),
    "sshd_config": _SSHD_CONFIG,
    "ssh_config": _SSH_CONFIG,
}


def why_not() -> str:
    """Return why there can be no such machine here; empty where there can."""
    if os.geteuid() != 0:
        return "a systemd of one's own needs root"
    missing = [str(part) for part in PARTS if not part.exists()] + [p for p in PROGRAMS if shutil.which(p) is None]
    if missing:
        return f"there is no systemd that could be started here: {', '.join(missing)}"
    command = f"{_ENTER} unshare {' '.join(SPACES)} sh -c '{_TRY}'"
    tried = _with_mounts_of_its_own(command)
    _with_mounts_of_its_own(_LEAVE)
    if tried.returncode:
        return f"a systemd cannot be shut in here: {tried.stderr.strip()}"
    return sshd.why_not()


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that runs; `pid` is its systemd, as this machine sees it."""

    pid: int

    async def run(self, *command: str, stdin: bytes = b"") -> Finished:
        """Run a command there as root, as the operator of hosts; `ann` and `root` are let in by ssh, here."""
        return await self._run(["env", "-i", *ENVIRONMENT, *command], stdin)

    async def do(self, *command: str) -> str:
        """Run a command there that has to succeed; return what it prints."""
        finished = await self.run(*command)
        assert finished.status == 0, f"{shlex.join(command)}: {finished.stdout}{finished.stderr}"
        return finished.stdout

    async def as_ann(self, line: str) -> str:
        """Run a line of her shell as ann, who has to be logged in; return what it prints."""
        where = "export HOME=/home/ann XDG_RUNTIME_DIR=/run/user/$(id -u)"
        return await self.do("runuser", "-u", "ann", "--", "sh", "-c", f"{where}; {line}")

    async def write(self, path: str, text: str) -> None:
        """Write a file there."""
        done = await self.run("sh", "-c", 'mkdir -p "$(dirname "$0")" && cat >"$0"', path, stdin=text.encode())
        assert done.status == 0, done.stderr

    async def show(self, unit: str, *properties: str, user: bool = False) -> list[str]:
        """Return what systemd tells of a unit."""
        asked = shlex.join(["show", unit, *(f"--property={name}" for name in properties)])
        told = await (self.as_ann(f"systemctl --user {asked}") if user else self.do("sh", "-c", f"systemctl {asked}"))
        found = dict(line.split("=", 1) for line in told.splitlines())
        return [found[name] for name in properties]

    async def _run(self, command: Sequence[str], stdin: bytes) -> Finished:
        process = await asyncio.create_subprocess_exec(
            *("nsenter", "-t", str(self.pid), "-m", "-p", "-C", "-n", "-u", "-i", "--", *command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Finished(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def machine(folder: Path, executable: Path) -> AsyncIterator[Machine]:
    """Run a machine with that executable as its /usr/local/bin/llorch until the block ends.

    Args:
        folder: For what it starts with and what it says.
        executable: The one-file executable.
    """
    units = folder / "units"
    units.mkdir(parents=True)
    for name, text in _UNITS.items():
        (units / name).write_text(text)
    boot = ["unshare", *SPACES, "sh", "-c", _BOOT, "boot", *map(str, (executable, BUILD / "systemd", units))]
    said = folder / "systemd.log"
    with said.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "unshare", *OWN, "sh", "-c", f"{_ENTER} exec {shlex.join(boot)}"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    async def up() -> Machine | None:
        assert process.returncode is None, said.read_text()
        for child in psutil.Process(process.pid).children():
            if child.cmdline()[:1] == [str(SYSTEMD)]:
                there = Machine(child.pid)
                active = await there.run("systemctl", "is-active", "sshd", "systemd-logind", "default.target")
                return there if active.stdout.split() == ["active"] * 3 else None
        return None

    try:
        yield await until(up)
    finally:
        if process.returncode is None:
            for child in psutil.Process(process.pid).children():
                child.kill()  # its systemd, which nothing there survives
        await process.wait()
        await until(_gone)


async def _gone() -> bool:
    return _with_mounts_of_its_own(_LEAVE).returncode == 0


def _with_mounts_of_its_own(script: str) -> subprocess.CompletedProcess[str]:
    command = ["unshare", *OWN, "sh", "-c", script]
    return subprocess.run(command, check=False, capture_output=True, text=True)
