"""What a Mac is called, from what its tools print. The sample is written from public reports, not recorded on a Mac."""

from __future__ import annotations

import sys
from uuid import UUID

import pytest

from roles.pool.mac import machine_id, processor, uuid_in

IOREG = """
+-o J414cAP  <class IOPlatformExpertDevice, id 0x100000210, registered, matched, active, busy 0 (69450 ms), retain 37>
    {
      "IOPolledInterface" = "AppleARMWatchdogTimerHibernateHandler is not serializable"
      "target-type" = <"J414c">
      "IOPlatformUUID" = "F79092CB-6D0B-5A14-9D5A-3C8F2A1E7B44"
      "IOPlatformSerialNumber" = "XXXXXXXXXX"
    }
"""


@pytest.mark.parametrize(
    ("text", "found"), [(IOREG, "F79092CB-6D0B-5A14-9D5A-3C8F2A1E7B44"), ("", ""), ('"IOPlatformUUID" = ""', "")]
)
def test_a_mac_is_known_by_the_id_of_its_hardware(text: str, found: str) -> None:
    assert uuid_in(text) == found


@pytest.mark.skipif(sys.platform == "darwin", reason="this is a Mac")
def test_no_other_system_is_asked() -> None:
    assert (machine_id(), processor()) == ("", "")


@pytest.mark.skipif(sys.platform != "darwin", reason="this is no Mac")
def test_this_mac_has_an_id_and_a_processor() -> None:
    assert UUID(machine_id()).int
    assert processor()
