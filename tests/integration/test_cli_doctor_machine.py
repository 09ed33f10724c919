"""Doctor on this machine: real files, real modes, a real process for the engine."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec import structs

from llorch.cli.doctor import machine
from llorch.cli.doctor.result import Examined, Result
from llorch.config import secret
from llorch.settings import Auth, Orchestrator, Settings
from roles.orchestrator.state.database import MIGRATIONS

DOCUMENTS = Path(__file__).resolve().parents[2] / "docs"
NOWHERE = Examined(settings=Settings())


def listening(host: str, token: str = "") -> Examined:
    return Examined(settings=Settings(orchestrator=Orchestrator(host=host), token=token))


def results(found: Result | Sequence[Result]) -> dict[str, Result]:
    return {result.check: result for result in ([found] if isinstance(found, Result) else found)}


def test_the_engine_is_imported_in_a_process_of_its_own() -> None:
    result = machine.engine(NOWHERE)

    assert result.state == "ok", result.found
    assert result.found.startswith("xllamacpp ")


def test_the_demo_model_is_read_whole() -> None:
    result = machine.demo_model(NOWHERE)

    assert result.state == "ok"
    assert "llama" in result.found


def test_the_samples_in_the_documents_are_of_the_demo_model_and_the_database_that_there_are() -> None:
    texts = "".join(path.read_text("utf-8") for path in DOCUMENTS.glob("*.md"))

    models = re.findall(r"^ok      demo model       (.*)$", texts, flags=re.MULTILINE)
    versions = re.findall(r"^ok      database         sound, version (\d+), ", texts, flags=re.MULTILINE)

    assert set(models) == {machine.demo_model(NOWHERE).found}
    assert set(versions) == {str(len(MIGRATIONS))}


@pytest.mark.parametrize(
    ("host", "token", "state"),
    [
        ("127.0.0.1", "", "ok"),
        ("0.0.0.0", "", "failed"),
        ("0.0.0.0", "secret", "failed"),
        ("0.0.0.0", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "failed"),
        ("0.0.0.0", "zO4fT9wq0Lr7Nn2sXk5v", "ok"),
    ],
)
def test_a_token_is_needed_where_others_can_reach_us_and_must_be_hard_to_guess(
    host: str, token: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token:
        monkeypatch.setenv("LLORCH_API_TOKEN", token)

    result = machine.token(listening(host, token))

    assert result.state == state
    assert not token or token not in result.found
    assert bool(result.fix) == (state == "failed")


@pytest.mark.parametrize("token_file", ["~/a folder/token", ""])
def test_the_command_that_makes_a_token_makes_it_where_it_is_looked_for(
    token_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Settings(orchestrator=Orchestrator(host="0.0.0.0"), auth=Auth(token_file=token_file))

    fix = machine.token(Examined(settings=settings)).fix
    subprocess.run(["sh", "-c", fix], check=True)
    token = secret(token_file or machine.NEW_TOKEN_FILE)

    assert machine.token(Examined(settings=structs.replace(settings, token=token))).state == "ok"


def test_a_data_directory_is_ours_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    good = results(machine.data_directory(Examined(settings=Settings(), data_dir=str(tmp_path))))
    tmp_path.chmod(0o770)
    bad = results(machine.data_directory(Examined(settings=Settings(), data_dir=str(tmp_path))))

    assert good["data directory"].state == "ok"
    assert bad["data directory"].fix == f"chmod 700 {tmp_path}"
    assert good["disk"].state == "ok"


def test_a_data_directory_that_is_not_there_is_no_failure_and_is_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"

    found = results(machine.data_directory(Examined(settings=Settings(), data_dir=str(folder))))

    assert found["data directory"].state == "skipped"
    assert not folder.exists()


def test_a_data_directory_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    found = machine.data_directory(Examined(settings=Settings(), data_dir=str(tmp_path / "file" / "b")))

    assert isinstance(found, Result)
    assert "is not a directory" in found.found
