"""What is done before a block of the documentation that is about something going wrong, or is right again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.town import Town


def _push(town: Town, version: str, backend: str = "hatchling.build") -> None:
    """Push a version, whose webhook deploys it, and wait until that has ended."""
    edit = f's/^version = .*/version = "{version}"/; s/^build-backend = .*/build-backend = "{backend}"/'
    commit = f"sed -i '{edit}' pyproject.toml && git commit -qam {version} --allow-empty && git push -q"
    town.shell(f"cd ~/orders && {commit}")
    town.fraisier("logs -f orders production", check=False)


def wrong_signature(town: Town) -> None:
    """Somebody sends a push that is signed with another secret."""
    headers = "-H 'X-GitHub-Event: push' -H 'X-GitHub-Delivery: 1' -H 'X-Hub-Signature-256: sha256=00'"
    json = "-H 'Content-Type: application/json'"
    town.shell(f"curl -sS http://127.0.0.1:8080/webhook {json} {headers} --data-binary '{{}}'")


def broken_build(town: Town) -> None:
    """A push whose build fails."""
    _push(town, "2.0", backend="no.such.backend")


def sick(town: Town) -> None:
    """A push of a version that is never healthy."""
    _push(town, "2.1+sick")


def mended(town: Town) -> None:
    """A push of a good version."""
    _push(town, "2.2")


def etl_fails(town: Town) -> None:
    """What the pipeline reads is away."""
    town.server.run("touch /srv/orders-are-away")


def etl_mended(town: Town) -> None:
    """It is back, and the tries of what failed have ended."""
    town.server.run("rm /srv/orders-are-away")
    waits = "sudo -u fraisier fraisier runs nightly production --json | grep -qE '\"(pending|running)\"'"
    town.shell(f"while {waits}; do sleep 0.2; done")


def backup_damaged(town: Town) -> None:
    """A file of the newest backup at one destination is cut short."""
    newest = "$(ls -d /srv/backups/orders/*/*/2* /srv/backups/orders/2* 2>/dev/null | tail -n 1)"
    town.server.run(f"cd {newest} && truncate -s 100 $(ls | grep -v manifest | head -n 1)")


SCENES: dict[str, Callable[[Town], None]] = {
    "wrong-signature": wrong_signature,
    "broken-build": broken_build,
    "sick": sick,
    "mended": mended,
    "etl-fails": etl_fails,
    "etl-mended": etl_mended,
    "backup-damaged": backup_damaged,
}
