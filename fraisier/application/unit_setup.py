"""How root sets up the program that writes units, and its list: shell that changes nothing twice."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from fraisier.application import units_program
from fraisier.deployers.scheduled import install
from fraisier.deployers.timer_units import kept_jobs, problem_of
from fraisier.domain.fraise import Environment
from fraisier.domain.timer_acts import PROGRAM, InstallUnits

_SET_UP = """\
# What writes the timers of `scheduled` fraises. Whoever can write system units is root: so it takes nothing
# but the lines of Fraisier's templates, for the environments, users and folders of a list that only root
# writes. {user} can have any command run as those users, on a schedule, and no more.
install -d -m 755 {folder}
[ -d {etc} ] || install -d -m 755 {etc}
units=$(mktemp)
cat >"$units" <<'FRAISIER_UNITS'
{program}FRAISIER_UNITS
cmp -s "$units" {place} || install -m 755 -o root -g root "$units" {place}
# Environments that are no longer this user's: their timers go.
rows=$(mktemp)
cat >"$rows" <<'FRAISIER_ROWS'
{rows}FRAISIER_ROWS
if [ -f {list} ]; then
  awk -F '\t' -v user={user} '$1 == user {{ print $2 }}' {list} | while read -r name; do
    cut -f 2 "$rows" | grep -qxF -e "$name" || SUDO_USER={user} {place} remove "$name" || :
  done
  awk -F '\t' -v user={user} '$1 != user' {list} >>"$rows"
fi
cmp -s "$rows" {list} || install -m 644 -o root -g root "$rows" {list}
rm -f "$units" "$rows"
"""


def unit_rows(environments: Iterable[Environment]) -> tuple[InstallUnits, ...]:
    """What root's list says of those whose jobs systemd starts; none of root's own commands."""
    return tuple(
        install(each, "")
        for each in environments
        if kept_jobs(each) and each.user not in ("", "root") and problem_of(each) is None
    )


def set_up_units(rows: Sequence[InstallUnits], user: str) -> str:
    """Lines for root's shell, with `set -eu`."""
    return _SET_UP.format(
        user=shlex.quote(user),
        folder=PROGRAM.rpartition("/")[0],
        etc=units_program.LIST.rpartition("/")[0],
        program=units_program.program(),
        place=PROGRAM,
        rows=units_program.listed(rows, user),
        list=units_program.LIST,
    )
