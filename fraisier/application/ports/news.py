"""What a store tells those who wait for something to happen."""

from __future__ import annotations

from enum import IntEnum


class News(IntEnum):
    """What has changed, the higher the more there may be to do. Whoever is told looks for himself."""

    nothing = 0
    step = 1  # of a deployment that goes on: nobody need look for work
    claim = 2  # others have to wait for its lease from now on; for whoever made it, it is a step
    request = 3  # a deployment may begin: nothing to do for who performs runs
    work = 4  # there may be something to do for anybody
