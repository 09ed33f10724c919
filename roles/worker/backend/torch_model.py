"""The forward pass of llama-like models, and the KV cache of its slots. Computes; knows no jobs and no text.

Strategy: one path for prompts and for decoding. All query heads that share a key/value head are laid behind each other
as if they were more positions, so that grouped heads need no copies of keys and values. Rows are slots 0..n-1: those of
them that have nothing to compute write into a spare cell at the cache's end, which nothing ever looks at.

Source of the computation: https://github.com/huggingface/transformers, `modeling_llama.py` and `modeling_qwen3.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from roles.worker.backend.torch_config import Shape
from roles.worker.backend.torch_weights import Layer, Weights

CELLS = 64
"""Attention looks at a multiple of so many cells, so that its kernels find few different sizes."""


class Model:
    """One model on one device, with the cache of *slots* texts of up to *ctx* tokens."""

    def __init__(self, shape: Shape, weights: Weights, *, slots: int, ctx: int) -> None:
        self.shape = shape
        self.ctx = ctx
        self._weights = weights
        self._device, self._dtype = weights.embedding.device, weights.embedding.dtype
        self._spare = -(-(ctx + 1) // CELLS) * CELLS - 1
        size = (slots, shape.kv_heads, self._spare + 1, shape.head_dim)
        self._keys = [torch.zeros(size, device=self._device, dtype=self._dtype) for _ in weights.layers]
        self._values = [torch.zeros(size, device=self._device, dtype=self._dtype) for _ in weights.layers]
        turns = torch.outer(
            torch.arange(self._spare + 1, dtype=torch.float32),
            torch.tensor(shape.rope.frequencies(shape.head_dim), dtype=torch.float32),
        )
        both = torch.cat([turns, turns], dim=-1)
        self._cos = both.cos().to(self._device, self._dtype)
        self._sin = both.sin().to(self._device, self._dtype)
        self._cells = torch.arange(self._spare + 1, device=self._device)

    @torch.inference_mode()
    def read(self, slot: int, tokens: Sequence[int], start: int) -> torch.Tensor:
        """Read tokens that stand from position *start* on in a slot; return the scores behind the last of them."""
        return self._forward(
            torch.tensor([list(tokens)], device=self._device),
            torch.arange(start, start + len(tokens), device=self._device)[None],
            slots=slice(slot, slot + 1),
            longest=start + len(tokens),
        )[0]

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int | None], positions: Sequence[int]) -> torch.Tensor:
        """Read one token in each of the slots 0..n-1; return the scores behind each, in float32.

        Args:
            tokens: None where a slot has nothing to read; its scores mean nothing.
            positions: Where each stands.
        """
        at = [self._spare if token is None else place for token, place in zip(tokens, positions, strict=True)]
        longest = max((place for place in at if place != self._spare), default=0) + 1
        return self._forward(
            torch.tensor([[token or 0] for token in tokens], device=self._device),
            torch.tensor(at, device=self._device)[:, None],
            slots=slice(0, len(tokens)),
            longest=longest,
        )

    def _forward(self, tokens: torch.Tensor, positions: torch.Tensor, *, slots: slice, longest: int) -> torch.Tensor:
        shape, weights = self.shape, self._weights
        length = min(-(-longest // CELLS) * CELLS, self._spare + 1)
        group = shape.heads // shape.kv_heads
        mask = (self._cells[:length] <= positions[:, :, None])[:, None].repeat(1, 1, group, 1)
        cos, sin = self._cos[positions][:, :, None], self._sin[positions][:, :, None]
        rows = torch.arange(slots.start, slots.stop, device=self._device)[:, None]
        hidden = functional.embedding(tokens, weights.embedding)
        for layer, keys, values in zip(weights.layers, self._keys, self._values, strict=True):
            q, k, v = self._heads(layer, self._norm(hidden, layer.attention_norm), cos, sin)
            keys[rows, :, positions] = k
            values[rows, :, positions] = v
            seen = functional.scaled_dot_product_attention(
                self._grouped(q), keys[slots, :, :length], values[slots, :, :length], attn_mask=mask
            )
            hidden = hidden + functional.linear(self._flat(seen, tokens.shape[1]), layer.out, layer.out_bias)
            gate, up = functional.linear(self._norm(hidden, layer.mlp_norm), layer.gate_up, layer.gate_up_bias).chunk(
                2, dim=-1
            )
            hidden = hidden + functional.linear(functional.silu(gate) * up, layer.down, layer.down_bias)
        last = self._norm(hidden[:, -1], weights.norm)
        return functional.linear(last, weights.head).float()

    def _heads(
        self, layer: Layer, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries, keys and values, each by row, position and head, turned to their positions."""
        shape = self.shape
        both = functional.linear(hidden, layer.qkv, layer.qkv_bias).unflatten(-1, (-1, shape.head_dim))
        q, k, v = both.split([shape.heads, shape.kv_heads, shape.kv_heads], dim=2)
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = self._norm(q, layer.q_norm), self._norm(k, layer.k_norm)
        return q * cos + _turned(q) * sin, k * cos + _turned(k) * sin, v

    def _grouped(self, q: torch.Tensor) -> torch.Tensor:
        """Lay the query heads of one key/value head behind each other."""
        rows, length = q.shape[:2]
        group = self.shape.heads // self.shape.kv_heads
        split = q.unflatten(2, (self.shape.kv_heads, group)).permute(0, 2, 3, 1, 4)
        return split.reshape(rows, self.shape.kv_heads, group * length, self.shape.head_dim)

    def _flat(self, seen: torch.Tensor, length: int) -> torch.Tensor:
        """Undo `_grouped`, and join the heads."""
        return seen.unflatten(2, (-1, length)).permute(0, 3, 1, 2, 4).flatten(2)

    def _norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        wide = hidden.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.shape.norm_eps)
        return weight * wide.to(hidden.dtype)


def _turned(heads: torch.Tensor) -> torch.Tensor:
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)
