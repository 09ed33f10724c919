"""What a worker of a model that reads texts as a whole is expected to take, against what the engine takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.abilities import batch_of
from roles.pool.model_cache import gguf
from roles.pool.worker_lifecycle.estimate import estimate
from tests.support import encoders
from tests.support.encoders import Encoder
from tests.support.engine_memory import measure

WITHIN = 0.15


@pytest.mark.parametrize(
    ("shape", "slots"),
    [(Encoder(384, 6, 12, 1536, 512, 30_000), 4), (Encoder(768, 2, 12, 3072, 4096), 2)],
    ids=["short texts", "long texts"],
)
def test_the_estimate_of_an_encoder_is_what_the_engine_takes(tmp_path: Path, shape: Encoder, slots: int) -> None:
    path = encoders.embedder(tmp_path / "m.gguf", shape)
    with path.open("rb") as file:
        metadata = gguf.read(file, path.stat().st_size)

    expected = estimate(metadata, slots=slots, ctx=shape.ctx)
    batch = batch_of(metadata.pooling, ctx=shape.ctx, batch=128)
    taken = measure(path, slots=slots, ctx=shape.ctx, batch=batch, pooling=metadata.pooling)

    assert metadata.pooling == 1
    assert (metadata.kv_cell_bytes, expected.kv_bytes, taken.kv) == (0, 0, 0)
    assert expected.compute_bytes == pytest.approx(taken.compute, rel=0.25)
    assert expected.total_bytes == pytest.approx(taken.buffers, rel=WITHIN)
