"""Traffic from one release to another: where an instance listens, who gets requests, how the others end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from fraisier.application import instances
from fraisier.application.ports import Finished, UnitState
from fraisier.application.put_file import write_there
from fraisier.application.release_marker import running_release
from fraisier.domain.acts import RemoveFile, UnitCommand, WriteFile
from fraisier.domain.cutover_acts import Allot, Retire, Route
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Cutover
from fraisier.domain.plan import Act

if TYPE_CHECKING:
    from fraisier.application.stage import Scene, Stage

LOOK = 0.1  # seconds between two looks at connections, or at a unit that stops
QUIET_LOOKS = 3  # in a row without a connection, until whoever dialled the old address has arrived
SLOWEST_STOP = 100.0  # seconds; systemd kills what does not stop within 90, unless told otherwise


class CutOver:
    """Performs the acts that a change of instances consists of, for one stage."""

    def __init__(self, stage: Stage, perform: Callable[[Act, Scene], None]) -> None:
        self._stage = stage
        self._perform = perform

    def allot(self, act: Allot, scene: Scene) -> None:
        """Choose an address for an instance. One that has an address keeps it: it may be running."""
        stage, host = self._stage, self._stage.host
        if instances.address_of(host, stage.layout, act.release):
            return
        with stage.host.guard(stage.ground):
            address = instances.choose_address(host, stage.layout, act.release, act.listen)
            told = instances.variables_for(address, act.release, stage.candidate.commit)
            host.make_folder(stage.layout.instances, mode=0o700)
            text = "".join(f"{name}={value}\n" for name, value in told.items())
            host.write(act.file, text.encode(), mode=0o640)
            self._keep_traffic_away()
        scene.output.line(f"release {act.release} listens on {address}")

    def _keep_traffic_away(self) -> None:
        """A proxy may have forgotten, in a restart, which of its servers is open."""
        stage, spec = self._stage, self._stage.environment.proxy
        if spec is not None:
            running = running_release(stage.host, stage.layout)
            serving = instances.address_of(stage.host, stage.layout, running) if running else ""
            stage.tools.proxies[spec.kind].point(stage.environment, serving)

    def route(self, act: Route, scene: Scene) -> None:
        """Move the traffic: by one atomic rename, or by telling the proxy."""
        stage = self._stage
        address = act.socket
        if act.release:
            address = instances.address_of(stage.host, stage.layout, act.release)
            if not address:
                message = f"cannot send traffic to release {act.release}: where it listens is not known"
                raise StepFailed(Cause.host, message, "Deploy once more")
        spec = stage.environment.proxy
        with stage.host.guard(stage.ground):
            if spec is not None:
                stage.tools.proxies[spec.kind].point(stage.environment, address)
            elif address.startswith("/"):
                stage.host.point(act.link, address)
            else:
                stage.host.remove(act.link)
        where = f"{spec.kind}" if spec else act.link
        scene.output.line(f"{where} -> {address or 'nothing'}")

    def retire(self, act: Retire, scene: Scene) -> None:
        """Stop what does not serve any more, and forget it."""
        stage = self._stage
        keep = running_release(stage.host, stage.layout) if act.keep is None else act.keep
        recorded = instances.recorded(stage.host, stage.layout)
        leaving = [name for name in recorded if name != keep]
        try:
            # The plain unit runs from `current`, so it is in the way only where an instance serves.
            if keep in recorded:
                self._retire_plain(act, scene)
            if act.keep == "" and leaving:
                self._keep_plain(scene)
            for name in leaving:
                self._retire_instance(name, act, scene)
        except StepFailed as failure:
            if not act.told or failure.cause is Cause.cancelled:
                raise
            scene.output.line(f"{failure.message}{'. ' + failure.hint if failure.hint else ''}")

    def _retire_instance(self, name: str, act: Retire, scene: Scene) -> None:
        stage = self._stage
        address = instances.address_of(stage.host, stage.layout, name)
        acts = stage.tools.acts(replace(stage.environment, cutover=Cutover.blue_green), name)
        self._drain(name, address, act.drain, scene)
        for each in acts.retire:
            self._perform(each, scene)
        self._wait_for_the_end(lambda: stage.tools.state(stage.environment, name), name, scene)
        for each in acts.forget:
            self._perform(each, scene)
        with stage.host.guard(stage.ground):
            if address and stage.host.read_link(stage.layout.link) == address:
                stage.host.remove(stage.layout.link)
            stage.host.remove(stage.layout.instance(name))
        scene.output.line(f"stopped release {name}")

    def _keep_plain(self, scene: Scene) -> None:
        """It serves again: it starts at boot, as it did before there were instances."""
        stage = self._stage
        if stage.tools.state(stage.environment, "").running:
            for each in stage.tools.acts(replace(stage.environment, cutover=Cutover.restart), "").keep:
                self._perform(each, scene)

    def _retire_plain(self, act: Retire, scene: Scene) -> None:
        """The unit of a time before the environment's releases ran as instances."""
        stage = self._stage
        state = stage.tools.state(stage.environment, "")
        if not state.running:
            return
        acts = stage.tools.acts(replace(stage.environment, cutover=Cutover.restart), "")
        address = acts.listen[0] if stage.environment.run and acts.listen else ""
        self._drain("the plain unit", address, act.drain, scene)
        for each in (*acts.retire, *acts.forget):
            self._perform(each, scene)
        self._wait_for_the_end(lambda: stage.tools.state(stage.environment, ""), "the plain unit", scene)
        scene.output.line("stopped the plain unit")

    def _drain(self, name: str, address: str, seconds: float, scene: Scene) -> None:
        """Wait until nobody is connected any more, or the time is over. Not where nobody can count."""
        if not address or not seconds:
            return
        clock = self._stage.tools.clock
        until, quiet, said = clock.monotonic() + seconds, 0, 0
        while quiet < QUIET_LOOKS:
            found = instances.connections(self._stage.host, address)
            quiet = 0 if found else quiet + 1
            if found and not said:
                scene.output.line(f"{name} has {found} connections: waiting for their end")
                said = found
            if clock.monotonic() >= until:
                scene.output.line(f"{name} still had {found} connections after {seconds:g} s: they are cut")
                return
            self._wait(scene)

    def _wait_for_the_end(self, look: Callable[[], UnitState], name: str, scene: Scene) -> None:
        clock, environment = self._stage.tools.clock, self._stage.environment
        until = clock.monotonic() + max(SLOWEST_STOP, environment.drain_timeout + environment.restart_timeout)
        while True:
            state = look()
            if state.settled and not state.running:
                return
            if clock.monotonic() >= until:
                message = f"cannot stop {name}: {state.detail}"
                raise StepFailed(Cause.host, message, "Stop it by hand; the next deployment tries again")
            self._wait(scene)

    def _wait(self, scene: Scene) -> None:
        if scene.job.stop.wait(LOOK):
            self._stage.control.check_halt()
            if scene.job.stop is not self._stage.control.halt:
                self._stage.control.check()

    def write_file(self, act: WriteFile, scene: Scene) -> None:
        """A file of Fraisier's own making; what it changes is prepared for that first."""
        stage = self._stage
        found = stage.host.read(act.destination)
        if found == act.content.encode() or (act.once and found is not None):
            return
        for each in act.before:
            self._perform(each, scene)
        with stage.host.guard(stage.ground):
            write_there(stage.host, act.destination, act.content.encode())
        scene.output.line(f"wrote {act.destination}")

    def remove_file(self, act: RemoveFile, _: Scene) -> None:
        """Missing is fine, also in a folder that is read-only: a unit that Fraisier did not write."""
        stage = self._stage
        with stage.host.guard(stage.ground):
            if stage.host.kind(act.destination) != "missing":
                stage.host.remove(act.destination)

    def is_needless(self, act: UnitCommand) -> bool:
        """Whether what a command would bring about is so already."""
        if not act.unless:
            return False
        finished: Finished = self._stage.host.inspect(act.unless)
        return finished.code == 0
