"""The network of the demo model: a small llama (RMSNorm, rotary positions, SwiGLU, tied embeddings) in torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Config:
    """The sizes of the network; every width is a multiple of 32, which Q8_0 needs."""

    vocab: int
    width: int = 160
    layers: int = 4
    heads: int = 5
    hidden: int = 448
    context: int = 512
    theta: float = 10000.0
    eps: float = 1e-5

    @property
    def head(self) -> int:
        """Return the width of one attention head."""
        return self.width // self.heads


def rotary(config: Config) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines of the rotary positions (context x half a head)."""
    steps = torch.arange(0, config.head, 2, dtype=torch.float32) / config.head
    angles = torch.outer(torch.arange(config.context, dtype=torch.float32), config.theta**-steps)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn neighbouring pairs of x (batch, heads, time, head), as llama.cpp does for the llama architecture."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Block(nn.Module):
    """One layer: attention and a gated feed-forward net, each on a normalised copy of the stream."""

    def __init__(self, config: Config) -> None:
        """Make the layer's weights."""
        super().__init__()
        self.heads = config.heads
        self.attn_norm = nn.RMSNorm(config.width, eps=config.eps)
        self.ffn_norm = nn.RMSNorm(config.width, eps=config.eps)
        self.attn_q = nn.Linear(config.width, config.width, bias=False)
        self.attn_k = nn.Linear(config.width, config.width, bias=False)
        self.attn_v = nn.Linear(config.width, config.width, bias=False)
        self.attn_output = nn.Linear(config.width, config.width, bias=False)
        self.ffn_gate = nn.Linear(config.width, config.hidden, bias=False)
        self.ffn_up = nn.Linear(config.width, config.hidden, bias=False)
        self.ffn_down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the stream after this layer."""
        batch, time, width = x.shape
        y = self.attn_norm(x)
        shape = (batch, time, self.heads, width // self.heads)
        q, k, v = (layer(y).view(shape).transpose(1, 2) for layer in (self.attn_q, self.attn_k, self.attn_v))
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(y.transpose(1, 2).reshape(batch, time, width))
        y = self.ffn_norm(x)
        out: Tensor = x + self.ffn_down(functional.silu(self.ffn_gate(y)) * self.ffn_up(y))
        return out


class Llama(nn.Module):
    """The whole network; the output layer is the embedding table."""

    def __init__(self, config: Config) -> None:
        """Make the weights (small normal values; the layers that write to the stream start at zero)."""
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(config.vocab, config.width)
        self.blk = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.output_norm = nn.RMSNorm(config.width, eps=config.eps)
        cos, sin = rotary(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, weight in self.named_parameters():
            if name.endswith(("attn_output.weight", "ffn_down.weight")):
                nn.init.zeros_(weight)
            elif weight.ndim > 1:
                nn.init.normal_(weight, std=0.02 if "embd" in name else config.width**-0.5)

    def forward(self, ids: Tensor, keep: Tensor) -> Tensor:
        """Return the logits at the positions where `keep` is true (batch x time, flattened)."""
        time = ids.shape[1]
        cos, sin = self.get_buffer("cos")[:time], self.get_buffer("sin")[:time]
        x = self.token_embd(ids)
        for block in self.blk:
            x = block(x, cos, sin)
        return functional.linear(self.output_norm(x[keep]), self.token_embd.weight)
