"""What a host needs so that an unprivileged user can deploy to it, as a script that a person can read.

The script changes nothing where all is there. sudoers gets what the environments of the host need, word for
word, and is checked by visudo before it is installed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fraisier.application.ports import OfGroup, Target
from fraisier.application.unit_setup import set_up_units, unit_rows
from fraisier.deployers.timer_units import kept_jobs
from fraisier.domain.acts import UnitCommand
from fraisier.domain.errors import StepFailed, UsageError
from fraisier.domain.fraise import Cutover, Environment, EnvironmentKey
from fraisier.domain.release import Layout
from fraisier.domain.timer_acts import PROGRAM, InstallUnits

LINES = (100, 1000)  # of a unit's log, that `fraisier logs --unit -n` may show without more rights
_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\n'\"`$\\]*)?\Z")
_SPECIAL = re.compile(r"([,:=\\*?\[\]!()\"])")  # sudoers(5), "Other special characters and reserved words"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the environments of one host need there. `commands` are what sudo lets `user` do as root, `groups`
    those whose members may use a process manager without it.
    """

    host: str
    user: str
    key: str
    users: tuple[str, ...]
    app_paths: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    groups: tuple[str, ...]
    lingers: bool
    remarks: tuple[str, ...]
    units: tuple[InstallUnits, ...] = ()  # environments whose schedules systemd keeps


def needs_of(
    host: str, user: str, key: str, environments: Iterable[Environment], targets: Mapping[str, Target]
) -> Needs:
    """What `user`, who logs in with the public `key`, needs on `host` for its environments.

    Raises:
        UsageError: the key is none.
    """
    if not _KEY.match(key):
        raise UsageError("cannot use the key: it is no public key of one line", "Name a .pub file with --key")
    here = [each for each in environments if host in each.hosts]
    groups = {each.key: group for each in here if (group := _group(each, targets)) is not None}
    systems = [each for each in here if _is_of_the_system(each) and each.key not in groups]
    commands = {argv: None for each in systems for argv in _commands(each, targets)}
    return Needs(
        host=host,
        user=user,
        key=key,
        users=tuple(sorted({each.user for each in here} - {"", "root", user})),
        app_paths=tuple(sorted(each.app_path for each in here)),
        commands=tuple(commands) if user != "root" else (),
        groups=tuple(sorted(set(groups.values()) - {""})) if user != "root" else (),
        lingers=any(each.target and not _is_of_the_system(each) for each in here),
        remarks=(*_remarks(here, groups), *_of_groups(groups)) if user != "root" else (),
        units=unit_rows(here) if user != "root" else (),
    )


def _is_of_the_system(environment: Environment) -> bool:
    target = environment.target
    return target is not None and target.options.get("manager", "system") != "user"


def _commands(environment: Environment, targets: Mapping[str, Target]) -> Iterator[tuple[str, ...]]:
    spec = environment.target
    if spec is None or environment.cutover is Cutover.blue_green:
        return
    target = targets[spec.kind]
    try:
        acts = target.acts(environment, Layout(environment.app_path).release("RELEASE"))
    except StepFailed:
        return
    for act in (*acts.release_failure, *acts.restart, *acts.stop, *acts.start):
        if isinstance(act, UnitCommand):
            yield act.argv
    for lines in LINES:
        yield target.logs(spec, lines=lines).argv


def _group(environment: Environment, targets: Mapping[str, Target]) -> str | None:
    """None where the manager knows no groups: then sudo lets the user act."""
    spec = environment.target
    target = targets.get(spec.kind) if spec else None
    return target.group(spec) if spec and isinstance(target, OfGroup) else None


def _of_groups(groups: Mapping[EnvironmentKey, str]) -> Iterator[str]:
    for key, group in groups.items():
        if group:
            yield f"{key} needs the group {group}, whose members may do anything on the host, as root may"


def _remarks(environments: Sequence[Environment], groups: Container[EnvironmentKey]) -> Iterator[str]:
    if rows := unit_rows(environments):
        names = ", ".join(row.user for row in rows)
        yield f"its timers are as good as a root that runs nothing but commands as {names}: see {PROGRAM}"
    for each in environments:
        if kept_jobs(each) and each.user in ("", "root"):
            yield f"{each.key} has no user of its own: its timers are not granted"
        if each.user == "root":
            yield f"{each.key} builds as root, which is not granted: log in as root, or name another user"
        if not _is_of_the_system(each) or each.key in groups:
            continue
        if each.cutover is Cutover.blue_green or each.unit_file or each.run:
            yield (
                f"{each.key} has its units written into /etc/systemd/system, which only root may: log in as "
                "root, install the unit yourself, or use `systemd_manager: user`"
            )


def sudoers(needs: Needs) -> str:
    """The rules: as the environments' users anything, as root the commands to their units and no others."""
    lines = [
        f"# Written by `fraisier bootstrap {needs.host}`: what deployments do on this host, and no more.",
        f"Defaults:{needs.user} !requiretty",
        *(f"{needs.user} ALL=({user}) NOPASSWD: ALL" for user in needs.users),
        *(f"{needs.user} ALL=(root) NOPASSWD: {_command(argv)}" for argv in needs.commands),
        # It looks by itself whether the environment is one of the user's.
        *((f"{needs.user} ALL=(root) NOPASSWD: {PROGRAM}",) if needs.units else ()),
    ]
    return "\n".join(lines) + "\n"


def _command(argv: Sequence[str]) -> str:
    program = argv[0] if argv[0].startswith("/") else f"/usr/bin/{argv[0]}"
    return " ".join((program, *(_SPECIAL.sub(r"\\\1", word) for word in argv[1:])))


def script(needs: Needs) -> str:
    """The script that sets the host up; run as root."""
    user = shlex.quote(needs.user)
    parts = [
        _HEAD.format(host=needs.host, user=user),
        *(f"# Note: {remark}\n" for remark in needs.remarks),
        _LOGIN.format(user=user, key=shlex.quote(needs.key)),
        *(_ACCOUNT.format(other=shlex.quote(other), user=user) for other in needs.users),
        *(_GROUP.format(group=shlex.quote(group), user=user) for group in needs.groups),
        *(_FOLDER.format(path=shlex.quote(path), user=user) for path in needs.app_paths),
        f"loginctl enable-linger {user}\n" if needs.lingers else "",
        _units_part(needs) if needs.units else "",
        _sudoers_part(needs) if needs.users or needs.commands or needs.units else "",
        f"echo 'set up for {needs.user}'\n",
    ]
    return "\n".join(part for part in parts if part)


def _file(needs: Needs) -> str:
    # sudoers(5): files whose names have a dot in them are not read.
    return f"/etc/sudoers.d/fraisier-{needs.user.replace('.', '_')}"


def _units_part(needs: Needs) -> str:
    return set_up_units(needs.units, needs.user)


def _sudoers_part(needs: Needs) -> str:
    programs = sorted({argv[0] for argv in needs.commands if not argv[0].startswith("/")})
    found = "".join(f' -e "s|/usr/bin/{name} |$(command -v {name}) |"' for name in programs)
    return _SUDOERS.format(rules=sudoers(needs), found=found or " -e ''", place=_file(needs))


_HEAD = """\
#!/bin/sh
# What Fraisier needs on {host}. As root; once more changes nothing.
set -eu
umask 022
if [ "$(id -u)" != 0 ]; then echo 'cannot set up {host}: this needs root' >&2; exit 1; fi
for tool in base64 env flock setpriv setsid stat sync tar timeout; do
  command -v "$tool" >/dev/null || {{ echo "cannot set up {host}: it has no $tool" >&2; exit 1; }}
done
"""
_LOGIN = """\
# Who Fraisier logs in as, by a key and never by a password.
id {user} >/dev/null 2>&1 || useradd --create-home --shell /bin/sh {user}
home=$(getent passwd {user} | cut -d: -f6)
# As that user: root does not write where others may put links.
setpriv --reuid={user} --regid="$(id -g {user})" --init-groups -- /bin/sh -c '
  umask 077
  mkdir -p "$1/.ssh" && touch "$1/.ssh/authorized_keys"
  grep -qxF -e "$2" "$1/.ssh/authorized_keys" || printf "%s\\n" "$2" >>"$1/.ssh/authorized_keys"
' sh "$home" {key}
"""
_ACCOUNT = """\
# Builds run as {other}; its group lets {user} give it folders.
id {other} >/dev/null 2>&1 || useradd --system --create-home {other}
case " $(id -Gn {user}) " in *" $(id -gn {other}) "*) ;; *) usermod -aG "$(id -gn {other})" {user} ;; esac
"""
_GROUP = """\
# Whoever is in this group may use its service, and by that do anything here.
if ! getent group {group} >/dev/null; then
  echo 'cannot let {user} use {group}: there is no group {group} here; install it first' >&2; exit 1
fi
case " $(id -Gn {user}) " in
  *" "{group}" "*) ;;
  *)
    usermod -aG {group} {user}
    if systemctl is-active --quiet "user@$(id -u {user}).service" 2>/dev/null; then
      echo 'Note: {user} runs something here without {group}; end it: loginctl terminate-user {user}.'
    fi ;;
esac
"""
_FOLDER = """\
# An environment's folder, and what an earlier Fraisier left in it.
install -d -m 755 -o {user} -g "$(id -gn {user})" -- {path}
for each in releases shared; do
  if [ -d {path}/"$each" ] && [ ! -L {path}/"$each" ]; then chown -h {user} {path}/"$each"; fi
done
if [ -d {path}/.fraisier ] && [ ! -L {path}/.fraisier ]; then chown -hR {user} {path}/.fraisier; fi
"""
_SUDOERS = """\
# What the user may do as somebody else. Checked first: a broken file here would lock everybody out of sudo.
command -v visudo >/dev/null || {{ echo 'cannot let it act: there is no sudo here; install it' >&2; exit 1; }}
new=$(mktemp)
trap 'rm -f "$new"' EXIT
sed{found} >"$new" <<'RULES'
{rules}RULES
visudo -cqf "$new"
cmp -s "$new" {place} || install -m 440 -o root -g root "$new" {place}
"""
