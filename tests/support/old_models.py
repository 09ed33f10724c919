"""Makes model files in the forms from before GGUF: a llama out of a GGUF file or at random, and its contemporaries.

Source of the layouts: the loaders of https://github.com/marella/ctransformers (`models/llms`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from tests.support import models
from tests.support.models import TINY, Shape

Tensor = npt.NDArray[Any]
BOS, EOS = 1, 2
"""What such llamas begin and end a text with, whatever their vocabulary says."""
F32, F16, Q4_0, Q8_0 = (gguf.GGMLQuantizationType[name] for name in ("F32", "F16", "Q4_0", "Q8_0"))
FTYPES = {F32: 0, F16: 1, Q4_0: 2, Q8_0: 7}
LLAMA_NAMES = {
    "token_embd": "tok_embeddings",
    "output_norm": "norm",
    "attn_norm": "attention_norm",
    "attn_q": "attention.wq",
    "attn_k": "attention.wk",
    "attn_v": "attention.wv",
    "attn_output": "attention.wo",
    "ffn_gate": "feed_forward.w1",
    "ffn_down": "feed_forward.w2",
    "ffn_up": "feed_forward.w3",
}
STAND_INS = {name: byte for byte, name in enumerate(models._byte_names())}
WIDTH, LAYERS, HEADS, CTX = 64, 2, 2, 64
WORDS = [b"<|endoftext|>", *(bytes([byte]) for byte in range(256)), b"bake", b" kilo", b" dumi", b" lani"]
"""The vocabulary of all that are no llama: BPE's tokens as bytes."""
QUANTISATION = 2000
"""What is added to a file type of quantised numbers: their version, in thousands."""


def llama(
    shape: Shape = TINY, *, eos_logit: float = -40.0, kind: gguf.GGMLQuantizationType = F32, version: int = 3
) -> bytes:
    """Return a llama with random weights and the vocabulary of `models`, of which two tokens have other places."""
    tokens, merges, _ = models._vocabulary(shape.words, shape.unused)
    tensors = dict(models._tensors(shape, tokens, np.random.default_rng(0), eos_logit))
    return _llama(shape, tokens, merges, tensors, ends=("<s>", "</s>"), kind=kind, version=version)


def said(shape: Shape = TINY) -> tuple[list[bytes], int, int]:
    """Return what each token of such a model stands for, and those that begin and end a text."""
    tokens, _, _ = models._vocabulary(shape.words, shape.unused)
    order = _order(tokens, ("<s>", "</s>"))
    return [b"" if place in {BOS, EOS} else _spelled(tokens[token]) for place, token in enumerate(order)], BOS, EOS


def from_gguf(source: Path, kind: gguf.GGMLQuantizationType = F16) -> bytes:
    """Return a llama that is in GGUF form, with a byte-level vocabulary, in the old form."""
    reader = gguf.GGUFReader(source)

    told = {key: field.contents() for key, field in reader.fields.items()}
    tokens = told["tokenizer.ggml.tokens"]
    ends = tuple(tokens[told[f"tokenizer.ggml.{name}_token_id"]] for name in ("bos", "eos"))
    shape = Shape(
        n_embd=told["llama.embedding_length"],
        n_layer=told["llama.block_count"],
        n_head=told["llama.attention.head_count"],
        n_ff=told["llama.feed_forward_length"],
    )
    tensors = {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32) for tensor in reader.tensors
    }
    tensors.setdefault("output.weight", tensors["token_embd.weight"])
    return _llama(shape, tokens, told["tokenizer.ggml.merges"], tensors, ends=(ends[0], ends[1]), kind=kind)


def plain_gguf(source: Path, path: Path) -> Path:
    """Write a GGUF file anew with its matrices as F16."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, "llama")
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key not in {"general.architecture", "general.file_type"}:
            writer.add_key_value(key, field.contents(), field.types[0], field.types[-1])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for tensor in reader.tensors:
        numbers = gguf.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, numbers.astype(np.float16 if numbers.ndim == 2 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def template_of(source: Path) -> str:
    """Return the chat template of a GGUF file."""
    return str(gguf.GGUFReader(source).fields["tokenizer.chat_template"].contents())


def _llama(
    shape: Shape,
    tokens: Sequence[str],
    merges: Sequence[str],
    tensors: Mapping[str, Tensor],
    *,
    ends: tuple[str, str],
    kind: gguf.GGMLQuantizationType,
    version: int = 3,
) -> bytes:
    order = _order(tokens, ends)
    ranks = {merge.replace(" ", ""): rank for rank, merge in enumerate(merges)}
    vocabulary = [(_spelled(tokens[place]), -float(ranks.get(tokens[place], 0))) for place in order]
    inner = _inner(shape)
    found: list[tuple[str, Tensor]] = []
    for name, tensor in tensors.items():
        parts = name.removesuffix(".weight").split(".")
        place = f"layers.{parts[1]}." if parts[0] == "blk" else ""
        if parts[-1] in {"token_embd", "output"}:
            tensor = tensor[order]
        if parts[-1] in {"ffn_gate", "ffn_up"}:
            tensor = np.pad(tensor, ((0, inner - shape.n_ff), (0, 0)))
        if parts[-1] == "ffn_down":
            tensor = np.pad(tensor, ((0, 0), (0, inner - shape.n_ff)))
        found.append((f"{place}{LLAMA_NAMES.get(parts[-1], parts[-1])}.weight", tensor))
    numbers = (len(tokens), shape.n_embd, inner, shape.n_head, shape.n_layer, shape.n_embd // shape.n_head)
    out = bytearray(b"tjgg" + struct.pack("<8I", version, *numbers, FTYPES[kind]))
    for word, score in vocabulary:
        out += struct.pack("<I", len(word)) + word + struct.pack("<f", score)
    for name, tensor in found:
        out += _headed(name, tensor, kind)
        out += bytes(-len(out) % 32) + _stored(tensor, kind)
    return bytes(out)


def _inner(shape: Shape) -> int:
    """Return the inner width that such a file can have: the loader computes it, and this is the next one above."""
    return max(shape.n_ff, -(-(2 * 4 * shape.n_embd // 3) // 32) * 32)


def _order(tokens: Sequence[str], ends: tuple[str, str]) -> list[int]:
    """Return of each place in the old vocabulary which token is there."""
    order = list(range(len(tokens)))
    for place, name in ((BOS, ends[0]), (EOS, ends[1])):
        other = order.index(tokens.index(name))
        order[place], order[other] = order[other], order[place]
    return order


def _spelled(token: str) -> bytes:
    return bytes(STAND_INS[c] for c in token) if all(c in STAND_INS for c in token) else token.encode()


def _headed(name: str, tensor: Tensor, kind: gguf.GGMLQuantizationType) -> bytes:
    stored = kind if tensor.ndim == 2 else F32
    return struct.pack(f"<{3 + tensor.ndim}I", tensor.ndim, len(name), stored, *reversed(tensor.shape)) + name.encode()


def _stored(tensor: Tensor, kind: gguf.GGMLQuantizationType) -> bytes:
    return gguf.quantize(np.ascontiguousarray(tensor), kind if tensor.ndim == 2 else F32).tobytes()


def other(
    architecture: str,
    *,
    kind: gguf.GGMLQuantizationType = F32,
    words: Sequence[bytes] = (),
    quantisation: int = QUANTISATION,
) -> bytes:
    """Return a small model of another architecture with random weights, *words* in its vocabulary beside others."""
    vocabulary = [*WORDS, *words, *MARKS.get(architecture, ())]
    count = len(vocabulary)
    numbers, counted, scored = {
        "gpt2": ([count, CTX, WIDTH, HEADS, LAYERS], True, False),
        "starcoder": ([count, CTX, WIDTH, HEADS, LAYERS], True, False),
        "gptj": ([count, CTX, WIDTH, HEADS, LAYERS, 16], True, False),
        "gptneox": ([count, CTX, WIDTH, HEADS, LAYERS, 16, 1], False, False),
        "dolly-v2": ([count, CTX, WIDTH, HEADS, LAYERS, 16, 1], False, False),
        "mpt": ([WIDTH, CTX, HEADS, LAYERS, count, 0x41000000, 0], False, False),
        "replit": ([WIDTH, CTX, HEADS, LAYERS, count], False, True),
    }[architecture]
    random = np.random.default_rng(0)
    ftype = FTYPES[kind] + (0 if kind in {F32, F16} else quantisation)
    out = bytearray(b"lmgg" + struct.pack(f"<{len(numbers) + 1}I", *numbers, ftype))
    out += struct.pack("<I", count) if counted else b""
    for word in vocabulary:
        if architecture == "mpt":  # each byte as a code point
            word = word.decode("latin-1").encode()
        if architecture == "replit":  # as SentencePiece writes a space
            word = word.replace(b" ", "\u2581".encode())
        out += struct.pack("<I", len(word)) + word + (struct.pack("<f", -1.0) if scored else b"")
    for name, size in _sizes(architecture, count):
        tensor = random.standard_normal(size, dtype=np.float32) * np.float32(size[-1] ** -0.5)
        plain = F32 if name == "model/wpe" else kind
        out += _headed(name, tensor, plain) + _stored(tensor, plain)
    return bytes(out)


MARKS: Mapping[str, Sequence[bytes]] = {
    "starcoder": (b"<fim-prefix>", b"<|end|>"),
    "dolly-v2": (b"### End", b"### Instruction:", b"### Response:"),
}


def _sizes(architecture: str, count: int) -> Iterable[tuple[str, tuple[int, ...]]]:
    """Yield all tensors of a model: name, and shape with the rows first."""
    wide, inner, every = (WIDTH,), 4 * WIDTH, range(LAYERS)
    if architecture in {"gpt2", "starcoder"}:
        yield from (("model/wte", (count, WIDTH)), ("model/wpe", (CTX, WIDTH)))
        yield from (("model/ln_f/g", wide), ("model/ln_f/b", wide))
        for layer in every:
            for part, rows, columns in (
                ("attn/c_attn", 3 * WIDTH, WIDTH),
                ("attn/c_proj", WIDTH, WIDTH),
                ("mlp/c_fc", inner, WIDTH),
                ("mlp/c_proj", WIDTH, inner),
            ):
                yield from ((f"model/h{layer}/{part}/w", (rows, columns)), (f"model/h{layer}/{part}/b", (rows,)))
            for norm in ("ln_1/g", "ln_1/b", "ln_2/g", "ln_2/b"):
                yield f"model/h{layer}/{norm}", wide
    elif architecture == "gptj":
        yield from (("transformer.wte.weight", (count, WIDTH)), ("lm_head.weight", (count, WIDTH)))
        yield from (("lm_head.bias", (count,)), ("transformer.ln_f.weight", wide), ("transformer.ln_f.bias", wide))
        for layer in every:
            here = f"transformer.h.{layer}."
            yield from ((f"{here}attn.{part}_proj.weight", (WIDTH, WIDTH)) for part in ("q", "k", "v", "out"))
            yield from ((f"{here}ln_1.weight", wide), (f"{here}ln_1.bias", wide))
            yield from ((f"{here}mlp.fc_in.weight", (inner, WIDTH)), (f"{here}mlp.fc_in.bias", (inner,)))
            yield from ((f"{here}mlp.fc_out.weight", (WIDTH, inner)), (f"{here}mlp.fc_out.bias", wide))
    elif architecture in {"gptneox", "dolly-v2"}:
        yield from (("gpt_neox.embed_in.weight", (count, WIDTH)), ("embed_out.weight", (count, WIDTH)))
        for layer in every:
            here = f"gpt_neox.layers.{layer}."
            for part, rows, columns in (
                ("attention.query_key_value", 3 * WIDTH, WIDTH),
                ("attention.dense", WIDTH, WIDTH),
                ("mlp.dense_h_to_4h", inner, WIDTH),
                ("mlp.dense_4h_to_h", WIDTH, inner),
            ):
                yield from ((f"{here}{part}.weight", (rows, columns)), (f"{here}{part}.bias", (rows,)))
            for norm in ("input_layernorm", "post_attention_layernorm"):
                yield from ((f"{here}{norm}.weight", wide), (f"{here}{norm}.bias", wide))
        yield from (("gpt_neox.final_layer_norm.weight", wide), ("gpt_neox.final_layer_norm.bias", wide))
    else:
        yield from (("transformer.wte.weight", (count, WIDTH)), ("transformer.norm_f.weight", wide))
        for layer in every:
            here = f"transformer.blocks.{layer}."
            yield from ((f"{here}norm_1.weight", wide), (f"{here}norm_2.weight", wide))
            yield from (
                (f"{here}attn.Wqkv.weight", (3 * WIDTH, WIDTH)),
                (f"{here}attn.out_proj.weight", (WIDTH, WIDTH)),
            )
            yield from ((f"{here}ffn.up_proj.weight", (inner, WIDTH)), (f"{here}ffn.down_proj.weight", (WIDTH, inner)))
