"""How a release that is whole is brought in, and how the one before comes back: the end of every plan.

A release serves as the environment's plain unit, which runs from `current` and is restarted, or as an
instance of its own, which is started beside the old one (`cutover: blue_green`).
"""

from __future__ import annotations

from dataclasses import replace

from fraisier.deployers.common import Parts, switch_to
from fraisier.domain.acts import CheckHealth, InstallFile, Prove, WriteFile
from fraisier.domain.cutover_acts import Allot, Bake, Retire, Route
from fraisier.domain.fraise import Cutover, Environment, HealthCheck
from fraisier.domain.plan import Act, Phase, Step, StepName, TargetActs
from fraisier.domain.release import Layout

Pair = tuple[StepName, tuple[Act, ...]]


def bring_in(environment: Environment, name: str, parts: Parts, *tidy: Act) -> tuple[Pair, ...]:
    """Make a release serve; `tidy` comes last of all."""
    if environment.is_blue_green:
        return _instance_in(environment, name, parts.target, tidy)
    return _plain_in(environment, name, parts.target, tidy)


def clean_up(environment: Environment) -> tuple[Act, ...]:
    """Before all else: stop what an earlier deployment could not stop."""
    return (Retire(keep=None),) if environment.is_blue_green else ()


def plan_clean_up() -> Step:
    """After a failure before the switch: an instance that was started beside the one that serves."""
    return Step(name=StepName.restart, acts=(Retire(keep=None),), phase=Phase.rollback)


def bring_back(environment: Environment, previous: str, parts: Parts, database: Pair) -> tuple[Pair, ...]:
    """The way back to a release that served as the plain unit, by restarting that."""
    if environment.is_blue_green:
        # It may never have stopped serving: then it is not started anew.
        restart = (*parts.target.release_failure, *parts.target.start)
        back = replace(switch_to(environment, previous), restarts=False)
    else:
        restart = (*parts.target.install, *parts.target.release_failure, *parts.target.restart)
        back = switch_to(environment, previous)
    return (
        database,
        (StepName.activate, (back,)),
        (StepName.restart, restart),
        (StepName.check_health, _health(environment, parts.target)),
        (StepName.finish, (*_to_plain(environment, parts.target), Retire(keep="")))
        if environment.is_blue_green
        else (StepName.finish, ()),
    )


def bring_instance_back(
    environment: Environment, previous: str, parts: Parts, database: Pair
) -> tuple[Pair, ...]:
    """The way back to an instance, which may still run: traffic first, for it knows the newer database.

    What its unit was written from may have changed in the configuration since: a unit that is there stays.
    """
    target = replace(parts.target, install=tuple(map(_once, parts.target.install)))
    if environment.health_check is not None:  # it was healthy before: one look, and the traffic is back
        environment = replace(environment, health_check=replace(environment.health_check, passes=1))
    restart, health, activate, _ = _instance_in(environment, previous, target, ())
    return (restart, health, activate, database, (StepName.finish, (Retire(keep=previous),)))


def take_away(environment: Environment, parts: Parts, database: Pair) -> tuple[Pair, ...]:
    """The way back from a first deployment: nothing serves."""
    nothing: tuple[Act, ...] = (switch_to(environment, ""),)
    stop: tuple[Act, ...] = (*parts.target.release_failure, *parts.target.stop)
    if environment.is_blue_green:
        stop = (Retire(keep=""),)
        nothing = (*nothing, _route(environment, ""))
    return ((StepName.restart, stop), database, (StepName.activate, nothing))


def _plain_in(
    environment: Environment, name: str, target: TargetActs, tidy: tuple[Act, ...]
) -> tuple[Pair, ...]:
    restart = (*target.install, *target.release_failure, *target.restart)
    # Only what can run instances may have to end some, from a time before `cutover` was changed.
    others = (Retire(keep="", drain=environment.drain_timeout, told=True),) if target.retire else ()
    end = (
        *_to_plain(environment, target),
        *_bake(environment, _plain_check(environment, target)),
        Prove(release=name),
        *others,
        *tidy,
    )
    return (
        (StepName.activate, (switch_to(environment, name),)),
        (StepName.restart, restart),
        (StepName.check_health, _health(environment, target)),
        (StepName.finish, end),
    )


def _instance_in(
    environment: Environment, name: str, target: TargetActs, tidy: tuple[Act, ...]
) -> tuple[Pair, ...]:
    file = Layout(environment.app_path).instance(name)
    start = (
        Allot(release=name, listen=target.listen, file=file),
        *target.install,
        *target.release_failure,
        *target.start,
    )
    # Started at boot from before it serves, and the old one until it is stopped: a power loss in between
    # brings up both, and the link tells which of them gets the traffic.
    current = replace(switch_to(environment, name), restarts=False)
    end = (
        *_bake(environment, environment.health_check, name),
        Prove(release=name),
        Retire(keep=name, drain=environment.drain_timeout, told=True),
        *tidy,
    )
    return (
        (StepName.restart, start),
        (StepName.check_health, (CheckHealth(check=environment.health_check, release=name),)),
        (StepName.activate, (*target.keep, _route(environment, name), current)),
        (StepName.finish, end),
    )


def _health(environment: Environment, target: TargetActs) -> tuple[Act, ...]:
    watched = environment.target is not None or environment.health_check is not None
    check = _plain_check(environment, target)
    in_line = environment.cutover is Cutover.socket and check is not None and not check.command
    return (CheckHealth(check=check, in_line=in_line),) if watched else ()


def _plain_check(environment: Environment, target: TargetActs) -> HealthCheck | None:
    """The plain unit's. Where it was told to listen on a socket, it is asked there."""
    check = environment.health_check
    socket = next((place for place in target.listen[:1] if place.startswith("/")), "")
    return replace(check, at=socket) if check is not None and socket else check


def _bake(environment: Environment, check: HealthCheck | None, release: str = "") -> tuple[Act, ...]:
    watched = environment.target is not None or check is not None
    if not environment.bake or not watched:
        return ()
    return (Bake(check=check, seconds=environment.bake, release=release),)


def _to_plain(environment: Environment, target: TargetActs) -> tuple[Act, ...]:
    """Where Fraisier knows the plain unit's socket, because it wrote the unit, the link leads there."""
    if not environment.run or not target.listen:
        return (_route(environment, ""),) if environment.is_blue_green else ()
    return (_route(environment, "", target.listen[0]),)


def _route(environment: Environment, release: str, socket: str = "") -> Route:
    proxy = environment.proxy.kind if environment.proxy else ""
    return Route(release=release, link=Layout(environment.app_path).link, proxy=proxy, socket=socket)


def _once(act: Act) -> Act:
    return replace(act, once=True) if isinstance(act, InstallFile | WriteFile) else act
