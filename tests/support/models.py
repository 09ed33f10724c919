"""Writes small llama GGUF files with random weights: real model files for a real engine, in milliseconds.

The vocabulary is byte-level BPE: 256 bytes, ASCII words, and a few pieces of emoji that only together are a
character, so that outputs are readable and characters do get split over tokens. Same arguments, same file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

Tensor = npt.NDArray[np.float32]

CHAT_TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}<|assistant|>"
SYLLABLES = "ba be bi bo bu da de di do du ka ke ki ko ku la le li lo lu ma me mi mo mu na ne ni no nu".split()
EMOJI = "😀🚀🌧é漢"
EMOJI_HALVES = [b"\xf0\x9f", b"\x98\x80", b"\x9a\x80", b"\x8c\xa7"]
"""Tokens: what the first three begin with, and their ends."""
Q4_0 = gguf.GGMLQuantizationType.Q4_0


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a llama model; `n_embd` and `n_ff` are multiples of 32, `n_embd` also of `n_head`.

    `n_kv_head` divides `n_head`, 0 is the same number; `head` is the size of one, 0 is `n_embd / n_head`. `unused`
    tokens make the vocabulary larger and never come out.
    """

    n_embd: int = 64
    n_layer: int = 2
    n_head: int = 2
    n_ff: int = 160
    ctx: int = 512
    words: int = 400
    n_kv_head: int = 0
    head: int = 0
    unused: int = 0

    @property
    def kv_heads(self) -> int:
        """Heads that keys and values have."""
        return self.n_kv_head or self.n_head

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.head or self.n_embd // self.n_head


TINY = Shape()
LARGER = Shape(n_embd=512, n_layer=8, n_head=8, n_ff=1408, ctx=2048)
"""About 26 M parameters, 105 MB as F32: takes a moment to load."""


def make(
    path: Path | str,
    shape: Shape = TINY,
    *,
    seed: int = 0,
    quant: gguf.GGMLQuantizationType | None = None,
    architecture: str = "llama",
    eos_logit: float = -40.0,
    sentencepiece: bool = False,
    part_tensors: int = 0,
) -> Path:
    """Write a random-weight model to *path* and return it.

    Args:
        path: Where to write; overwritten.
        shape: How large.
        seed: Of the weights.
        quant: How matrices are stored; F32 when absent.
        architecture: What the file says it is; another than `llama` makes a file that llama.cpp refuses.
        eos_logit: Roughly what the end-of-sequence token's score is moved by; at -40 such a model talks until it is
            stopped, at +4 it soon stops by itself.
        sentencepiece: The same vocabulary in SentencePiece's form, which older programs know alone.
        part_tensors: How many tensors a part has of a model in several, which are beside *path* then; 0 for one file.
    """
    tokens, merges, types = _vocabulary(shape.words, shape.unused)
    bos, eos = tokens.index("<s>"), tokens.index("</s>")
    writer = gguf.GGUFWriter(str(path), architecture, split_max_tensors=part_tensors)
    writer.add_name("random")
    writer.add_context_length(shape.ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.kv_heads)
    if shape.head:
        writer.add_key_length(shape.head)
        writer.add_value_length(shape.head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if quant is None else gguf.LlamaFileType.MOSTLY_Q4_0)
    if sentencepiece:
        _add_sentencepiece(writer, tokens, merges, types)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        writer.add_token_merges(merges)
    writer.add_bos_token_id(bos)
    writer.add_eos_token_id(eos)
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, tensor in _tensors(shape, tokens, np.random.default_rng(seed), eos_logit):
        if quant is not None and tensor.ndim == 2:
            writer.add_tensor(name, gguf.quantize(tensor, quant), raw_dtype=quant)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


def _add_sentencepiece(writer: gguf.GGUFWriter, tokens: list[str], merges: list[str], types: list[int]) -> None:
    """Add a byte-level vocabulary as SentencePiece's: what was merged earlier has the higher score."""
    stand_ins = {name: byte for byte, name in enumerate(_byte_names())}
    ranks = {merge.replace(" ", ""): float(rank) for rank, merge in enumerate(merges)}

    def name(place: int, token: str) -> str:
        if token in stand_ins:
            return f"<0x{stand_ins[token]:02X}>"
        try:
            return bytes(stand_ins[c] for c in token).decode().replace(" ", "\u2581")
        except UnicodeDecodeError:  # a part of a character, which such a vocabulary cannot have: any other text
            return chr(0xE000 + place)

    special = gguf.TokenType.CONTROL
    names = [
        token if kind == special else name(place, token)
        for place, (token, kind) in enumerate(zip(tokens, types, strict=True))
    ]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(names)
    writer.add_token_scores([-ranks.get(token, 0.0) for token in tokens])
    kinds = [
        int(gguf.TokenType.BYTE) if token in stand_ins else kind for token, kind in zip(tokens, types, strict=True)
    ]
    writer.add_token_types(kinds)


def _byte_names() -> list[str]:
    """Return the printable stand-in of each byte. Source: the byte-level BPE of GPT-2 (encoder.py)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    names = {byte: chr(byte) for byte in shown} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    return [names[byte] for byte in range(256)]


def _vocabulary(words: int, unused: int = 0) -> tuple[list[str], list[str], list[int]]:
    """Return tokens, merges and token types; a word is two syllables, bare or behind a space."""
    names = _byte_names()
    space = names[ord(" ")]
    merges = dict.fromkeys((syllable[0], syllable[1]) for syllable in SYLLABLES)
    for number in range(words):
        first = SYLLABLES[number % len(SYLLABLES)]
        second = SYLLABLES[(number // len(SYLLABLES) + number) % len(SYLLABLES)]
        merges[first, second] = None
        merges[space, first + second] = None
    for character in EMOJI:
        parts = [names[byte] for byte in character.encode()]
        merges.update(dict.fromkeys(zip(parts[::2], parts[1::2], strict=False)))
    tokens = [*names, "<s>", "</s>", *dict.fromkeys(left + right for left, right in merges)]
    tokens += [f"<unused{number}>" for number in range(unused)]
    normal, control = int(gguf.TokenType.NORMAL), int(gguf.TokenType.CONTROL)
    types = [control if token in {"<s>", "</s>"} else normal for token in tokens]
    return tokens, [f"{left} {right}" for left, right in merges], types


def _tensors(
    shape: Shape, tokens: list[str], random: np.random.Generator, eos_logit: float
) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor. Two dimensions of the hidden state are written by the embedding alone.

    Dimension 0 is always the same: it carries a bias for some tokens. Dimension 1 says that the last token was the
    first half of an emoji: it makes the second halves likely, so that whole emoji come out.
    """

    def matrix(rows: int, columns: int) -> Tensor:
        return random.standard_normal((rows, columns), dtype=np.float32) * np.float32(columns**-0.5)

    def writing(columns: int) -> Tensor:
        made = matrix(shape.n_embd, columns)
        made[:2] = 0  # nothing is added to dimensions 0 and 1
        return made

    def ones() -> Tensor:
        return np.ones(shape.n_embd, np.float32)

    names = _byte_names()
    halves = [tokens.index("".join(names[byte] for byte in half)) for half in EMOJI_HALVES]
    eos, vocabulary = tokens.index("</s>"), len(tokens)
    level = shape.n_embd**0.5
    embedding = matrix(vocabulary, shape.n_embd) * level
    embedding[:, 0] = level
    embedding[:, 1] = 0
    embedding[halves[0], 1] = level
    yield "token_embd.weight", embedding
    for layer in range(shape.n_layer):
        block = f"blk.{layer}."
        for name, heads in (("attn_q", shape.n_head), ("attn_k", shape.kv_heads), ("attn_v", shape.kv_heads)):
            yield f"{block}{name}.weight", matrix(heads * shape.head_size, shape.n_embd)
        yield f"{block}attn_output.weight", writing(shape.n_head * shape.head_size)
        yield f"{block}ffn_gate.weight", matrix(shape.n_ff, shape.n_embd)
        yield f"{block}ffn_up.weight", matrix(shape.n_ff, shape.n_embd)
        yield f"{block}ffn_down.weight", writing(shape.n_ff)
        yield f"{block}attn_norm.weight", ones()
        yield f"{block}ffn_norm.weight", ones()
    yield "output_norm.weight", ones()
    output = matrix(vocabulary, shape.n_embd) * 2
    output[:, :2] = 0
    output[halves[0], 0] = 10 / level
    output[halves[1:], 1] = 40 / level
    output[:256, 0] = -2 / level  # single bytes are rarer than words
    output[vocabulary - shape.unused :, 0] = -80 / level
    output[eos, 0] = 2 * eos_logit / level
    output[eos - 1, 0] = -80 / level
    yield "output.weight", output
