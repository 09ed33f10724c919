"""The database as a file: look at its health, copy it while it is in use, put a copy back. Not part of the daemon.

Strategy of a backup: one read transaction is held from the first page to the last. In WAL mode it keeps what it
copies as it was at the beginning, whatever is written meanwhile, and blocks no writer; without it, SQLite starts a
copy again at every write by another process, and a busy orchestrator would never be done.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from llorch.errors import InvalidConfiguration, LlorchError
from llorch.flush import flush
from roles.orchestrator.state.database import MIGRATIONS, lock

PAGES_A_STEP = 64
MOST_FINDINGS = 10
SHARED_FIRST, SHARED_SIZE = 0x40000002, 510
BESIDE = ("-wal", "-shm", "-journal")
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Unusable(LlorchError):
    """A database or a backup that cannot be read, is damaged, or is not ours."""

    code = "DATABASE_UNUSABLE"


class Refused(LlorchError):
    """Nothing was done, because it would have overwritten or disturbed something."""

    code = "REFUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What a look at a database found. `findings` is empty when it is sound."""

    findings: tuple[str, ...]
    version: int
    known_version: int
    mode: int
    size_bytes: int
    log_bytes: int
    in_use: bool
    jobs: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A backup, or a database put back from one."""

    path: Path
    size_bytes: int
    jobs: Mapping[str, int]
    set_aside: Path | None = None


def check(path: Path) -> Health:
    """Look at a database without changing anything, also while an orchestrator uses it.

    Raises:
        Unusable: There is none, it cannot be opened, or is too damaged to be looked at.
    """
    in_use = is_open(path)
    with _reading(path) as db:
        found = [row[0] for row in db.execute(f"PRAGMA integrity_check({MOST_FINDINGS})")]
        findings = [] if found == ["ok"] else found
        strays = db.execute("SELECT count(*) FROM pragma_foreign_key_check").fetchone()[0]
        if strays:
            findings.append(f"{strays} rows belong to jobs that are not there")
        version, jobs = _version(db), _jobs(db)
    return Health(
        findings=tuple(findings),
        version=version,
        known_version=len(MIGRATIONS),
        mode=stat.S_IMODE(path.stat().st_mode),
        size_bytes=path.stat().st_size,
        log_bytes=_size(path.with_name(path.name + "-wal")),
        in_use=in_use,
        jobs=jobs,
    )


def checkpoint(path: Path) -> bool:
    """Write a log that was left behind into the database; False when somebody has it open, who does so himself."""
    if is_open(path):
        return False
    with _translated(path), contextlib.closing(sqlite3.connect(path, timeout=0)) as db:
        busy: int = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return not busy


def is_open(path: Path) -> bool:
    """Tell whether another process has a database open; who may not write to it is told no.

    In WAL mode every connection holds a shared lock on 510 bytes of the file until it is closed. Whether they can be
    locked exclusively answers the question. Source: https://www.sqlite.org/src/file/src/os.h (SHARED_FIRST).
    """
    try:
        with path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, SHARED_SIZE, SHARED_FIRST)
    except OSError as error:
        return error.errno in {errno.EAGAIN, errno.EACCES} and os.access(path, os.W_OK)
    return False


def backup(source: Path, target: Path, *, progress: Callable[[int, int], None] | None = None) -> Copied:
    """Copy a database to a new file, mode 0600, while it may be in use.

    The copy is made under another name and gets *target*'s once it is whole, checked and on disk.

    Args:
        source: The database.
        target: A file that does not exist.
        progress: Told how many pages are left, of how many.

    Raises:
        Refused: *target* exists, or its folder cannot be written.
        Unusable: *source* cannot be read, or the copy is not sound.
    """
    with _new_file(target) as partial:
        with _reading(source) as db, _translated(partial), contextlib.closing(sqlite3.connect(partial)) as copy:
            db.execute("BEGIN")
            _version(db)  # the snapshot begins with the first read
            db.backup(
                copy,
                pages=PAGES_A_STEP,
                sleep=0,
                progress=None if progress is None else lambda _status, left, total: progress(left, total),
            )
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, nothing beside it
        jobs = _verified(partial)
    return Copied(path=target, size_bytes=target.stat().st_size, jobs=jobs)


def restore(source: Path, target: Path, *, now_ms: int) -> Copied:
    """Put a backup where an orchestrator will find it; a database that is there is set aside, with its log.

    Raises:
        Refused: An orchestrator uses the directory, or it cannot be written.
        Unusable: *source* is not a sound backup.
    """
    _verified(source)
    _made(target.parent)
    with contextlib.ExitStack() as held:
        held.callback(os.close, _taken(target))
        staged = target.with_name(f".{target.name}.restored-{os.getpid()}")
        with _new_file(staged) as partial:
            shutil.copyfile(source, partial)
            jobs = _verified(partial)
        aside = _set_aside(target, now_ms)
        staged.rename(target)
        _flush(target.parent)
    return Copied(path=target, size_bytes=target.stat().st_size, jobs=jobs, set_aside=aside)


def _taken(target: Path) -> int:
    """Keep every orchestrator away from a database; return the descriptor that does."""
    try:
        number = lock(target)
    except InvalidConfiguration as error:
        raise Refused(error.message) from None
    if is_open(target):
        os.close(number)
        raise Refused(f"another program has {target} open; end it first")
    return number


def _set_aside(target: Path, now_ms: int) -> Path | None:
    """Rename a database that is there; its log too, which would else be written into the one that takes its place."""
    if not target.exists():
        return None
    aside = target.with_name(f"{target.name}.replaced-{now_ms}")
    for suffix in ("", *BESIDE):
        beside = target.with_name(target.name + suffix)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + suffix))
    return aside


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading alone; SQLite may make the files of its log beside it."""
    _readable(path)
    with _translated(path):
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            db.execute("PRAGMA query_only = ON")
            if _version(db) == 0:
                raise Unusable(f"{path} is not a database of llorch's orchestrator")
            yield db
        finally:
            db.close()


def _readable(path: Path) -> None:
    """Refuse what cannot be read; without opening it, which would end the locks that this process has on it."""
    if not path.exists():
        raise Unusable(f"there is no {path}")
    if not path.is_file():
        raise Unusable(f"{path} is not a file")
    if not os.access(path, os.R_OK):
        raise Unusable(f"{path} cannot be read: it belongs to another user")


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as ours; a bug in a statement stays what it is."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise Refused(f"the disk that holds {path} is full") from None
        if code in {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISUSE}:
            raise
        damaged = "is damaged" if code in _BROKEN else "cannot be used"
        raise Unusable(f"{path} {damaged}: {error}") from None


@contextlib.contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """Yield the name of an empty file (mode 0600) that becomes *target* when the block ends well; else it goes."""
    if not target.name:
        raise Refused(f"{target} is a folder; name a file")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    if target.exists() or target.is_symlink():
        raise Refused(f"{target} exists; nothing was overwritten")
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
        partial.chmod(0o600)
    except OSError as error:
        raise Refused(f"{target} cannot be written: {error.strerror}") from None
    try:
        yield partial
        _flush(partial)
        if target.exists():
            raise Refused(f"{target} exists by now; nothing was overwritten")
        partial.rename(target)
        _flush(target.parent)
    finally:
        for suffix in ("", *BESIDE):
            partial.with_name(partial.name + suffix).unlink(missing_ok=True)


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Refused(f"{folder} cannot be made: {error.strerror}") from None


def _flush(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        flush(number)
    finally:
        os.close(number)


def _verified(path: Path) -> Mapping[str, int]:
    """Check a copy that nobody uses, and leave nothing beside it; return how many jobs it holds, by state."""
    _readable(path)
    address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with _translated(path), contextlib.closing(sqlite3.connect(address, uri=True)) as db:
        found = [row[0] for row in db.execute(f"PRAGMA integrity_check({MOST_FINDINGS})")]
        if found != ["ok"]:
            raise Unusable(f"{path} is damaged: {found[0]}")
        version = _version(db)
        if not 0 < version <= len(MIGRATIONS):
            raise Unusable(f"{path} has version {version}, this llorch knows 1 to {len(MIGRATIONS)}")
        return _jobs(db)


def _version(db: sqlite3.Connection) -> int:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    return version


def _jobs(db: sqlite3.Connection) -> Mapping[str, int]:
    return dict(db.execute("SELECT state, count(*) FROM jobs GROUP BY state ORDER BY state").fetchall())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
