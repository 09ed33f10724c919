"""On which devices of a pool a model's engine computes."""

from __future__ import annotations

from msgspec.structs import replace

from llorch.wire.pools import Backend, Model
from roles.orchestrator.scheduler.kinds import Kinds
from tests.support.worlds import device, model

CPU, GPU = device("cpu"), device("cuda:0", backend="cuda")


def told(ref: str, *backends: Backend) -> Model:
    """Return a model whose engine computes on *backends*."""
    return replace(model(ref), backends=[*backends])


def test_a_model_is_noted_where_its_engine_cannot_use_all_that_there_is() -> None:
    kinds = Kinds()
    kinds.take("gpu", [told("old", "cpu"), told("new", "cpu", "cuda"), told("unsaid")], [CPU, GPU])
    kinds.take("small", [told("old", "cpu")], [CPU])

    assert kinds.of("old") == {"gpu": {"cpu"}}
    assert kinds.of("new") == kinds.of("unsaid") == {}


def test_what_a_pool_says_now_replaces_what_it_said() -> None:
    kinds = Kinds()
    kinds.take("a", [told("old", "cpu")], [CPU, GPU])
    kinds.take("b", [told("old", "cpu")], [CPU, GPU])
    kinds.take("a", [told("old", "cpu", "cuda")], [CPU, GPU])
    without_a = dict(kinds.of("old"))
    kinds.take("b", [], [])

    assert without_a == {"b": {"cpu"}}
    assert kinds.of("old") == {}


def test_a_model_that_a_pool_lists_twice_is_one() -> None:
    kinds = Kinds()
    kinds.take("a", [told("old", "cpu"), told("old", "cpu")], [CPU, GPU])
    twice = dict(kinds.of("old"))
    kinds.take("a", [told("new", "cpu")], [CPU, GPU])

    assert twice == {"a": {"cpu"}}
    assert kinds.of("old") == {}
    assert kinds.of("new") == {"a": {"cpu"}}
