"""`llorch hosts remove --purge` where there is nothing to remove, nobody to ask, or a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.processes import complaint, run
from tests.support.sshd import SshHost, ssh_host, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
CONFIG = '# mine\n[pool]\nport = 9300\n\n[hosts.far]\nurl = "http://127.0.0.1:1"\n'
WITHOUT = "# mine\n[pool]\nport = 9300\n"


def configured(folder: Path, ssh: SshHost) -> dict[str, str]:
    """Write our configuration; return what makes commands use it."""
    (folder / "llorch.toml").write_text(CONFIG)
    return {**ssh.environment, "LLORCH_CONFIG": str(folder / "llorch.toml")}


async def test_a_host_that_cannot_be_reached_stays_in_the_configuration_unless_that_is_forced(tmp_path: Path) -> None:
    async with ssh_host(tmp_path / "ssh") as ssh:
        env = configured(tmp_path, ssh)
        ssh.client(key="stranger")
        kept = await run("hosts", "remove", "far", "--purge", env=env)
        before = (tmp_path / "llorch.toml").read_text()
        forced = await run("hosts", "remove", "far", "--purge", "--force", env=env)

    assert (kept.status, kept.stdout, before) == (1, "", CONFIG)
    assert complaint(kept.stderr).startswith("ssh cannot reach far (far): it refused our key; ")
    assert "nothing was removed from the configuration (--force does that all the same)" in kept.stderr
    assert (forced.status, forced.stderr) == (0, "")
    told, removed = forced.stdout.splitlines()
    assert told.startswith("what is installed on far stays there: ssh cannot reach far (far)")
    assert removed.startswith("far removed from ")
    assert (tmp_path / "llorch.toml").read_text() == WITHOUT


async def test_a_host_without_llorch_is_only_removed_from_the_configuration(tmp_path: Path) -> None:
    async with ssh_host(tmp_path / "ssh") as ssh:
        (ssh.home / "notes").write_text("x")
        env = configured(tmp_path, ssh)
        purged = await run("hosts", "remove", "far", "--purge", env=env)
        left = [path.name for path in ssh.home.iterdir()]

    assert (purged.status, purged.stderr) == (0, "")
    assert purged.stdout.startswith("there is no llorch on far that hosts install has put there\nfar removed from ")
    assert (tmp_path / "llorch.toml").read_text() == WITHOUT
    assert left == ["notes"]


async def test_nothing_is_purged_unless_somebody_agrees(tmp_path: Path) -> None:
    async with ssh_host(tmp_path / "ssh") as ssh:
        model = ssh.home / ".local/share/llorch/pool/models/m.gguf"
        model.parent.mkdir(parents=True)
        model.write_bytes(bytes(1 << 20))
        env = configured(tmp_path, ssh)
        silent = await run("hosts", "remove", "far", "--purge", env=env)
        there = model.exists()
        agreed = await run("hosts", "remove", "far", "--purge", env=env, stdin=b"yes\n")
        left = list(ssh.home.iterdir())

    assert (silent.status, silent.stdout, there) == (1, "", True)
    assert "Remove llorch from far, with 1.0 MiB of data there (1.0 MiB of it models)? [y/N]" in silent.stderr
    assert agreed.status == 0, agreed.stderr
    assert agreed.stdout.startswith("llorch and 1.0 MiB of data are gone from far\nfar removed from ")
    assert left == []


async def test_a_force_without_a_purge_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "llorch.toml").write_text(CONFIG)
    wrong = await run("hosts", "remove", "far", "--force", "--config", str(tmp_path / "llorch.toml"))

    assert wrong.status == 2
    assert complaint(wrong.stderr).startswith("--force belongs to --purge")
    assert (tmp_path / "llorch.toml").read_text() == CONFIG
