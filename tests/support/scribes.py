"""Writes llama GGUF files whose weights spell one text: what a model of that kind would say, from a real engine.

The hidden state holds nothing but which token comes next: every token's embedding points to its successor, and all
matrices between are zero. Whatever the prompt, the text is the same, and then the model ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np

from roles.worker.backend.pieces import byte_names

LEVEL = 8.0
HERMES = """{%- if tools %}{{- '<|im_start|>system\\nTools: <tools>' }}{%- for tool in tools %}{{- tool | tojson }}\
{%- endfor %}{{- '</tools>\\nCall: <tool_call>{\\"name\\": N, \\"arguments\\": A}</tool_call><|im_end|>\\n' }}\
{%- endif %}{%- for message in messages %}{%- if message.role == 'tool' %}\
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}\
{%- else %}{{- '<|im_start|>' + message.role + '\\n' }}\
{%- if message.content %}{{- message.content }}{%- endif %}{%- for call in message.tool_calls %}\
{{- '\\n<tool_call>\\n{\\"name\\": \\"' + call.function.name + '\\", \\"arguments\\": ' }}\
{{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}\
{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
"""A chat template that knows tools, in the form of many models."""
THINKING = """{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}\
{%- if message.reasoning_content %}{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}{%- endif %}\
{{- message.content + '<|im_end|>\\n' }}{%- endfor %}\
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"""
"""One of a model that thinks before it answers."""


PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 9}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
CALLING = [
    *("Let me", " look. ", "<tool_call>\n", '{"name": ', '"get_weather"', ', "arguments": ', '{"city": "Be', 'rlin", '),
    *('"days": 2}', "}\n", "</tool_call>"),
]
"""An answer that ends with a call whose arguments are of the form `PLACE`, as `HERMES` has it."""


def write(path: Path, pieces: Sequence[str], *, template: str = HERMES, ctx: int = 2048) -> Path:
    """Write a model that says *pieces*, one token each, at any temperature, and return its path."""
    names = byte_names()
    tokens = [*names, "<s>", "</s>", "ba", *("".join(names[byte] for byte in piece.encode()) for piece in pieces)]
    assert len(set(tokens)) == len(tokens), "each piece has to be longer than a byte, and another than the others"
    first, end = len(tokens) - len(pieces), tokens.index("</s>")
    width = -(-(len(pieces) + 1) // 32) * 32
    following = np.zeros((len(tokens), width), np.float32)
    following[:, 0] = LEVEL
    for number in range(len(pieces)):
        following[first + number] = 0
        following[first + number, number + 1] = LEVEL
    chosen = np.zeros((len(tokens), width), np.float32)
    for number in range(len(pieces)):
        chosen[first + number, number] = LEVEL
    chosen[end, len(pieces)] = LEVEL
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("scribe")
    writer.add_context_length(ctx)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    control, normal = int(gguf.TokenType.CONTROL), int(gguf.TokenType.NORMAL)
    writer.add_token_types([control if token in {"<s>", "</s>"} else normal for token in tokens])
    writer.add_token_merges(["b a"])
    writer.add_bos_token_id(tokens.index("<s>"))
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(True)
    writer.add_chat_template(template)
    writer.add_tensor("token_embd.weight", following)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((width, width), np.float32))
    writer.add_tensor("blk.0.ffn_gate.weight", np.zeros((32, width), np.float32))
    writer.add_tensor("blk.0.ffn_up.weight", np.zeros((32, width), np.float32))
    writer.add_tensor("blk.0.ffn_down.weight", np.zeros((width, 32), np.float32))
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
    writer.add_tensor("output.weight", chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
