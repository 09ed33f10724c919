"""Which executable is copied to a host: this one, or one that was built for hosts of another kind."""

from __future__ import annotations

import os
import platform
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from llorch import program
from llorch.config import expanded
from llorch.errors import InvalidConfiguration

OURS = f"{platform.system()} {platform.machine()}"
ANSWER_S = 60.0
_ELF, _MACH_O = b"\x7fELF\x02\x01", b"\xcf\xfa\xed\xfe"
_ELF_MACHINES = {62: "x86_64", 183: "aarch64", 243: "riscv64"}
_MACH_O_MACHINES = {0x0100_0007: "x86_64", 0x0100_000C: "arm64"}


@dataclass(frozen=True, slots=True)
class Executable:
    """A file to copy, and the system it is for, as `uname -s -m` calls that."""

    path: Path
    system: str


def chosen(given: str | None) -> Executable:
    """Return the executable that is meant: *given*, else the one that runs now.

    Raises:
        InvalidConfiguration: It is not one, or not llorch.
    """
    if given is None:
        if not program.one_file():
            raise InvalidConfiguration(
                "only the one-file executable can be copied to another host: `make exe`, then dist/llorch hosts "
                "install …, or name one with --executable"
            )
        return Executable(Path(sys.executable), OURS)
    path = expanded(given)
    try:
        with path.open("rb") as file:
            system = system_of(file.read(20))
    except OSError as error:
        raise InvalidConfiguration(f"--executable {path}: {(error.strerror or str(error)).lower()}") from None
    if not system:
        raise InvalidConfiguration(f"--executable {path}: this is no program of Linux or macOS; `make exe` makes one")
    if (path.parent / program.PARTS).is_dir():
        raise InvalidConfiguration(
            f"--executable {path}: it needs the folder {program.PARTS} beside it, and one file is copied; "
            "`make exe` makes one"
        )
    if system == OURS and not _is_llorch(path):
        raise InvalidConfiguration(f"--executable {path}: this is not llorch; `make exe` makes it")
    return Executable(path, system)


def system_of(head: bytes) -> str:
    """Return what system a program is for, by the first 20 bytes of its file; empty where it is none that we know.

    Sources of the formats: elf(5), and mach-o/loader.h of macOS.
    """
    if head.startswith(_ELF) and len(head) >= 20:
        (machine,) = struct.unpack_from("<H", head, 18)
        return f"Linux {_ELF_MACHINES[machine]}" if machine in _ELF_MACHINES else ""
    if head.startswith(_MACH_O) and len(head) >= 8:
        (machine,) = struct.unpack_from("<I", head, 4)
        return f"Darwin {_MACH_O_MACHINES[machine]}" if machine in _MACH_O_MACHINES else ""
    return ""


def _is_llorch(path: Path) -> bool:
    """Tell whether a program of this system says that it is llorch."""
    if not os.access(path, os.X_OK):
        return False
    try:
        said = subprocess.run(
            [path.absolute(), "--version"],
            check=False,
            env=program.environment({}, outlives_parent=True),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=ANSWER_S,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.startswith(b"llorch ")
