"""Which process is which, asked of real ones."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from llorch.program import WORKER_TOKEN_VARIABLE
from roles.pool.worker_lifecycle import identity

WORKER = "8f2b9c66-1111-4222-8333-944444444444"
STAY = "print('here', flush=True); input()"
PARENT = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=0); "
    "print(child.pid, flush=True); input()"
)


@contextmanager
def started(script: str, *, token: str = "t", leader: bool = True) -> Iterator[tuple[int, str]]:
    """Run a script to its first line, with a worker's id in its command line and a token in its environment."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, WORKER_TOKEN_VARIABLE: token},
        start_new_session=leader,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.pid, process.stdout.readline()
        process.stdin.close()


def test_a_process_keeps_its_birth_and_no_other_has_it() -> None:
    with started(STAY) as (one, _), started(STAY) as (two, _):
        births = [identity.birth(pid) for pid in (one, two, one)]

    assert births[0] == births[2] != ""
    assert (one, births[0]) != (two, births[1])


def test_what_has_ended_has_no_birth_also_while_its_parent_has_not_noticed() -> None:
    with started("print(1)") as (pid, _):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

        assert identity.birth(pid) == ""
        assert identity.look(pid, worker_id=WORKER, token="t") is None

    assert identity.birth(pid) == ""


def test_where_there_is_no_proc_a_birth_is_the_moment_that_no_clock_moves() -> None:
    with started(STAY) as (pid, _):
        moments = [identity.began_s(psutil.Process(pid)) for _ in range(2)]

    assert moments[0] == moments[1] > 0
    macs = ast.parse(Path(psutil.__file__).with_name("_psosx.py").read_text("utf-8"))
    made = [node for node in ast.walk(macs) if isinstance(node, ast.FunctionDef) and node.name == "create_time"]
    assert [[argument.arg for argument in one.args.args] for one in made] == [["self", "monotonic"]]


def test_a_worker_is_known_by_its_id_and_its_token() -> None:
    with started(STAY) as (pid, _):
        own = identity.look(pid, worker_id=WORKER, token="t")
        other = identity.look(pid, worker_id="another", token="u")

        assert own == identity.Seen(pid, identity.birth(pid), named=True, trusted=True)
        assert other is not None
        assert (other.named, other.trusted) == (False, False)


def test_a_worker_whose_process_was_never_written_down_is_found() -> None:
    with started(STAY, token="u"), started(STAY, leader=False), started(STAY) as (pid, _):
        found = identity.find(WORKER, token="t")

        assert found is not None
        assert found.pid == pid
        assert identity.find(WORKER, token="v") is None


def test_a_worker_that_is_just_being_killed_is_known_or_gone() -> None:
    large = "held = bytearray(60_000_000)\n" + STAY  # it takes a moment to end
    seen: list[identity.Seen] = []
    for _ in range(5):
        with started(large) as (pid, _):
            os.kill(pid, signal.SIGKILL)
            while (found := identity.look(pid, worker_id=WORKER, token="t")) is not None:
                seen.append(found)

    assert {(found.named, found.trusted) for found in seen} <= {(True, True)}


def test_a_session_is_its_members_without_its_leader() -> None:
    with started(PARENT) as (pid, line):
        child = int(line)

        assert identity.members(pid) == [child]
        assert identity.members(pid, token="t") == [child]
        assert identity.members(pid, token="u") == []
        os.kill(child, 9)


def test_a_member_is_known_while_it_becomes_another_program(tmp_path: Path) -> None:
    again = tmp_path / "again.sh"
    again.write_text(f'exec sh "{again}"\n', "utf-8")
    with started(PARENT.replace("[sys.executable, '-c', 'input()']", f"['sh', {str(again)!r}]")) as (pid, line):
        child = int(line)
        try:
            assert [identity.members(pid, token="t") for _ in range(300)] == [[child]] * 300
        finally:
            os.kill(child, 9)
