"""The library ctransformers with one model: tokens in, scores out. Owns no text, draws nothing.

Only the library's lowest level is used. Its own sampler begins each draw anew from the seed, so that every token of a
text gets the same one; and what it allocates for tokens is as long as the text has characters, not bytes.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
from ctransformers.llm import LLM, Config

from llorch.errors import BackendUnavailable, EngineFailed, ModelIncompatible
from roles.worker.backend.ctransformers_file import NEWER, OldFile
from roles.worker.backend.ctransformers_pieces import in_pieces
from roles.worker.backend.ctransformers_sampling import Scores

MEASURED_TOKENS = 4
"""By its first step the library measures what a token takes; so its own programs begin with so few."""

MOST_TOKENS_A_BYTE = 3
"""A space becomes a character of three bytes, each of which may be a token."""


class Model:
    """A loaded model; one thread computes with it, another may tokenise meanwhile.

    Args:
        path: The file.
        file: What is known of it.
        ctx: Tokens that it is to hold.
        threads: That it computes with.

    Raises:
        BackendUnavailable: There is no library for this machine.
        ModelIncompatible: The library refuses the file.
    """

    def __init__(self, path: Path, file: OldFile, *, ctx: int, threads: int) -> None:
        self._threads = threads
        try:
            config = Config(context_length=ctx, threads=threads)
            self._llm = LLM(str(path), file.kind, config=config, lib=_build())
        except OSError as error:
            raise BackendUnavailable(
                f"the library of the engine ctransformers does not run on this machine: {str(error)[:200]}"
            ) from None
        except RuntimeError:
            raise ModelIncompatible(
                f"the engine ctransformers cannot load {path.name}: it is damaged, or newer than its library of 2023; "
                f"fetch it again, or {NEWER}"
            ) from None
        self.ctx = min(ctx, int(self._llm.context_length))
        self.vocab_size = int(self._llm.vocab_size)
        self.bos = int(self._llm.bos_token_id)
        self.bytes = [self._llm.ctransformers_llm_detokenize(token) for token in range(self.vocab_size)]
        self.eos = frozenset(t for t in range(self.vocab_size) if self._llm.ctransformers_llm_is_eos_token(t))
        self._in_pieces = in_pieces(file.kind, self.bytes, self.whole)
        self.read([self.bos] * min(MEASURED_TOKENS, self.ctx), 0)

    def tokens(self, text: bytes) -> list[int]:
        """Return the tokens of a text without a NUL, none of them special.

        Raises:
            InvalidRequest: The library cannot take it.
        """
        return self._in_pieces(text)

    def whole(self, text: bytes) -> list[int]:
        """Return the tokens of a short text without a NUL; the library may crash on a long one, or take minutes."""
        found = (ctypes.c_int * (MOST_TOKENS_A_BYTE * (len(text) + 1)))()
        count = self._llm.ctransformers_llm_tokenize(text, False, found)
        return list(found[:count])

    def read(self, tokens: list[int], place: int) -> Scores:
        """Compute tokens behind the first *place* ones; return the scores of what comes next."""
        told = (ctypes.c_int * len(tokens))(*tokens)
        if not self._llm.ctransformers_llm_batch_eval(told, len(tokens), place, len(tokens), self._threads):
            raise EngineFailed("the library of the engine ctransformers could not compute")
        scores = np.ctypeslib.as_array(
            self._llm.ctransformers_llm_logits_data(), (self._llm.ctransformers_llm_logits_size(),)
        )
        return scores[-self.vocab_size :].copy()


def _build() -> str | None:
    """Return which build of the library this processor can run.

    None has the library find out by itself, for which it starts a process that takes a second.
    """
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    flags = next((set(line.split()) for line in told.splitlines() if line.startswith("flags")), set[str]())
    if "avx2" in flags:
        return "avx2"
    if flags:
        return "avx" if flags.issuperset({"avx", "f16c"}) else "basic"
    return None
