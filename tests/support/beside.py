"""Writes the files that go beside a model: LoRA adapters and image projectors with random weights, and images.

Same arguments, same file. The projector is LLaVA's: a small vision transformer, and two layers behind it.
"""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from tests.support.models import TINY, Shape

Tensor = npt.NDArray[np.float32]


def make_adapter(
    path: Path | str, shape: Shape = TINY, *, seed: int = 7, architecture: str = "llama", kind: str = "lora"
) -> Path:
    """Write a LoRA adapter for models of *shape*; it changes queries and values of every layer."""
    random, rank = np.random.default_rng(seed), 4
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", kind)
    writer.add_float32("adapter.lora.alpha", 8.0)
    for layer in range(shape.n_layer):
        for name, heads in (("attn_q", shape.n_head), ("attn_v", shape.kv_heads)):
            width = heads * shape.head_size
            writer.add_tensor(f"blk.{layer}.{name}.weight.lora_a", _matrix(random, rank, shape.n_embd))
            writer.add_tensor(f"blk.{layer}.{name}.weight.lora_b", _matrix(random, width, rank))
    return _written(writer, path)


def make_projector(
    path: Path | str, shape: Shape = TINY, *, width: int = 64, layers: int = 2, image: int = 28, seed: int = 5
) -> Path:
    """Write a projector for models of *shape*: images of *image* pixels a side, in patches of 14."""
    random, patch, inner = np.random.default_rng(seed), 14, 2 * width
    writer = gguf.GGUFWriter(str(path), "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    vision = {
        "image_size": image,
        "patch_size": patch,
        "embedding_length": width,
        "feed_forward_length": inner,
        "block_count": layers,
        "projection_dim": shape.n_embd,
        "attention.head_count": 2,
    }
    for name, value in vision.items():
        writer.add_uint32(f"clip.vision.{name}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    tensors = {
        "v.patch_embd.weight": (random.standard_normal((width, 3, patch, patch)) * 0.05).astype(np.float32),
        "v.position_embd.weight": _matrix(random, (image // patch) ** 2, width),
    }
    for layer in range(layers):
        block = f"v.blk.{layer}."
        for name, rows, columns in (
            *((name, width, width) for name in ("attn_q", "attn_k", "attn_v", "attn_out")),
            ("ffn_up", inner, width),
            ("ffn_down", width, inner),
        ):
            tensors[f"{block}{name}.weight"] = _matrix(random, rows, columns)
            tensors[f"{block}{name}.bias"] = np.zeros(rows, np.float32)
        for name in ("ln1", "ln2"):
            tensors[f"{block}{name}.weight"] = np.ones(width, np.float32)
            tensors[f"{block}{name}.bias"] = np.zeros(width, np.float32)
    tensors["mm.0.weight"] = _matrix(random, shape.n_embd, width)
    tensors["mm.2.weight"] = _matrix(random, shape.n_embd, shape.n_embd) * 8
    for name in ("mm.0", "mm.2"):
        tensors[f"{name}.bias"] = np.zeros(shape.n_embd, np.float32)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    return _written(writer, path)


def png(red: int, green: int, blue: int, *, side: int = 32) -> bytes:
    """Return an image of one colour as PNG."""
    rows = b"".join(b"\0" + bytes((red, green, blue)) * side for _ in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def encoded(picture: bytes) -> str:
    """Return a picture in base64."""
    return base64.b64encode(picture).decode()


def data_url(picture: bytes) -> str:
    """Return a picture as a URL that holds all of it."""
    return f"data:image/png;base64,{encoded(picture)}"


def _matrix(random: np.random.Generator, rows: int, columns: int) -> Tensor:
    return random.standard_normal((rows, columns), dtype=np.float32) * np.float32(columns**-0.5)


def _written(writer: gguf.GGUFWriter, path: Path | str) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)
