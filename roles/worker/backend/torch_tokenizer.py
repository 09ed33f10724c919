"""A checkpoint's tokeniser: texts to tokens, and the bytes of each token. Reads two files; starts nothing.

Strategy: what is generated becomes text byte by byte, not by the tokeniser's own decoder: that one looks at whole
texts, and changes what it said of a beginning once more tokens come.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tokenizers import Tokenizer

from llorch.errors import InvalidRequest, ModelIncompatible, ModelInvalid, ModelNotFound
from roles.worker.backend.pieces import byte_names

FILE = "tokenizer.json"
PANIC = "PanicException"
"""What the library raises, beside `Exception`, where its regular expressions give up; no module exports it."""
_BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"
"""What SentencePiece writes for a space."""


class Words:
    """The tokeniser of one model, which has places for *vocab_size* tokens.

    Raises:
        ModelNotFound: The model has no tokenizer.json.
        ModelInvalid: It is damaged.
        ModelIncompatible: Its tokens are no text in a way that is known here.
    """

    def __init__(self, folder: Path, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        try:
            raw = (folder / FILE).read_text(encoding="utf-8")
            found = json.loads(raw)
        except OSError:
            raise ModelNotFound(f"the model is not whole: there is no {FILE} in its folder") from None
        except (ValueError, RecursionError) as error:
            raise ModelInvalid(f"{FILE} is damaged, fetch it again: {str(error)[:200]}") from None
        try:
            self._tokenizer = Tokenizer.from_str(raw)
            self._literal = Tokenizer.from_str(raw)
        except Exception as error:  # noqa: BLE001 - the library raises nothing more exact
            raise ModelInvalid(f"{FILE} is damaged, fetch it again: {str(error)[:200]}") from None
        self._bytes, self.special = _vocabulary(found)
        self._literal.encode_special_tokens = True
        self._joined = "Metaspace" in raw or f'"{_SPACE}"' in json.dumps(found.get("normalizer"), ensure_ascii=False)

    def tokens(self, text: str, *, begin: bool) -> list[int]:
        """Return the tokens of a text in which special tokens are written out; *begin* adds the model's own ones.

        Raises:
            InvalidRequest: The tokeniser does not know what to do with it.
        """
        return _encoded(self._tokenizer, text, begin=begin)

    def prompt(self, text: str, behind: str, *, begin: bool) -> list[int]:
        """Return the tokens of a text and of *behind*, which a model wrote: nothing in that is a special token.

        Raises:
            InvalidRequest: There is not one token in it, or one that was added to the tokeniser, but not to the model,
                or the tokeniser does not know what to do with it.
        """
        if behind and self._joined:
            # Alone it would get a space in front.
            found = self.tokens(text + behind, begin=begin)
        else:
            found = self.tokens(text, begin=begin)
            found += _encoded(self._literal, behind, begin=False)
        if not found:
            raise InvalidRequest("the request is not valid: the prompt has no tokens")
        if max(found) >= self._vocab_size:
            raise InvalidRequest("the request is not valid: its text holds a token that the model has no place for")
        return found

    def bytes_of(self, token: int) -> bytes:
        """Return what a token stands for; nothing for special ones."""
        return self._bytes.get(token, b"")

    def told(self, token: int) -> tuple[str, list[int]]:
        """Return a token's text and bytes for a list of chances; special ones by their name."""
        data = self._bytes.get(token)
        if data is None:
            return self._tokenizer.id_to_token(token) or "", []
        return data.decode("utf-8", "ignore"), list(data)


def _encoded(tokenizer: Tokenizer, text: str, *, begin: bool) -> list[int]:
    """Return the tokens of a text: one that the library cannot encode ends its own request, and no other."""
    try:
        return list(tokenizer.encode(text, add_special_tokens=begin).ids)
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:
            raise
        why = " ".join(str(error).split())[:200]
        raise InvalidRequest(f"the request is not valid: the model's tokeniser does not take its text: {why}") from None


def _vocabulary(found: dict[str, object]) -> tuple[dict[int, bytes], set[int]]:
    """Return what each token stands for, and which are special."""
    model = found.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict):
        raise ModelIncompatible("the engine torch does not know the form of this model's vocabulary")
    kind = json.dumps(found.get("decoder"), ensure_ascii=False)
    if "ByteLevel" in kind:
        stand_ins = {name: byte for byte, name in enumerate(byte_names())}
        by_id = {
            token: bytes(stand_ins[c] for c in name) if all(c in stand_ins for c in name) else name.encode()
            for name, token in vocabulary.items()
        }
    elif _SPACE in kind or "Metaspace" in kind:
        by_id = {token: _sentencepiece(name) for name, token in vocabulary.items()}
    else:
        raise ModelIncompatible("the engine torch does not know how this model's tokens become text")
    added = found.get("added_tokens")
    special: set[int] = set()
    for each in added if isinstance(added, list) else []:
        by_id[each["id"]] = each["content"].encode()
        if each.get("special"):
            special.add(each["id"])
            del by_id[each["id"]]
    return by_id, special


def _sentencepiece(name: str) -> bytes:
    byte = _BYTE.fullmatch(name)
    return bytes([int(byte[1], 16)]) if byte else name.replace(_SPACE, " ").encode()
