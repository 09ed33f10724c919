"""The check of the orchestrator's database: read alone, also while the orchestrator is at work."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from llorch.cli.doctor import renewal
from llorch.cli.doctor.result import Examined, Result, failed, ok, skipped
from llorch.cli.figures import size
from roles.orchestrator.state.maintenance import Health, Unusable, check, checkpoint

NAME = "database"
MOST_LOG_BYTES = 256 * 2**20


def database(examined: Examined) -> Sequence[Result] | Result:
    """Look at the database. A log that a crash left behind is written into it, when nobody has it open."""
    from llorch.cli.dev import database as place

    path = place(examined.settings, examined.data_dir)
    if not path.exists():
        return skipped(NAME, "none yet: the orchestrator makes it at its first start")
    restore = f"llorch dev restore BACKUP --data-dir {shlex.quote(str(path.parent))}"
    try:
        health = check(path)
    except Unusable as error:
        if "another user" in error.message:
            return failed(NAME, error.message, fix=f"sudo -u '#{path.stat().st_uid}' llorch dev doctor")
        return failed(NAME, error.message, fix=restore)
    if health.findings:
        more = f", and {len(health.findings) - 1} findings more" if len(health.findings) > 1 else ""
        return failed(NAME, f"{path} is damaged: {health.findings[0]}{more}", fix=restore)
    return _sound(path, health)


def _sound(path: Path, health: Health) -> Sequence[Result]:
    results: list[Result] = []
    quoted = shlex.quote(str(path))
    if health.version > health.known_version:
        found = f"{path} has version {health.version}, this llorch knows up to {health.known_version}"
        results.append(failed(NAME, found, fix=renewal.newer()))
    if health.mode & 0o077:
        results.append(failed(NAME, f"{path} has mode {health.mode:04o}: others read it", fix=f"chmod 600 {quoted}"))
    log = size(health.log_bytes)
    if health.in_use and health.log_bytes > MOST_LOG_BYTES:
        found = f"its log has {log}: something has been reading it for long"
        results.append(failed(NAME, found, fix=f"{'lsof' if sys.platform == 'darwin' else 'fuser -v'} {quoted}"))
    if not health.in_use and health.log_bytes and checkpoint(path):
        results.append(ok(NAME, f"a log of {log} that was left behind has been written into it"))
    if any(result.state == "failed" for result in results):
        return results
    jobs = ", ".join(f"{count:,} {state}" for state, count in health.jobs.items()) or "no jobs"
    use = "in use" if health.in_use else "not in use"
    return [*results, ok(NAME, f"sound, version {health.version}, {size(health.size_bytes)}, {use}, {jobs}")]
