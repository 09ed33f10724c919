"""What the engine ctransformers has to know of a model file before its library sees it. Reads the file; loads nothing.

Strategy: the library trusts its files. What it would crash on, or compute nonsense of, is refused here by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llorch import errors, ggml
from roles.worker.backend import model_file

LARGEST_CONTEXT = 8192
"""What a slot gets at most, unless it is told."""
NEWER = "take the engine llamacpp, which reads newer files"
_GROUPED_NAME = re.compile(r"(?i)(\b|_)70b(\b|_)")
"""By this in a file's name the library knows that keys are grouped, as in Llama 2 70B alone."""
_VOCABULARY = "llama"
_NEEDED_LISTS = ("tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type")
_CONTROL = {3, 4}
"""GGUF's numbers for tokens that are no text, and for those that somebody has added."""


@dataclass(frozen=True, slots=True)
class OldFile:
    """A file that the library can read, as far as can be seen.

    Attributes:
        kind: What the library calls it.
        context_length: What the model was trained for, in tokens.
        quantization: How its matrices are stored.
        template: Its chat template; empty where there is none.
        names: What the template calls the special tokens, such as `bos_token`.
        specials: Tokens that are written out in prompts, by name.
        unsaid: Whether there may be more of them, which the file does not tell from other tokens.
        begins: Whether a text begins with the model's first token.
    """

    kind: str
    context_length: int
    quantization: str
    template: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    specials: Mapping[str, int] = field(default_factory=dict)
    unsaid: bool = False
    begins: bool = True


def look(path: Path) -> OldFile:
    """Look into a model file.

    Raises:
        ModelNotFound: It is not there, or not readable.
        ModelInvalid: It is in no form that is known here, or damaged.
        ModelIncompatible: The library does not know such models.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            if ggml.is_old(magic):
                file.seek(0)
                return _old(path, ggml.read(file, path.stat().st_size))
    except FileNotFoundError:
        raise errors.ModelNotFound(f"there is no model file at {path}") from None
    except OSError as error:
        raise errors.ModelNotFound(f"the model file {path.name} cannot be read: {error.strerror}") from None
    if magic != model_file.MAGIC:
        raise errors.ModelInvalid(f"{path.name} is no model file: neither GGUF nor one of the forms before it")
    return _gguf(path)


def beside(path: Path) -> Path:
    """Return where the chat template of a file is that has none inside."""
    return path.with_suffix(".jinja")


def _old(path: Path, model: ggml.OldModel) -> OldFile:
    llama = model.architecture == "llama"
    if model.kv_width != model.width and not _GROUPED_NAME.search(str(path)):
        raise errors.ModelIncompatible(
            "the model's keys are grouped, as those of Llama 2 70B, which the engine ctransformers knows by '70b' in "
            "the name of the file alone: rename it"
        )
    return OldFile(
        kind=model.architecture,
        context_length=model.context_length,
        quantization=model.quantization,
        template=_template_beside(path),
        names={"bos_token": "<s>", "eos_token": "</s>"} if llama else {"eos_token": "<|endoftext|>"},
        specials={"<s>": 1, "</s>": 2} if llama else {},
        unsaid=True,
        begins=llama,
    )


def _gguf(path: Path) -> OldFile:
    header, contents = model_file.read_header(path), model_file.read_contents(path)
    if header.architecture != "llama":
        raise errors.ModelIncompatible(
            f"the engine ctransformers knows no GGUF files of the architecture {header.architecture!r}, but llama; "
            f"{NEWER}"
        )
    if contents.texts.get("tokenizer.ggml.model") != _VOCABULARY or not contents.lists.issuperset(_NEEDED_LISTS):
        raise errors.ModelIncompatible(
            f"the engine ctransformers knows no vocabulary but SentencePiece's in GGUF files; {NEWER}"
        )
    quantization = _checked(path, contents)
    vocabulary = model_file.read_vocabulary(path)
    numbered = dict[str, int]()
    for name, missing in (("bos_token", 1), ("eos_token", 2)):
        number = contents.numbers.get(f"tokenizer.ggml.{name}_id", missing)
        if not isinstance(number, int) or not 0 <= number < len(vocabulary.names):
            raise errors.ModelInvalid(f"{path.name} is damaged: it has no token that ends a text")
        numbered[name] = number
    return OldFile(
        kind="gguf",
        context_length=header.context_length or ggml.LLAMA_CONTEXT,
        quantization=quantization,
        template=contents.texts.get("tokenizer.chat_template", "") or _template_beside(path),
        names={name: vocabulary.names[token] for name, token in numbered.items()},
        specials={
            name: token
            for token, (name, kind) in enumerate(zip(vocabulary.names, vocabulary.types, strict=False))
            if kind in _CONTROL and name
        },
    )


def _checked(path: Path, contents: model_file.Contents) -> str:
    """Make sure that all tensors are there, in numbers that the library knows; return what most are."""
    found: dict[str, int] = {}
    for tensor in contents.tensors:
        if tensor.kind not in ggml.TYPES:
            raise errors.ModelIncompatible(
                f"the engine ctransformers does not know numbers of the type {tensor.kind}, which are newer; {NEWER}"
            )
        name, block, block_bytes = ggml.TYPES[tensor.kind]
        end = contents.data_start + tensor.offset + tensor.numbers // block * block_bytes
        if end > path.stat().st_size:
            raise errors.ModelInvalid(f"{path.name} is truncated: its tensors are not whole; fetch it again")
        found[name] = found.get(name, 0) + tensor.numbers
    if not found:
        raise errors.ModelInvalid(f"{path.name} is damaged: it has no tensors")
    return max(found, key=lambda name: found[name])


def _template_beside(path: Path) -> str:
    try:
        return beside(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
