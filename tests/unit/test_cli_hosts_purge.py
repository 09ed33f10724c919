"""What goes from a host and what stays, from what was found there."""

from __future__ import annotations

import pytest

from llorch.cli import hosts_plan as plan
from llorch.cli.hosts_plan import DATA
from llorch.cli.hosts_purge import Found, Removal, found, pool_of, question, removal
from llorch.cli.remote import Target

MAC = Target("mac", "http://mac:9200", "mac")
OURS = f'{plan.WRITTEN_BY_US}\n\n[pool]\npool_id = "attic"\norchestrator = "http://blep:8080"\n'
ALWAYS = (plan.UNIT, plan.DAEMON_LOG, DATA, plan.LOG, plan.PID, plan.LINGER)
EVERYTHING = Removal((*ALWAYS, plan.PROGRAM, plan.TOKEN, plan.CONFIG), ())


def there(configuration: str | None = OURS, *, orchestrator: bool = False) -> Found:
    """Return a host with everything."""
    return Found(True, True, 3 << 20, 2 << 20, orchestrator, configuration)


def test_what_a_host_tells_is_understood() -> None:
    full = "motd = x\nprogram=yes\nunit=yes\ndata=3072\nmodels=2048\norchestrator=yes\nconfiguration:\n[pool]\n"

    assert found(full) == there("[pool]\n", orchestrator=True)
    assert found("") == Found(False, False, None, 0, False, None)
    assert found("").nothing
    assert not found("data=0\n").nothing
    assert not found("configuration:\n").nothing


@pytest.mark.parametrize("configuration", [OURS, None])
def test_what_install_has_written_goes(configuration: str | None) -> None:
    assert removal(there(configuration)) == EVERYTHING


def test_a_configuration_of_somebody_else_stays_and_the_folders_it_names() -> None:
    what = removal(there('[pool]\ndata_dir = "/srv/llorch"\nmodels_dir = "~/models"\n'))

    assert what.goes == (*ALWAYS, plan.PROGRAM, plan.TOKEN)
    assert what.stays == (
        "~/.config/llorch/llorch.toml, which hosts install has not written",
        "/srv/llorch, which is named in its configuration",
        "~/models, which is named in its configuration",
    )


def test_what_an_orchestrator_there_needs_stays() -> None:
    what = removal(there(orchestrator=True))

    assert what.goes == ALWAYS
    assert what.stays == ("the executable, the configuration and the token, which the orchestrator there uses, too",)


def test_the_question_names_the_bytes() -> None:
    assert question(MAC, there()) == "Remove llorch from mac, with 3.0 MiB of data there (2.0 MiB of it models)?"


@pytest.mark.parametrize(
    ("configuration", "expected"), [(OURS, ("http://blep:8080", "attic")), ("[pool", ("", "mac")), (None, ("", "mac"))]
)
def test_the_orchestrator_is_told_which_pool_is_gone(configuration: str | None, expected: tuple[str, str]) -> None:
    assert pool_of(there(configuration), MAC) == expected
