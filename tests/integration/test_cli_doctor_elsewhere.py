"""Doctor on what lies elsewhere: a local hub, a real sshd, a real repository."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llorch import __version__
from llorch.cli.doctor import elsewhere
from llorch.cli.doctor.result import Examined, Result
from llorch.settings import Host, Pool, Settings
from tests.support.hub import Hub
from tests.support.repositories import commit, git
from tests.support.sshd import ssh_host, why_not

NOTHING = Examined(settings=Settings())


async def test_the_hub_is_well_when_it_answers_anything_and_failed_when_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = Hub()
    await hub.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.port}")
    there = await asyncio.to_thread(elsewhere.model_hub, NOTHING)
    await hub.stop()
    gone = await asyncio.to_thread(elsewhere.model_hub, NOTHING)

    assert (there.state, there.found) == ("ok", f"http://127.0.0.1:{hub.port} answers")
    assert (gone.state, gone.fix) == ("failed", f"curl -I http://127.0.0.1:{hub.port}")


@pytest.mark.skipif(bool(why_not()), reason=why_not())
async def test_each_host_is_asked_over_ssh_for_its_llorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examined = Examined(settings=Settings(hosts={"far": Host(), "nowhere": Host(ssh="nowhere.invalid")}))
    seen: list[Result] = []
    async with ssh_host(tmp_path / "ssh") as host:
        for name, value in host.environment.items():
            monkeypatch.setenv(name, value)
        for says in (None, f"llorch {__version__}", "llorch 0.0.1"):
            if says is not None:
                host.install(["printf", f"{says}\\n%.0s"], {})
            found = await asyncio.to_thread(elsewhere.hosts, examined)
            assert not isinstance(found, Result)
            seen += found
        host.install(["false"], {})
        (host.home / ".bashrc").write_text("printf 'Welcome, llorch 9'")
        broken = await asyncio.to_thread(elsewhere._host, "far", examined)

    missing, nowhere, same, _, other, _ = seen
    assert (missing.check, missing.found, missing.fix) == ("host far", "has no llorch", "llorch hosts install far")
    assert (nowhere.state, nowhere.fix) == ("failed", "llorch hosts exec nowhere -- true")
    assert (same.state, same.found) == ("ok", f"llorch {__version__}, over ssh")
    assert (other.state, other.fix) == ("failed", "llorch hosts upgrade far")
    assert (broken.state, broken.found) == ("failed", "has an llorch that does not run there")


def test_the_repository_of_pool_git_is_looked_at(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main", "tree")
    commit(tmp_path / "tree", {"a": "1"}, "First")

    def look(path: Path) -> Result:
        return elsewhere.git(Examined(settings=Settings(pool=Pool(git_repo=str(path)))))

    there, gone = look(tmp_path / "tree"), look(tmp_path / "gone")

    assert there.state == "ok"
    assert there.found.endswith("follows no other branch · clean")
    assert (gone.state, gone.fix) == ("failed", f"git -C {tmp_path / 'gone'} status")
    assert elsewhere.git(NOTHING).state == "skipped"
