"""Rewrites the haiku GGUF with a SentencePiece vocabulary: the same ids and weights for readers without byte-level BPE.

Old readers (ctransformers) know no GPT-2 byte-level vocabulary. As no token of the model crosses a word, the same
token ids can be described in the older way: a text per token, a score per merge, and byte tokens for the rest.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import gguf

_SPACE: Final = "\u2581"


def _byte_of() -> dict[str, int]:
    """Return the byte that each character of a byte-level token stands for."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}


def vocabulary(tokens: list[str], merges: list[str], kinds: list[int]) -> tuple[list[str], list[float], list[int]]:
    """Return the texts, scores and types of the tokens as a SentencePiece vocabulary has them."""
    byte_of = _byte_of()
    rank = {merge.replace(" ", ""): i for i, merge in enumerate(merges)}
    texts, scores, types = [], [], []
    for token, kind in zip(tokens, kinds, strict=True):
        text, score, new = token, 0.0, kind
        if kind != gguf.TokenType.CONTROL:
            data = bytes(byte_of[character] for character in token)
            text = data.decode("utf-8", "replace").replace(" ", _SPACE)
            score = -1.0 - rank.get(token, 0)
            if len(data) == 1 and not 0x20 <= data[0] < 0x7F:
                text, new = f"<0x{data[0]:02X}>", gguf.TokenType.BYTE
        texts.append(text)
        scores.append(score)
        types.append(int(new))
    return texts, scores, types


def rewrite(source: Path, target: Path) -> None:
    """Copy a GGUF file, with its byte-level vocabulary rewritten as a SentencePiece one."""
    reader = gguf.GGUFReader(source)
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    listed = [fields.pop(f"tokenizer.ggml.{name}").contents() for name in ("tokens", "merges", "token_type")]
    texts, scores, types = vocabulary(*listed)
    writer = gguf.GGUFWriter(target, fields.pop("general.architecture").contents())
    for name in ("tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.scores"):
        fields.pop(name)
    for name, field in fields.items():
        element = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], element)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_add_space_prefix(value=False)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Rewrite a haiku GGUF file with a SentencePiece vocabulary."""
    parser = argparse.ArgumentParser(prog="demo_model.spm", description=main.__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    rewrite(args.source, args.target)


if __name__ == "__main__":
    main()
