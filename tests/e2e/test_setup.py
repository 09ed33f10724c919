"""`llorch dev setup` in an empty home: asks, makes, replaces nothing, and what it made works."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path

from tests.e2e.processes import role, run
from tests.e2e.terminal import terminal


def home(folder: Path, shell: str = "bash") -> dict[str, str]:
    """Return the environment of somebody who has nothing yet."""
    (folder / "home").mkdir(exist_ok=True)
    return {
        "HOME": str(folder / "home"),
        "SHELL": f"/bin/{shell}",
        "XDG_DATA_HOME": "",
        "XDG_CONFIG_HOME": "",
        "LLORCH_ORCHESTRATOR_PORT": "0",
    }


def files(folder: Path) -> dict[str, int]:
    """Return all files of a home, with their modes."""
    found = (path for path in (folder / "home").rglob("*") if path.is_file())
    return {str(path.relative_to(folder / "home")): stat.S_IMODE(path.stat().st_mode) for path in found}


async def test_an_address_for_others_gets_a_token_and_the_roles_start_with_it(tmp_path: Path) -> None:
    env = home(tmp_path)
    refused = await run("dev", "setup", "--bind", "0.0.0.0", env=env)
    untouched = files(tmp_path)
    done = await run("dev", "setup", "--bind", "0.0.0.0", "--yes", env=env)
    made = files(tmp_path)
    again = await run("dev", "setup", "--bind", "0.0.0.0", "--json", env=env)
    token = (tmp_path / "home" / ".config" / "llorch" / "token").read_text().strip()
    async with role("orchestrator", log=tmp_path / "log", env=env, token=token) as orchestrator:
        ready = await orchestrator.client.send("GET", "/ready", dict[str, object])

    assert (refused.status, untouched) == (2, {})
    assert "give --yes" in refused.stderr
    assert done.status == 0, done.stderr
    assert "llorch serve orchestrator" in done.stdout.partition("Next:")[2]
    assert made == {
        ".config/llorch/llorch.toml": 0o600,
        ".config/llorch/token": 0o600,
        ".local/share/bash-completion/completions/llorch": 0o644,
    }
    told = json.loads(again.stdout)
    assert (again.status, {step["state"] for step in told["steps"]}) == (0, {"there"})
    assert told["next"][0] == "llorch serve orchestrator"
    assert told["demo_model"]["state"] == "ok"
    assert len(token) >= 40
    assert ready["ready"] is True


async def test_a_terminal_is_asked_and_what_is_there_stays(tmp_path: Path) -> None:
    env = home(tmp_path, "fish")
    own = tmp_path / "home" / ".config" / "llorch" / "llorch.toml"
    own.parent.mkdir(parents=True)
    own.write_text("# mine\n[pool]\nport = 9300\n")
    async with terminal("dev", "setup", "--bind", "0.0.0.0", env=env) as shown:
        await shown.until(lambda seen: "[y/N]" in seen)
        shown.press(b"n\n")
        no = await shown.ended()
    before = files(tmp_path)
    async with terminal("dev", "setup", "--bind", "0.0.0.0", columns=160, env=env) as shown:
        await shown.until(lambda seen: "[y/N]" in seen)
        shown.press(b"y\n")
        yes = await shown.ended()
        await shown.until(lambda seen: "hosts install" in seen)

    assert (no, list(before)) == (1, [".config/llorch/llorch.toml"])
    assert yes == 0
    assert own.read_text() == "# mine\n[pool]\nport = 9300\n"
    assert '[pool] host = "0.0.0.0"; [auth] token_file = ' in shown.seen
    assert ".config/fish/completions/llorch.fish" in files(tmp_path)


async def test_a_named_configuration_is_made_where_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "else" / "where.toml"
    done = await run("dev", "setup", "--yes", "--shell", "zsh", "--config", str(file), env=home(tmp_path, "tcsh"))
    doctor = await run("dev", "doctor", "--config", str(file), "--json", env=home(tmp_path))

    assert done.status == 0, done.stderr
    assert "fpath+=~/.zfunc" in done.stdout
    assert tomllib.loads(file.read_text())["pool"] == {}
    assert list(files(tmp_path)) == [".zfunc/_llorch"]
    assert json.loads(doctor.stdout)[0]["found"] == str(file)


async def test_what_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    env = home(tmp_path)
    (tmp_path / "home" / ".local").write_text("a file where a folder should be")
    blocked = await run("dev", "setup", "--yes", env=env)
    strange = await run("dev", "setup", "--yes", "--shell", "tcsh", env=env)

    assert (blocked.status, blocked.stderr.count("\n")) == (1, 1)
    assert "cannot be " in blocked.stderr
    assert (strange.status, strange.stderr.count("\n")) == (2, 1)
