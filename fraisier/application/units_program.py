"""How the program that writes units is called on a host: as root as it is, otherwise by sudo or by systemd.

Root needs no program of that name on the host: it is given along. Anybody else needs what
`fraisier bootstrap` installs, or `fraisier init --service` shows. See scripts/units.sh for what it accepts.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from fraisier.deployers.timer_units import HEAD, key_of
from fraisier.domain.secret import Secret
from fraisier.domain.timer_acts import PROGRAM, InstallUnits, WriteUnits

LIST = "/etc/fraisier/units.list"
PATIENCE = 90.0  # seconds for systemd to verify and start them

# $1: what root runs, $2: how units of the environment begin, $3: the bundle ('' = none), $4: verb,
# $5: environment, $6-$9: what its row would be.
_CALL = """\
script=$1 head=$2 source=$3 verb=$4 name=$5 user=$6 app=$7 env_file=$8 log=$9
shift 9
if [ "$verb" = apply ] && [ ! -e "$source" ]; then verb=remove; fi
[ "$verb" = apply ] || source=
if [ "$verb" = remove ] || [ "$verb" = pause ]; then
  grep -qsxFe "$head" /etc/systemd/system/"$name"-*.service || exit 0
fi
if [ "$(id -u)" = 0 ]; then
  set -- /bin/sh -c "$script" fraisier-units "$verb" "$name" "$user" "$app" "$env_file" "$log" "$@"
elif sudo -n -l -- @program@ "$verb" "$name" >/dev/null 2>&1; then
  set -- sudo -n -- @program@ "$verb" "$name" "$@"
else
  set -- systemd-run --quiet --pipe --wait --collect --no-ask-password --service-type=exec -- \
    @program@ "$verb" "$name" "$@"
fi
if [ -n "$source" ]; then exec "$@" <"$source"; fi
exec "$@"
""".replace("@program@", PROGRAM)


def call(verb: str, row: InstallUnits, *words: str) -> tuple[str, ...]:
    """The command for `verb`, about the units of the environment that `row` names."""
    about = (row.name, row.user, row.app_path, row.env_file, row.log_file)
    head = f"{HEAD} {key_of(row.name)}"
    return ("/bin/sh", "-c", _CALL, "fraisier-units", _given(), head, row.source, verb, *about, *words)


def hint(name: str) -> str:
    """What to do where it did not work."""
    return (
        "Without root Fraisier needs the program that `fraisier bootstrap HOST` installs (on this machine: "
        f"`fraisier init --service`), and {name} in {LIST}"
    )


def listed(rows: Sequence[InstallUnits], caller: str) -> str:
    """Root's list: who may have units for which environment, as which user, in which folder."""
    lines = ("\t".join((caller, r.name, r.user, r.app_path, r.env_file, r.log_file)) for r in rows)
    return "".join(f"{line}\n" for line in lines)


@cache
def program() -> str:
    """The program as it is installed, at `PROGRAM`, owned by root."""
    return _part("units.sh") + _part("units_listed.sh")


@cache
def _given() -> str:
    text = _part("units.sh") + _part("units_given.sh")
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")) + "\n"


def _part(name: str) -> str:
    return (files("fraisier.application") / "scripts" / name).read_text(encoding="utf-8")


def bundle(act: WriteUnits) -> bytes:
    """The units in one text, which the program takes apart again. It has the secrets in it."""
    parts = ["fraisier-units 1\n"]
    parts.extend(f"unit {unit.name}\n{unit.text}.\n" for unit in act.units)
    if act.env:
        lines = (f"{name}={_as_value(value)}\n" for name, value in act.env.items())
        parts.append(f"env {base64.b64encode(''.join(lines).encode()).decode()}\n")
    return ("".join(parts) + "end\n").encode()


def _as_value(value: str | Secret) -> str:
    """As EnvironmentFile= reads it, systemd.exec(5): in double quotes these four have a backslash."""
    text = value.reveal() if isinstance(value, Secret) else value
    for character in '\\"`$':
        text = text.replace(character, "\\" + character)
    return f'"{text}"'
