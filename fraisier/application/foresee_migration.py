"""What can be said of a deployment's migration before it, without changing anything."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fraisier.application.ask_database import answer_of, framed, in_words
from fraisier.application.plan_migration import question
from fraisier.application.ports import Answer, CannotTell, Host, Migrations, Store
from fraisier.application.release_marker import read_marker, running_release, whole_releases
from fraisier.application.roll_back import way_of_release
from fraisier.application.tools import Tools
from fraisier.deployers.common import Candidate, candidate
from fraisier.domain.acts import Command
from fraisier.domain.errors import FraisierError
from fraisier.domain.fraise import Environment
from fraisier.domain.migration import BASE, OnIrreversible, Pending, Verdict, judge_migrations
from fraisier.domain.release import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is known of a database before a deployment; `pending` None, `verdict` '': that is not known."""

    revision: str = ""
    pending: tuple[Pending, ...] | None = None
    verdict: str = ""
    refused: bool = False
    unknown: str = ""  # why it is not known

    def in_words(self) -> Sequence[str]:
        """For people, in lines."""
        at = f"at revision {self.revision}" if self.revision else "at a revision that is not known"
        if self.pending is None:
            return (f"The database is {at}. {self.unknown}",)
        lines = [f"The database is {at}; {in_words(self.pending)}."]
        if self.pending:
            lines.append(f"Verdict: {self.verdict}.")
        if self.refused:
            lines.append("The deployment would be refused: on_irreversible is `refuse`.")
        return lines


class ForeseeMigration:
    """Asks a release on the host: of the commit, if it was built; else the running one for the revision."""

    def __init__(self, tools: Tools, store: Store, redact: Callable[[str], str]) -> None:
        self._tools = tools
        self._store = store
        self._redact = redact

    def __call__(self, environment: Environment, commit: str) -> Outlook | None:
        """What is known; None where nothing migrates."""
        found = self._look(environment, commit)
        if found is None:
            return None
        return replace(found, revision=self._redact(found.revision), unknown=self._redact(found.unknown))

    def _look(self, environment: Environment, commit: str) -> Outlook | None:
        framework = self._tools.framework(environment)
        if framework is None:
            return None
        after = "What is pending is known after the build"
        try:
            host = self._tools.host(environment)
            built, running = self._releases(host, environment, commit)
            if built is not None:
                return self._ask(host, environment, framework, built)
            if running is None:
                return Outlook(unknown=f"{after}: no release is there to be asked.")
            asked = question(environment, running, framework)
            revision = _current(host, framework, asked.current)
            journaled = way_of_release(self._store, environment, None).now
            return Outlook(revision=revision or journaled, unknown=f"{after}.")
        except (FraisierError, CannotTell) as error:
            said = error.message if isinstance(error, FraisierError) else str(error)
            return Outlook(unknown=f"{after}; now it cannot be asked: {said}.")

    def _releases(
        self, host: Host, environment: Environment, commit: str
    ) -> tuple[Candidate | None, Candidate | None]:
        """The release of the commit, if it is whole on the host, and the one that runs."""
        layout = Layout(environment.app_path)
        marker = read_marker(host, layout, running_release(host, layout))
        running = candidate(environment, marker.release, marker.commit, marker.ref) if marker else None
        found = [m for m in whole_releases(host, layout) if commit and m.commit.startswith(commit)]
        built = candidate(environment, found[0].release, found[0].commit, found[0].ref) if found else None
        return built, running

    def _ask(
        self, host: Host, environment: Environment, framework: Migrations, release: Candidate
    ) -> Outlook:
        asked = question(environment, release, framework)
        if asked.pending is None:
            revision = _current(host, framework, asked.current)
            return Outlook(revision=revision, unknown="Its framework does not tell what is pending.")
        told = _answer(host, asked.pending)
        pending = tuple(framework.read_pending(told))
        at_once = framework.asks_once
        revision = framework.read_current(told) if at_once else _current(host, framework, asked.current)
        declared = environment.database.reversible if environment.database else None
        assert declared is not None, "what is migrated has a database"  # noqa: S101
        verdict = judge_migrations(pending, declared, has_down=asked.has_down)
        policy = environment.database.on_irreversible if environment.database else OnIrreversible.proceed
        refused = policy is OnIrreversible.refuse and verdict is not Verdict.reversible and revision != BASE
        return Outlook(revision=revision, pending=pending, verdict=verdict.value, refused=refused)


def _current(host: Host, framework: Migrations, command: Command | None) -> str:
    return framework.read_current(_answer(host, command)) if command else ""


def _answer(host: Host, command: Command) -> Answer:
    mark = f"--{secrets.token_hex(12)}--"
    return answer_of(host.ask(framed(command, mark)), mark)
