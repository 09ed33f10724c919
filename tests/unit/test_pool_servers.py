"""What a pool says of the models of its servers, and how soon it asks one again that was away."""

from __future__ import annotations

import msgspec
import pytest

from llorch.models import model_id
from llorch.server_facts import Cards
from llorch.settings import Server
from roles.pool.servers import listed, on_device, pause_s
from tests.support.worlds import device

CARDS = msgspec.json.decode(
    b'{"data":[{"id":"org/M","owned_by":"vllm","max_model_len":32768},{"id":"bad\\u0007name"},{"id":"lora"}]}',
    type=Cards,
).data
URL = "http://h:8000/v1"


def test_all_that_a_server_lists_is_offered_with_the_context_that_it_tells() -> None:
    found = list(listed("gpu", Server(url=URL), CARDS, {"big": "server:gpu/org/M"}, 7))

    assert [(m.model_ref, m.context_length, m.aliases, m.added_ms) for m in found] == [
        ("server:gpu/org/M", 32768, ["big"], 7),
        ("server:gpu/lora", 8192, [], 7),
    ]
    assert (found[0].model_id, found[0].memory_bytes, found[0].device) == (model_id("server:gpu/org/M"), 0, "")


def test_what_the_configuration_says_goes_before_what_the_server_tells() -> None:
    server = Server(url=URL, models=("org/M", "later"), context=4096, command=("x",), device="cuda:0", memory_bytes=5)

    before, after = list(listed("gpu", server, [], {}, 0)), list(listed("gpu", server, CARDS, {}, 0))

    assert before == after
    assert [(m.model_ref, m.context_length) for m in before] == [("server:gpu/org/M", 4096), ("server:gpu/later", 4096)]
    assert {(m.device, m.memory_bytes) for m in before} == {("cuda:0", 5)}


@pytest.mark.parametrize(
    ("called", "told"),
    [
        ("cuda:1", ("cuda:1", ["cuda"])),
        ("1", ("cuda:1", ["cuda"])),
        ("GPU-b", ("cuda:1", ["cuda"])),
        ("cpu", ("cpu", ["cpu"])),
        ("GPU-c", ("GPU-c", [])),
        ("", ("", [])),
    ],
)
def test_its_device_is_told_as_the_pool_calls_it_however_it_is_configured(
    called: str, told: tuple[str, list[str]]
) -> None:
    gpus = [device(f"cuda:{index}", backend="cuda") for index in range(2)]
    gpus = [msgspec.structs.replace(gpu, uuid=f"GPU-{name}") for gpu, name in zip(gpus, "ab", strict=True)]
    (model,) = listed("s", Server(url=URL, models=("m",), device=called), [], {}, 0)

    found = on_device(model, [msgspec.structs.replace(device("cpu"), uuid=""), *gpus])

    assert (found.device, found.backends) == told


def test_a_server_that_is_away_is_asked_less_and_less_but_never_seldom() -> None:
    assert [pause_s(failures) for failures in (0, 1, 2, 3, 4, 5, 100)] == [10, 1, 2, 4, 8, 10, 10]
