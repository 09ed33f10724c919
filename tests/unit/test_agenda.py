"""What is looked at next: the most urgent first, each once, and every one in its turn."""

from __future__ import annotations

from roles.orchestrator.queue.agenda import Agenda, Urgency


def agenda(**urgencies: Urgency) -> Agenda:
    """Return an empty agenda of models whose urgency is given; *urgencies* may change later."""
    return Agenda(lambda model_ref: urgencies[model_ref])


def test_the_most_urgent_models_are_taken_first_and_each_once() -> None:
    models = agenda(old=(False, 1), young=(False, 2), batch=(True, 0))

    models.add(["batch", "young", "old", "young"])

    assert len(models) == 3
    assert (models.take(2), models.take(2), models.take(2), len(models)) == (["old", "young"], ["batch"], [], 0)


def test_a_model_that_became_more_urgent_is_taken_earlier_and_still_once() -> None:
    urgencies = {"first": (False, 1), "second": (True, 5)}
    models = Agenda(urgencies.__getitem__)

    models.add(["first", "second"])
    urgencies["second"] = (False, 0)
    models.add(["second"])

    assert models.take(3) == ["second", "first"]


def test_a_model_whose_urgency_comes_back_is_taken_once() -> None:
    urgencies = {"model": (False, 1)}
    models = Agenda(urgencies.__getitem__)

    for moment in (1, 2, 1):
        urgencies["model"] = (False, moment)
        models.add(["model"])

    assert (models.take(3), models.take(3)) == (["model"], [])


def test_a_round_is_not_begun_anew_before_each_of_its_models_had_its_turn() -> None:
    models = agenda(a=(False, 1), b=(False, 2), c=(False, 3))
    taken = []

    for _ in range(6):
        models.begin_round(["a", "b", "c"])  # sooner than a round takes
        taken += models.take(1)

    assert taken == ["a", "b", "c"] * 2


def test_what_has_changed_is_looked_at_again_while_a_round_is_under_way() -> None:
    models = agenda(a=(False, 1), b=(False, 2), c=(False, 3))

    models.begin_round(["a", "b", "c"])
    first = models.take(1)
    models.add(["a"])

    assert (first, models.take(2), models.take(2)) == (["a"], ["a", "b"], ["c"])
