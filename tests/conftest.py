"""For all tests."""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("fraisier", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("fraisier")


def pytest_configure() -> None:
    """Ignore no signal that tests send to the processes that they start.

    A shell has its background jobs ignore SIGINT, and nohup SIGHUP; whom they start does so, too.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
