"""Writes small BERT GGUF files with random weights: models that make embeddings, or score documents, in milliseconds.

The vocabulary is WordPiece: letters, digits and two-letter syllables, at the beginning of a word and inside it. Same
arguments, same file.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from tests.support.models import SYLLABLES, Tensor

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORD_START = "\u2581"


@dataclass(frozen=True, slots=True)
class Encoder:
    """The sizes of a BERT model; `n_embd` is a multiple of 32 and of `n_head`."""

    n_embd: int = 64
    n_layer: int = 2
    n_head: int = 2
    n_ff: int = 128
    ctx: int = 512
    unused: int = 0


SMALL = Encoder()


def embedder(path: Path | str, shape: Encoder = SMALL, *, pooling: gguf.PoolingType = gguf.PoolingType.MEAN) -> Path:
    """Write a model that makes embeddings and return its path."""
    return _write(Path(path), shape, pooling)


def reranker(path: Path | str, shape: Encoder = SMALL) -> Path:
    """Write a model that scores documents and return its path."""
    return _write(Path(path), shape, gguf.PoolingType.RANK)


def _write(path: Path, shape: Encoder, pooling: gguf.PoolingType) -> Path:
    tokens = _vocabulary(shape.unused)
    writer = gguf.GGUFWriter(str(path), "bert")
    writer.add_name("encoder")
    writer.add_context_length(shape.ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(pooling)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    control, normal = int(gguf.TokenType.CONTROL), int(gguf.TokenType.NORMAL)
    writer.add_token_types([control if token in SPECIAL else normal for token in tokens])
    writer.add_token_type_count(2)
    for name in ("pad", "unk", "bos", "eos", "sep", "mask"):
        written = {"bos": "[CLS]", "eos": "[SEP]"}.get(name, f"[{name.upper()}]")
        writer.add_uint32(gguf.Keys.Tokenizer.__dict__[f"{name.upper()}_ID"], tokens.index(written))
    for name, tensor in _tensors(shape, len(tokens), ranks=pooling == gguf.PoolingType.RANK):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _vocabulary(unused: int) -> list[str]:
    pieces = [*string.ascii_lowercase, *SYLLABLES, *string.digits, *".,!?"]
    return [*SPECIAL, *(WORD_START + piece for piece in pieces), *pieces, *(f"[unused{n}]" for n in range(unused))]


def _tensors(shape: Encoder, vocabulary: int, *, ranks: bool) -> Iterator[tuple[str, Tensor]]:
    random = np.random.default_rng(0)

    def matrix(rows: int, columns: int, scale: float = 0) -> Tensor:
        return random.standard_normal((rows, columns), dtype=np.float32) * np.float32(scale or columns**-0.5)

    def norm(name: str) -> Iterator[tuple[str, Tensor]]:
        yield f"{name}.weight", np.ones(shape.n_embd, np.float32)
        yield f"{name}.bias", np.zeros(shape.n_embd, np.float32)

    def linear(name: str, rows: int, columns: int) -> Iterator[tuple[str, Tensor]]:
        yield f"{name}.weight", matrix(rows, columns)
        yield f"{name}.bias", np.zeros(rows, np.float32)

    yield "token_embd.weight", matrix(vocabulary, shape.n_embd, 1)
    yield "position_embd.weight", matrix(shape.ctx, shape.n_embd, 0.1)
    yield "token_types.weight", matrix(2, shape.n_embd, 0.1)
    yield from norm("token_embd_norm")
    for layer in range(shape.n_layer):
        block = f"blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield from linear(f"{block}{name}", shape.n_embd, shape.n_embd)
        yield from norm(f"{block}attn_output_norm")
        yield from linear(f"{block}ffn_up", shape.n_ff, shape.n_embd)
        yield from linear(f"{block}ffn_down", shape.n_embd, shape.n_ff)
        yield from norm(f"{block}layer_output_norm")
    if ranks:
        yield from linear("cls", shape.n_embd, shape.n_embd)
        yield from linear("cls.output", 1, shape.n_embd)
