"""Which files make up a checkpoint: a model as safetensors, in a folder of Hugging Face's layout. Pure.

It is named by its config.json, which is the first of its files, as a set of GGUF parts is by the first part. Other
forms of the same weights (`.bin`, `consolidated`, `original/`) are never among its files.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from llorch.errors import ModelNotFound

CONFIG, INDEX, SINGLE = "config.json", "model.safetensors.index.json", "model.safetensors"
TOKENIZER = "tokenizer.json"
BESIDE = ("generation_config.json", TOKENIZER, "tokenizer_config.json", "chat_template.jinja")
"""What is read beside the weights, where it is there."""
MAX_SHARDS = 10_000
_SHARD = re.compile(r"model-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors", re.ASCII)


def names_one(path: str) -> bool:
    """Tell whether the path of a file names a checkpoint."""
    return path.rpartition("/")[2] == CONFIG


def belongs(name: str) -> bool:
    """Tell whether a file of that name can be one of a checkpoint's."""
    return name in {CONFIG, INDEX, SINGLE, *BESIDE} or _SHARD.fullmatch(name) is not None


def has_one(paths: Collection[str]) -> bool:
    """Tell whether there is a checkpoint among the files at the root of a repository."""
    return CONFIG in paths and (INDEX in paths or SINGLE in paths)


def files(path: str, paths: Collection[str]) -> list[str]:
    """Return the files of the checkpoint that *path* names: that itself, the weights, and what is read beside them.

    Args:
        path: Its config.json.
        paths: Every file of its repository.

    Raises:
        ModelNotFound: Some of it is not there, or not under the name that such a file has; the message says what.
    """
    folder = path.removesuffix(CONFIG)
    there = {inside for each in paths if "/" not in (inside := each.removeprefix(folder)) and each.startswith(folder)}
    if CONFIG not in there:
        raise ModelNotFound(f"there is no {path}")
    found = [CONFIG, INDEX, *_shards(there)] if INDEX in there else [CONFIG, SINGLE]
    if missing := [name for name in (*found, TOKENIZER) if name not in there]:
        raise ModelNotFound(f"it is no whole model in safetensors: {folder}{missing[0]} is not there")
    return [folder + name for name in [*found, *(name for name in BESIDE if name in there)]]


def _shards(there: Collection[str]) -> list[str]:
    """Return all parts of the weights, whether they are there or not."""
    numbered = [shard for name in there if (shard := _SHARD.fullmatch(name))]
    count = max((int(shard["count"]) for shard in numbered), default=0)
    if not 0 < count <= MAX_SHARDS:
        raise ModelNotFound("its weights have other names than model-00001-of-00002.safetensors")
    return [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
