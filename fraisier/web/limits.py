"""How often an address may fail to authenticate."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from math import ceil

from limits import parse

_MOST_ADDRESSES = 10_000  # remembered at a time; about 1 kB each at the default limit


class FailedAuthentications:
    """A moving window of failures per address, in bounded memory.

    `limits` reads the notation ("20/minute"). Its memory storage is not used: it starts a thread per call
    and looks through all addresses, which a flood from many addresses would turn against us. Only the event
    loop calls this, so it needs no lock.
    """

    def __init__(self, limit: str, *, monotonic: Callable[[], float]) -> None:
        item = parse(limit)
        self._amount = item.amount
        self._window = float(item.get_expiry())
        self._monotonic = monotonic
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def count(self, address: str) -> int:
        """Note a failure. Returns 0 while the address is within its limit, else seconds to wait."""
        now = self._monotonic()
        times = self._failures.setdefault(address, deque(maxlen=self._amount))
        self._failures.move_to_end(address)
        if len(self._failures) > _MOST_ADDRESSES:
            self._failures.popitem(last=False)
        if len(times) == self._amount and now - times[0] < self._window:
            return max(1, ceil(self._window - (now - times[0])))
        times.append(now)
        return 0

    def __len__(self) -> int:
        return len(self._failures)
