"""Calls out of enforced JSON, however it is cut into pieces."""

from __future__ import annotations

import json
from itertools import count, pairwise

from hypothesis import given
from hypothesis import strategies as st

from roles.worker.backend import Chunk
from roles.worker.inference.calls import Calls, as_calls

JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=6), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)
CALLS = st.lists(
    st.tuples(st.sampled_from(["f", "get.it", "a-b"]), st.dictionaries(st.text(max_size=4), JSON, max_size=3)),
    min_size=1,
    max_size=3,
)


@given(CALLS, st.data())
def test_every_way_to_cut_the_text_gives_the_same_calls(made: list[tuple[str, object]], data: st.DataObject) -> None:
    text = json.dumps([{"name": name, "arguments": arguments} for name, arguments in made])
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=9)) | {0, len(text)})
    ids = count()
    calls = Calls(lambda: f"id{next(ids)}")

    deltas = [delta for start, end in pairwise(cuts) for delta in calls.feed(text[start:end])]

    found: list[list[str]] = []
    for delta in deltas:
        if delta.id:
            found.append([delta.id, delta.function.name, ""])
        found[delta.index][2] += delta.function.arguments
    assert [(number, name, json.loads(arguments)) for number, name, arguments in found] == [
        (f"id{number}", name, arguments) for number, (name, arguments) in enumerate(made)
    ]


async def test_tokens_stay_with_what_they_became() -> None:
    async def steps() -> object:
        yield [Chunk(prefilled=1, prefill_total=1)]
        yield [Chunk('[{"name": "f", ', 1, ids=[4]), Chunk('"arguments": {}', 2, ids=[5])]
        yield [Chunk("}]", 3, ids=[6]), Chunk("", 3, "eos")]

    chunks = [chunk async for found in as_calls(steps()) for chunk in found]  # type: ignore[arg-type]  # an async generator

    assert [(chunk.text, list(chunk.ids), len(chunk.tool_calls)) for chunk in chunks[1:]] == [
        ("", [4], 0),
        ("", [5], 2),
        ("", [6], 0),
        ("", [], 0),
    ]
    assert chunks[0].prefill_total == 1
    assert chunks[-1].stop == "eos"
