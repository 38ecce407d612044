# What every session on a host begins with. POSIX sh, coreutils, util-linux; no Python, no bash.
# Functions print their result, or say on stderr what went wrong and return another code than 0.
PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C.UTF-8
export PATH LC_ALL
umask 022
cd /
me=$(id -u)
if [ -z "${XDG_RUNTIME_DIR:-}" ] && [ -x "/run/user/$me" ]; then
  XDG_RUNTIME_DIR=/run/user/$me
  export XDG_RUNTIME_DIR
fi

# Codes of refusals; what the tools say stands for all else.
MISSING=4 OWNER=73 OUTDATED=74 NEVER=75 BUSY=77 STAYS=78

# -- who

# The uid of the first part of a path that is neither root's nor ours, and which part that is; '' = none.
find_stranger() {
  stranger= stranger_at= walked= walk_rest=${1#/}
  set -- /
  while [ -n "$walk_rest" ]; do
    walk_part=${walk_rest%%/*}
    case $walk_rest in */*) walk_rest=${walk_rest#*/} ;; *) walk_rest= ;; esac
    [ -n "$walk_part" ] || continue
    walked=$walked/$walk_part
    set -- "$@" "$walked"
  done
  for walk_uid in $(stat -c %u -- "$@" 2>/dev/null); do # ends where nothing is
    case $walk_uid in
      0 | "$me") shift ;;
      *) stranger=$walk_uid stranger_at=$1 && return ;;
    esac
  done
}

# Go to the folder that a path is in; `name` is the rest of it. Root does not follow other people's links: `who`
# is then the uid of whom the folder belongs to, and who has to act there; '' = we ourselves.
reach() {
  who= name=${1##*/} reach_folder=${1%/*}
  [ -n "$reach_folder" ] || reach_folder=/
  if [ ! -d "$reach_folder" ] && [ ! -L "$reach_folder" ] && [ -x "${reach_folder%/*}/" ]; then
    printf '%s: No such file or directory' "$reach_folder" >&2
    return 1
  fi
  if [ "$me" != 0 ]; then
    cd -- "$reach_folder"
    return
  fi
  find_stranger "$reach_folder"
  if [ -z "$stranger" ]; then
    cd -- "$reach_folder"
    return
  fi
  cd -P -- "$stranger_at" || return
  reach_base=$(pwd -P) reach_rest=${reach_folder#"$stranger_at"}
  reach_rest=${reach_rest%/}
  if [ -n "$reach_rest" ]; then cd -P -- ".$reach_rest" || return; fi
  # The kernel tells where we are: elsewhere, if there was a link on the way.
  if [ "$(pwd -P)" != "$reach_base$reach_rest" ]; then
    who=$stranger
    return 0
  fi
  who=$(stat -c %u .)
  [ "$who" != 0 ] || who=
}

# Go to a folder that has to be our own.
go_to_own() {
  said=
  [ -d "$1" ] || return $NEVER
  reach "$1/x" 2>/dev/null || {
    said=$(reach "$1/x" 2>&1)
    return 1
  }
  [ -n "$who" ] || [ "$(stat -c %u .)" != "$me" ] || return 0
  said="cannot use $1: it, or the way to it, belongs to uid ${who:-$(stat -c %u .)} and not to Fraisier"
  return $OWNER
}

# A function of this library, or a command, as another user. $1: 'root' (we are), 'sudo', or '' (we ourselves);
# $2: the user's name or number.
as_user() {
  as_how=$1 as_whom=$2
  shift 2
  # Not as an argument: sudo writes those to the host's log.
  set -- /bin/sh -c 'library=$(cat); eval "$library"; "$@" </dev/null' sh "$@"
  case $as_how in
    root) printf '%s\n' "$library" | as_root "$as_whom" "$@" ;;
    sudo) printf '%s\n' "$library" | (cd / && exec sudo -n -u "$as_whom" -- "$@") ;;
    *) printf '%s\n' "$library" | "$@" ;;
  esac
}

as_root() {
  as_entry=$(passwd_of "$1") || as_entry=
  shift_user=$1
  shift
  if [ -n "$as_entry" ]; then
    as_rest=${as_entry#*:*:} as_name=${as_entry%%:*}
    as_uid=${as_rest%%:*} as_rest=${as_rest#*:}
    setpriv --reuid="$as_uid" --regid="${as_rest%%:*}" --init-groups -- "$@"
  else
    setpriv --reuid="$shift_user" --regid="$shift_user" --clear-groups -- "$@"
  fi
}

# The line of passwd of a user, by name or number.
passwd_of() {
  if command -v getent >/dev/null; then
    getent passwd -- "$1"
    return
  fi
  while IFS= read -r passwd_line; do
    passwd_rest=${passwd_line#*:*:}
    case $1 in "${passwd_line%%:*}" | "${passwd_rest%%:*}") printf '%s\n' "$passwd_line" && return ;; esac
  done </etc/passwd
  return 2
}

account() {
  account_line=$(passwd_of "$1") || return $MISSING
  printf '%s\n%s' "$account_line" "$(id -G -- "${account_line%%:*}")"
}

may_sudo() { [ "$(cd / && sudo -n -u "$1" -- id -un 2>&1)" = "$1" ]; }

# -- what a session reads

decode() { printf %s "$1" | base64 -d; }

# Read from whoever started us, through a process that is known by its mark: when the connection's pulse stops,
# that process is ended, and we see the end of the input.
fed_to() { FRAISIER_FEED=$nonce cat | "$@"; }

# The connection's pulse. Whoever started us sends a sign every few seconds; when none comes any more, all that
# belongs to the connection sees the end of its input, and ends by itself.
pulse() {
  facts
  while beat=$(timeout "$1" head -c 1) && [ -n "$beat" ]; do :; done
  for pause in 0 1 3 10; do # a session may be starting right now
    sleep "$pause"
    for feeder in $(grep -l "FRAISIER_FEED=$nonce" /proc/[0-9]*/environ 2>/dev/null); do
      feeder=${feeder#/proc/}
      kill -KILL "${feeder%/environ}" 2>/dev/null
    done
  done
}

# What is to be known about the host, and that the connection works.
facts() {
  facts_systemd= facts_user= facts_boot=
  [ ! -d /run/systemd/system ] || facts_systemd=1
  [ ! -e "${XDG_RUNTIME_DIR:-/nowhere}/systemd/private" ] || facts_user=1
  [ ! -r /proc/sys/kernel/random/boot_id ] || IFS= read -r facts_boot </proc/sys/kernel/random/boot_id
  facts_lacks=
  for facts_tool in base64 env flock head mv $([ "$me" != 0 ] || echo setpriv) setsid stat sync tar timeout; do
    command -v "$facts_tool" >/dev/null || facts_lacks="$facts_lacks $facts_tool"
  done
  # Of busybox, base64 says nothing of a full disk, flock waits for ever or not at all, setpriv knows no users,
  # timeout leaves behind what a program started.
  facts_less=
  for facts_tool in base64 flock timeout $([ "$me" != 0 ] || echo setpriv); do
    case $("$facts_tool" --help 2>&1 </dev/null) in BusyBox*) facts_less="$facts_less $facts_tool" ;; esac
  done
  [ -z "$facts_less" ] || facts_lacks="$facts_lacks$facts_less (busybox's do less than is needed)"
  printf '\n%s %s\n' "$nonce" "$(printf '%s\n' "$me" "$(id -un)" "${HOME:-/}" "$PATH" "${LANG:-C.UTF-8}" \
    "$facts_systemd" "$facts_user" "$facts_boot" "$(command -v nice)" "$facts_lacks" | base64 -w0)"
}
