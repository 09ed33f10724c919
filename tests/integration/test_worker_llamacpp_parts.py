"""Sets of parts, as the real engine loads them."""

from __future__ import annotations

from pathlib import Path

from tests.support import models
from tests.support.workers import worker


async def test_a_set_in_capitals_is_loaded_like_any_other(tmp_path: Path) -> None:
    models.make(tmp_path / "m.gguf", part_tensors=8)
    for part in list(tmp_path.iterdir()):
        part.rename(part.with_suffix(".GGUF"))

    async with worker(tmp_path / "m-00001-of-00003.GGUF") as running:
        health = await running.health()
        text = await running.text("job", prompt="bake kilo", max_tokens=5)

    assert (health.status, health.model) == ("ready", "m-00001-of-00003.GGUF")
    assert text
