"""What is said of hosts that did not come along: each one by its name, with what it runs."""

from __future__ import annotations

from collections.abc import Sequence

from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.rollout import LOST, HostState, Rollout, Standing

_RUNS = {
    HostState.behind: "{host} runs {release}",
    HostState.broken: "{host} did not come back; it was to run {release}",
    HostState.unreachable: "{host} cannot be reached, and is believed to run {release}",
}


def named(standings: Sequence[Standing]) -> str:
    """Every host that is not as the environment is said to be; '' if there is none."""
    said = [
        _RUNS[each.state].format(host=each.host, release=each.release or "nothing")
        for each in standings
        if each.state in _RUNS
    ]
    if any(each.is_healed_by_itself for each in standings):
        said.append("who could not be reached is brought along when that can be done")
    return "; ".join(said)


def lost_along(standings: Sequence[Standing], rollout: Rollout, failures: Sequence[StepFailed]) -> StepFailed:
    """Why a rollout has failed. A cause that is no host's own tells more than one that is."""
    lost = [each for each in standings if each.state in LOST or each.state is HostState.returning]
    blamed = sorted((each for each in lost if each.cause), key=lambda each: each.cause.is_retried)  # type: ignore[union-attr]
    cause = blamed[0].cause if blamed else None
    details = "; ".join(each.detail for each in lost if each.detail)
    how_many = f"{len([e for e in lost if e.cause])} of {len(standings)} hosts did not come along"
    allowed = f"max_failures is {rollout.max_failures}"
    hint = next((failure.hint for failure in failures if failure.cause is cause), "")
    return StepFailed(cause or Cause.host, f"cannot roll out: {how_many} ({allowed}): {details}", hint)
