"""`/health`: is the process alive. `/ready`: can it do its work, and if not, why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import orjson

from fraisier import __version__
from fraisier.domain.errors import FraisierError
from fraisier.web.errors import Answer, printable

Check = Callable[[], str]
"""Looks at one part, blocking for at most a second or so. Returns '' or why it is not ready."""

_PATIENCE = 3.0  # seconds, for all checks together

HEALTHY = Answer(200, orjson.dumps({"status": "ok", "version": __version__}))


async def readiness(
    checks: Mapping[str, Check], notes: Mapping[str, Check], told: Mapping[str, Check]
) -> Answer:
    """Every part with 'ok' or why not; 503 unless all `checks` are ok. `notes` tell what else is wrong.

    What is `told` is as somebody wants it: it does not degrade.
    """
    parts = {**checks, **notes, **told}
    looking = [asyncio.to_thread(_look, check) for check in parts.values()]
    reasons = await asyncio.gather(*(_in_time(each) for each in looking))
    found = dict(zip(parts, map(printable, reasons), strict=True))
    ready = not any(found[name] for name in checks)
    wrong = any(reason for name, reason in found.items() if name not in told)
    status = "unavailable" if not ready else "degraded" if wrong else "ok"
    document = {"status": status, **{name: reason or "ok" for name, reason in found.items()}}
    return Answer(200 if ready else 503, orjson.dumps(document), () if ready else ((b"retry-after", b"5"),))


async def _in_time(looking: Awaitable[str]) -> str:
    try:
        return await asyncio.wait_for(looking, _PATIENCE)
    except TimeoutError:
        return f"did not answer within {_PATIENCE:.0f} s"


def _look(check: Check) -> str:
    try:
        return check()
    except FraisierError as error:
        return str(error)
