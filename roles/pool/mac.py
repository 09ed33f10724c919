"""What a Mac's own tools say of the machine itself. Starts short-lived programs; on other systems there is nothing."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Sequence

_HERE = sys.platform == "darwin"
TOOL_TIMEOUT_S = 10.0
IDENTITY = ("ioreg", "-rd1", "-c", "IOPlatformExpertDevice")
PROCESSOR = ("sysctl", "-n", "machdep.cpu.brand_string")
_UUID = re.compile(r'"IOPlatformUUID" = "([0-9A-Fa-f-]+)"')


@functools.cache
def machine_id() -> str:
    """Return what tells this Mac from others, and stays; empty elsewhere.

    Its name is another one in each network, and since macOS 27 programs see the same hardware address on all Macs.
    """
    return uuid_in(_told(IDENTITY))


@functools.cache
def processor() -> str:
    """Return what its processor is called; empty elsewhere."""
    return _told(PROCESSOR).strip()


def uuid_in(text: str) -> str:
    """Return the machine's UUID from what `ioreg` prints; empty where it is not told. Pure."""
    found = _UUID.search(text)
    return found[1] if found else ""


def _told(command: Sequence[str]) -> str:
    if not _HERE:
        return ""
    try:
        return subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            timeout=TOOL_TIMEOUT_S,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
