"""Runs the user's own ssh: what the other host's command says and its exit status come through unchanged."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from llorch.cli.remote import CONNECT_TIMEOUT_S, SSH_FAILED, Target, diagnosis, ssh_argv
from llorch.errors import InvalidConfiguration, Unreachable
from llorch.program import foreign_environment

VARIABLE = "LLORCH_SSH"
ANSWER_TIMEOUT_S = CONNECT_TIMEOUT_S + 20


class ConnectionLost(Unreachable):
    """ssh itself has failed, or was ended: the same may succeed when it is tried again."""


def run(host: Target, command: str) -> tuple[int, str]:
    """Run *command* on *host* with our stdin, stdout and stderr.

    It gets a terminal there when all three of ours are one.

    Returns:
        The exit status, ssh's 255 included, or 128 and the signal that ended ssh; and what ssh itself had to say.
        Ctrl-C is such a signal, also where ssh ends with 255 and has nothing to say about it.

    Raises:
        Unreachable: There is no ssh here.
        InvalidConfiguration: LLORCH_SSH is not a command line.
    """
    terminal = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    with tempfile.NamedTemporaryFile(prefix="llorch-ssh-") as log:
        argv = ssh_argv(_program(), host.destination, command, log=log.name, terminal=terminal)
        sys.stdout.flush()
        with (
            _there_is_ssh(argv[0]),
            subprocess.Popen(argv, env=foreign_environment()) as process,
            _signals_reach(process) as interrupted,
        ):
            status = process.wait()
        said = Path(log.name).read_text("utf-8", "replace")
    if interrupted and status == SSH_FAILED and not said.strip():
        status = -signal.SIGINT
    return (status if status >= 0 else 128 - status), said


def ask(host: Target, command: str) -> str:
    """Return what *command* on *host* prints on stdout; empty where it cannot be run."""
    argv = ssh_argv(_program(), host.destination, command, log=os.devnull, terminal=False)
    try:
        done = subprocess.run(
            argv,
            check=False,
            env=foreign_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=ANSWER_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


def converse(host: Target, script: str, *, sent: Iterable[bytes] = ()) -> str:
    """Run a script of `sh` on *host*, with *sent* as its stdin; return what it prints on stdout.

    Raises:
        ConnectionLost: ssh failed.
        Unreachable: The script did, or there is no ssh; the message says what it said last.
    """
    with tempfile.NamedTemporaryFile(prefix="llorch-ssh-") as log, tempfile.TemporaryFile() as stderr:
        command = shlex.join(["sh", "-c", script])
        argv = ssh_argv(_program(), host.destination, command, log=log.name, terminal=False)
        with (
            _there_is_ssh(argv[0]),
            subprocess.Popen(
                argv, env=foreign_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            ) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError):  # it ended early: its status says why
                for block in sent:
                    process.stdin.write(block)
            with suppress(BrokenPipeError):  # closing sends what is left
                process.stdin.close()
            told = process.stdout.read().decode("utf-8", "replace")
        stderr.seek(0)
        said = stderr.read().decode("utf-8", "replace")
        ssh_said = Path(log.name).read_text("utf-8", "replace")
    if process.returncode == SSH_FAILED or process.returncode < 0:
        raise ConnectionLost(diagnosis(ssh_said, host))
    if process.returncode:
        last = next((line for line in reversed(said.splitlines()) if line.strip()), f"status {process.returncode}")
        raise Unreachable(f"{host.name} could not do its part: {last.strip()}")
    return told


def _program() -> list[str]:
    given = os.environ.get(VARIABLE, "")
    try:
        return shlex.split(given) or ["ssh"]
    except ValueError as error:
        raise InvalidConfiguration(f"{VARIABLE} is {given!r}: {error}") from None


@contextmanager
def _there_is_ssh(program: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unreachable(
            f"{program} cannot be run: {(error.strerror or str(error)).lower()}; install OpenSSH's client, or give "
            "the host a url and start its pool"
        ) from None


@contextmanager
def _signals_reach(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Leave it to ssh what a signal does: Ctrl-C reaches it from the terminal, the others from here.

    What is yielded gets an entry for each Ctrl-C.
    """
    interrupted: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            interrupted.append(number)
        else:
            process.send_signal(number)

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, pass_on)
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
