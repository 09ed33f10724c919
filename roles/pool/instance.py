"""What tells a pool from others with its id, also after a restart at another address: a secret in its data directory.

Only one process at a time has a data directory, so that whoever knows its secret is the successor of whoever knew it
before. A copy of the directory on another machine is another pool. Blocks.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import uuid
from pathlib import Path

from roles.pool import mac

SECRET_BYTES = 32


def instance(data: Path) -> str:
    """Return the mark of the pool that has *data* on this machine; makes its secret if there is none.

    Raises:
        OSError: The secret can be neither read nor written.
    """
    file = data / "instance"
    secret = _read(file)
    if len(secret) != SECRET_BYTES:
        secret = secrets.token_bytes(SECRET_BYTES)
        new = file.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            target.write(secret)
        new.replace(file)
    own = mac.machine_id()
    return mark(secret, host=own or socket.gethostname(), node=0 if own else uuid.getnode())


def mark(secret: bytes, *, host: str, node: int) -> str:
    """Return what a pool shows of its secret: nothing that the secret could be found from, nor used elsewhere."""
    return hashlib.sha256(b"%b %b %d" % (secret, host.encode("utf-8", "replace"), node)).hexdigest()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
