"""What holds for every test: signals mean what they mean on a terminal, and no example fails for a slow machine."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("llorch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("llorch")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as nohup has it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
