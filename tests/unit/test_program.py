"""How the program knows itself: as the one-file executable, one key must not count as two signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from llorch.program import Echo, called, signal_group, with_extra


def heard(monkeypatch: pytest.MonkeyPatch, *at_s: float, numbers: tuple[int, ...] = ()) -> list[bool]:
    """Return which of the signals at those times are echoes."""
    times = iter(at_s)
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    echo = Echo()
    return [echo.heard(number) for number in numbers or [signal.SIGINT] * len(at_s)]


def test_the_executable_takes_a_signal_that_comes_again_at_once_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert heard(monkeypatch, 10.0, 10.01, 10.4, 11.0, 11.1) == [False, True, True, False, False]


def test_another_signal_is_no_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert heard(monkeypatch, 10.0, 10.1, numbers=(signal.SIGINT, signal.SIGTERM)) == [False, False]


def test_an_executable_with_a_folder_of_its_parts_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", str(Path(sys.executable).with_name("_internal")), raising=False)
    assert heard(monkeypatch, 10.0, 10.01) == [False, False]


def test_from_source_every_signal_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert heard(monkeypatch, 10.0, 10.01) == [False, False]


@pytest.mark.parametrize(
    ("frozen", "extra", "said"),
    [
        (False, "torch", "in llorch's checkout: .venv/bin/pip install -e '.[torch]'"),
        (True, "torch", "make exe-torch"),
        (True, "ctransformers", "from its sources"),
    ],
)
def test_packages_of_an_extra_come_from_the_checkout_or_in_another_executable(
    frozen: bool, extra: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)

    assert said in with_extra(extra)


def test_a_group_gets_a_signal_as_long_as_anybody_is_in_it() -> None:
    with subprocess.Popen(["sleep", "60"], process_group=0) as process:
        signal_group(process.pid, signal.SIGTERM)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        signal_group(process.pid, signal.SIGKILL)  # nobody but a zombie

    signal_group(process.pid, signal.SIGKILL)

    assert process.returncode == -signal.SIGTERM


CHILD = (
    "import os, threading; from llorch.program import die_without; "
    "threading.Thread(target=die_without, args=(os.getppid(),), daemon=True).start(); "
    "print(os.getpid(), flush=True); threading.Event().wait()"
)
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def test_where_the_system_does_not_do_it_a_process_ends_itself_after_its_launcher() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        child = psutil.Process(int(launcher.stdout.readline()))
        ran = child.status() != psutil.STATUS_ZOMBIE
        launcher.kill()
        rest = launcher.stdout.read()  # until the child has let go of it

    assert ran
    assert rest == b""


def test_a_person_types_the_name_where_a_shell_finds_it_and_else_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Path(sys.executable).with_name("llorch")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(program.parent.parent)
    near = called()
    monkeypatch.chdir(tmp_path)
    far = called()
    (tmp_path / "llorch").touch(mode=0o755)

    assert (near, far, called()) == (f"{program.parent.name}/llorch", str(program), "llorch")


STOPPED_WHILE_IT_IMPORTS = """
import os, signal, sys

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Stop())
from llorch.cli import run
sys.exit(run(["--help"]))
"""


def test_ctrl_c_before_everything_is_imported_ends_it_without_a_word() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_WHILE_IT_IMPORTS], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
