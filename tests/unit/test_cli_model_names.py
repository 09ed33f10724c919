"""Which model of a disk a person means."""

from __future__ import annotations

import pytest

from llorch.cli.model_names import chosen
from llorch.errors import Conflict, LlorchError, ModelNotFound
from llorch.models import BUILTIN_ALIASES, HAIKU_REF, model_id
from llorch.wire.models import StoredModel

QWEN = BUILTIN_ALIASES["qwen"].replace("@main", "@" + "a" * 40)
OLDER = BUILTIN_ALIASES["qwen"].replace("@main", "@" + "b" * 40)


def stored(ref: str) -> StoredModel:
    return StoredModel(model_id=model_id(ref), model_ref=ref, origin="hub", size_bytes=1, files=[])


@pytest.mark.parametrize("name", ["qwen", QWEN, model_id(QWEN), "hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF", "mine"])
def test_alias_reference_repository_and_id_all_name_a_model(name: str) -> None:
    found = chosen([stored(HAIKU_REF), stored(QWEN)], name, {"mine": QWEN})

    assert found.model_ref == QWEN


def test_of_two_revisions_one_has_to_be_named() -> None:
    both = [stored(QWEN), stored(OLDER)]

    with pytest.raises(Conflict) as several:
        chosen(both, "qwen", {})

    assert model_id(QWEN) in several.value.message
    assert model_id(OLDER) in several.value.message
    assert chosen(both, model_id(OLDER), {}).model_ref == OLDER


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [("qwen", ModelNotFound, "llorch pool models download qwen"), ("qwem", ModelNotFound, "did you mean qwen")],
)
def test_what_is_not_there_says_what_to_do(name: str, kind: type[LlorchError], said: str) -> None:
    with pytest.raises(kind, match=said):
        chosen([], name, {})
