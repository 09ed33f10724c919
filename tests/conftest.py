"""What holds for every test: Ctrl-C means what it means on a terminal, and no example fails for a slow machine."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("llorch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("llorch")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
