"""Taking an environment over on its host: as whom, and what a dead worker may have left running there."""

from __future__ import annotations

from contextlib import suppress
from threading import Event

from fraisier.application.build_here import LOCALHOST
from fraisier.application.ports import Claim, Ground, Store
from fraisier.application.tools import Tools
from fraisier.domain.errors import ForeignOwner, StepFailed
from fraisier.domain.fraise import BuildOn, Environment


def ground_of(store: Store, environment: Environment, token: int, halt: Event | None = None) -> Ground:
    """What proves to the environment's host that we may change it; until `halt` is set."""
    owner = owner_of(store, environment)
    return Ground(app_path=environment.app_path, owner=owner, token=token, halt=halt or Event())


def owner_of(store: Store, environment: Environment) -> dict[str, str]:
    """What says on a host whose folder it is."""
    return {
        "installation": store.installation,
        "fraise": environment.fraise,
        "environment": environment.name,
    }


def end_leftovers(
    tools: Tools, store: Store, claim: Claim, left: Environment, halt: Event | None = None
) -> None:
    """End what the worker of an earlier attempt may have left running in `left`, where it worked.

    A deployment that does not go on (it was cancelled, or left the configuration) needs this too: nothing
    else would end its build.

    Raises:
        StepFailed: disk or host, if that cannot be done now; cancelled once `halt` is set.
        TokenOutdated: another worker has taken over.
    """
    if not claim.interruptions:
        return
    failures: list[StepFailed] = []
    ground = ground_of(store, left, claim.token, halt)
    places = [tools.host(left.on(name)) for name in left.hosts]
    for host in [tools.hosts[LOCALHOST], *places] if left.build_on is BuildOn.here else places:
        try:
            with suppress(ForeignOwner):  # somebody else's by now, who ended it when they took over
                host.adopt(ground)
        except StepFailed as failure:
            failures.append(failure)  # the other hosts are none the worse for it
    if failures:
        raise failures[0]
