"""What a server that speaks OpenAI's API tells of itself: what kind it is, its models, their context, its slots. Pure.

Sources: vLLM, `vllm/entrypoints` (`/v1/models` with `max_model_len`, `/version`); SGLang,
`python/sglang/srt/entrypoints` (the same list, `/server_info`); llama.cpp, `tools/server/README.md` (`meta` of
`/v1/models`, `/props`), the last of which was also asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec

from llorch.wire.codec import UNREADABLE

T = TypeVar("T")
Family = Literal["llama-server", "vllm", "sglang", "llorch", "openai"]
"""What a server understands; `openai` is one of which only OpenAI's own fields are known."""
PROBES = ("/props", "/version", "/server_info", "/get_server_info", "/v2/meta/version")
"""Addresses beside OpenAI's by which servers are told apart; SGLang's second one is its older name."""
DEFAULT_SLOTS = 8
DEFAULT_CONTEXT = 8192
"""Where a server does not say."""


class Meta(msgspec.Struct, frozen=True):
    """What llama.cpp tells of a model; `n_ctx` is one slot's."""

    n_ctx: int | None = None
    n_ctx_train: int | None = None
    n_vocab: int | None = None
    vocab_type: int | None = None
    ftype: str | None = None


class Card(msgspec.Struct, frozen=True):
    """A model in `/v1/models`."""

    id: str
    owned_by: str | None = None
    max_model_len: int | None = None
    meta: Meta | None = None

    @property
    def context(self) -> int:
        """Its context in tokens; 0 where it is not told."""
        meta = self.meta or Meta()
        return self.max_model_len or meta.n_ctx or meta.n_ctx_train or 0


class Cards(msgspec.Struct, frozen=True):
    """`GET /v1/models`."""

    data: list[Card]


class _Defaults(msgspec.Struct, frozen=True):
    n_ctx: int = 0


class _Caps(msgspec.Struct, frozen=True):
    supports_tools: bool = True


class _Props(msgspec.Struct, frozen=True):
    total_slots: int
    build_info: str = ""
    chat_template_caps: _Caps = _Caps()
    model_ftype: str = ""
    default_generation_settings: _Defaults = _Defaults()


class _State(msgspec.Struct, frozen=True):
    effective_max_running_requests_per_dp: int | None = None


class _Info(msgspec.Struct, frozen=True):
    version: str = ""
    internal_states: list[_State] = []


class _Version(msgspec.Struct, frozen=True):
    version: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """A server that answers; `slots` and `context` 0 are not told."""

    family: Family
    version: str = ""
    slots: int = 0
    context: int = 0
    quant_kind: str = ""
    vocab_size: int = 0
    knows_tools: bool = True
    """Whether the model's chat template does, where that is told."""
    vocab_type: int = 0
    """llama.cpp's number for the kind of vocabulary."""


def read(card: Card, answers: Mapping[str, bytes]) -> Facts:
    """Return what a server is.

    Args:
        card: The model that is wanted of it.
        answers: What it says at `PROBES`, as far as it does.
    """
    props = _decoded(answers.get("/props"), _Props)
    if props is not None:
        context = props.default_generation_settings.n_ctx or card.context
        meta = card.meta or Meta()
        return Facts(
            "llama-server",
            props.build_info,
            props.total_slots,
            context,
            props.model_ftype,
            vocab_size=meta.n_vocab or 0,
            knows_tools=props.chat_template_caps.supports_tools,
            vocab_type=meta.vocab_type or 0,
        )
    info = _decoded(answers.get("/server_info") or answers.get("/get_server_info"), _Info)
    if card.owned_by == "sglang" or (info is not None and info.internal_states):
        info = info or _Info()
        slots = sum(state.effective_max_running_requests_per_dp or 0 for state in info.internal_states)
        return Facts("sglang", info.version, slots, card.context)
    version = _decoded(answers.get("/version"), _Version)
    if card.owned_by == "vllm":
        return Facts("vllm", version.version if version else "", 0, card.context)
    if card.owned_by == "llorch":
        version = _decoded(answers.get("/v2/meta/version"), _Version)
        return Facts("llorch", version.version if version else "", 0, card.context)
    return Facts("openai", "", 0, card.context)


def of_model(cards: Sequence[Card], model: str) -> Card | None:
    """Return the card of a model; None where the server does not have it."""
    return next((card for card in cards if card.id == model), None)


def _decoded(answer: bytes | None, kind: type[T]) -> T | None:
    """Return an answer of the form that is sought; anything else is another server's."""
    if answer is None:
        return None
    try:
        return msgspec.json.decode(answer, type=kind)
    except UNREADABLE:
        return None
