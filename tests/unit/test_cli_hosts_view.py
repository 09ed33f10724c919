"""What a host may be called, and how hosts are told."""

from __future__ import annotations

import pytest

from llorch.cli.hosts_view import HostSeen, HostUpgraded, checked, row, seen
from llorch.cli.remote import Target
from llorch.errors import InvalidConfiguration
from llorch.wire.pools import Disk, PoolStatus


def test_only_what_was_given_is_written() -> None:
    assert checked("mac.lan", url=None, ssh="ann@mac") == {"ssh": "ann@mac"}
    assert checked("mac", url="https://mac", ssh=None) == {"url": "https://mac"}


@pytest.mark.parametrize(
    ("name", "url", "ssh", "said"),
    [
        ("", None, None, "a host's name is"),
        ("-v", None, None, "a host's name is"),
        ("a b", None, None, "a host's name is"),
        ("mac", "mac:9200", None, "--url: found 'mac:9200'"),
        ("mac", None, "-oProxyCommand=x", "--ssh is"),
        ("mac", None, "a b", "--ssh is"),
        ("mac", None, "", "--ssh is"),
    ],
)
def test_what_cannot_be_a_host_is_refused(name: str, url: str | None, ssh: str | None, said: str) -> None:
    with pytest.raises(InvalidConfiguration, match=said):
        checked(name, url=url, ssh=ssh)


def test_a_host_is_told_with_the_way_to_it() -> None:
    here = seen(Target("pc", "http://pc:9200", "pc"), ms=3.14159, reason="")
    away = seen(Target("mac", "", "ann@mac"), ms=None, reason="the pool of mac at http://mac cannot be reached: x")

    assert here == HostSeen(name="pc", url="http://pc:9200", ssh="pc", via="http", answer_ms=3.1, reason="")
    assert row(here) == ("pc", "http", "answers in 3 ms", "http://pc:9200", "pc")
    assert row(away) == ("mac", "ssh", "x", "–", "ann@mac")


@pytest.mark.parametrize(
    ("before", "replaced", "workers", "said"),
    [
        ("0.1.0", True, 2, "mac: llorch 0.1.0 → 0.2.0; its pool was restarted, took over 2 workers, and has"),
        ("0.2.0", True, 1, "mac: llorch 0.2.0 → 0.2.0, another build; its pool was restarted, took over 1 worker,"),
        ("0.2.0", False, 0, "mac: has this llorch 0.2.0 already; its pool was restarted, had no workers, and has"),
        ("", True, 0, "mac: llorch that did not run → 0.2.0; its pool"),
    ],
)
def test_an_upgrade_is_told_with_both_versions(before: str, replaced: bool, workers: int, said: str) -> None:
    pool = PoolStatus(
        pool_id="mac", version="0.2.0", uptime_s=1, draining=False, devices=[], workers=[], models=[], disk=Disk(1, 1)
    )
    told = HostUpgraded(
        name="mac", before=before, after="0.2.0", replaced=replaced, workers_taken_over=workers, pool=pool
    )

    assert told.summary.startswith(said)
