"""The scripts of `hosts remove --purge`, run by a real shell over what a host may have."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread

from llorch.cli.hosts_plan import data_folder
from llorch.cli.hosts_purge import LOOK, found, removal, script

MANNERLY = (
    "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nprint(flush=True)\nsignal.pause()"
)
FILES = (
    ".local/bin/llorch",
    ".local/bin/.llorch.0123456789abcdef.7.part",
    ".config/llorch/token",
    ".local/share/llorch/pool/models/m.gguf",
    ".local/share/llorch/pool.log",
    ".local/share/llorch/pool.pid",
)


def sh(text: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a script as the user whose home this is."""
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    return subprocess.run(["sh", "-c", text], check=True, capture_output=True, text=True, env=env)


def purge(home: Path) -> None:
    """Do what the command does."""
    there = found(sh(LOOK, home).stdout)
    sh(script(removal(there), data=data_folder(there.configuration or "")), home)


def put(home: Path, name: str, text: str = "x") -> Path:
    """Write a file below the home directory."""
    file = home / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def left(home: Path) -> list[str]:
    """Return all that is there."""
    return sorted(str(path.relative_to(home)) for path in home.rglob("*"))


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run something that ends when it is asked to, in a session of its own."""
    command = [sys.executable, "-c", MANNERLY, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as started:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
        started.kill()


def test_nothing_is_left_of_an_installed_host(tmp_path: Path) -> None:
    for name in FILES:
        put(tmp_path, name)
    (tmp_path / ".local/bin/llorch-pool").symlink_to("llorch")
    (tmp_path / ".local/bin/pool-ctl").symlink_to(tmp_path / ".local/bin/llorch")
    there = found(sh(LOOK, tmp_path).stdout)

    purge(tmp_path)

    assert (there.program, there.unit, there.configuration) == (True, False, None)
    assert 0 < there.models_bytes <= (there.data_bytes or 0)
    assert left(tmp_path) == []
    assert found(sh(LOOK, tmp_path).stdout).nothing


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    config = "[pool]\nport = 9300\n"
    for name in (*FILES, ".local/bin/other", ".local/share/llorch/orchestrator/queue.db"):
        put(tmp_path, name)
    put(tmp_path, ".config/llorch/llorch.toml", config)
    (tmp_path / ".local/bin/pool-ctl").symlink_to("other")

    purge(tmp_path)

    assert [name for name in left(tmp_path) if not (tmp_path / name).is_dir()] == [
        ".config/llorch/llorch.toml",
        ".local/bin/other",
        ".local/bin/pool-ctl",
        ".local/share/llorch/orchestrator/queue.db",
    ]
    assert (tmp_path / ".config/llorch/llorch.toml").read_text() == config


def test_the_pool_and_its_workers_end_and_nobody_else(tmp_path: Path) -> None:
    with ExitStack() as stack:
        pool, worker, stranger = (
            stack.enter_context(process(*words))
            for words in (("llorch", "serve", "pool"), ("--worker-id", "w-1"), ("--worker-id", "w-3"))
        )
        put(tmp_path, ".local/share/llorch/pool.pid", f"{pool.pid}\n")
        for name, pid in (("w-1", worker.pid), ("w-2", stranger.pid)):
            record = json.dumps({"record": {"worker_id": name, "pid": pid}}, separators=(",", ":"))
            put(tmp_path, f".local/share/llorch/pool/workers/{name}.json", record)
        for child in (pool, worker):  # somebody has to take note of their end, as init does on a host
            Thread(target=child.wait, daemon=True).start()

        purge(tmp_path)
        codes = [ended.poll() for ended in (pool, worker, stranger)]

    assert codes == [0, 0, None]
    assert left(tmp_path) == []
