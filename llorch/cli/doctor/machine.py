"""Checks of this machine: the program, its engine, its demo model, the token, the data directory."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import signal
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from llorch import __version__, program
from llorch.cli.doctor.renewal import again
from llorch.cli.doctor.result import Examined, Result, failed, ok, skipped
from llorch.cli.figures import size
from llorch.config import expanded, is_loopback
from llorch.errors import LlorchError

ENGINE_TIMEOUT_S = 60.0
LEAST_FREE_BYTES = 2**30
LEAST_TOKEN_CHARACTERS = 16
LEAST_TOKEN_KINDS = 8
NEW_TOKEN_FILE = "~/.config/llorch/token"


def version(_examined: Examined) -> Result:
    """Say what runs, and on what."""
    inside = "one-file executable" if program.one_file() else "executable with a folder of its parts"
    how = inside if program.frozen() else f"Python {platform.python_version()}"
    return ok("version", f"llorch {__version__}, {how}, {platform.system()} {platform.machine()}")


def engine(_examined: Examined) -> Result:
    """Import the engine in a process of its own, which may crash."""
    command = program.command("dev", "engine-check")
    environment = program.environment({}, outlives_parent=False)
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=ENGINE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return failed("engine", f"it was not imported within {ENGINE_TIMEOUT_S:.0f} s", fix=again())
    except OSError as error:
        return failed("engine", f"no process can be started: {error.strerror}", fix=again())
    if done.returncode == 0:
        return ok("engine", done.stdout.strip())
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return failed("engine", f"importing it ends with {name}: it was built for another processor", fix=again())
    said = done.stderr.strip().splitlines()
    return failed("engine", f"it cannot be imported: {said[-1] if said else 'it does not say why'}", fix=again())


def demo_model(_examined: Examined) -> Result:
    """Read the built-in model as the pool does before it starts a worker."""
    from roles.pool.model_cache import gguf
    from roles.pool.model_cache.catalogue import ASSETS

    path = ASSETS / "haiku.gguf"
    try:
        content = path.read_bytes()
        with path.open("rb") as file:
            found = gguf.read(file, len(content))
    except OSError as error:
        return failed("demo model", f"{path}: {error.strerror}", fix=again())
    except LlorchError as error:
        return failed("demo model", f"{path}: {error.message}", fix=again())
    digest = hashlib.sha256(content).hexdigest()
    return ok("demo model", f"haiku, {found.architecture}, {size(len(content))}, SHA-256 {digest[:16]}")


def token(examined: Examined) -> Result:
    """See that there is a token where one is needed, and that nobody guesses it."""
    settings = examined.settings
    open_to_others = [host for host in (settings.orchestrator.host, settings.pool.host) if not is_loopback(host)]
    source = "LLORCH_API_TOKEN" if os.environ.get("LLORCH_API_TOKEN") else settings.auth.token_file
    found = settings.token
    path = expanded(settings.auth.token_file or NEW_TOKEN_FILE)
    file, folder = shlex.quote(str(path)), shlex.quote(str(path.parent))
    make = f"(umask 077 && mkdir -p {folder} && head -c 32 /dev/urandom | base64 > {file})"
    if source != settings.auth.token_file or not source:
        make += f" && export LLORCH_API_TOKEN=$(cat {file})"
    if not found and open_to_others:
        return failed("token", f"none, but {open_to_others[0]} can be reached by others: no role will start", fix=make)
    if not found:
        return ok("token", "none: llorch listens on this machine alone")
    if len(found) < LEAST_TOKEN_CHARACTERS or len(set(found)) < LEAST_TOKEN_KINDS:
        return failed("token", f"the one in {source} is easily guessed: {len(found)} characters", fix=make)
    fingerprint = hashlib.sha256(found.encode()).hexdigest()[:6]
    return ok("token", f"{len(found)} characters from {source}, fingerprint {fingerprint}")


def data_directory(examined: Examined) -> Sequence[Result] | Result:
    """See that the orchestrator's directory is there or can be made, is ours, and has room."""
    from llorch.cli.dev import database

    folder = database(examined.settings, examined.data_dir).parent
    quoted = shlex.quote(str(folder))
    own = f"sudo install -d -m 700 -o {shlex.quote(_user())} {quoted}"
    try:
        there = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    except OSError as error:
        return failed("data directory", f"{folder} cannot be looked at: {error.strerror}", fix=own)
    if not there.is_dir():
        return failed("data directory", f"{there} is not a directory", fix=f"mv {shlex.quote(str(there))}{{,.aside}}")
    if not os.access(there, os.W_OK | os.X_OK):
        return failed("data directory", f"{there} cannot be written by {_user()}", fix=own)
    room = _room(there, folder)
    if there != folder:
        return [skipped("data directory", f"{folder} will be made at the first start"), room]
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o022:
        found = f"{folder} has mode {mode:04o}: others can change what is in it"
        return [failed("data directory", found, fix=f"chmod 700 {quoted}"), room]
    return [ok("data directory", f"{folder}, mode {mode:04o}"), room]


def _room(there: Path, folder: Path) -> Result:
    free = shutil.disk_usage(there).free
    if free < LEAST_FREE_BYTES:
        return failed("disk", f"{size(free)} free where {folder} is", fix="llorch jobs purge --older-than 1h")
    return ok("disk", f"{size(free)} free")


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
