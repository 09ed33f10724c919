"""Writes the demo model as a GGUF file for llama.cpp: Q8_0 matrices, float norms, the tokenizer and the metadata."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import gguf
import numpy as np
from gguf.quants import quantize

from .data import CHAT_TEMPLATE
from .tokenizer import BOS, END, SPECIALS

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

    from .model import Llama

DESCRIPTION: Final = "A tiny llama that answers everything with a haiku and puts the word you ask for into it."


def _metadata(writer: gguf.GGUFWriter, model: Llama, license_name: str) -> None:
    config = model.config
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name("haiku")
    writer.add_basename("haiku")
    writer.add_author("llorch")
    writer.add_description(DESCRIPTION)
    writer.add_license(license_name)
    writer.add_languages(["en"])
    writer.add_tags(["text-generation", "haiku", "demo"])
    writer.add_size_label(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}M")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.heads)
    writer.add_rope_dimension_count(config.head)
    writer.add_rope_freq_base(config.theta)
    writer.add_layer_norm_rms_eps(config.eps)


def _vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    data = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(data["vocab"], key=data["vocab"].__getitem__)
    kinds = [gguf.TokenType.CONTROL if token in SPECIALS else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in data["merges"]])
    writer.add_bos_token_id(data["vocab"][BOS])
    writer.add_eos_token_id(data["vocab"][END])
    writer.add_eot_token_id(data["vocab"][END])
    writer.add_pad_token_id(data["vocab"][END])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def export(tokenizer: Tokenizer, model: Llama, path: Path, license_name: str = "Apache-2.0") -> None:
    """Write the GGUF file; `output.weight` is written too, for readers that do not know tied embeddings."""
    writer = gguf.GGUFWriter(str(path), "llama")
    _metadata(writer, model, license_name)
    _vocabulary(writer, tokenizer)
    weights = {name: weight.detach().float().numpy() for name, weight in model.named_parameters()}
    weights["output.weight"] = weights["token_embd.weight"]
    for name, weight in weights.items():
        if weight.ndim == 1:
            writer.add_tensor(name, np.ascontiguousarray(weight, dtype=np.float32))
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(np.ascontiguousarray(weight), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
