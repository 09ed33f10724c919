"""The address that a setup is given, asked of this machine's own network."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.cli.setup import wish
from llorch.errors import InvalidConfiguration


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.mark.parametrize("bind", ["", "foo.invalid", "a..b", "two words", "192.0.2.1", "http://10.0.0.1", "0.0.0.0:80"])
def test_what_no_role_could_listen_on_is_refused_before_anything_is_made(bind: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration) as refused:
        wish(config=None, bind=bind, shell="bash")

    assert refused.value.message.startswith(f"--bind is an address of this machine, such as 0.0.0.0, found {bind!r}")
    assert "\n" not in refused.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("bind", "outside"), [("0.0.0.0", "0.0.0.0"), ("127.0.0.1", ""), ("localhost", "")])
def test_an_address_of_this_machine_is_taken(bind: str, outside: str) -> None:
    assert wish(config=None, bind=bind, shell="bash").bind == outside
