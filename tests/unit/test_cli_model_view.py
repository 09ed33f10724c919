"""Models, names and disks as a person sees them."""

from __future__ import annotations

from llorch.cli.model_view import NOTHING, facts, name_rows, state, usage, when
from llorch.models import BUILTIN_ALIASES
from llorch.wire.models import DiskUsage, FileFacts, StoredModel
from llorch.wire.pools import Model

QWEN = BUILTIN_ALIASES["qwen"].replace("@main", "@" + "a" * 40)
MODEL = Model(
    model_ref=QWEN,
    size_bytes=3 * 2**20,
    architecture="qwen2",
    quantization="Q4_K_M",
    context_length=100,
    vocab_size=1,
    max_token_bytes=1,
)
STORED = StoredModel(
    model_id="id", model_ref=QWEN, origin="hub", size_bytes=2**20, files=[FileFacts(path="m.gguf", size_bytes=2**20)]
)


def test_every_name_is_listed_with_whether_it_is_on_the_disk() -> None:
    rows = {row[0]: row[1] for row in name_rows({"mine": "file:/m.gguf"}, [MODEL])}

    assert set(rows) == {*BUILTIN_ALIASES, "mine"}
    assert (rows["qwen"], rows["llama3"], rows["mine"]) == ("3.0 MiB", NOTHING, NOTHING)
    assert {row[1] for row in name_rows({}, None)} == {"?"}


def test_what_matters_of_a_model_is_said_in_a_few_words() -> None:
    worried = StoredModel(
        model_id="", model_ref="", origin="registered", size_bytes=0, files=[], pinned=True, in_use=True, corrupt=True
    )

    assert state(STORED) == NOTHING
    assert state(worried) == "registered, corrupt, in use, pinned"


def test_info_names_every_file_and_says_what_is_unknown() -> None:
    told = dict(facts(STORED))

    assert told["file"] == "m.gguf  1.0 MiB  hash unknown"
    assert (told["parameters"], told["verified"], when(0)) == (NOTHING, NOTHING, NOTHING)


def test_a_budget_is_shown_where_there_is_one() -> None:
    plain = DiskUsage(
        total_bytes=4 * 2**30, free_bytes=2**30, models_bytes=2**20, partial_bytes=0, budget_bytes=0, models=[]
    )
    tight = DiskUsage(
        total_bytes=4 * 2**30, free_bytes=2**30, models_bytes=2**20, partial_bytes=2**20, budget_bytes=2**22, models=[]
    )

    assert [name for name, _ in usage(plain)] == ["disk", "downloaded models"]
    assert dict(usage(tight))["budget"] == "[##########..........]  50%  of 4.0 MiB"
    assert dict(usage(tight))["unfinished downloads"] == "1.0 MiB"
