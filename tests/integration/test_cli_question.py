"""A question that only a yes answers with yes, asked of a real stdin."""

from __future__ import annotations

import subprocess
import sys

import pytest

ASK = "from llorch.cli.question import agreed, can_ask; print(can_ask(), agreed('Sure?'))"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("y\n", True), (" YES \n", True), ("yes", True), ("n\n", False), ("\n", False), ("", False), ("yy\n", False)],
)
def test_nothing_but_yes_is_yes(typed: str, expected: bool) -> None:
    done = subprocess.run([sys.executable, "-c", ASK], check=True, input=typed, capture_output=True, text=True)

    assert (done.stdout, done.stderr) == (f"False {expected}\n", "Sure? [y/N]\n")
