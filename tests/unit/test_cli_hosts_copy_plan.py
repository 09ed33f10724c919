"""Which of the parts that a host has a copy goes on from."""

from __future__ import annotations

from hashlib import sha256

import pytest

from llorch.cli.hosts_copy_plan import Part, best, parts

PROGRAM = bytes(range(100))


def part(size: int, pid: int, of: bytes = PROGRAM) -> Part:
    return Part(size, sha256(of[:size]).hexdigest(), f".llorch.0123456789abcdef.{pid}.part")


def chosen(*there: Part) -> Part | None:
    return best(there, size_bytes=len(PROGRAM), sha256_of=lambda count: sha256(PROGRAM[:count]).hexdigest())


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ((), None),
        ((part(10, 1),), part(10, 1)),
        ((part(10, 1), part(70, 2), part(30, 3)), part(70, 2)),
        ((part(10, 1), part(70, 2, of=bytes(100))), part(10, 1)),
        ((part(100, 1),), part(100, 1)),
        ((part(101, 1, of=bytes(101)),), None),
    ],
)
def test_a_copy_goes_on_from_the_largest_part_that_is_right(there: tuple[Part, ...], expected: Part | None) -> None:
    assert chosen(*there) == expected


def test_what_a_host_tells_of_its_parts_is_understood() -> None:
    digest = "0123456789abcdef" * 4

    own, another = f".llorch.{digest[:16]}.345.part", f".llorch.{digest[:16]}.from.1.part"
    found = parts(f"motd\npart=12 {digest} {own}\npart=0  12\npart=7 {digest} {another}\npart=7 {digest} $(id).part\n")

    assert found == [Part(12, digest, own), Part(7, digest, another)]
