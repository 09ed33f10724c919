"""Builds dist/llorch, one file that needs no Python, and tries it the way its first user would.

`--flavour torch` builds dist/llorch-torch, with the packages of the torch engine; `make exe-torch` makes what it needs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
FLAVOURS = ("torch",)
DEMO_TIMEOUT_S = 120


def build(flavour: str) -> Path:
    """Freeze the program with llorch.spec; return the executable.

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
            env=os.environ | {"PYINSTALLER_CONFIG_DIR": str(Path(work, "cache")), "LLORCH_FLAVOUR": flavour},
        )
    name = f"llorch-{flavour}" if flavour else "llorch"
    return DIST / (f"{name}.exe" if sys.platform == "win32" else name)


def run(executable: Path, *arguments: str, folder: str, timeout_s: float = 60) -> str:
    """Run the executable in *folder* and return what it printed; a failure ends the build."""
    done = subprocess.run(
        [str(executable), *arguments],
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


def try_out(executable: Path) -> None:
    """Ask the executable for its version and its help, and let it run the demo, far from the sources."""
    with tempfile.TemporaryDirectory(prefix="llorch-try-") as folder:
        start_up_s = []
        for _ in range(3):
            began = time.perf_counter()
            version = run(executable, "--version", folder=folder)
            start_up_s.append(time.perf_counter() - began)
        commands = run(executable, "--help", folder=folder)
        print(f"{version.strip()}: {executable.stat().st_size / 1e6:.0f} MB, starts in {min(start_up_s):.2f} s")
        if " demo " in commands:
            began = time.perf_counter()
            print(run(executable, "demo", folder=folder, timeout_s=DEMO_TIMEOUT_S).strip())
            print(f"The demo took {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--flavour", choices=FLAVOURS, default="", help="which engine it has besides [none]")
    try_out(build(parser.parse_args().flavour))
