"""Adds and removes sections of the configuration file, and sets a key; every other byte stays as its owner wrote it.

The text is edited as text. Before anything is written, the result is parsed: unless it says exactly what is meant,
the file stays as it is.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from llorch.errors import InvalidConfiguration
from llorch.flush import flush

Table = dict[str, object]
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = re.compile(r"\s*\[")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")  # a text may hold what str.splitlines takes for the end of one
_STRING = r"""("(?:[^"\\\r\n]|\\.)*"|'[^'\r\n]*')"""


def with_section(text: str, path: tuple[str, str], values: Mapping[str, str]) -> str:
    """Return *text* with a new section at its end.

    Args:
        text: A TOML file.
        path: The section's name: `("hosts", "mac")` is `[hosts.mac]`.
        values: Its keys.

    Raises:
        InvalidConfiguration: The section is there already, or cannot be added by adding lines to the end.
    """
    outer, name = path
    meant = _parsed(text)
    table = meant.setdefault(outer, {})
    if not isinstance(table, dict):
        raise InvalidConfiguration(f"{outer} is not a section, so that nothing can be added to it")
    if name in table:
        raise InvalidConfiguration(f"{_header(path)} is there already")
    table[name] = dict(values)
    return _appended(text, meant, _header(path), values)


def without_section(text: str, path: tuple[str, str]) -> str:
    """Return *text* without a section: from its header to its last key, and the blank line that set it off.

    Raises:
        InvalidConfiguration: There is no such section, or it is not written as one of its own.
    """
    outer, name = path
    meant = _parsed(text)
    table = meant.get(outer)
    if not isinstance(table, dict) or name not in table:
        raise InvalidConfiguration(f"there is no {_header(path)}")
    del table[name]
    lines = text.splitlines(keepends=True)
    headers = [number for number, line in enumerate(lines) if _HEADER.match(line)]
    for begin in headers:
        if name not in lines[begin]:
            continue
        for end in [number for number in headers if number > begin] + [len(lines)]:
            result = "".join(_cut(lines, begin, end))
            if _says(result, meant, outer):
                return result
    raise InvalidConfiguration(f"{_header(path)} is not written as a section of its own; remove it by hand")


def with_value(text: str, path: tuple[str, str], value: str) -> str:
    """Return *text* with a key that has *value*: in its place if it is there, else as the first of its section.

    Args:
        text: A TOML file.
        path: The section and the key: `("pool", "orchestrator")`.
        value: What it is from now on.

    Raises:
        InvalidConfiguration: The key is not written as `key = "text"` in a section of its own.
    """
    outer, name = path
    meant = _parsed(text)
    if outer not in meant:
        meant[outer] = {name: value}
        return _appended(text, meant, _header((outer,)), {name: value})
    table = meant[outer]
    if not isinstance(table, dict):
        raise InvalidConfiguration(f"{outer} is not a section, so that {name} cannot be set in it")
    there, table[name] = name in table, value
    lines, new = _LINE.findall(text), _quoted(value)
    end = "\r\n" if "\r\n" in text else "\n"
    key = re.compile(rf"""(\s*["']?{re.escape(name)}["']?\s*=\s*){_STRING}(?=\s*(?:#|$))""")
    for number, line in enumerate(lines):
        place = (key if there else _HEADER).match(line)
        if place is None:
            continue
        changed = f"{place[1]}{new}{line[place.end() :]}" if there else f"{line.rstrip()}{end}{name} = {new}{end}"
        result = "".join([*lines[:number], changed, *lines[number + 1 :]])
        if _says(result, meant, outer):
            return result
    raise InvalidConfiguration(f"[{outer}] {name} is not written as a line of its own; set it by hand to {value}")


def edit(file: Path, change: Callable[[str], str]) -> None:
    """Give *file* the text that *change* makes of its present one, all or nothing; a missing file is empty.

    Mode and owner stay, a link stays a link, and two at once do not lose what the other has written.

    Raises:
        InvalidConfiguration: *change* refused, or the file cannot be read or written.
    """
    try:
        real = file.resolve()
        if real.exists() and not real.is_file():
            raise InvalidConfiguration("is no regular file, and only those are changed")
        real.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = os.open(real.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            before = real.read_bytes().decode() if real.exists() else ""
            _replace(real, change(before))
            flush(folder)
        finally:
            os.close(folder)
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"configuration: {file}: {error.message}") from None
    except UnicodeDecodeError as error:
        raise InvalidConfiguration(f"configuration: {file}: not TOML: {error}") from None
    except RuntimeError:  # what Python makes of ELOOP
        raise InvalidConfiguration(f"configuration: {file}: is a link to itself") from None
    except OSError as error:
        raise InvalidConfiguration(f"configuration: {file}: cannot be changed: {error.strerror}") from None


def _replace(file: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    new = Path(name)
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(text.encode())
            opened.flush()
            flush(opened.fileno())
        if file.exists():
            kept = file.stat()
            if (kept.st_uid, kept.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(new, kept.st_uid, kept.st_gid)
            new.chmod(kept.st_mode & 0o7777)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def _parsed(text: str) -> Table:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfiguration(f"not TOML: {error}") from None


def _appended(text: str, meant: Table, header: str, values: Mapping[str, str]) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text or text.endswith("\n") else end
    lines = [*([""] if text.strip() else []), header, *(f"{key} = {_quoted(v)}" for key, v in values.items())]
    return _checked(text + gap + "".join(line + end for line in lines), meant, f"{header} cannot be added here")


def _checked(text: str, meant: Table, problem: str) -> str:
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfiguration(f"{problem}: {error}; add it by hand") from None
    if found != meant:
        raise InvalidConfiguration(f"{problem}; add it by hand")
    return text


def _says(text: str, meant: Table, outer: str) -> bool:
    """Tell whether *text* means *meant*; a section `outer` that has become empty may be gone."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    if meant.get(outer) == {}:
        found.setdefault(outer, {})
    return found == meant


def _cut(lines: list[str], begin: int, end: int) -> list[str]:
    """Return *lines* without the section between two headers; blank lines and comments behind its keys are kept."""
    last = next(n for n in range(end - 1, begin - 1, -1) if lines[n].strip() and not lines[n].lstrip().startswith("#"))
    before, after = lines[:begin], lines[last + 1 :]
    if not before and after and not after[0].strip():
        del after[0]
    elif before and not before[-1].strip() and (not after or not after[0].strip()):
        before.pop()
    return before + after


def _header(path: Sequence[str]) -> str:
    return f"[{'.'.join(part if _BARE.fullmatch(part) else _quoted(part) for part in path)}]"


def _quoted(text: str) -> str:
    """Return a TOML basic string: JSON's escapes are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
