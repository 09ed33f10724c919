"""Which models a pool can fetch, and from whom."""

from __future__ import annotations

from llorch.client import Client
from llorch.models import HAIKU_REF
from llorch.wire.pools import Model
from roles.orchestrator.fetching import MAX_SOURCES, fetchable, sources
from roles.orchestrator.pool_record import PoolRecord

REF = f"hf:o/r@{'a' * 40}::file=m.gguf"


def pool(name: str, *refs: str) -> PoolRecord:
    record = PoolRecord(name, f"http://{name}:9200", "1", 0, Client(f"http://{name}:9200"))
    record.models = {
        ref: Model(
            model_ref=ref,
            size_bytes=1,
            architecture="llama",
            quantization="Q4_0",
            context_length=1,
            vocab_size=1,
            max_token_bytes=1,
        )
        for ref in refs
    }
    return record


def test_only_what_is_at_a_commit_of_the_hub_can_be_fetched() -> None:
    assert fetchable(REF)
    assert not fetchable("hf:o/r@main::file=m.gguf")
    assert not fetchable("file:/m.gguf")
    assert not fetchable(HAIKU_REF)


def test_others_that_have_the_model_are_sources_in_a_fixed_order() -> None:
    pools = [pool("c", REF), pool("a", REF), pool("b", HAIKU_REF), pool("me", REF)]

    assert sources(pools, "me", REF) == ["http://a:9200", "http://c:9200"]
    assert sources(pools, "me", "file:/other") == []
    assert len(sources([pool(f"p{n}", REF) for n in range(50)], "me", REF)) == MAX_SOURCES
