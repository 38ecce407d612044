"""Performs the acts of a plan: one small method per act, found in one table."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from fraisier.application import instances
from fraisier.application.bake import BakeRelease
from fraisier.application.build_here import BuildHere, builder_of
from fraisier.application.check_health import LOOK, Watch
from fraisier.application.check_health import CheckHealth as WatchHealth
from fraisier.application.cut_over import CutOver
from fraisier.application.host_paths import at_home
from fraisier.application.keep_timers import KeepTimers
from fraisier.application.ports import Health, UnitState, Unpacking
from fraisier.application.preflight import preflight, require
from fraisier.application.put_file import PutFile
from fraisier.application.release_marker import Marker, read_marker, running_release, write_marker
from fraisier.application.stage import Scene, Stage
from fraisier.application.target_work import Bench
from fraisier.deployers.common import command_env
from fraisier.domain.acts import (
    CheckHealth,
    Command,
    InstallFile,
    LinkShared,
    Preflight,
    Prove,
    Prune,
    RemoveFile,
    Seal,
    Send,
    Switch,
    TargetWork,
    UnitCommand,
    Unpack,
    WriteFile,
)
from fraisier.domain.cutover_acts import Allot, Bake, Retire, Route
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import BuildOn, HealthCheck
from fraisier.domain.plan import Act, StepName
from fraisier.domain.release import is_release_name, releases_to_prune

# What a `shared` entry becomes, as the environment's user: the release's own copy makes room for the link.
# A link in the commit must not lead the removal elsewhere.
_LINK = """
case "$3" in */) mkdir -p "$1";; esac
parent=$(dirname "$2")
case "$(realpath -m "$parent")/" in
    "$(realpath "$4")"/*) ;;
    *) echo "$parent leads out of the release" >&2; exit 1;;
esac
mkdir -p "$parent"
rm -rf "$2"
ln -s "$1" "$2"
"""


_FULL = 8 << 20  # bytes; with less than this a build had better be tried again later


Acts = Mapping[type, Callable[[Any, Scene], None]]  # who performs which act


class Perform:
    """Performs one act at a time for one stage."""

    def __init__(self, stage: Stage, more: Acts) -> None:
        """`more` performs the acts that need more than a stage."""
        self._stage = stage
        self._cut_over = over = CutOver(stage, self)
        self._table: dict[type, Callable[[Any, Scene], None]] = {
            **more,
            **KeepTimers(stage).table,
            Preflight: self._preflight,
            Unpack: self._unpack,
            Send: self._send,
            LinkShared: self._link_shared,
            Command: self._command,
            Seal: self._seal,
            Switch: self._switch,
            InstallFile: PutFile(stage),
            UnitCommand: self._unit_command,
            WriteFile: over.write_file,
            RemoveFile: over.remove_file,
            Allot: over.allot,
            Route: over.route,
            Retire: over.retire,
            TargetWork: self._target_work,
            CheckHealth: self._check_health,
            Bake: self._bake,
            Prove: self._prove,
            Prune: self._prune,
        }

    def __call__(self, act: Act, scene: Scene) -> None:
        """Perform `act`.

        Raises:
            StepFailed: it did not work.
            TokenOutdated: the environment belongs to another worker now.
        """
        if isinstance(act, InstallFile | WriteFile | RemoveFile):
            act = replace(act, destination=at_home(self._stage.host, act.destination))
        if isinstance(act, Command | Unpack) and act.here:
            Perform(self._builder(), {})(replace(act, here=False), scene)
            return
        self._table[type(act)](act, scene)

    def adopt(self) -> None:
        """Take the environment on the host over; ends what a dead worker left running."""
        stage = self._stage
        stage.host.adopt(stage.ground)
        if stage.environment.build_on is BuildOn.here:
            BuildHere(stage).adopt()

    def _builder(self) -> Stage:
        """The same on Fraisier's own machine."""
        stage = self._stage
        return Stage(
            tools=stage.tools,
            environment=builder_of(stage.environment),
            ground=stage.ground,
            deployment=stage.deployment,
            candidate=stage.candidate,
            control=stage.control,
        )

    def _preflight(self, _: Preflight, scene: Scene) -> None:
        stage = self._stage
        target, proxy = stage.tools.target(stage.environment), stage.tools.proxy(stage.environment)
        problems = preflight(stage.environment, stage.host, target, proxy)
        for problem in problems:
            scene.output.line(f"{problem.message}{'. ' + problem.hint if problem.hint else ''}")
        require(problems)
        if stage.environment.build_on is BuildOn.here:
            BuildHere(stage).check(scene)
        self.adopt()

    def _unpack(self, act: Unpack, scene: Scene) -> None:
        stage, source = self._stage, self._stage.environment.source
        contents = stage.tools.repository.contents(source, stage.candidate.commit, act.root)
        _require_key("submodules", used=contents.submodules, on=act.submodules)
        _require_key("lfs", used=contents.lfs, on=act.lfs)
        if act.root and not stage.tools.repository.has_path(source, stage.candidate.commit, act.root):
            message = f"cannot deploy {act.root}: the commit has no such folder"
            raise StepFailed(Cause.preflight, message, "Mend `root:` in fraises.yaml")
        self._remove_unsealed(scene)
        unpacking = Unpacking(
            host=stage.host,
            folder=act.folder,
            root=act.root,
            user=stage.environment.user,
            submodules=act.submodules,
            lfs=act.lfs,
        )
        with stage.host.guard(stage.ground):
            stage.host.make_folder(act.folder, user=stage.environment.user)
        stage.tools.repository.unpack(source, stage.candidate.commit, unpacking, scene.job)

    def _remove_unsealed(self, scene: Scene) -> None:
        """An interrupted build is thrown away and repeated in a new folder; so is what never served well.

        Never what `current` points to, marked or not: a marker may be lost, a service must not be.
        """
        stage = self._stage
        running = running_release(stage.host, stage.layout)
        in_use = stage.in_use()
        for name in filter(is_release_name, stage.host.list(stage.layout.releases)):
            if name in in_use:
                continue
            marker = read_marker(stage.host, stage.layout, name)
            if name != running and (marker is None or not marker.proven_at):
                self._remove_release(name, scene)

    def _remove_release(self, name: str, scene: Scene) -> None:
        """The marker first: what is half removed is not whole. The folder last: it tells what is left."""
        stage = self._stage
        with stage.host.guard(stage.ground):
            stage.host.remove(stage.layout.marker(name))
            stage.host.remove(stage.layout.units(name))
        for act in stage.tools.acts(stage.environment, name).discard:
            self(act, scene)
        with stage.host.guard(stage.ground):
            stage.host.remove(stage.layout.release(name), user=stage.environment.user)
        scene.output.line(f"removed release {name}")

    def _send(self, act: Send, scene: Scene) -> None:
        self._remove_unsealed(scene)
        BuildHere(self._stage).send(act, scene)

    def _link_shared(self, act: LinkShared, scene: Scene) -> None:
        stage = self._stage
        if act.name.endswith("/"):
            with stage.host.guard(stage.ground):
                if stage.host.kind(act.shared) == "missing":
                    stage.host.make_folder(act.shared, user=stage.environment.user)
        folder = stage.candidate.folder
        argv = ("/bin/sh", "-ec", _LINK, "link_shared", act.shared, act.link, act.name, folder)
        # Not from the user's home: a system user may have none.
        command = Command(argv=argv, cwd="/", user=stage.environment.user, timeout=60.0)
        self._require_success(command, scene, act.describe(), cause=Cause.preflight)

    def _command(self, act: Command, scene: Scene) -> None:
        shown = act.describe().partition("    # in ")[0]
        scene.output.line(f"$ {shown}")
        self._require_success(act, scene, shown)

    def _require_success(
        self, command: Command, scene: Scene, shown: str, *, cause: Cause | None = None
    ) -> None:
        stage = self._stage
        code = stage.host.run(stage.ground, command, scene.job)
        if code != 0:
            migrating = Cause.migration if scene.step is StepName.migrate else None
            cause = cause or migrating or self._cause_of_a_failed(scene.step)
            ended = f"was ended by signal {-code}" if code < 0 else f"exited with {code}"
            message = f"cannot {scene.step.value}: `{shown}` {ended}"
            raise StepFailed(cause, message, f"See its output: fraisier logs {stage.deployment}")

    def _cause_of_a_failed(self, step: StepName) -> Cause:
        """Whatever a build says, on a full disk it is not the commit's fault, and worth another try."""
        environment = self._stage.environment
        full = self._stage.host.free_bytes(environment.app_path) < min(environment.min_free_disk, _FULL)
        return Cause.disk if full else Cause.unhealthy if step is StepName.check_health else Cause.build

    def _seal(self, act: Seal, _: Scene) -> None:
        stage = self._stage
        with stage.host.guard(stage.ground):
            if stage.host.kind(act.folder) != "folder":
                message = f"cannot seal {act.folder}: the build removed or replaced its own release folder"
                raise StepFailed(Cause.build, message, f"See its output: fraisier logs {stage.deployment}")
            stage.host.sync(act.folder)
            marker = Marker(
                release=act.release,
                commit=stage.candidate.commit,
                ref=stage.candidate.ref,
                deployment=stage.deployment,
                sealed_at=stage.tools.clock.now(),
            )
            write_marker(stage.host, stage.layout, marker)

    def _switch(self, act: Switch, scene: Scene) -> None:
        stage = self._stage
        if act.release and read_marker(stage.host, stage.layout, act.release) is None:
            message = f"cannot switch to release {act.release}: it is not whole"
            raise StepFailed(Cause.host, message, "Deploy the commit again: fraisier deploy … --commit")
        # Health counts only for what starts after this; what serves without being started anew has its count.
        if act.restarts:
            stage.restarts_before = 0
        state = stage.tools.state(stage.environment, "") if act.release and act.restarts else None
        stage.invocation_before = state.invocation if state else ""
        with stage.host.guard(stage.ground):
            if act.release:
                stage.host.point(act.current, act.to)
            else:
                stage.host.remove(act.current)
        scene.output.line(f"current -> {act.to or 'nothing'}")

    def _unit_command(self, act: UnitCommand, scene: Scene) -> None:
        stage = self._stage
        if self._cut_over.is_needless(act):
            return
        with stage.host.guard(stage.ground):
            finished = stage.host.act(act.argv, timeout=act.timeout)
        scene.output.line(f"$ {shlex.join(act.argv)}")
        scene.job.output(finished.stdout + finished.stderr)
        if finished.code not in act.fine and not act.allow_failure:
            said = finished.stderr.decode(errors="replace").strip().splitlines()
            message = f"cannot restart: `{shlex.join(act.argv)}` exited with {finished.code}"
            raise StepFailed(Cause.restart, message + (f": {said[0]}" if said else ""), self._unit_hint())
        if act.starts is not None:
            # systemd may have restarted what crashed once more after its counter was reset.
            self._count_restarts_from_now(act.starts)

    def _target_work(self, act: TargetWork, scene: Scene) -> None:
        stage = self._stage
        stage.tools.working_target(stage.environment).perform(act, Bench(stage, scene.job))
        if act.brings_in:
            stage.invocation_before = ""
            self._count_restarts_from_now(act.release if act.instance else "")

    def _unit_hint(self) -> str:
        target, host = self._stage.environment.target, self._stage.host.name
        return f"Look at the unit on {host}: systemctl status {target.unit}" if target else ""

    def _count_restarts_from_now(self, release: str) -> None:
        self._stage.restarts_before = 0
        self._stage.restarts_before = self._look(release).restarts

    def _look(self, release: str) -> UnitState:
        """What the manager says of an instance, or ('') of the plain unit, since its start."""
        stage = self._stage
        state = stage.tools.state(stage.environment, release)
        return replace(state, restarts=max(0, state.restarts - stage.restarts_before))

    def _check_health(self, act: CheckHealth, scene: Scene) -> None:
        stage = self._stage
        check = act.check or HealthCheck(timeout=stage.environment.restart_timeout)
        asked = replace(check, request_timeout=check.timeout) if act.in_line else act.check
        watch = self._watch(asked, act.release, scene)
        wait = scene.job.stop.wait
        watch = replace(watch, old=stage.invocation_before, timeout=check.timeout)
        watch = replace(watch, in_line=LOOK if act.in_line else 0.0)
        try:
            WatchHealth(stage.tools.clock, wait)(watch, scene.output.line, stage.control)
        except StepFailed:
            for explaining in stage.tools.acts(stage.environment, stage.candidate.name).explain:
                with _only_told(scene):
                    self(explaining, scene)
            raise

    def _bake(self, act: Bake, scene: Scene) -> None:
        stage = self._stage
        scene.output.line(f"watching for {act.seconds:g} s more")
        watch = replace(self._watch(act.check, act.release, scene), timeout=act.seconds)
        BakeRelease(stage.tools.clock, scene.job.stop.wait)(watch, scene.output.line, stage.control)

    def _watch(self, check: HealthCheck | None, release: str, scene: Scene) -> Watch:
        """An instance without a check has to accept connections at least: traffic is about to come."""
        stage = self._stage
        address = instances.address_of(stage.host, stage.layout, release) if release else ""
        if address:
            check = replace(check or HealthCheck(tcp=address, interval=0.2), at=address)
        shape = check or HealthCheck()
        has_target = stage.environment.target is not None
        return Watch(
            look=(lambda: self._look(release)) if has_target else None,
            probe=self._probe(check, release, scene) if check else None,
            passes=shape.passes,
            interval=shape.interval,
        )

    def _probe(self, check: HealthCheck, release: str, scene: Scene) -> Callable[[], Health]:
        stage = self._stage
        prober = stage.tools.probers[check.kind]
        own = instances.variables_of(stage.host, stage.layout, release) if release else {}
        env = {**command_env(stage.environment, stage.candidate), **own}

        def run(command: Command) -> int:
            return stage.host.run(stage.ground, command, scene.job)

        folder, dial = stage.candidate.folder, stage.host.connect
        return lambda: prober.probe(check, stage.environment, folder, _with_env(run, env), dial)

    def _prove(self, act: Prove, scene: Scene) -> None:
        stage = self._stage
        with _only_told(scene), stage.host.guard(stage.ground):
            marker = read_marker(stage.host, stage.layout, act.release)
            if marker is not None:
                beside = act.release in instances.recorded(stage.host, stage.layout)
                proven = replace(marker, proven_at=stage.tools.clock.now(), beside=beside)
                write_marker(stage.host, stage.layout, proven)

    def _prune(self, act: Prune, scene: Scene) -> None:
        stage = self._stage
        running = running_release(stage.host, stage.layout)
        present = set(filter(is_release_name, stage.host.list(act.folder)))
        markers = [read_marker(stage.host, stage.layout, name) for name in present]
        good = {m.release for m in markers if m and m.proven_at} | {running, stage.previous}
        old = releases_to_prune([*(present & good)], keep=act.keep, running=running, previous=stage.previous)
        in_use = stage.in_use()
        for name in (name for name in (*sorted(present - good), *old) if name not in in_use):
            with _only_told(scene):
                self._remove_release(name, scene)


@contextmanager
def _only_told(scene: Scene) -> Iterator[None]:
    """What cannot be tidied up, or shown, must not change how the step ends."""
    try:
        yield
    except StepFailed as failure:
        scene.output.line(f"{failure.message}{'. ' + failure.hint if failure.hint else ''}")
    except OSError as error:
        scene.output.line(f"cannot use the host: {error}")


def _with_env(run: Callable[[Command], int], env: Any) -> Callable[[Command], int]:
    """A health command sees the environment that a build command sees."""

    def with_env(command: Command) -> int:
        return run(replace(command, env={**env, **command.env}))

    return with_env


def _require_key(key: str, *, used: bool, on: bool) -> None:
    if used and not on:
        message = f"cannot deploy the commit as it is: it uses {key}, which this environment does not fetch"
        raise StepFailed(Cause.preflight, message, f"Set `{key}: true` for the environment in fraises.yaml")
