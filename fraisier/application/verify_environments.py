"""Compares what runs on each host with what the database says. Looks, and changes nothing."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from fraisier.application.check_timers import changed_units, removal, stopped_timers, units_written
from fraisier.application.instances import address_of, recorded
from fraisier.application.left_places import Left, LeftPlaces
from fraisier.application.ports import Configuration, EnvironmentCodec, Host, OpenProxy, Row, Store, UnitState
from fraisier.application.release_marker import read_marker
from fraisier.application.request_deployment import find_environment
from fraisier.application.takeover import owner_of
from fraisier.application.tools import Tools
from fraisier.domain.acts import InstallFile, WriteFile
from fraisier.domain.drift import Difference, Found, Remedy, Unit, Wanted, differences
from fraisier.domain.errors import FraisierError, LivesElsewhere
from fraisier.domain.fraise import Cutover, Environment, EnvironmentKey
from fraisier.domain.plan import Act
from fraisier.domain.release import Layout, is_release_name

_AT_ONCE = 16  # hosts that are looked at
_MOST_LOOKS = 3  # at an environment where something was begun, or ended, while we looked
_TICKS = 100  # per second, in /proc/PID/stat: USER_HZ of every Linux
_CLOSE = 2.0  # seconds: clocks of files and processes are coarse


class Verdict(StrEnum):
    """What a comparison comes to."""

    same = "same"
    drift = "drift"
    busy = "busy"  # a deployment is under way: nothing could be compared
    unknown = "unknown"  # the host could not be looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One thing about one host. `hint` is the command that heals a drift."""

    fraise_id: str
    environment: str
    host: str
    verdict: Verdict
    check: str
    message: str
    hint: str = ""


class VerifyEnvironments:
    """Yields at least one comparison for each host of each environment."""

    def __init__(
        self, configuration: Configuration, tools: Tools, store: Store, codec: EnvironmentCodec
    ) -> None:
        self._configuration = configuration
        self._environments = configuration.environments
        self._left = LeftPlaces(store, codec)
        self._tools = tools
        self._store = store

    def __call__(self, keys: Sequence[EnvironmentKey]) -> Iterator[Comparison]:
        """Compare these environments.

        Raises:
            NotFound: one is not configured.
            StoreUnavailable: the database does not answer.
        """
        found = [find_environment(self._environments, key) for key in keys]
        each_host = [replace(each, hosts=(name,)) for each in found for name in each.hosts]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for compared in pool.map(self._compare, each_host):
                yield from compared
        wanted = {each.key for each in found}
        for left in self._left(self._configuration):
            if left.why and left.environment.key in wanted:
                yield from self._units_left(left)

    def _units_left(self, left: Left) -> Iterator[Comparison]:
        """Where the environment is no longer, or has no such jobs any more, and systemd runs them still."""
        environment = left.environment
        try:
            units = units_written(environment.key, self._tools.host(environment))
        except LivesElsewhere:
            return
        except FraisierError as error:
            yield _comparison(environment, Verdict.unknown, "units", error.message, error.hint)
            return
        if units:
            message = f"systemd still runs jobs of {environment.key}, {left.why}"
            hint = removal(environment.key, units)
            yield _comparison(environment, Verdict.drift, "units", message, hint)

    def _compare(self, environment: Environment) -> Sequence[Comparison]:
        """As the database was before and after the look: a deployment in between is no drift."""
        for _ in range(_MOST_LOOKS):
            before = self._known(environment)
            if before.is_busy:
                return [_comparison(environment, Verdict.busy, "deployment", "a deployment is under way")]
            try:
                found = self._look(environment, before.wanted)
            except FraisierError as error:
                return [_comparison(environment, Verdict.unknown, "host", error.message, error.hint)]
            if self._known(environment) == before:
                return _compared(environment, before.wanted, found)
        return [_comparison(environment, Verdict.busy, "deployment", "one deployment follows another")]

    def _known(self, environment: Environment) -> _Known:
        key = environment.key
        rows = self._store.fraise_status(key.fraise, key.environment)
        row: Row = rows[0] if rows else {}
        release, commit = self._runs(environment, row)
        wanted = Wanted(
            app_path=environment.app_path,
            owner=owner_of(self._store, environment),
            token=self._store.token(key),
            release=release,
            commit=commit,
        )
        return _Known(wanted, is_busy=bool(row.get("running_deployment_id")))

    def _runs(self, environment: Environment, row: Row) -> tuple[str, str]:
        """What the host is said to run: of several, each something of its own."""
        names = find_environment(self._environments, environment.key).hosts
        hosts = self._store.hosts(environment.fraise, environment.name) if len(names) > 1 else ()
        # What had one host until now is known by what it ran itself.
        is_alone = not any(host["release"] for host in hosts)
        if is_alone and environment.hosts[0] == names[0]:
            return row.get("current_release", ""), row.get("current_commit", "")
        found = [host for host in hosts if host["host"] == environment.hosts[0]]
        return (found[0]["release"], found[0]["commit"]) if found else ("", "")

    # -- looking
    def _look(self, environment: Environment, wanted: Wanted) -> Found:
        host, layout = self._tools.host(environment), Layout(environment.app_path)
        marker = read_marker(host, layout, wanted.release)
        found = Found(
            current=host.kind(layout.current),
            link=host.read_link(layout.current) or "",
            folder=bool(wanted.release) and host.kind(layout.release(wanted.release)) == "folder",
            marker=marker.commit if marker else None,
            owner=_owner(host.read(f"{layout.own}/owner")),
            token=_number(host.read(f"{layout.own}/token")),
        )
        if not wanted.release:
            return found
        # As it was deployed, which may be otherwise than it would be deployed now.
        if wanted.release not in recorded(host, layout):
            plain = (
                replace(environment, cutover=Cutover.restart) if environment.is_blue_green else environment
            )
            return replace(found, **self._served(plain, host, wanted, ""))
        instance = replace(environment, cutover=Cutover.blue_green)
        address = address_of(host, layout, wanted.release)
        return replace(
            found,
            **self._traffic(environment, host, address),
            others=tuple(self._others(instance, host, wanted.release)),
            **self._served(instance, host, wanted, wanted.release),
        )

    def _traffic(self, environment: Environment, host: Host, address: str) -> dict[str, Any]:
        """Where a release listens that is an instance, and where its traffic goes."""
        proxy = self._tools.proxy(environment)
        if proxy is None:
            linked = address if address.startswith("/") else ""
            return {"listens": linked, "dialled": host.read_link(Layout(environment.app_path).link) or ""}
        if not isinstance(proxy, OpenProxy):
            return {}
        return {
            "listens": address,
            "dialled": ", ".join(proxy.points_to(environment)),
            "proxy": proxy.kind,
        }

    def _served(self, environment: Environment, host: Host, wanted: Wanted, instance: str) -> dict[str, Any]:
        """What runs the release: its own instance, or ('') the plain unit; and the files of that."""
        target, spec = self._tools.target(environment), self._tools.unit(environment, instance)
        timers = tuple(changed_units(environment, host, wanted.release))
        stopped = tuple(stopped_timers(environment, host))
        if target is None or spec is None:
            return {"edited": timers, "stopped": stopped}
        state = target.state(spec, host)
        current = Layout(environment.app_path).current
        unit = Unit(
            name=spec.unit,
            known=state.known,
            running=state.running,
            detail=state.detail,
            release=_release_of(host, environment.app_path, state),
            is_older=None if instance else _is_older(host, current, state),
        )
        acts = self._tools.acts(environment, wanted.release).install
        return {"unit": unit, "edited": (*_edited(acts, host), *timers), "stopped": stopped}

    def _others(self, environment: Environment, host: Host, serving: str) -> Iterator[str]:
        for name in recorded(host, Layout(environment.app_path)):
            if name != serving and self._tools.state(environment, name).running:
                yield name


@dataclass(frozen=True, slots=True)
class _Known:
    wanted: Wanted
    is_busy: bool


def _compared(environment: Environment, wanted: Wanted, found: Found) -> Sequence[Comparison]:
    drifts = [
        _comparison(environment, Verdict.drift, each.check, each.message, _heals(environment, wanted, each))
        for each in differences(wanted, found)
    ]
    runs = f"runs {wanted.release}, as the database says" if wanted.release else "nothing was deployed"
    return drifts or [_comparison(environment, Verdict.same, "all", runs)]


def _heals(environment: Environment, wanted: Wanted, difference: Difference) -> str:
    names = shlex.join((environment.fraise, environment.name))
    commit = f" --commit {wanted.commit}" if wanted.commit else ""
    deploy = f"fraisier deploy {names}{commit} --force"
    current = shlex.quote(Layout(environment.app_path).current)
    return {
        Remedy.deploy: deploy,
        Remedy.adopt: f"fraisier adopt {names}",
        Remedy.move: f"mv {current} {current}.before-fraisier && {deploy}",
    }[difference.remedy]


def _comparison(
    environment: Environment, verdict: Verdict, check: str, message: str, hint: str = ""
) -> Comparison:
    return Comparison(
        fraise_id=environment.fraise,
        environment=environment.name,
        host=environment.hosts[0],
        verdict=verdict,
        check=check,
        message=message,
        hint=hint,
    )


def _edited(acts: Sequence[Act], host: Host) -> Iterator[str]:
    """Files that a deployment puts elsewhere on the host, and that are not as it would write them."""
    for act in acts:
        if isinstance(act, InstallFile):
            wanted = host.read(act.source)
        elif isinstance(act, WriteFile) and not act.once:
            wanted = act.content.encode()
        else:
            continue
        if wanted is not None and host.read(act.destination) != wanted:
            yield act.destination


def _owner(data: bytes | None) -> Mapping[str, str] | None:
    """None where there is no file. What cannot be read as an owner is somebody else's."""
    if data is None:
        return None
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(data: bytes | None) -> int:
    return int(data) if data is not None and data.strip().isdigit() else 0


def _release_of(host: Host, app_path: str, state: UnitState) -> str:
    """The release whose folder the unit's process was started in; '' where that cannot be told.

    Folders above `app_path` may be links, which the kernel has followed: its last part is compared.
    """
    if not state.pid:
        return ""
    pattern = re.compile(rf"/{re.escape(posixpath.basename(app_path))}/releases/([^/ ]+)")
    for what in ("cwd", "exe"):
        try:
            path = host.read_link(f"/proc/{state.pid}/{what}") or ""
        except FraisierError:  # another user's process: not ours to look into
            continue
        match = pattern.search(path)
        if match and is_release_name(match[1]):
            return match[1]
    return ""


def _is_older(host: Host, current: str, state: UnitState) -> bool | None:
    """Whether the process was started before the link was last changed; None where that cannot be told."""
    stat = host.read(f"/proc/{state.pid}/stat") if state.pid else None
    uptime = host.read("/proc/uptime") if stat else None
    changed = host.inspect(("stat", "-c", "%Y", "--", current)) if stat else None
    now = host.inspect(("date", "+%s")) if stat else None
    if not (stat and uptime and changed and now) or changed.code != 0 or now.code != 0:
        return None
    # proc_pid_stat(5): field 22 is when it began, in ticks since the boot.
    runs_for = float(uptime.split()[0]) - int(stat.rpartition(b")")[2].split()[19]) / _TICKS
    return runs_for > int(now.stdout) - int(changed.stdout) + _CLOSE
