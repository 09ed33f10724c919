"""Model names: what they stand for, what is suggested when they stand for nothing, and what is never accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.errors import InvalidRequest, ModelNotFound
from llorch.models import (
    BUILTIN_ALIASES,
    HAIKU_REF,
    FileRef,
    HubRef,
    RepoRef,
    ServerRef,
    aliases_of,
    is_pinned,
    model_id,
    own_name,
    parse_name,
    parse_ref,
    parts,
    resolve,
    server_name,
    stands_for,
)

BUILTIN = {
    "tinyllama": ("TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF", "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf"),
    "qwen": ("Qwen/Qwen2.5-0.5B-Instruct-GGUF", "qwen2.5-0.5b-instruct-q4_k_m.gguf"),
    "qwen-fp16": ("Qwen/Qwen2.5-0.5B-Instruct-GGUF", "qwen2.5-0.5b-instruct-fp16.gguf"),
    "phi3": ("microsoft/Phi-3-mini-4k-instruct-gguf", "Phi-3-mini-4k-instruct-q4.gguf"),
    "llama3": ("QuantFactory/Meta-Llama-3-8B-Instruct-GGUF", "Meta-Llama-3-8B-Instruct.Q4_K_M.gguf"),
    "llama2": ("TheBloke/Llama-2-7B-GGUF", "llama-2-7b.Q8_0.gguf"),
    "mistral": ("TheBloke/Mistral-7B-Instruct-v0.2-GGUF", "mistral-7b-instruct-v0.2.Q4_K_M.gguf"),
}
words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12)


@pytest.mark.parametrize("name", BUILTIN)
def test_a_built_in_alias_stands_for_the_promised_file(name: str) -> None:
    repo, path = BUILTIN[name]

    assert parse_ref(resolve(name, {})) == HubRef(repo, "main", path)


def test_haiku_is_built_in_and_needs_no_download() -> None:
    reference = parse_ref(resolve("haiku", {}))

    assert isinstance(reference, FileRef)
    assert (str(reference), reference.builtin) == (HAIKU_REF, "haiku.gguf")


def test_there_are_no_other_built_in_aliases() -> None:
    assert set(BUILTIN_ALIASES) == {*BUILTIN, "haiku"}


def test_the_users_aliases_go_before_the_built_in_ones() -> None:
    mine = {"qwen": "file:/mine.gguf", "new": "file:/new.gguf"}

    assert [resolve(name, mine) for name in ("qwen", "new", "haiku")] == [
        "file:/mine.gguf",
        "file:/new.gguf",
        HAIKU_REF,
    ]


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("file:/m.gguf", FileRef("/m.gguf")),
        ("file:/a b/é..gguf", FileRef("/a b/é..gguf")),
        ("file:/..hidden/m", FileRef("/..hidden/m")),
        ("hf:o/r@main::file=m.gguf", HubRef("o/r", "main", "m.gguf")),
        ("hf:o-1/r.x_y@refs/pr/1::file=a/b c.gguf", HubRef("o-1/r.x_y", "refs/pr/1", "a/b c.gguf")),
        ("hf:o/r@" + "0a" * 20 + "::file=m", HubRef("o/r", "0a" * 20, "m")),
        ("hf:o/r@main::file=a@b::file=c", HubRef("o/r", "main", "a@b::file=c")),
    ],
)
def test_a_whole_reference_is_read_and_written_back_the_same(text: str, reference: FileRef | HubRef) -> None:
    assert parse_ref(text) == reference
    assert str(reference) == text
    assert resolve(text, {}) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "file:",
        "file:/",
        "file:relative.gguf",
        "file:~/m.gguf",
        "file://host/../m",
        "file:/a/../b",
        "file:/..",
        "file:/a/..",
        "file:/a\0b",
        "file:/a\nb",
        "file:/a\n",
        "file:/a\x1b[0m",
        "file:/" + "a" * 1001,
        "FILE:/a",
        " file:/a",
        "hf:",
        "hf:o",
        "hf:o/r",
        "hf:o/r@main",
        "hf:o/r::file=m",
        "hf:o/r@::file=m",
        "hf:o/r@main::file=",
        "hf:o/r@main::file=/m",
        "hf:o/r@main::file=../m",
        "hf:o/r@main::file=a/../m",
        "hf:o/r@main::file=a/..",
        "hf:o/r@main::file=a\\b",
        "hf:o/r@main::file=a\nb",
        "hf:o/r@main::file=a\n",
        "hf:../r@main::file=m",
        "hf:o/..@main::file=m",
        "hf:o/r@..::file=m",
        "hf:o/r@a/../../b::file=m",
        "hf:-o/r@main::file=m",
        "hf:o/r/x@main::file=m",
        "hf:ö/r@main::file=m",
        "hf:o/r@main\n::file=m",
        "hf:o/r@" + "a" * 129 + "::file=m",
        "https://example.org/m.gguf",
        "server:",
        "server:gpu",
        "server:gpu/",
        "server:/m",
        "server:../m",
        "server:a b/m",
        "server:gpu/a\nb",
    ],
)
def test_anything_else_is_no_reference_and_is_not_repeated(text: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_ref(text)

    problem = "expected file:/absolute/path, hf:org/repo@revision::file=path or server:NAME/MODEL"
    assert raised.value.message == f"the request is not valid: model_ref: {problem}"
    assert raised.value.details == {"fields": [{"field": "model_ref", "problem": problem}]}


def test_a_servers_model_is_named_by_both_and_means_one_thing_only() -> None:
    ref = "server:gpu.1/org/Model-1B:8bit"

    assert parse_ref(ref) == parse_name(ref) == ServerRef("gpu.1", "org/Model-1B:8bit")
    assert str(parse_ref(ref)) == ref
    assert (own_name(ref), server_name(ref), is_pinned(ref)) == ("org/Model-1B:8bit", "gpu.1", True)
    assert [own_name(other) + server_name(other) for other in (HAIKU_REF, "hf:o/r", "haiku")] == ["", "", ""]
    assert aliases_of(ref, {"big": ref, "other": "server:gpu.1/org/Model"}) == ["big"]


def test_what_servers_call_their_models_comes_behind_every_alias() -> None:
    served = ["server:a/m", "server:b/m", "server:a/n", "server:a/haiku"]

    assert resolve("n", {}, served=served) == "server:a/n"
    assert resolve("n", {"n": "file:/n.gguf"}, served=served) == "file:/n.gguf"
    assert resolve("haiku", {}, served=served) == HAIKU_REF
    with pytest.raises(InvalidRequest, match="server:a/m, server:b/m"):
        resolve("m", {}, served=served)
    with pytest.raises(ModelNotFound, match="no model is called 'nn'; did you mean n"):
        resolve("nn", {}, served=served)


@pytest.mark.parametrize("name", ["file:/a/../b", "file:m", "hf:o", "hf:", "server:x"])
def test_half_a_reference_is_never_taken_for_an_alias(name: str) -> None:
    with pytest.raises(InvalidRequest):
        resolve(name, {name: "file:/m.gguf"})


@pytest.mark.parametrize(
    ("name", "near", "hint"),
    [
        ("mistrall", ["mistral"], "did you mean mistral?"),
        ("QWEN", ["qwen", "qwen-fp16"], "did you mean qwen or qwen-fp16?"),
        ("llama1", ["llama3", "llama2", "tinyllama"], "did you mean llama3 or llama2 or tinyllama?"),
        (
            "zzz",
            [],
            "known names: haiku, llama2, llama3, mine, mistral, phi3, qwen, qwen-fp16, tinyllama",
        ),
    ],
)
def test_an_unknown_name_is_an_error_that_lists_near_ones(name: str, near: list[str], hint: str) -> None:
    with pytest.raises(ModelNotFound) as raised:
        resolve(name, {"mine": "file:/mine.gguf"})

    assert raised.value.message == f"no model is called {name!r}; {hint}"
    assert raised.value.details == {"near": near}


@given(st.text(max_size=200))
def test_an_unknown_name_is_shown_short_and_printable(name: str) -> None:
    if name in BUILTIN_ALIASES or name.startswith(("file:", "hf:")):
        return

    with pytest.raises(ModelNotFound) as raised:
        resolve(name, {})

    assert raised.value.message.isprintable()
    assert len(raised.value.message) < 300


@given(st.lists(words, min_size=1, max_size=4))
def test_only_names_without_a_folder_are_inside_the_executable(parts: list[str]) -> None:
    path = "/builtin/" + "/".join(parts)

    assert FileRef(path).builtin == (parts[0] if len(parts) == 1 else None)
    assert FileRef("/elsewhere" + path).builtin is None


@given(org=words, repo=words, revision=words, parts=st.lists(words, min_size=1, max_size=3))
def test_a_hub_reference_reads_back_equal(org: str, repo: str, revision: str, parts: list[str]) -> None:
    reference = HubRef(f"{org}/{repo}", revision, "/".join(parts))

    assert parse_ref(str(reference)) == reference


COMMIT = "0a" * 20


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("hf:o/r", RepoRef("o/r", "main")),
        ("hf:o/r@v1", RepoRef("o/r", "v1")),
        ("hf:o/r::file=m.gguf", HubRef("o/r", "main", "m.gguf")),
        ("hf:o/r@v1::file=a/m.gguf", HubRef("o/r", "v1", "a/m.gguf")),
        ("file:/m.gguf", FileRef("/m.gguf")),
    ],
)
def test_a_person_may_leave_out_revision_and_file(text: str, reference: FileRef | HubRef | RepoRef) -> None:
    assert parse_name(text) == reference
    assert parse_name(str(reference)) == reference


@pytest.mark.parametrize(
    "text", ["hf:o", "hf:o/r@", "hf:o/r::file=", "hf:o/r::file=../m", "hf:o/..", "hf:o/r::file=/m", "m", "hf:o/r/x"]
)
def test_what_is_no_name_of_a_model_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_name(text)


def test_only_a_commit_or_a_file_of_a_host_is_pinned() -> None:
    assert is_pinned(f"hf:o/r@{COMMIT}::file=m")
    assert is_pinned("file:/m")
    assert not is_pinned("hf:o/r@main::file=m")
    assert not is_pinned(f"hf:o/r@{COMMIT[1:]}::file=m")
    assert not is_pinned(f"hf:o/r@{COMMIT}")


def test_an_alias_stands_for_every_commit_of_its_file() -> None:
    repo, path = BUILTIN["qwen"]

    assert aliases_of(f"hf:{repo}@{COMMIT}::file={path}", {"mine": f"hf:{repo}"}) == ["mine", "qwen"]
    assert aliases_of(f"hf:{repo}@{COMMIT}::file=other.gguf", {}) == []
    assert aliases_of(HAIKU_REF, {}) == ["haiku"]
    assert not stands_for(f"hf:o/r@{'1' * 40}::file=m", f"hf:o/r@{COMMIT}::file=m")


def test_an_id_is_short_stable_and_fits_an_address() -> None:
    assert model_id(HAIKU_REF) == "c473cbb0051dea8c"
    assert model_id("file:/a") != model_id("file:/b")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("m.gguf", ["m.gguf"]),
        ("a/m-00002-of-00003.gguf", [f"a/m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]),
        ("m-00001-of-00002.GGUF", ["m-00001-of-00002.GGUF", "m-00002-of-00002.GGUF"]),
        ("m-00002-OF-00002.Gguf", ["m-00001-OF-00002.Gguf", "m-00002-OF-00002.Gguf"]),
        ("m-00001-of-00001.gguf", ["m-00001-of-00001.gguf"]),
        ("m-00004-of-00003.gguf", ["m-00004-of-00003.gguf"]),
        ("m-00000-of-00003.gguf", ["m-00000-of-00003.gguf"]),
        ("m-00001-of-99999.gguf", ["m-00001-of-99999.gguf"]),
        ("m-1-of-3.gguf", ["m-1-of-3.gguf"]),
    ],
)
def test_a_set_is_all_its_parts_in_order(path: str, expected: list[str]) -> None:
    assert parts(path) == expected
