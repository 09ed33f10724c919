"""What the wire says in llama.cpp's words: sampling, quantisation names, and why a load failed. Pure.

Source of the fields: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, checked against the
server inside xllamacpp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from llorch import errors
from llorch.wire.conversation import TokenChance, TokenLogprob
from llorch.wire.tasks import Sampling

RANDOM_SEED = 0xFFFF_FFFF
"""What llama.cpp takes for: draw one."""
SAMPLERS = ["penalties", "top_k", "top_p", "min_p", "temperature"]
PENALTY_WINDOW_TOKENS = 64
LEAST_LOGPROB = -9999.0
"""What OpenAI tells of a token that cannot be."""
LAST_CHUNK_FIELDS = ["content", "stop", "stop_type", "tokens_predicted"]
DRAFTS: Mapping[str, object] = {
    "timings_per_token": True,
    "response_fields": [*LAST_CHUNK_FIELDS, "timings"],
}
"""Has llama.cpp tell how many tokens a draft model guessed."""

MAX_DEVICES = 128
"""As many as llama.cpp can lay a model over."""
MAX_PARTS = 65_536
_DEVICE = re.compile(r"(?:[a-z]+:)?(\d{1,5})")
_UNKNOWN_ARCHITECTURE = re.compile(r"unknown model architecture: '([^']*)'")
_DAMAGED = (
    "corrupted or incomplete",
    "failed to read",
    "not within the file bounds",
    "invalid magic",
    "missing tensor",
)
_SIZES = {"Small": "S", "Medium": "M", "Large": "L"}


def completion(
    prompt: Sequence[int] | Mapping[str, object],
    sampling: Sampling,
    *,
    max_tokens: int,
    seed: int,
    reuse_prompt: bool,
    grammar: str = "",
) -> dict[str, object]:
    """Return the body of a `/completion` request.

    Args:
        prompt: The whole prompt as tokens, or a text with marks and the pictures that belong there.
        sampling: What the client asked for; its stop sequences stay with the worker.
        max_tokens: Already cut to the room there is.
        seed: uint64; llama.cpp's are uint32, the highest of which means random.
        reuse_prompt: Keep what a slot has computed of the same beginning. Faster, but not bit for bit the same.
        grammar: What alone may be generated; empty for anything.
    """
    body = {
        "prompt": prompt,
        "return_tokens": True,
        "response_fields": LAST_CHUNK_FIELDS,
        **sampled(sampling, max_tokens=max_tokens, seed=seed, reuse_prompt=reuse_prompt),
    }
    return {**body, "grammar": grammar} if grammar else body


def sampled(sampling: Sampling, *, max_tokens: int, seed: int, reuse_prompt: bool) -> dict[str, object]:
    """Return what any request for a stream of tokens says; see `completion`."""
    body: dict[str, object] = {
        "n_predict": max_tokens,
        "stream": True,
        "return_progress": True,
        "cache_prompt": reuse_prompt,
        "samplers": SAMPLERS,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repetition_penalty or 1.0,  # llama.cpp refuses 0
        "repeat_last_n": PENALTY_WINDOW_TOKENS,
        "seed": seed % RANDOM_SEED,
    }
    if sampling.frequency_penalty or sampling.presence_penalty:
        body |= {"frequency_penalty": sampling.frequency_penalty, "presence_penalty": sampling.presence_penalty}
    if sampling.logit_bias:
        body["logit_bias"] = [[int(token), bias] for token, bias in sampling.logit_bias.items()]
    if sampling.logprobs is True:
        body["n_probs"] = max(1, top_logprobs(sampling))
    return body


def probing(tokens: Sequence[int], grammar: str) -> dict[str, object]:
    """Return the body of a request for one token, which shows whether llama.cpp follows a grammar."""
    return {"prompt": tokens, "n_predict": 1, "temperature": 0, "cache_prompt": False, "grammar": grammar}


def top_logprobs(sampling: Sampling) -> int:
    """Return how many of the likeliest tokens are asked for beside the one that was chosen."""
    return sampling.top_logprobs if isinstance(sampling.top_logprobs, int) else 0


def told_logprobs(found: Sequence[TokenLogprob], top: int) -> list[TokenLogprob]:
    """Return what is told of tokens: the *top* likeliest each, and no logarithm of nothing."""
    return [
        TokenLogprob(
            each.token, _least(each.logprob), each.bytes, [_bounded(other) for other in each.top_logprobs[:top]]
        )
        for each in found
    ]


def _bounded(chance: TokenChance) -> TokenChance:
    return TokenChance(chance.token, _least(chance.logprob), chance.bytes)


def _least(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)


def device_index(device: str) -> int:
    """Return the number at the end of a device's id; 0 when it has none."""
    found = _DEVICE.fullmatch(device)
    return int(found[1]) if found else 0


def parse_split(text: str) -> dict[int, int]:
    """Read how many parts of a model go to which devices, from `cuda:0 = 17, cuda:1 = 16`; empty is one device alone.

    Raises:
        InvalidConfiguration: It is something else, or names a device twice.
    """
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    found: dict[int, int] = {}
    for device, _, parts in pairs:
        index = device_index(device.strip())
        known = _DEVICE.fullmatch(device.strip()) and parts.strip().isdecimal()
        if not known or index in found or index >= MAX_DEVICES or not 0 < int(parts) <= MAX_PARTS:
            expected = "devices with their parts, such as cuda:0 = 17, cuda:1 = 16"
            raise errors.InvalidConfiguration(f"--split: expected {expected}, found {text[:100]!r}")
        found[index] = int(parts)
    return found


def quant_kind(file_type: str) -> str:
    """Return the common short name of llama.cpp's file type: `Q4_K_M` for "Q4_K - Medium", `F32` for "all F32"."""
    name = file_type.removeprefix("(guessed) ").removeprefix("all ").removeprefix("mostly ")
    base, dash, size = name.partition(" - ")
    if name == "Q2_K - Medium":
        return "Q2_K"  # the one that everybody writes without its size
    return f"{base}_{_SIZES[size]}" if dash and size in _SIZES else base.split(" ")[0]


def load_error(complaints: Sequence[str], *, status: int) -> errors.LlorchError:
    """Return the error behind a load that failed.

    Args:
        complaints: llama.cpp's error messages in order, without paths.
        status: The engine process's exit status.
    """
    reason = next((c for c in complaints if "failed to load model" not in c), complaints[0] if complaints else "")
    reason = reason.partition("error loading model: ")[2] or reason
    if found := _UNKNOWN_ARCHITECTURE.search(reason):
        return errors.ModelIncompatible(f"llama.cpp does not know the model architecture {found[1]!r}")
    if any(sign in reason for sign in _DAMAGED):
        return errors.ModelInvalid(f"the model file is damaged or incomplete, fetch it again: {reason}")
    if not reason:
        return errors.EngineFailed(f"the engine process ended while loading the model ({ending(status)})")
    return errors.EngineFailed(f"llama.cpp could not load the model: {reason}")


def ending(status: int) -> str:
    """Return an exit status in words."""
    return f"signal {-status}" if status < 0 else f"exit status {status}"
