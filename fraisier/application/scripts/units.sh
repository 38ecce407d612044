#!/bin/sh
# fraisier-units: writes the timers of `scheduled` fraises into /etc/systemd/system, for Fraisier without root.
#
# Whoever can write a unit there is root. So this accepts only texts that consist of the lines which Fraisier's
# templates have, with the user, the folder and the log of the environment's row in a list that only root writes
# (/etc/fraisier/units.list). Whoever may call this can run any command as that user, on a schedule: no more.
#
#   apply NAME                   install the units on stdin, and no others, of the environment NAME
#   remove NAME                  remove them all
#   pause NAME                   begin no run until the next apply
#   start|stop NAME UNIT         a run; start prints its invocation
#   journal NAME UNIT INVOCATION LINES
#   check NAME                   whether NAME is in the list
#   names                        what is in the list
set -eu
LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
umask 022
units=/etc/systemd/system stamps=/var/lib/systemd/timers own=/etc/fraisier/timers most=524288 head='# Written by Fraisier for'
lock=/run/fraisier-units.lock patient=60

die() { printf 'cannot %s\n' "$*" >&2; exit 1; }

# What may be in a bundle. Anything else is refused: a second command behind a ';', a '+' before one, a line that
# goes on in the next one, a setting that systemd performs as root.
rules='
function bad(why) { printf "line %d: %s\n", NR, why; failed = 1; exit 1 }
function is_number(text) { return text ~ /^[0-9]+([.][0-9]+)?$/ }
function is_name(text, suffix) {
  return index(text, prefix) == 1 && substr(text, length(prefix) + 1) ~ ("^[A-Za-z0-9]([A-Za-z0-9_.]|--)*[.]" suffix "$")
}
function is_quoted(text) { return text ~ /^"([^"\\%]|\\[\\"nt]|%%)*"$/ }
function is_command(text) {
  return substr(text, 1, 11) == "/bin/sh -c " && substr(text, 12) ~ /^"([^"\\%$]|\\[\\"nt]|%%|[$][$])*"( sh( "([^"\\%$]|\\[\\"nt]|%%|[$][$])*"| [0-9]+([.][0-9]+)?)*)?$/
}
function allowed(key, value) {
  if (part == "Unit") {
    if (key == "Description") return value ~ /^[^\\]*$/
    if (key == "After") return value == "network.target"
    if (key == "StartLimitIntervalSec") return value == "0"
    if (key == "OnSuccess") { wanted[value] = NR; return kind == "service" && is_name(value, "service") }
    return 0
  }
  if (part == "Service" && kind == "service") {
    if (key == "Type") return value == "oneshot"
    if (key == "User") return value == user
    if (key == "WorkingDirectory") return value == app "/current"
    if (key == "Environment") return is_quoted(value) && value ~ /^"[A-Za-z_][A-Za-z0-9_]*=/
    if (key == "EnvironmentFile") return value == own_env || (env_file != "" && value == env_file)
    if (key == "ExecStart" || key == "ExecStopPost") return is_command(value)
    if (key == "TimeoutStartSec" || key == "TimeoutStopSec") return is_number(value)
    if (key == "Nice") return value ~ /^1?[0-9]$/
    if (key == "PrivateTmp" || key == "NoNewPrivileges") return value == "true"
    if (key == "ProtectSystem") return value == "full" || value == "strict"
    if (key == "ReadWritePaths") return value == app
    if (key == "StandardOutput") { if (log_file != "" && value == "append:" log_file) logs = 1; else return 0; return 1 }
    if (key == "StandardError") return value == "inherit"
    return 0
  }
  if (part == "Timer" && kind == "timer") {
    if (key == "OnCalendar") return value ~ /^[A-Za-z0-9*:,.\/~_+ -]+$/
    if (key == "RandomizedDelaySec") return is_number(value)
    if (key == "AccuracySec") return is_number(value)
    if (key == "Persistent") return value == "true" || value == "false"
    if (key == "Unit") return value == base ".service"
    return 0
  }
  if (part == "Install" && kind == "timer") return key == "WantedBy" && value == "timers.target"
  return 0
}
function finish_unit() {
  if (kind == "service" && (seen["User"] != (user != "") || !seen["ExecStart"] || !seen["Type"] || !seen["NoNewPrivileges"]))
    bad("the unit has no Type, User, ExecStart or NoNewPrivileges")
  if (kind == "timer" && (!seen["OnCalendar"] || !seen["Unit"])) bad("the timer has no OnCalendar or Unit")
  close(file)
  inside = 0
}
BEGIN {
  prefix = ENVIRON["P"]; user = ENVIRON["U"]; app = ENVIRON["A"]; env_file = ENVIRON["E"]; log_file = ENVIRON["L"]
  own_env = ENVIRON["OWN"]; folder = ENVIRON["W"]; first = ENVIRON["H"]
}
ended { bad("something stands behind the end") }
NR == 1 { if ($0 != "fraisier-units 1") bad("this is no bundle of units of this version"); next }
!inside && $0 == "end" { ended = 1; next }
!inside && /^env [A-Za-z0-9+\/=]*$/ { if (has_env++) bad("a second env"); print substr($0, 5) >(folder "/env64"); next }
!inside && /^unit / {
  name = substr($0, 6)
  kind = name ~ /[.]service$/ ? "service" : "timer"
  if (!is_name(name, kind)) bad("a unit of this environment is called " prefix "JOB.service or .timer")
  if (name in made) bad("this unit was there before")
  made[name] = NR; base = substr(name, 1, length(name) - length(kind) - 1)
  file = folder "/units/" name; inside = 1; fresh = 1; part = ""
  split("", seen); split("", parts)
  next
}
!inside { bad("expected a unit") }
$0 == "." { finish_unit(); next }
fresh { if ($0 != first) bad("the unit does not begin with whose it is"); fresh = 0; print >file; next }
$0 == "" { print >file; next }
/^\[(Unit|Service|Timer|Install)\]$/ {
  part = substr($0, 2, length($0) - 2)
  if (part in parts) bad("a section twice")
  parts[part] = 1; print >file
  next
}
{
  at = index($0, "="); key = substr($0, 1, at - 1)
  if (!at || !allowed(key, substr($0, at + 1))) bad(key ~ /^[A-Za-z]+$/ ? "this " key "= is not one of a template" : "this is no line of a template")
  if (seen[key]++ && key !~ /^(Environment|EnvironmentFile|OnCalendar|OnSuccess)$/) bad(key "= twice")
  print >file
}
END {
  if (failed) exit 1
  if (!ended || inside) bad("the end is missing")
  for (each in made) if (each ~ /[.]timer$/) { sub(/[.]timer$/, ".service", each); if (!(each in made)) bad("a timer without its service") }
  for (each in wanted) if (!(each in made)) bad("OnSuccess= of a unit that is not among these")
  if (logs) print "" >(folder "/logs")
}'

# Take a bundle apart into $work, if there is nothing in it but what may be.
accept() {
  mkdir "$work/units"
  head -c $((most + 1)) >"$work/bundle"
  [ "$(wc -c <"$work/bundle")" -le $most ] || die "use the units of $name: they have more than $most bytes"
  [ "$(tr -d '\n\040-\176\200-\377' <"$work/bundle" | wc -c)" = 0 ] || die "use the units of $name: a control character"
  own_env=$own/$name.env
  P="$prefix" U="$user" A="$app" E="$env_file" L="$log_file" OWN="$own_env" W="$work" H="$head $label" \
    awk "$rules" "$work/bundle" >"$work/said" || die "use the units of $name: $(head -n 1 "$work/said")"
}

apply() {
  work=$(mktemp -d /run/fraisier-units.XXXXXX)
  trap 'rm -rf "$work"' EXIT
  accept
  case $log_file in /var/log/fraisier/*) [ ! -e "$work/logs" ] || mkdir -p /var/log/fraisier ;; esac
  [ ! -e "$work/logs" ] || only_roots "${log_file%/*}" || die "log to $log_file: a folder on the way belongs to somebody else"
  [ -z "$env_file" ] || [ "$as_root" = yes ] || only_roots "${env_file%/*}" ||
    die "read $env_file as root: a folder on the way belongs to somebody else. Keep it in a folder of root's"
  set -- "$work"/units/*
  [ -e "$1" ] || set --
  for each; do
    place=$units/${each##*/}
    is_free "$place" || die "write $place: it was not written by Fraisier. Remove it, or rename the job"
    [ -e "$place" ] || hides_none "$place"
  done
  if [ $# -gt 0 ]; then
    systemd-analyze verify --man=no "$@" >"$work/said" 2>&1 ||
      die "use the units of $name: systemd-analyze verify says: $(sed -n "s|$work/units/||g; 1p" "$work/said")"
  fi
  take_turn
  forget_others
  install_env
  for each; do
    place=$units/${each##*/}
    cmp -s "$each" "$place" && continue
    case $place in *.timer) [ ! -e "$place" ] || begin_anew "${place##*/}" ;; esac
    put "$each" "$place" 644
  done
  rotate
  sync
  systemctl daemon-reload
  for each; do
    timer=${each##*/}
    case $timer in *.timer) ;; *) continue ;; esac
    systemctl enable --quiet -- "$timer"
    systemctl start -- "$timer"
    systemctl is-active --quiet -- "$timer" || die "start $timer: see systemctl status $timer"
    echo "$timer is active"
  done
}

# One at a time, whatever the environment: systemd is reloaded for all of them.
take_turn() {
  exec 9>$lock
  flock -w $patient 9 || die "change the units of $name: another one has held $lock for $patient s. See: fuser -v $lock; systemctl list-jobs"
}

# A place that is not taken by somebody else's file, or link.
is_free() {
  [ ! -L "$1" ] || return 1
  [ -e "$1" ] || return 0
  [ -f "$1" ] && [ "$(head -n 1 -- "$1")" = "$head $label" ]
}

# A unit in this folder would hide one of the same name that a package, or a program, has elsewhere.
hides_none() {
  other=$(systemctl show --property=FragmentPath --value -- "${1##*/}")
  [ -z "$other" ] || [ "$other" = "$1" ] ||
    die "write $1: it would hide $other, which was not written by Fraisier. Remove that, or rename the job"
}

# Whether nobody but root can change what a path leads to.
only_roots() {
  [ "$(realpath -e -- "$1" 2>/dev/null)" = "$1" ] || return 1
  way=$1
  while :; do
    [ "$(stat -c %u -- "${way:-/}")" = 0 ] || return 1
    # On Ubuntu the group syslog may write into /var/log: that is the distribution's choice.
    case $way:$(stat -c %A -- "${way:-/}") in *????????w?) return 1 ;; /var/log:*) ;; *:?????w????) return 1 ;; esac
    [ -n "$way" ] || return 0
    way=${way%/*}
  done
}

# By a schedule that is new nothing was missed: Persistent= would catch up what it has since the timer's stamp.
begin_anew() {
  systemctl stop -- "$1"
  touch -c "$stamps/stamp-$1"
}

put() {
  cat "$1" >"$2.fraisier-new"
  chmod "$3" "$2.fraisier-new"
  mv -fT "$2.fraisier-new" "$2"
}

install_env() {
  if [ -e "$work/env64" ]; then
    (umask 077 && base64 -d <"$work/env64" >"$work/env") || die "use the units of $name: its env is damaged"
    mkdir -p $own
    (umask 077 && put "$work/env" "$own_env" 600)
  else
    rm -f "$own_env"
  fi
}

rotate() {
  rule=/etc/logrotate.d/$name
  if [ -e "$work/logs" ]; then
    is_free "$rule" || die "write $rule: it was not written by Fraisier"
    printf '%s\n"%s" {\n  weekly\n  rotate 8\n  maxsize 50M\n  missingok\n  notifempty\n  compress\n  delaycompress\n  nocreate\n}\n' \
      "$head $label" "$log_file" >"$work/rule"
    [ ! -d /etc/logrotate.d ] || cmp -s "$work/rule" "$rule" || put "$work/rule" "$rule" 644
  elif [ -f "$rule" ] && is_free "$rule"; then
    rm -f "$rule"
  fi
}

# Units of the environment that are not in the bundle. A run that is under way ends by itself.
forget_others() {
  for place in "$units/$prefix"*.timer "$units/$prefix"*.service; do
    unit=${place##*/}
    { [ -e "$place" ] || [ -L "$place" ]; } && is_job "${unit%.*}" || continue
    [ ! -e "${work:-/nowhere}/units/$unit" ] || continue
    if ! is_free "$place"; then
      echo "left $place alone: it was not written by Fraisier"
      continue
    fi
    case $unit in
      *.timer)
        systemctl disable --quiet --now -- "$unit" || :
        rm -f "$stamps/stamp-$unit"
        ;;
    esac
    rm -f "$place"
    echo "removed $unit"
  done
}

remove() {
  work=''
  take_turn
  forget_others
  rm -f "$own/$name.env"
  rule=/etc/logrotate.d/$name
  if [ -f "$rule" ] && is_free "$rule"; then rm -f "$rule"; fi
  systemctl daemon-reload
}

pause() {
  take_turn
  for place in "$units/$prefix"*.timer; do
    unit=${place##*/}
    if [ -f "$place" ] && is_job "${unit%.*}" && is_free "$place"; then systemctl stop -- "$unit"; fi
  done
}

is_service() { case $1 in *.service) is_job "${1%.service}" ;; *) return 1 ;; esac; }

ours() {
  is_service "$1" || die "find $1: it is no unit of $name"
  [ -f "$units/$1" ] && is_free "$units/$1" || die "find $1: Fraisier wrote no such unit"
}

start() {
  ours "$1"
  case $(systemctl show -P ActiveState -- "$1") in activating | active | deactivating) die "start $1: it runs already" ;; esac
  before=$(systemctl show -P InvocationID -- "$1")
  systemctl start --no-block -- "$1"
  tries=0
  while now=$(systemctl show -P InvocationID -- "$1"); [ -z "$now" ] || [ "$now" = "$before" ]; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || die "start $1: see systemctl status $1"
    sleep 0.1
  done
  echo "$now"
}

stop() { ours "$1"; systemctl stop --no-block -- "$1"; }

# Of a unit that was removed as it ran there is no file: then only what its user printed is shown.
journal() {
  if [ -e "$units/$1" ] || [ -L "$units/$1" ] || ! is_service "$1"; then ours "$1"; fi
  by=''
  [ -e "$units/$1" ] || [ -z "$user" ] || by=_UID=$(id -u -- "$user")
  case $2 in '' | *[!0-9a-f]*) die "show $1: it has no such run" ;; esac
  case $3 in '' | *[!0-9]*) die "show $1: how many lines?" ;; esac
  journalctl --sync 2>/dev/null || :
  journalctl --quiet --no-pager --output=cat --lines="$3" _SYSTEMD_UNIT="$1" _SYSTEMD_INVOCATION_ID="$2" $by
}

# fraisier-FRAISE-ENVIRONMENT; a '-' in a name is '--', so what ends a run of odd length is between two names.
use_name() {
  name=$1 prefix=$1-
  label=$(printf %s "${name#fraisier-}" | sed 's/--/:/g; s|-|/|g; s/:/-/g')
  case $name in *[!A-Za-z0-9_.-]*) label= ;; fraisier-*) ;; *) label= ;; esac
  case $label in */*/* | [!A-Za-z0-9]* | */[!A-Za-z0-9]* | */) label= ;; *?/?*) ;; *) label= ;; esac
  [ -n "$label" ] || die "find $name: it is no environment"
}

# Whether it is the name of a unit of this environment, without its suffix.
is_job() {
  job=${1#"$prefix"}
  case $1 in "$prefix"[A-Za-z0-9]*) ;; *) return 1 ;; esac
  case $(printf %s "$job" | sed 's/--//g') in *[!A-Za-z0-9_.]*) return 1 ;; esac
}

perform() {
  verb=$1
  shift
  case $verb/$# in
    apply/0 | remove/0 | pause/0) "$verb" ;;
    check/0) command -v systemd-analyze >/dev/null || die "verify units: there is no systemd-analyze" ;;
    start/1 | stop/1 | journal/3) "$verb" "$@" ;;
    *) die "do this: usage: apply|remove|pause|check NAME, start|stop NAME UNIT, journal NAME UNIT INVOCATION LINES" ;;
  esac
}
