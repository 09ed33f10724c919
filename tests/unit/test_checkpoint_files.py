"""Which files of a repository are a model in safetensors."""

from __future__ import annotations

import pytest

from llorch.checkpoint_files import belongs, files, has_one, names_one
from llorch.errors import ModelNotFound

SMALL = ["config.json", "tokenizer.json", "tokenizer_config.json"]
OTHERS = [
    *("README.md", ".gitattributes", "pytorch_model.bin", "consolidated.safetensors", "model.fp16.safetensors"),
    *("original/consolidated.00.pth", "original/config.json", "onnx/model.onnx", "tokenizer.model", "LICENSE"),
]
SHARDS = ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"]
INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([*OTHERS, *SMALL, "model.safetensors"], ["config.json", "model.safetensors", *SMALL[1:]]),
        ([*SHARDS, *SMALL, INDEX, *OTHERS], ["config.json", INDEX, *SHARDS, *SMALL[1:]]),
        (["model.safetensors", INDEX, *SHARDS, *SMALL], ["config.json", INDEX, *SHARDS, *SMALL[1:]]),
        (
            [*SMALL, "chat_template.jinja", "model.safetensors", "generation_config.json"],
            [
                *("config.json", "model.safetensors", "generation_config.json", "tokenizer.json"),
                *("tokenizer_config.json", "chat_template.jinja"),
            ],
        ),
    ],
)
def test_only_the_needed_files_are_a_models_the_one_that_names_it_first(there: list[str], expected: list[str]) -> None:
    assert files("config.json", there) == expected
    assert has_one(there)
    assert all(map(belongs, expected))
    assert not any(map(belongs, OTHERS[:5]))


def test_a_model_in_a_folder_of_a_repository_has_the_files_of_that_folder() -> None:
    inside = [f"big/{name}" for name in (*SMALL, "model.safetensors")]

    assert files("big/config.json", [*SMALL, *inside]) == [inside[0], inside[3], *inside[1:3]]
    assert names_one("big/config.json")
    assert not names_one("big/generation_config.json")
    assert not has_one(inside)


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (["tokenizer.json", "model.safetensors"], "no config.json"),
        (["config.json", "tokenizer.json", "pytorch_model.bin"], "model.safetensors is not there"),
        (["config.json", "tokenizer.model", "model.safetensors"], "tokenizer.json is not there"),
        ([*SMALL, INDEX, SHARDS[0], SHARDS[2]], "model-00002-of-00003.safetensors is not there"),
        ([*SMALL, INDEX, "pytorch-00001-of-00001.safetensors"], "other names"),
        ([*SMALL, INDEX, "model-00001-of-99999.safetensors"], "other names"),
    ],
)
def test_a_model_that_is_not_whole_says_what_is_missing(there: list[str], says: str) -> None:
    with pytest.raises(ModelNotFound, match=says):
        files("config.json", there)
