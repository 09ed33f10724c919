"""What a pool reads of the files that a worker is to have beside its model."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.errors import RemoteError
from tests.support import models, old_models
from tests.support.pools import running_pool


async def test_a_draft_for_an_old_file_is_refused_for_what_its_engine_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "old.bin").write_bytes(old_models.other("gptneox"))
    draft = models.make(tmp_path / "draft.gguf")
    body = {"model_ref": f"file:{tmp_path}/old.bin", "draft": f"file:{draft}"}

    async with running_pool(tmp_path / "pool") as pool:
        with pytest.raises(RemoteError) as refused:
            await pool.client.request("POST", "/v2/workers/spawn", body=body).__aenter__()

    assert refused.value.code == "BACKEND_UNAVAILABLE"
