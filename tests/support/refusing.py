"""What a configuration is refused with."""

from __future__ import annotations

import pytest

from llorch.config import load
from llorch.errors import InvalidConfiguration


def refused(path: str | None, env: dict[str, str], overrides: dict[str, dict[str, object]] | None = None) -> list[str]:
    """Return the lines of the refusal, without what each begins with."""
    with pytest.raises(InvalidConfiguration) as raised:
        load(path, env=env, overrides=overrides)
    assert raised.value.message.startswith("configuration: ")
    return raised.value.message.removeprefix("configuration: ").splitlines()
