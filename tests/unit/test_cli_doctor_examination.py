"""How results are shown, and what is made of a configuration's problems."""

from __future__ import annotations

import pytest

from llorch.cli.doctor import examination
from llorch.cli.doctor.result import Result, failed, ok, skipped


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        (ok("disk", "3 GiB free"), "ok      disk             3 GiB free\n"),
        (skipped("database", "none yet"), "-       database         none yet\n"),
        (failed("disk", "full\nup", fix="rm x"), "FAILED  disk             full up\n        fix: rm x\n"),
    ],
)
def test_a_result_is_a_line_and_a_failed_one_has_its_remedy_under_it(result: Result, lines: str) -> None:
    assert examination.shown(result, colour=False) == lines


def test_colour_changes_no_column() -> None:
    coloured = examination.shown(ok("disk", "free"), colour=True)

    assert coloured == "\x1b[32mok\x1b[0m      disk             free\n"


@pytest.mark.parametrize(
    ("problem", "found", "fix"),
    [
        (
            "/etc/token: others can read the token; run: chmod 600 /etc/token",
            "/etc/token: others can read the token",
            "chmod 600 /etc/token",
        ),
        (
            "LLORCH_POOL_PROT: unknown variable; did you mean LLORCH_POOL_PORT?",
            "LLORCH_POOL_PROT: unknown variable; did you mean LLORCH_POOL_PORT?",
            "unset LLORCH_POOL_PROT",
        ),
        ("/a b.toml: [pool] x: unknown key", "/a b.toml: [pool] x: unknown key", "${EDITOR:-vi} '/a b.toml'"),
    ],
)
def test_a_problem_of_the_configuration_has_a_command(problem: str, found: str, fix: str) -> None:
    result = examination._problem(problem)

    assert (result.state, result.found, result.fix) == ("failed", found, fix)


def test_checks_have_names_of_their_own_that_fit_the_column() -> None:
    names = [check.name for check in examination.CHECKS]

    assert len(set(names)) == len(names)
    assert all(len(name) <= examination.NAME_CELLS for name in names)
