"""A worker that stops itself (SIGSTOP) once, at a moment that its arguments name: config, step, moment.

The moment is `begins` or `ended` (the journal's), or a method of the host that is about to be called.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from fraisier import wiring
from fraisier.application.ports import Ground, Job
from fraisier.hosts.local import LocalHost
from fraisier.worker import Worker

_MOMENTS = {"step_started": "begins", "step_ended": "ended"}


class Pause:
    """Stops this process when `moment` comes in `step`, the first time."""

    def __init__(self, step: str, moment: str) -> None:
        self._step, self._moment = step, moment
        self._at = ""

    def heard(self, event: str, fields: Mapping[str, Any]) -> None:
        """A listener: follows the journal, and prints what becomes of the deployment."""
        if event == "step_started":
            self._at = fields["step"]
        if event in _MOMENTS:
            self.comes(_MOMENTS[event])
        print(event, fields.get("error", ""), flush=True)

    def comes(self, moment: str) -> None:
        """Stop if this is the moment."""
        if (self._at, moment) == (self._step, self._moment):
            self._moment = ""
            # To this thread: it takes no other step, whichever the kernel stops first.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


class PausingHost(LocalHost):
    """This machine; some of what is asked of it is a moment."""

    def __init__(self, pause: Pause) -> None:
        super().__init__()
        self._pause = pause

    def adopt(self, ground: Ground, *, force: bool = False) -> None:
        """As the host's."""
        self._pause.comes("adopt")
        super().adopt(ground, force=force)

    def guard(self, ground: Ground) -> AbstractContextManager[None]:
        """As the host's."""
        self._pause.comes("guard")
        return super().guard(ground)

    def unpack(self, archive: Iterator[bytes], folder: str, *, user: str, job: Job) -> None:
        """As the host's; the moment comes when tar has begun and more is to follow."""
        super().unpack(self._paused(archive), folder, user=user, job=job)

    def _paused(self, archive: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in archive:
            yield chunk
            self._pause.comes("unpack")


def main(config: str, step: str, moment: str) -> None:
    """Work until somebody ends this process."""
    pause = Pause(step, moment)
    fraisier = wiring.assemble(wiring.load(config), listener=pause.heard)
    fraisier.tools = replace(fraisier.tools, hosts={"localhost": PausingHost(pause)})
    Worker(fraisier).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
