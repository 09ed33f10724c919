"""Configuration: the token, and the places of a user's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.config import expanded, load
from llorch.errors import InvalidConfiguration
from llorch.settings import Auth
from tests.support.refusing import refused, write


def test_a_token_file_for_its_owner_alone_is_read(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("  t0ken\n", encoding="utf-8")
    token.chmod(0o600)
    file = write(tmp_path / "a.toml", f'[auth]\ntoken_file = "{token}"\n')

    settings = load(file, env={})

    assert (settings.token, settings.auth) == ("t0ken", Auth(token_file=str(token)))
    assert load(file, env={"LLORCH_API_TOKEN": "other"}).token == "other"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601])
def test_a_token_file_that_others_may_use_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken", encoding="utf-8")
    token.chmod(mode)

    lines = refused(write(tmp_path / "a.toml", f'[auth]\ntoken_file = "{token}"\n'), {})

    assert lines == [f"{token}: others can read the token; run: chmod 600 {token}"]


def test_a_token_file_without_a_token_is_refused(tmp_path: Path) -> None:
    token, missing = tmp_path / "token", tmp_path / "missing"
    token.write_text(" \n", encoding="utf-8")
    token.chmod(0o600)

    empty = refused(None, {"LLORCH_AUTH_TOKEN_FILE": str(token), "XDG_CONFIG_HOME": str(tmp_path)})
    absent = refused(None, {"LLORCH_AUTH_TOKEN_FILE": str(missing), "XDG_CONFIG_HOME": str(tmp_path)})

    token.write_text("first\nsecond\n", encoding="utf-8")
    two = refused(None, {"LLORCH_AUTH_TOKEN_FILE": str(token), "XDG_CONFIG_HOME": str(tmp_path)})

    assert empty == [f"{token}: holds no token"]
    assert two == [f"{token}: expected one token, of ASCII characters, on one line"]
    assert absent == [f"{missing}: cannot be read: No such file or directory"]


@pytest.mark.parametrize("token", ["two\nlines", "caf\u00e9", "a\tb"])
def test_a_variable_that_holds_no_token_is_refused_by_its_name(nowhere: dict[str, str], token: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"^LLORCH_API_TOKEN: expected one token"):
        load(env=nowhere | {"LLORCH_API_TOKEN": token})


def test_a_home_directory_that_there_is_not_is_told() -> None:
    with pytest.raises(InvalidConfiguration, match=r"^~nobody-of-that-name/x: there is no user nobody-of-that-name$"):
        expanded("~nobody-of-that-name/x")


def test_a_configuration_that_may_not_be_looked_for_is_told(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    found = f"{tmp_path}/{'x' * 300}"

    with pytest.raises(InvalidConfiguration, match="cannot be read: File name too long"):
        load(env={"XDG_CONFIG_HOME": found})
