"""Which slots are kept, and which files go."""

from __future__ import annotations

import os
from pathlib import Path

from roles.worker.backend.llamacpp_snapshots import KEEP_S, LEAST_TOKENS, Kept, Slot, mark, superfluous, worth_saving


def test_the_slot_used_last_is_kept_first_and_a_short_one_not() -> None:
    old = Slot(0, id_task=3, n_prompt_tokens=LEAST_TOKENS)
    short = Slot(1, id_task=9, n_prompt_tokens=LEAST_TOKENS - 1)
    new = Slot(2, id_task=7, n_prompt_tokens=5000)

    assert worth_saving([old, short, new, Slot(3)], {}) == [new, old]


def test_what_was_given_back_and_not_used_is_kept_again_after_the_others() -> None:
    used = Slot(0, id_task=0, n_prompt_tokens=LEAST_TOKENS)
    given = Slot(1, n_prompt_tokens=700)

    assert worth_saving([Slot(1), used], {0: 900, 1: 700}) == [used, given]


def test_nothing_is_kept_while_a_slot_is_at_work() -> None:
    assert worth_saving([Slot(0, is_processing=True, id_task=5), Slot(1, id_task=4, n_prompt_tokens=5000)], {}) == []


def test_the_oldest_files_go_where_there_are_too_many_and_those_of_yesterday_in_any_case() -> None:
    files = [
        Kept(Path(name), size, saved) for name, size, saved in (("a", 40, 100.0), ("b", 40, 300.0), ("c", 40, 200.0))
    ]

    assert superfluous(files, budget_bytes=100, now_s=300) == [Path("a")]
    assert superfluous(files, budget_bytes=120, now_s=300) == []
    assert superfluous(files, budget_bytes=120, now_s=KEEP_S + 250) == [Path("c"), Path("a")]


def test_one_that_is_too_large_takes_no_other_with_it() -> None:
    files = [Kept(Path("huge"), 200, 300.0), Kept(Path("small"), 40, 200.0)]

    assert superfluous(files, budget_bytes=100, now_s=300) == [Path("huge")]


def test_another_file_or_another_setup_has_another_mark(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"weights")
    first = mark([str(model)], {"ctx": 512})
    same, other = mark([str(model)], {"ctx": 512}), mark([str(model)], {"ctx": 1024})
    adapter = tmp_path / "adapter.gguf"
    adapter.write_bytes(b"adapter")
    adapted = mark([str(model), str(adapter)], {"ctx": 512})
    os.utime(adapter, (1, 1))

    assert first == same != other
    assert len({first, adapted, mark([str(model), str(adapter)], {"ctx": 512})}) == 3
    os.utime(model, (1, 1))
    assert mark([str(model)], {"ctx": 512}) != first
