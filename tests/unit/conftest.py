"""What several unit tests begin with."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(name="nowhere")
def _nowhere(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which the user has no configuration file."""
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}
