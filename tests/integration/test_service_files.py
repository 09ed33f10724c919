"""The service files under build/ and the sample configuration, as those who read them read them."""

from __future__ import annotations

import os
import plistlib
import pwd
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import msgspec
import pytest

from llorch.cli.hosts_plan import DAEMON
from llorch.cli.hosts_purge import OTHER_DAEMON
from llorch.config import load
from llorch.policy import ModelPolicy
from llorch.settings import SECTIONS, Host, Server, Settings

BUILD = Path(__file__).resolve().parents[2] / "build"
SYSTEM, USER = sorted((BUILD / "systemd").glob("*.service")), sorted((BUILD / "systemd" / "user").glob("*.service"))
PLISTS = sorted((BUILD / "launchd").glob("*.plist"))
SAMPLE = BUILD.parent / "llorch" / "assets" / "llorch.toml"
WORST_EXPOSURE = 30  # tenths; systemd calls up to 3.0 OK
ROLES = ["orchestrator", "pool"]

systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")


def installed(unit: Path, folder: Path) -> Path:
    """Return a copy of *unit* whose program exists, which systemd checks."""
    program = shutil.which("true")
    assert program is not None
    copy = folder / unit.name
    copy.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={program}", unit.read_text(), flags=re.MULTILINE))
    return copy


def directives(unit: Path) -> dict[str, str]:
    """Return what a unit sets, the last of each."""
    lines = [line for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_every_role_of_a_host_has_its_files() -> None:
    assert [unit.name for unit in SYSTEM] == [unit.name for unit in USER] == [f"llorch-{r}.service" for r in ROLES]
    assert [plist.name for plist in PLISTS] == [f"llorch.{role}.plist" for role in ROLES]


@systemd
@pytest.mark.parametrize("unit", [*SYSTEM, *USER], ids=lambda unit: f"{unit.parent.name}/{unit.name}")
def test_systemd_has_nothing_to_say_about_a_unit(unit: Path, tmp_path: Path) -> None:
    whose = "--user" if unit in USER else "--system"
    command = ["systemd-analyze", "verify", whose, str(installed(unit, tmp_path))]
    env = {"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}

    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@systemd
@pytest.mark.parametrize("unit", SYSTEM, ids=lambda unit: unit.name)
def test_systemd_finds_a_system_service_well_shut_in(unit: Path, tmp_path: Path) -> None:
    copy = installed(unit, tmp_path)
    command = [
        "systemd-analyze",
        "security",
        "--no-pager",
        "--offline=true",
        f"--threshold={WORST_EXPOSURE}",
        str(copy),
    ]

    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("unit", [*SYSTEM, *USER], ids=lambda unit: f"{unit.parent.name}/{unit.name}")
def test_a_unit_waits_for_readiness_and_never_stops_twice(unit: Path) -> None:
    said = directives(unit)
    role = unit.stem.removeprefix("llorch-")

    assert said["ExecStart"].endswith(f"llorch serve {role}")
    assert (said["Type"], said["NotifyAccess"], said["Restart"]) == ("notify", "all", "on-failure")
    assert said["KillMode"] == ("process" if role == "pool" else "mixed")
    settings = Settings()
    drain_s = settings.pool.drain_s + settings.pool.stop_grace_s if role == "pool" else settings.orchestrator.drain_s
    assert int(said["TimeoutStopSec"]) > drain_s


def test_a_system_service_runs_as_the_user_that_sysusers_makes() -> None:
    made = (BUILD / "systemd" / "llorch.conf").read_text()

    assert re.search(r"^u llorch ", made, re.MULTILINE)
    assert {directives(unit)["User"] for unit in SYSTEM} == {"llorch"}


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="there is no systemd-sysusers here")
def test_sysusers_reads_its_file(tmp_path: Path) -> None:
    command = ["systemd-sysusers", f"--root={tmp_path}", "--dry-run", str(BUILD / "systemd" / "llorch.conf")]

    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "Creating user 'llorch'" in done.stdout + done.stderr


@pytest.mark.parametrize("plist", PLISTS, ids=lambda plist: plist.name)
def test_launchd_is_told_the_role_whose_it_is_and_to_keep_it_alive(plist: Path, tmp_path: Path) -> None:
    commands = [line.strip() for line in plist.read_text().splitlines() if line.strip().startswith(("sed ", "sudo "))]
    write = commands[0].partition(" | sudo tee ")[0]
    env = {"PATH": os.environ["PATH"], "HOME": "/Users/ann"}
    written = subprocess.run(["sh", "-c", write], check=True, cwd=plist.parent, env=env, stdout=subprocess.PIPE).stdout

    told = plistlib.loads(written)

    role = plist.stem.removeprefix("llorch.")
    assert told["Label"] == plist.stem
    assert told["UserName"] == pwd.getpwuid(os.geteuid()).pw_name
    assert told["EnvironmentVariables"]["HOME"] == "/Users/ann"
    log = f'2>>"$HOME/Library/Logs/llorch-{role}.log"'
    assert told["ProgramArguments"] == ["/bin/sh", "-c", f'exec "$HOME/.local/bin/llorch" serve {role} {log}']
    assert told["KeepAlive"] == (True if role == "pool" else {"SuccessfulExit": False})
    assert told.get("AbandonProcessGroup", False) is (role == "pool")
    settings = Settings()
    drain_s = settings.pool.drain_s + settings.pool.stop_grace_s if role == "pool" else settings.orchestrator.drain_s
    assert told["ExitTimeOut"] > drain_s
    assert told["Umask"] == 0o077
    if shutil.which("plutil"):
        (tmp_path / plist.name).write_bytes(written)
        subprocess.run(["plutil", "-lint", str(tmp_path / plist.name)], check=True)


@pytest.mark.parametrize("plist", PLISTS, ids=lambda plist: plist.name)
def test_launchd_is_given_a_file_where_hosts_install_looks_for_it(plist: Path) -> None:
    places = re.findall(r"/Library/LaunchDaemons/\S+", plist.read_text())

    expected = DAEMON if plist.stem == "llorch.pool" else OTHER_DAEMON
    assert set(places) == {expected}


def test_the_sample_configuration_changes_nothing() -> None:
    loaded = load(str(SAMPLE), env={})

    assert msgspec.structs.replace(loaded, source="") == Settings()


def test_the_sample_configuration_names_every_key_with_its_default(tmp_path: Path) -> None:
    uncommented = re.sub(r"^# (?=\[|\w+ = )", "", SAMPLE.read_text(), flags=re.MULTILINE)
    file = tmp_path / "llorch.toml"
    file.write_text(uncommented)

    loaded = load(str(file), env={})
    written = tomllib.loads(uncommented)

    servers = written["pool"].pop("servers")
    assert sorted(servers["gpu"]) == sorted(Server.__struct_fields__)
    assert msgspec.convert(servers["gpu"], Server) == Server(url="http://127.0.0.1:8000/v1")
    for name, section in SECTIONS.items():
        assert sorted(written[name]) == sorted(section.__struct_fields__)
        assert msgspec.convert(written[name], section) == getattr(Settings(), name)
    assert sorted(written["models"]["haiku"]) == sorted(ModelPolicy.__struct_fields__)
    assert msgspec.convert(written["models"], dict[str, ModelPolicy]) == {"haiku": ModelPolicy()}
    assert list(loaded.hosts) == ["mac"]
    assert list(written["hosts"]["mac"]) == list(Host.__struct_fields__)
    assert list(loaded.aliases) == ["coder"]
