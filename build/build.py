"""Builds dist/llorch, one file that needs no Python, and tries it the way its first user would.

`--flavour torch` builds the folder dist/llorch-torch, with the packages of the torch engine and a program of that name
in it; `make exe-torch` makes what it needs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
FLAVOURS = ("torch",)
TIMEOUT_S = 120
TORCH_TIMEOUT_MS = "60000"


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
    return (DIST / name if flavour else DIST) / (f"{name}.exe" if sys.platform == "win32" else name)


def run(executable: Path, *arguments: str, folder: str, timeout_s: float = TIMEOUT_S) -> str:
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
        print(f"{version.strip()}: {size_bytes(executable) / 1e6:.0f} MB, starts in {min(start_up_s):.2f} s")
        if " demo " in commands:
            began = time.perf_counter()
            print(run(executable, "demo", folder=folder).strip())
            print(f"The demo took {time.perf_counter() - began:.1f} s")


def try_torch(executable: Path) -> None:
    """Have it answer a conversation with a small checkpoint: all that the engine imports must be inside."""
    sys.path.insert(0, str(ROOT))
    from tests.support import checkpoints

    with tempfile.TemporaryDirectory(prefix="llorch-try-") as folder:
        data, log, asked = Path(folder, "data"), Path(folder, "log"), Path(folder, "asked.json")
        checkpoint = checkpoints.make(data / "models" / "random")
        asked.write_text(json.dumps([{"role": "user", "content": "bake kilo"}]))
        command = ["serve", "all", "--port", "0", "--pool-port", "0", "--data-dir", str(data)]
        began = time.perf_counter()
        with (
            log.open("w") as told,
            subprocess.Popen(
                [executable, *command], cwd=folder, stdout=subprocess.PIPE, stderr=told, text=True
            ) as role,
        ):
            url = role.stdout.readline().strip() if role.stdout is not None else ""
            question = ("--model", f"file:{checkpoint}", "--messages", str(asked), "--max-tokens", "32", "--url", url)
            try:
                text = run(executable, "jobs", "submit", *question, "--timeout-ms", TORCH_TIMEOUT_MS, folder=folder)
            except SystemExit:
                print(log.read_text(), file=sys.stderr)
                raise
            finally:
                role.terminate()
        if not text.strip():
            sys.exit(f"the torch engine wrote nothing:\n{log.read_text()}")
        took_s = time.perf_counter() - began
        print(f"The torch engine answered with a random checkpoint after {took_s:.1f} s: {text.strip()[:60]!r}")


def size_bytes(executable: Path) -> int:
    """Return how large it is, with what is beside it where it is not one file."""
    inside = executable.parent if executable.parent != DIST else executable
    files = inside.rglob("*") if inside.is_dir() else [inside]
    return sum(path.lstat().st_size for path in files if path.is_file())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--flavour", choices=FLAVOURS, default="", help="which engine it has besides [none]")
    flavour = parser.parse_args().flavour
    built = build(flavour)
    try_out(built)
    if flavour == "torch":
        try_torch(built)
