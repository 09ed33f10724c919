"""No command of doctor asks a package index for llorch, which has none of ours: a stranger could take the name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from llorch.cli.doctor import renewal

ROOT = Path(__file__).resolve().parents[2]
FROM_AN_INDEX = re.compile(r"""\b(?:pip|pipx|uv tool) install\b(?: --?[a-z-]+)* ['"]?llorch\b""")


@pytest.mark.parametrize("frozen", [False, True])
def test_llorch_comes_from_its_checkout_or_as_a_new_executable(frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    where = sys.executable if frozen else str(ROOT)

    here, far = [renewal.again(), renewal.newer()], renewal.on("far")

    assert all(where in command for command in here)
    assert all(command.startswith("install -m 755 NEW ") is frozen for command in here)
    assert ("scp " in far, "git pull" in far) == (frozen, not frozen)
    assert renewal.on("127.0.0.1").startswith("llorch serve orchestrator")


def test_the_commands_for_a_checkout_are_ones_that_it_has() -> None:
    for target in ("clean", ".venv/run.stamp"):
        known = subprocess.run(["make", "-n", "-C", str(ROOT), target], check=False, capture_output=True, text=True)
        assert known.returncode == 0, known.stderr


def test_nothing_names_a_package_index_for_llorch() -> None:
    texts = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
    for folder, kind in (("llorch", "*.py"), ("roles", "*.py"), ("docs", "*.md"), ("build", "*.md")):
        texts += (ROOT / folder).rglob(kind)

    assert [str(text) for text in texts if FROM_AN_INDEX.search(text.read_text("utf-8"))] == []
