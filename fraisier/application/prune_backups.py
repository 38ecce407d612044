"""Removes the copies of backups that no rule keeps."""

from __future__ import annotations

from collections.abc import Collection

from fraisier.application.backup_tools import YES, BackupTools, spec_of
from fraisier.application.look_at_copies import LookAtCopies
from fraisier.application.ports import Desk
from fraisier.domain.backup import CopyNote, CopyState, Destination
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.retention import newest_verified, to_forget, to_prune
from fraisier.domain.run import RunEnding, RunStatus


class PruneBackups:
    """Performs the runs of JobKind.prune, and follows each new backup."""

    def __init__(self, tools: BackupTools) -> None:
        self._tools = tools
        self._look = LookAtCopies(tools)

    def __call__(self, desk: Desk) -> RunEnding:
        """At every destination, after looking at its newest copy again: nothing goes for one that is damaged.

        With the parameter `damaged`, what is damaged or gone is given up, too; with `safety`, safety copies
        of restores are that are older than the newest backup that was verified.
        """
        pruned: dict[str, list[str]] = {}
        failed: dict[str, str] = {}
        for place in spec_of(desk).destinations:
            try:
                copies = self._look.whats_there(desk, place)
                present = [copy for copy in copies if copy.state is not CopyState.gone and not copy.safety]
                if present:
                    self._look.look(desk, place, max(present, key=lambda copy: (copy.made_at, copy.name)))
                given = {name for name, value in desk.claim.parameters.items() if value == YES}
                pruned[place.name] = self.at(desk, place, also=given)
            except StepFailed as error:
                if error.cause is Cause.cancelled:
                    raise
                desk.say(f"{place.name}: {error.message}")
                failed[place.name] = error.message
        detail = {"pruned": pruned, "failed": failed}
        if not failed:
            return RunEnding(status=RunStatus.success, exit_code=0, detail=detail)
        message = f"cannot prune at {', '.join(failed)}: {next(iter(failed.values()))}"
        hint = "See that its destinations can be reached: fraisier doctor"
        return RunEnding(status=RunStatus.failed, cause=Cause.backup, error=message, hint=hint, detail=detail)

    def at(self, desk: Desk, place: Destination, *, also: Collection[str] = ()) -> list[str]:
        """Prune one destination; returns the names of what was removed.

        Each is noted as removed before it is: one that a crash leaves there is found, and judged anew.

        Raises:
            StepFailed: the destination cannot be read or changed; or as `Desk.run`.
        """
        key, store = desk.environment.key, self._tools.store
        copies = self._look.whats_there(desk, place)
        verified = newest_verified(store.copies(key))
        going = to_prune(copies, spec_of(desk).retention, verified=verified)
        forgotten = to_forget(copies, spec_of(desk).retention)
        if "safety" in also:
            going += [copy.name for copy in copies if copy.safety and copy.name < verified]
        if "damaged" in also:
            damaged = [copy.name for copy in copies if copy.state is CopyState.damaged]
            going += [name for name in damaged if name not in going]
            forgotten += [copy.name for copy in copies if copy.state is CopyState.gone]
        now = self._tools.clock.now()
        store.note_copies(
            key,
            [CopyNote(destination=place.name, name=name, pruned_at=now) for name in (*going, *forgotten)],
            by=desk.claim,
        )
        if going:
            self._tools.brands.place(place).remove(place, going, desk)
        for name in going:
            desk.say(f"{place.name}: removed {name}")
        return going
