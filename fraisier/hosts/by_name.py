"""Every host by its name: this machine, and all others over SSH."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

from fraisier.application.ports import Host
from fraisier.application.settings import HostOptions


class Hosts(Mapping[str, Host]):
    """Every host, made when it is first asked for.

    `options` are read each time, because the configuration may be replaced.
    """

    def __init__(
        self,
        options: Callable[[], Mapping[str, HostOptions]],
        *,
        here: Callable[[], Callable[[str], Host]],
        elsewhere: Callable[[], Callable[[str, HostOptions | None], Host]],
    ) -> None:
        """`here` loads what makes this machine, `elsewhere` what makes any other."""
        self._options = options
        self._here = here
        self._elsewhere = elsewhere
        self._made: dict[tuple[str, HostOptions | None], Host] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Host:
        options = self._options().get(name)
        with self._lock:
            if (name, options) not in self._made:
                made = self._here()(name) if name == "localhost" else self._elsewhere()(name, options)
                self._made[name, options] = made
            return self._made[name, options]

    def __iter__(self) -> Iterator[str]:
        return iter(("localhost", *self._options()))

    def __len__(self) -> int:
        return 1 + len(self._options())
