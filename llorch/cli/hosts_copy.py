"""Copies an executable to a host by ssh; a copy that breaks goes on from what has arrived."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from llorch.cli import hosts_copy_plan as plan
from llorch.cli.figures import bar, size
from llorch.cli.remote import Target
from llorch.cli.remote_ssh import ConnectionLost, converse
from llorch.errors import Unreachable

BLOCK_BYTES = 1 << 18
TRIES = 4
AGAIN_S = 2.0
Doing = Callable[[str], None]
"""Told what is going on."""


def sha256(file: Path) -> str:
    """Return the hash of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def copy(executable: Path, host: Target, *, digest: str, doing: Doing) -> None:
    """Make *executable*, whose hash is *digest*, the one of *host*.

    Where the connection is lost it is tried again, and only what is missing is sent. What another command has left
    there is gone on from as well.

    Raises:
        Unreachable: ssh has failed once too often, or the host does not take it; the message says why.
    """
    for left in reversed(range(TRIES)):
        try:
            _send(executable, host, digest=digest, doing=doing)
        except ConnectionLost as error:
            if not left:
                raise Unreachable(
                    f"{error.message}; what has arrived is kept on {host.name}, and the same command goes on from there"
                ) from error
            doing(f"the connection to {host.name} was lost, trying again …")
            time.sleep(AGAIN_S)
        else:
            return


def _send(executable: Path, host: Target, *, digest: str, doing: Doing) -> None:
    size_bytes = executable.stat().st_size
    there = plan.parts(converse(host, plan.look(digest)))
    begin = plan.best(there, size_bytes=size_bytes, sha256_of=lambda count: _sha256_of_first(executable, count))
    sent = _blocks(executable, begin.size_bytes if begin else 0, doing)
    converse(host, plan.receive(digest, size_bytes=size_bytes, begin=begin), sent=sent)


def _sha256_of_first(file: Path, count: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while count and (block := opened.read(min(BLOCK_BYTES, count))):
            digest.update(block)
            count -= len(block)
    return digest.hexdigest()


def _blocks(file: Path, begin_bytes: int, doing: Doing) -> Iterator[bytes]:
    there = f", {size(begin_bytes)} were there" if begin_bytes else ""
    with file.open("rb") as opened:
        total, done = os.fstat(opened.fileno()).st_size, opened.seek(begin_bytes)
        while block := opened.read(BLOCK_BYTES):
            doing(f"copying {bar(done, total)} of {size(total)}{there}")
            yield block
            done += len(block)
