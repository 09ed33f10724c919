"""What a name means on the hub, which of a host's files it can mean, and how the hub's refusals are told."""

from __future__ import annotations

import pytest

from llorch.errors import Forbidden, HubUnreachable, InvalidRequest, ModelNotFound
from llorch.hub import Pin, RepoFacts, at_hand, needed, pinned, refused
from llorch.models import HubRef, RepoRef
from llorch.wire.models import FileFacts

OLD, NEW = "a" * 40, "b" * 40


def facts(*paths: str, commit: str = NEW) -> RepoFacts:
    return RepoFacts("o/r", commit, tuple(FileFacts(path=path, size_bytes=10) for path in paths))


def test_a_branch_becomes_its_commit() -> None:
    assert pinned(HubRef("o/r", "main", "m.gguf"), facts("m.gguf", "README.md")) == Pin(
        f"hf:o/r@{NEW}::file=m.gguf", 10
    )


def test_a_set_is_named_by_its_first_part_and_as_large_as_all() -> None:
    parts = facts("m-00001-of-00002.gguf", "m-00002-of-00002.gguf")

    assert pinned(HubRef("o/r", "main", "m-00002-of-00002.gguf"), parts) == Pin(
        f"hf:o/r@{NEW}::file=m-00001-of-00002.gguf", 20
    )


def test_a_repository_means_its_one_model() -> None:
    assert pinned(RepoRef("o/r", "main"), facts("x.gguf", "README.md")).ref == f"hf:o/r@{NEW}::file=x.gguf"


def test_a_repository_without_gguf_means_its_safetensors_and_what_is_read_beside_them() -> None:
    there = facts("config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin", "original/config.json")

    assert pinned(RepoRef("o/r", "main"), there) == Pin(f"hf:o/r@{NEW}::file=config.json", 30)
    assert [file.path for file in needed("config.json", there)] == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    with pytest.raises(ModelNotFound, match=r"^hf:o/r: .*tokenizer\.json is not there"):
        pinned(RepoRef("o/r", "main"), facts("config.json", "model.safetensors"))
    with pytest.raises(InvalidRequest, match="name hf:o/r alone"):
        pinned(HubRef("o/r", "main", "model.safetensors"), there)


def test_a_missing_part_is_told() -> None:
    with pytest.raises(ModelNotFound, match=r"has no file m-00002-of-00002\.gguf"):
        needed("m-00001-of-00002.gguf", facts("m-00001-of-00002.gguf"))


def test_a_missing_file_lists_near_ones() -> None:
    with pytest.raises(ModelNotFound) as raised:
        pinned(HubRef("o/r", "main", "tiny.Q4_K_S.gguf"), facts("tiny.Q4_K_M.gguf", "other.txt"))

    assert raised.value.message == "hf:o/r has no file tiny.Q4_K_S.gguf; did you mean tiny.Q4_K_M.gguf?"
    assert raised.value.details == {"near": ["tiny.Q4_K_M.gguf"]}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf:o/r@main::file=m.gguf", f"hf:o/r@{NEW}::file=m.gguf"),
        ("hf:o/r::file=m.gguf", f"hf:o/r@{NEW}::file=m.gguf"),
        ("hf:o/r", f"hf:o/r@{NEW}::file=m.gguf"),
        (f"hf:o/r@{OLD}", f"hf:o/r@{OLD}::file=m.gguf"),
        (f"hf:o/r@{OLD}::file=m.gguf", f"hf:o/r@{OLD}::file=m.gguf"),
        ("hf:o/r@v2::file=m.gguf", None),
        ("hf:o/r::file=other.gguf", None),
        ("hf:o/other", None),
        ("file:/m.gguf", "file:/m.gguf"),
    ],
)
def test_a_name_means_the_newest_file_at_hand_that_it_can_mean(name: str, expected: str | None) -> None:
    have = [
        (f"hf:o/r@{OLD}::file=m.gguf", 1),
        (f"hf:o/r@{NEW}::file=m.gguf", 2),
        ("file:/m.gguf", 9),
        ("file:/builtin/haiku.gguf", 9),
    ]

    assert at_hand(name, have) == expected


def test_of_several_files_at_hand_the_preferred_one_is_meant_or_none() -> None:
    q4, q8, f16 = (f"hf:o/r@{NEW}::file=m.{kind}.gguf" for kind in ("Q4_K_M", "Q8_0", "f16"))

    assert at_hand("hf:o/r", [(q8, 3), (q4, 1)]) == q4
    assert at_hand("hf:o/r", [(q8, 3), (f16, 1)]) is None


def test_of_several_checkpoints_at_hand_the_one_at_the_root_is_meant_or_none() -> None:
    root, first, second = (f"hf:o/r@{NEW}::file={folder}config.json" for folder in ("", "a/", "b/"))
    q8 = f"hf:o/r@{NEW}::file=m.Q8_0.gguf"

    assert at_hand("hf:o/r", [(first, 3), (root, 1), (root.replace(NEW, OLD), 2)]) == root.replace(NEW, OLD)
    assert at_hand("hf:o/r", [(first, 3), (root, 1), (q8, 2)]) == q8
    assert at_hand("hf:o/r", [(first, 3), (second, 1)]) is None
    assert at_hand("hf:o/r", [(first, 3)]) == first


@pytest.mark.parametrize(
    ("status", "headers", "kind", "said", "retriable"),
    [
        (401, {}, Forbidden, "set HF_TOKEN", False),
        (403, {}, Forbidden, "set HF_TOKEN", False),
        (403, {"X-Error-Code": "GatedRepo"}, Forbidden, "accept its terms", False),
        (404, {"X-Error-Code": "RepoNotFound"}, ModelNotFound, "is not on the hub", False),
        (404, {"X-Error-Code": "RevisionNotFound"}, ModelNotFound, "no such revision", False),
        (404, {"X-Error-Code": "EntryNotFound"}, ModelNotFound, "no such file", False),
        (429, {"Retry-After": "7"}, HubUnreachable, "patience", True),
        (503, {}, HubUnreachable, "status 503", True),
        (400, {}, HubUnreachable, "status 400", False),
    ],
)
def test_a_refusal_says_whose_fault_it_is(
    status: int, headers: dict[str, str], kind: type[Exception], said: str, retriable: bool
) -> None:
    error = refused("hf:o/r", status, headers)

    assert isinstance(error, kind)
    assert said in error.message
    assert error.retriable is retriable
    assert error.retry_after_s == (7 if "Retry-After" in headers else None)


def test_several_models_are_listed() -> None:
    with pytest.raises(InvalidRequest) as raised:
        pinned(RepoRef("o/r", "main"), facts("m.Q8_0.gguf", "m.f16.gguf"))

    assert raised.value.details == {"files": ["m.Q8_0.gguf", "m.f16.gguf"]}
