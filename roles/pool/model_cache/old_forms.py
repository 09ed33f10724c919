"""A model file in GGUF or in a form from before it, read without loading it. Reads one binary file; starts nothing."""

from __future__ import annotations

from typing import BinaryIO

from llorch import ggml
from roles.pool.model_cache import gguf
from roles.pool.model_cache.gguf import Metadata

FLOAT_BYTES = 4


def read(file: BinaryIO, size: int) -> Metadata:
    """Read a model's metadata and check that all its tensors are there.

    Args:
        file: Opened at its start.
        size: Its length in bytes.

    Raises:
        ModelInvalid: No form that is known here, or shorter than its contents need.
        ModelIncompatible: Numbers of a type that is not known here.
    """
    magic = file.read(4)
    file.seek(0)
    return _old(ggml.read(file, size)) if ggml.is_old(magic) else gguf.read(file, size)


def _old(model: ggml.OldModel) -> Metadata:
    head = model.width // model.heads
    return Metadata(
        architecture=model.architecture,
        name="",
        context_length=model.context_length,
        block_count=model.layers,
        embedding_length=model.width,
        head_count=model.heads,
        kv_heads=(model.kv_width // head,) * model.layers,
        key_length=head,
        value_length=head,
        quantization=model.quantization,
        vocab_size=model.vocab_size,
        max_token_bytes=model.max_token_bytes,
        chat_template="",
        parameters=model.parameters,
        weights_bytes=model.weights_bytes,
        split_count=0,
        form="ggml",
        kv_number_bytes=FLOAT_BYTES if model.float_cache else gguf.KV_BYTES,
    )
