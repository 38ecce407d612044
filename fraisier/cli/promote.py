"""`fraisier promote`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from fraisier.cli.options import fraise_argument, json_option, label_option, other_environment, wait_option
from fraisier.cli.screen import Screen, print_json
from fraisier.cli.session import Session, asker
from fraisier.cli.text import SHORT_COMMIT, SHORT_ID, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from fraisier.application.ports import History
    from fraisier.application.promote_commit import Promotion


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The command line of `promote`."""

    fraise: str
    source: str
    target: str
    force: bool
    wait: bool
    dry_run: bool
    as_json: bool


@click.command("promote")
@fraise_argument()
@other_environment("source", "FROM")
@other_environment("target", "TO")
@click.option("--force", is_flag=True, help="Even where it runs already, or failed before; even now.")
@wait_option
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@json_option
@label_option
@click.pass_obj
def command(session: Session, /, **options: Any) -> None:
    """Deploy to environment TO of FRAISE exactly the commit that runs in good health in FROM.

    That is the commit of the release that FROM's last good deployment, or its way back, left serving,
    whatever its branch is at by now. It is shown which commits come and go. As after `deploy --commit` no
    sweep undoes it: the next push that TO follows does. Exit statuses are those of `deploy`; 1 also where
    nothing runs in FROM in good health.

    \b
    Examples:
      fraisier promote api staging production --dry-run
      fraisier promote api staging production
    """
    wanted = Wanted(**options)
    source, target = (session.key(wanted.fraise, each) for each in (wanted.source, wanted.target))
    with session.fraisier(readonly=wanted.dry_run) as fraisier:
        promotion = fraisier.promotion(source, target)
        ends_here = wanted.dry_run or (promotion.runs_already and not wanted.force)
        if not wanted.as_json:
            screen = Screen.of_stdout()
            # With --no-wait stdout is for the id alone.
            _Shown(screen, screen.say if wanted.wait or ends_here else screen.note).show(promotion)
        elif ends_here:
            print_json(_document(promotion))
        if ends_here:
            return
        from fraisier.cli.deployment_waiting import conclude

        requested = fraisier.promote(promotion, by=asker(), force=wanted.force)
        conclude(fraisier, requested, wait=wanted.wait, as_json=wanted.as_json)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A promotion for people, line by line."""

    screen: Screen
    say: Callable[[str], None]

    def show(self, promotion: Promotion) -> None:
        source, target = promotion.source, promotion.target
        self.say(f"{source} runs {promotion.commit[:SHORT_COMMIT]} in good health ({promotion.release}).")
        if promotion.busy:
            self.say(f"Deployment {promotion.busy[:SHORT_ID]} is under way there, and is not promoted.")
        if promotion.runs_already:
            self.say(f"{target} runs it already. --force deploys it anew.")
            return
        self.say(f"{target} runs {promotion.replaces[:SHORT_COMMIT] or 'nothing yet'}.")
        if promotion.brought is None:
            self.say(
                "Which commits that brings cannot be told here: this machine's mirror has not all of them."
            )
        self._history("It brings", promotion.brought)
        self._history("It takes away", promotion.taken)

    def _history(self, what: str, history: History | None) -> None:
        if history is None or not history.total:
            return
        self.say(f"{what} {history.total} commit{'s' if history.total != 1 else ''}:")
        for each in history.newest:
            short = self.screen.style(each.commit[:SHORT_COMMIT], "yellow")
            self.say(f"  {short} {printable(each.subject)}")
        if history.total > len(history.newest):
            self.say(f"  … and {history.total - len(history.newest)} older")


def _document(promotion: Promotion) -> dict[str, Any]:
    return {
        "fraise_id": promotion.source.fraise,
        "from": promotion.source.environment,
        "to": promotion.target.environment,
        "commit": promotion.commit,
        "release": promotion.release,
        "replaces": promotion.replaces or None,
        "runs_already": promotion.runs_already,
        "brought": _listed(promotion.brought),
        "taken": _listed(promotion.taken),
    }


def _listed(history: History | None) -> dict[str, Any] | None:
    if history is None:
        return None
    newest = [{"commit": each.commit, "subject": each.subject} for each in history.newest]
    return {"total": history.total, "newest": newest}
