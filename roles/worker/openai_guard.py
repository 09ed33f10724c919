"""The process between a worker and the server that its pool's configuration has it start: ends it with the worker.

Strategy: the worker keeps a pipe to this process's stdin. When that closes, because the worker wants it or because it
was killed, the server gets SIGTERM, and after `GRACE_S` it and all it has started in its group get SIGKILL. The group
is the server's own, and so is that of this process: who kills the worker's group does not kill what cleans up behind
it. The session is the worker's: a pool knows by it what a worker uses, and kills all of it behind one that was killed.
On Linux the server dies with this process, too. Imports next to nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence

from llorch import program

GRACE_S = 10.0
POLL_S = 0.02
NOT_STARTED = 127
SIGNALLED = 128


def main(arguments: Sequence[str]) -> int:
    """Run a command until it ends or stdin closes; return its exit status, as a shell tells it.

    Args:
        arguments: The command and its arguments, as a JSON list.
    """
    command: list[str] = json.loads(arguments[0])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the server would inherit
    wakened, waker = os.pipe()
    for end in (wakened, waker):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    with contextlib.suppress(PermissionError):  # it leads a session: then nobody else is in its group
        os.setpgid(0, 0)
    environment = program.foreign_environment()
    environment.pop(program.WORKER_TOKEN_VARIABLE, None)
    try:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=environment,
            process_group=0,
            preexec_fn=program.die_with_parent,  # noqa: PLW1509 - this process has one thread
        )
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", flush=True)  # noqa: T201 - goes to the worker's log
        return NOT_STARTED
    while server.poll() is None:
        ready, _, _ = select.select([0, wakened], [], [])
        if wakened in ready:
            os.read(wakened, 512)
        if 0 in ready and not os.read(0, 512):
            _end(server)
    program.signal_group(server.pid, signal.SIGKILL)  # what it has started and left
    return server.returncode if server.returncode >= 0 else SIGNALLED - server.returncode


def _end(server: subprocess.Popen[bytes]) -> None:
    program.signal_group(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while server.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    program.signal_group(server.pid, signal.SIGKILL)
    server.wait()
