"""What `fraisier plan` says of a backup: what a run dumps, where it goes, and how long it stays there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fraisier.cli.screen import Screen
from fraisier.cli.text import printable
from fraisier.domain.secret import Secret

if TYPE_CHECKING:
    from fraisier.domain.backup import BackupSpec, Retention, Source
    from fraisier.domain.fraise import Environment


def document(environment: Environment, spec: BackupSpec) -> dict[str, Any]:
    """The same for machines."""
    return {
        "sources": [{"name": each.name, "kind": each.kind, "what": _what(each)} for each in spec.sources],
        "destinations": [
            {"name": each.name, "kind": each.kind, "place": each.place} for each in spec.destinations
        ],
        "encrypted": spec.encryption is not None,
        "retention": {f"keep_{word}": number for word, number in _rules(spec.retention).items()},
        "verified_within": spec.verified_within,
        "schedules": _schedules(environment),
    }


def print_backup(environment: Environment, spec: BackupSpec, screen: Screen) -> None:
    """A run of the backup, in the order in which it does it."""
    key = screen.style(str(environment.key), bold=True)
    if not environment.deploys:
        screen.say(f"There is nothing to deploy in {key}: it has no repository, and a backup needs none.")
    screen.say(f"A run of {key}'s backup does this:")
    kept = ", ".join(f"{number} {word}" for word, number in _rules(spec.retention).items() if number)
    rules = f"at each of them keep {kept}, and the last verified one" if kept else "nothing: all are kept"
    lines = [("dump", f"{each.name}: {each.kind} {_what(each)}".rstrip()) for each in spec.sources]
    if spec.encryption is not None:
        count = len(spec.encryption.recipients)
        lines.append(("encrypt", f"by age, for {count} recipient{'s' * (count != 1)}"))
    lines += [("keep", f"{each.name}: {each.kind} {each.place}") for each in spec.destinations]
    lines += [("look", "at every copy: sizes and checksums"), ("prune", rules)]
    for number, (word, what) in enumerate(lines, 1):
        screen.say(f"{number:>3}. {screen.style(f'{word:<8}', 'cyan')}{printable(what)}")
    for name, schedule in _schedules(environment).items():
        screen.say(printable(f"{name}: {schedule}"))
    screen.say(screen.style("Nothing was changed.", dim=True))


def _rules(retention: Retention) -> dict[str, int]:
    return {word: getattr(retention, word) for word in ("last", "daily", "weekly", "monthly")}


def _what(source: Source) -> str:
    """Where it is; a database's address may have a password in it."""
    if source.command:
        return source.command
    url = "" if isinstance(source.url, Secret) else source.url.partition("?")[0]
    return source.path or url.partition("@")[2] or url


def _schedules(environment: Environment) -> dict[str, str]:
    timed = {name: job.schedule for name, job in environment.jobs.items() if job.schedule is not None}
    return {name: f"{each.expression} {each.timezone}".rstrip() for name, each in timed.items()}
