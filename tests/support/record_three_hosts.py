"""Makes the README's picture of three hosts: a person sits at blep and sets up the two others, every line of it real.

LLORCH_EXE=dist/llorch .venv/bin/python -m tests.support.record_three_hosts docs/three-hosts.svg

Needs root, for networks of their own, and sshd.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.e2e.processes import program
from tests.support import networks

RECORDING = Path(__file__).resolve().parents[2] / "build" / "recording.py"
HOME = "/home/ann"
SERVE = "llorch serve orchestrator --host blep 2>orchestrator.log &"
COMMANDS = (
    "llorch hosts add mac --url http://mac:9200",
    "llorch hosts add workstation --url http://workstation:9200",
    "llorch hosts install mac",
    "llorch hosts install workstation",
    "llorch pool list",
    'llorch jobs submit --model haiku --prompt "Write a haiku about three machines"',
)


def script(folder: Path) -> Path:
    """Write what is typed at blep, each command shown before it runs."""
    lines = ["export LLORCH_API_TOKEN=$(openssl rand -hex 32)", SERVE, "until [ -s url ]; do sleep 0.1; done; cat url"]
    for command in COMMANDS:
        lines += [f"printf '\\n$ %s\\n' {shlex.quote(command)}", command]
    lines[1] = lines[1].replace(" 2>", " >url 2>")  # its first line is shown, and nothing that it logs
    file = folder / "typed.sh"
    file.write_text("\n".join([*lines, "kill $!", "wait", ""]))
    return file


async def record(picture: Path, folder: Path) -> None:
    """Have three hosts, and draw what is seen at the first."""
    env = {"LLORCH_WORKER_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    async with networks.network(folder, ("blep", "mac", "workstation"), env) as (blep, *_):
        binaries = blep.home / ".local" / "bin"
        binaries.mkdir(parents=True)
        (binaries / "llorch").symlink_to(program()[0])
        title = f"export LLORCH_API_TOKEN=$(openssl rand -hex 32)\n$ {SERVE}"
        drawn = [sys.executable, str(RECORDING), str(picture.resolve()), title, "sh", str(script(folder))]
        # A home directory with a name that is not this machine's; what is mounted here is seen in here alone.
        at_home = f"mount -t tmpfs none /home && mkdir {HOME} && mount --bind {blep.home} {HOME} && cd {HOME}"
        inside = [*blep.inside, "sh", "-c", f"{at_home} && exec {shlex.join(drawn)}"]
        own = {
            "HOME": HOME,
            "PATH": f"{HOME}/.local/bin:{networks.BINARIES}",
            "LLORCH_SSH": blep.ssh,
            "LLORCH_URL": "http://blep:8080",
            "TERM": "xterm-256color",
        }
        await asyncio.to_thread(subprocess.run, inside, check=True, env={**blep.env, **own})


def main() -> None:
    """Record, unless that is not possible here."""
    reason = "name the executable with LLORCH_EXE" if "LLORCH_EXE" not in os.environ else networks.why_not()
    if reason:
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(record(Path(sys.argv[1]), Path(folder)))


if __name__ == "__main__":
    main()
