"""Writes small checkpoints in Hugging Face's layout with random weights, in milliseconds and without torch.

A llama checkpoint holds the very numbers that `models.make` writes into a GGUF file of the same shape and seed, so that
two engines can be asked for the same text. Same arguments, same files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.support.models import CHAT_TEMPLATE, TINY, Shape, _tensors, _vocabulary

Tensor = npt.NDArray[np.float32]
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


@dataclass(frozen=True, slots=True)
class Variant:
    """What a family has beside its shape."""

    family: str = "llama"
    tied: bool = False
    biased: bool = False
    normed: bool = False
    rope: Mapping[str, object] = field(default_factory=dict)
    files: int = 1
    chat: bool = True


LLAMA = Variant()


def make(
    folder: Path, shape: Shape = TINY, variant: Variant = LLAMA, *, seed: int = 0, eos_logit: float = -40.0
) -> Path:
    """Write a checkpoint into *folder*, in so many safetensors files, and return it."""
    tokens, merges, _ = _vocabulary(shape.words, shape.unused)
    random = np.random.default_rng(seed + 1)
    tensors = dict(_named(shape, _tensors(shape, tokens, np.random.default_rng(seed), eos_logit)))
    if variant.tied:
        del tensors["lm_head.weight"]
    for name in [name for name in tensors if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))]:
        if variant.biased:
            rows = len(tensors[name])
            tensors[name.replace(".weight", ".bias")] = random.standard_normal(rows, dtype=np.float32) / np.float32(4)
        if variant.normed and "v_proj" not in name:
            wide = random.standard_normal(shape.head_size, dtype=np.float32)
            tensors[name.replace("_proj", "_norm")] = np.float32(1) + wide / np.float32(4)
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(folder, tensors, variant.files)
    config = {
        "architectures": [f"{variant.family.capitalize()}ForCausalLM"],
        "model_type": variant.family,
        "hidden_size": shape.n_embd,
        "intermediate_size": shape.n_ff,
        "num_hidden_layers": shape.n_layer,
        "num_attention_heads": shape.n_head,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "vocab_size": len(tokens),
        "max_position_embeddings": shape.ctx,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": variant.tied,
        "bos_token_id": tokens.index("<s>"),
        "eos_token_id": tokens.index("</s>"),
        "torch_dtype": "float32",
    }
    if variant.rope:
        config["rope_scaling"] = variant.rope
    chat = {"chat_template": CHAT_TEMPLATE} if variant.chat else {}
    for name, content in {
        "config.json": config,
        "generation_config.json": {"eos_token_id": [tokens.index("</s>")]},
        "tokenizer.json": _tokenizer(tokens, merges),
        "tokenizer_config.json": {"bos_token": "<s>", "eos_token": {"content": "</s>"}, **chat},
    }.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one file. Source of the format: https://github.com/huggingface/safetensors#format."""
    header, end = dict[str, object](), 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor).tobytes())


def _write_weights(folder: Path, tensors: Mapping[str, Tensor], files: int) -> None:
    if files == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return
    names, weight_map = list(tensors), dict[str, str]()
    for number in range(files):
        name = f"model-{number + 1:05}-of-{files:05}.safetensors"
        mine = names[number::files]
        write_safetensors(folder / name, {each: tensors[each] for each in mine})
        weight_map |= dict.fromkeys(mine, name)
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _named(shape: Shape, tensors: Iterable[tuple[str, Tensor]]) -> Iterable[tuple[str, Tensor]]:
    """Yield tensors as Hugging Face calls and lays them: the two halves of a head apart, not its pairs together."""
    for name, tensor in tensors:
        *block, kind, _ = name.split(".")
        if kind in {"attn_q", "attn_k"}:
            heads = shape.n_head if kind == "attn_q" else shape.kv_heads
            pairs = tensor.reshape(heads, shape.head_size // 2, 2, tensor.shape[1])
            tensor = pairs.swapaxes(1, 2).reshape(tensor.shape)
        layer = f"model.layers.{block[1]}." if block else ""
        yield f"{layer}{NAMES[kind]}.weight", tensor


def _tokenizer(tokens: list[str], merges: list[str]) -> dict[str, object]:
    begin = tokens.index("<s>")
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": tokens.index(name), "content": name, **plain} for name in ("<s>", "</s>")],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [begin], "tokens": ["<s>"]}},
        },
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": merges,
        },
    }
