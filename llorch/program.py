"""How this program starts itself again as another process: from source or as the one-file executable."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ENGINE_COMMAND = "__engine"
WORKER_COMMAND = "__worker"
GUARD_COMMAND = "__guard"
WORKER_TOKEN_VARIABLE = "LLORCH_WORKER_TOKEN"
ECHO_S = 0.5
LAUNCHER_CHECK_S = 1.0
HELD = ".llorch-held"
"""The mark of a folder that its processes hold."""
PARTS = "_internal"
"""What PyInstaller calls the folder beside an executable that is not one file."""
_PR_SET_PDEATHSIG = 1


def frozen() -> bool:
    """Tell whether this is an executable that brings its own Python."""
    return bool(getattr(sys, "frozen", False))


def one_file() -> bool:
    """Tell whether this is the one-file executable, not one with a folder of its parts beside it."""
    return frozen() and Path(getattr(sys, "_MEIPASS", "")) != Path(sys.executable).with_name(PARTS)


def called() -> str:
    """Return what a person types to run this program: `llorch` where a shell finds one, else the path to it."""
    path = Path(sys.executable) if frozen() else Path(sys.executable).with_name("llorch")
    if shutil.which("llorch") or not path.exists():
        return "llorch"
    near = os.path.relpath(path)
    return shlex.quote(str(path) if near.startswith("..") else near if "/" in near else f"./{near}")


def command(*arguments: str) -> list[str]:
    """Return the command line that runs `llorch` with *arguments*."""
    return [sys.executable, *arguments] if frozen() else [sys.executable, "-m", "llorch", *arguments]


def with_extra(name: str) -> str:
    """Say how this program gets the packages of an extra of its own; no package index has llorch."""
    if not frozen():
        return f"install them in llorch's checkout: .venv/bin/pip install -e '.[{name}]'"
    if name == "torch":
        return "use the executable of `make exe-torch`, which has them inside"
    return "run llorch from its sources, where they can be installed"


def environment(extra: Mapping[str, str], *, outlives_parent: bool) -> dict[str, str]:
    """Return the environment for such a process.

    Args:
        extra: Variables to add.
        outlives_parent: The process may go on when this one ends: a one-file executable must then unpack its own
            copy, because the parent's folder is removed with the parent.
    """
    env = {**os.environ, **extra}
    if frozen() and outlives_parent:
        env["PYINSTALLER_RESET_ENVIRONMENT"] = "1"
    return env


def foreign_environment() -> dict[str, str]:
    """Return the environment for a program that is not ours.

    The one-file executable has put its own libraries first, which are not those that others were built with.
    """
    env = {**os.environ}
    if frozen():
        for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
            env.pop(name, None)
            if f"{name}_ORIG" in env:
                env[name] = env.pop(f"{name}_ORIG")
    return env


def hold(folder: Path) -> int:
    """Hold a temporary folder until this process ends, however it ends, or the number that this returns is closed.

    Raises:
        OSError: It cannot be opened.
    """
    import fcntl

    number = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):  # a file system without locks: then nobody removes it
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        (folder / HELD).touch()
    return number


def hold_own() -> None:
    """Hold the folder that the executable has unpacked itself into, where this is the one file."""
    if one_file():
        with contextlib.suppress(OSError):
            hold(Path(sys._MEIPASS))  # type: ignore[attr-defined]  # noqa: SLF001 - PyInstaller's documented name


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group, where anybody is left in it."""
    # macOS says EPERM, not ESRCH, of a group that has only zombies left.
    with contextlib.suppress(ProcessLookupError, *([PermissionError] if sys.platform == "darwin" else [])):
        os.killpg(group, number)


def die_with_parent() -> None:
    """Arrange for this process to be killed when the one that started it ends. Linux only; does nothing elsewhere."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with_launcher() -> None:
    """Let `kill -9` end this process too where it hits the one-file executable's first process.

    That one unpacks the program and then waits for this one; it is the one whose id the shell, a service manager and
    our own records have. Other signals it passes on.
    """
    parent = os.getppid()
    if not frozen() or not _says_what_we_do(parent):
        return
    if sys.platform == "linux":
        die_with_parent()
    else:
        import threading

        threading.Thread(target=die_without, args=(parent,), name="launcher", daemon=True).start()
    if os.getppid() != parent:  # it died before the lines above
        signal.raise_signal(signal.SIGKILL)


def die_without(parent: int) -> None:
    """Kill this process soon after *parent* is its parent no more, where the system does not do that."""
    while os.getppid() == parent:
        time.sleep(LAUNCHER_CHECK_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _says_what_we_do(process_id: int) -> bool:
    """Tell whether a process has the command line of this one."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return Path(f"/proc/{process_id}/cmdline").read_bytes() == Path("/proc/self/cmdline").read_bytes()
    else:
        import psutil

        with contextlib.suppress(psutil.Error):
            return psutil.Process(process_id).cmdline() == psutil.Process().cmdline()
    return False


class Echo:
    """Tells a second signal from an echo of the first.

    Ctrl-C reaches every process of a command. Of the one-file executable those are two, and the first, which only waits
    for this one, sends it on: one key, two signals. So there the same signal counts again after `ECHO_S` only.
    """

    def __init__(self) -> None:
        self._heard_s: dict[int, float] = {}

    def heard(self, number: int) -> bool:
        """Note a signal; tell whether it is no more than an echo."""
        now_s = time.monotonic()
        before_s = self._heard_s.setdefault(number, now_s)
        return one_file() and 0 < now_s - before_s < ECHO_S
