"""What is wanted of a model holds for every reference that its name means; replicas, for the last one alone."""

from __future__ import annotations

import pytest

from llorch.policy import ModelPolicy
from roles.orchestrator.scheduler.policies import MOST_KNOWN, Policies

FIRST, SECOND = "1" * 40, "2" * 40
MAIN, TAG = "hf:o/r@main::file=m.gguf", "hf:o/r@v1.0::file=m.gguf"


def at(commit: str) -> str:
    return f"hf:o/r@{commit}::file=m.gguf"


@pytest.mark.parametrize("name", [TAG, "hf:o/r@v1.0", "hf:o/r@1111111", MAIN, "hf:o/r"])
def test_what_is_wanted_by_a_name_holds_for_what_it_is_pinned_to(name: str) -> None:
    wanted = ModelPolicy(slots=9, min_replicas=1)
    policies = Policies({name: wanted}, ModelPolicy())
    before = policies.wanted_always()

    news = policies.learn(name, at(FIRST), beside=False)

    assert before == []
    assert news
    assert not policies.learn(name, at(FIRST), beside=False)
    assert policies.of(at(FIRST)) == wanted
    assert policies.wanted_always() == [at(FIRST)]
    assert list(policies.loose()) == [(name, False)]


def test_replicas_are_wanted_of_what_a_name_means_last_and_of_no_other_commit() -> None:
    policies = Policies({MAIN: ModelPolicy(slots=9, min_replicas=1)}, ModelPolicy())
    unknown = policies.of(at(FIRST))
    policies.learn(MAIN, at(FIRST), beside=False)

    policies.learn(MAIN, at(SECOND), beside=False)

    assert unknown == ModelPolicy(slots=9)
    assert policies.of(at(FIRST)) == ModelPolicy(slots=9)
    assert policies.of(at(SECOND)) == ModelPolicy(slots=9, min_replicas=1)
    assert policies.wanted_always() == [at(SECOND)]
    assert policies.meaning(MAIN, beside=False) == at(SECOND)


def test_what_is_wanted_by_a_tag_goes_before_what_is_wanted_of_every_commit() -> None:
    policies = Policies({"hf:o/r": ModelPolicy(slots=1), TAG: ModelPolicy(slots=2)}, ModelPolicy())
    policies.learn(TAG, at(FIRST), beside=False)

    assert [policies.of(ref).slots for ref in (at(FIRST), at(SECOND), "file:/m", "other options: x")] == [2, 1, 0, 0]


def test_a_file_that_is_no_other_name_is_known_at_once() -> None:
    policies = Policies({"file:/m": ModelPolicy(min_replicas=2, draft="file:/d")}, ModelPolicy())

    assert policies.wanted_always() == ["file:/m"]
    assert policies.of("file:/m").min_replicas == 2
    assert list(policies.loose()) == []
    assert (policies.means("file:/d", "file:/d"), policies.means("file:/d", "file:/e")) == (True, False)
    assert not policies.learn(MAIN, at(FIRST), beside=False)


def test_a_file_beside_a_model_counts_as_meant_until_it_is_known_which_is() -> None:
    policies = Policies({"file:/m": ModelPolicy(draft=TAG, lora=(f"{MAIN}:0.5",))}, ModelPolicy())
    told = [at(FIRST), at(SECOND), f"hf:o/r@{FIRST}::file=other.gguf", f"hf:o/x@{FIRST}::file=m.gguf", "file:/m.gguf"]
    before = [policies.means(TAG, ref) for ref in told]

    policies.learn(TAG, at(FIRST), beside=True)
    policies.learn(MAIN, at(FIRST), beside=True)

    assert before == [True, True, False, False, False]
    assert [policies.means(TAG, ref) for ref in told] == [True, False, False, False, False]
    assert [policies.means(MAIN, ref) for ref in told] == [True, True, False, False, False]
    assert sorted(policies.loose()) == [(MAIN, True), (TAG, True)]


def test_any_number_of_models_may_be_asked_for() -> None:
    policies = Policies({"file:/m": ModelPolicy(slots=3)}, ModelPolicy())

    found = {policies.of(f"file:/{number}").slots for number in range(2 * MOST_KNOWN + 1)}

    assert found == {0}
    assert policies.of("file:/m").slots == 3
    assert len(policies._known) <= MOST_KNOWN


def test_until_a_tag_is_known_it_holds_for_every_commit_that_it_may_mean() -> None:
    policies = Policies({TAG: ModelPolicy(slots=9, min_replicas=1)}, ModelPolicy())
    before = policies.of(at(FIRST)), policies.of("hf:o/r@v2::file=m.gguf"), policies.of("hf:o/other@v1::file=m.gguf")

    policies.learn(TAG, at(SECOND), beside=False)

    assert before[0] == ModelPolicy(slots=9)
    assert before[2] == policies.of(at(FIRST)) == ModelPolicy()


def test_replicas_are_the_most_that_any_name_of_the_commit_asks_for() -> None:
    policies = Policies({at(FIRST): ModelPolicy(slots=2), TAG: ModelPolicy(min_replicas=3)}, ModelPolicy())
    policies.learn(TAG, at(FIRST), beside=False)

    assert policies.of(at(FIRST)) == ModelPolicy(slots=2, min_replicas=3)
