"""How long commands take, and how large the executable is: python -m tests.bench.cli [EXECUTABLE].

From the sources and from the executable: `--version`, `--help`, and `pool status` of another host, over HTTP and over
ssh. That host is this machine behind a real sshd, so the network is left out. Each figure is the fastest of its rounds,
which the rest of this machine disturbs least, and the middle one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.roles import llorch
from tests.e2e.processes import clean_environment
from tests.support.sshd import SshHost, ssh_host, why_not

ROUNDS = 7
SOURCES = [sys.executable, "-m", "llorch"]
EXECUTABLE = "dist/llorch"


def _took_ms(command: Sequence[str], env: Mapping[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, check=False, env=clean_environment(env), capture_output=True, text=True)
    took_ms = (time.perf_counter() - began) * 1000
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")
    return took_ms


def _measure(what: str, command: Sequence[str], env: Mapping[str, str]) -> None:
    """Print how long a command takes; the first round fills the caches and does not count."""
    _took_ms(command, env)
    rounds = [_took_ms(command, env) for _ in range(ROUNDS)]
    print(f"{what:<44} {min(rounds):6.0f} ms  {statistics.median(rounds):6.0f} ms", flush=True)


def _compare(name: str, program: Sequence[str], ssh: SshHost | None, env: Mapping[str, str]) -> None:
    _measure(f"{name} --version", [*program, "--version"], env)
    _measure(f"{name} --help", [*program, "--help"], env)
    status = ("pool", "status", "--host", "far", "--via")
    _measure(f"{name} pool status, HTTP", [*program, *status, "http"], env)
    if ssh is not None:
        ssh.install(program, {"LLORCH_CONFIG": env["LLORCH_CONFIG"]})
        _measure(f"{name} pool status, ssh", [*program, *status, "ssh"], env)


async def _main(executable: Path) -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{'fastest and middle of ' + str(ROUNDS):<44} {'fastest':>9}  {'middle':>9}")
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pool = stack.enter_context(llorch("serve", "pool", "--port", "0", "--data-dir", f"{folder}/pool"))
        ssh = None if why_not() else await stack.enter_async_context(ssh_host(folder / "ssh"))
        config = folder / "llorch.toml"
        config.write_text(f'[pool]\nport = {pool.port}\n\n[hosts.far]\nurl = "{pool.url}"\n')
        env = {"LLORCH_CONFIG": str(config), **({} if ssh is None else ssh.environment)}
        _compare("sources:", SOURCES, ssh, env)
        if executable.exists():
            _compare("executable:", [str(executable.resolve())], ssh, env)
            print(f"{'executable: size':<44} {executable.stat().st_size / 1e6:6.1f} MB")
        else:
            print(f"there is no {executable}: make exe")
    if why_not():
        print(why_not())


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1] if len(sys.argv) > 1 else EXECUTABLE)))
