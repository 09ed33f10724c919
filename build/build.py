"""Builds dist/llorch, one file that needs no Python, and tries it the way its first user would."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
EXECUTABLE = DIST / ("llorch.exe" if sys.platform == "win32" else "llorch")
DEMO_TIMEOUT_S = 120


def build() -> None:
    """Freeze the program with llorch.spec.

    Work folder and cache are temporary: PyInstaller's own default is ./build, which holds sources here.
    """
    with tempfile.TemporaryDirectory(prefix="llorch-build-") as work:
        subprocess.run(
            [
                *(sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR"),
                *("--workpath", str(Path(work, "work")), "--distpath", str(DIST)),
                str(ROOT / "llorch.spec"),
            ],
            check=True,
            cwd=ROOT,
            env=os.environ | {"PYINSTALLER_CONFIG_DIR": str(Path(work, "cache"))},
        )


def run(*arguments: str, folder: str, timeout_s: float = 30) -> str:
    """Run the executable in *folder* and return what it printed; a failure ends the build."""
    done = subprocess.run(
        [str(EXECUTABLE), *arguments],
        check=False,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
    )
    if done.returncode:
        sys.exit(f"llorch {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def try_out() -> None:
    """Ask the executable for its version and its help, and let it run the demo, far from the sources."""
    with tempfile.TemporaryDirectory(prefix="llorch-try-") as folder:
        start_up_s = []
        for _ in range(3):
            began = time.perf_counter()
            version = run("--version", folder=folder)
            start_up_s.append(time.perf_counter() - began)
        commands = run("--help", folder=folder)
        print(f"{version.strip()}: {EXECUTABLE.stat().st_size / 1e6:.0f} MB, starts in {min(start_up_s):.2f} s")
        if " demo " in commands:
            began = time.perf_counter()
            print(run("demo", folder=folder, timeout_s=DEMO_TIMEOUT_S).strip())
            print(f"The demo took {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    build()
    try_out()
