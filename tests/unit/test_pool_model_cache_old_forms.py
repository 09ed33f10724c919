"""What a pool is told of a model file, whatever its form."""

from __future__ import annotations

import io
from pathlib import Path

from roles.pool.model_cache import gguf, old_forms
from tests.support import models, old_models
from tests.support.models import TINY


def read(data: bytes) -> gguf.Metadata:
    return old_forms.read(io.BytesIO(data), len(data))


def test_a_file_from_before_gguf_says_as_much_as_a_newer_one() -> None:
    found = read(old_models.llama(kind=old_models.Q8_0))

    assert (found.form, found.architecture, found.quantization) == ("ggml", "llama", "Q8_0")
    assert (found.context_length, found.vocab_size) == (2048, len(old_models.said()[0]))
    assert (found.block_count, found.kv_heads) == (TINY.n_layer, (TINY.n_head,) * TINY.n_layer)
    assert found.kv_cell_bytes == TINY.n_layer * TINY.n_embd * 2 * 2


def test_grouped_keys_take_less_and_a_cache_of_floats_takes_more() -> None:
    grouped = read(old_models.llama(models.Shape(n_kv_head=1)))
    floats, halves = (read(old_models.other(architecture)) for architecture in ("gpt2", "gptj"))

    assert grouped.kv_cell_bytes == TINY.n_layer * TINY.n_embd * 2
    assert floats.kv_cell_bytes == 2 * halves.kv_cell_bytes


def test_a_gguf_file_is_read_as_before(tmp_path: Path) -> None:
    data = models.make(tmp_path / "model.gguf").read_bytes()

    assert read(data) == gguf.read(io.BytesIO(data), len(data))
