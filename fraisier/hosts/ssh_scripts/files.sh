# -- looking

kind() {
  if [ -L "$1" ]; then printf link
  elif [ -d "$1" ]; then printf folder
  elif [ -f "$1" ]; then printf file
  elif [ -e "$1" ]; then printf other
  else printf missing; fi
}

link_of() {
  [ -L "$1" ] || return $MISSING
  readlink -n -- "$1"
}

# Names in a folder, a NUL after each.
names() {
  [ -d "$1" ] || return 0
  cd -- "$1" || return
  [ -r . ] || { printf 'cannot list %s: Permission denied' "$1" >&2 && return 1; }
  for names_each in * .[!.]* ..?*; do
    if [ -e "./$names_each" ] || [ -L "./$names_each" ]; then printf '%s\0' "$names_each"; fi
  done
}

read_file() { # path, limit
  find_stranger "$1"
  if [ -z "$stranger" ]; then
    read_plainly "$1" "$2"
  elif [ "$me" != 0 ]; then
    # Somebody else may have put a link there that leads to a file of ours.
    [ "$(stat -Lc %u -- "$1" 2>/dev/null)" != "$me" ] || return $MISSING
    read_plainly "$1" "$2"
  else
    read_stranger=$stranger
    reach "$1" 2>/dev/null || return $MISSING
    if [ -z "$who" ] && [ "$(stat -c %u -- "./$name" 2>/dev/null)" = 0 ]; then
      read_plainly "./$name" "$2"
    else
      as_user root "${who:-$read_stranger}" read_plainly "$1" "$2"
    fi
  fi
}

read_plainly() {
  { [ -f "$1" ] && [ -r "$1" ]; } || return $MISSING
  head -c "$2" -- "$1"
}

nearest() {
  nearest_path=$1
  while [ ! -e "$nearest_path" ] && [ "$nearest_path" != / ]; do
    nearest_path=${nearest_path%/*}
    nearest_path=${nearest_path:-/}
  done
}

free_space() { # free blocks for users, and the size of one
  nearest "$1"
  stat -f -c '%a %S' -- "$nearest_path"
}

may_write() {
  nearest "$1"
  [ -d "$nearest_path" ] && [ -w "$nearest_path" ] && [ -x "$nearest_path" ]
}

# -- acting

# On disk when it returns. Older tools flush everything instead.
flush() {
  if sync -- / 2>/dev/null; then sync -- "$@"; else sync; fi
}

sync_all() {
  if sync -f -- / 2>/dev/null; then sync -f -- "$1"; else sync; fi
}

point() { # link, to
  reach "$1" || return
  if [ -n "$who" ]; then as_user root "$who" point "$@"; return; fi
  rm -f -- "./.$name.new" && ln -s -- "$2" "./.$name.new" && put_in_place
}

put_in_place() {
  if mv -fT -- "./.$name.new" "./$name"; then
    flush .
  else
    rm -f -- "./.$name.new"
    return 1
  fi
}

write_file() { # path, mode, content in base64
  reach "$1" || return
  if [ -n "$who" ]; then as_user root "$who" write_file "$@"; return; fi
  rm -f -- "./.$name.new" || return
  if (umask 077 && set -C && decode "$3" >"./.$name.new") && chmod "$2" "./.$name.new" && flush "./.$name.new"; then
    put_in_place
  else
    rm -f -- "./.$name.new"
    return 1
  fi
}

# A folder and its parents; the last one belongs to a user. Where we may not give it away, their group gets it.
make_folder() { # path, how to be the user ('' = it is us), mode, user, gid
  if [ "$2" = systemd ]; then
    systemd-run --quiet --pipe --wait --collect --no-ask-password --service-type=exec -- \
      install -d -o "$4" -g "$5" -m "$3" -- "$1"
    return
  fi
  if [ "$me" = 0 ]; then
    find_stranger "${1%/*}/"
    if [ -n "$stranger" ]; then make_folder_there "$@"; return; fi
  fi
  make_folder_here "$@"
}

make_folder_here() {
  made=
  if [ ! -d "$1" ]; then
    mkdir -p -- "$1" && made=1 || return
    chmod "$3" -- "$1" || return
  fi
  case $2 in
    root) chown -h -- "$4:$5" "$1" ;;
    sudo) if [ -n "$made" ]; then chgrp -- "$5" "$1" && chmod 2775 -- "$1"; fi ;;
  esac
}

# As root, below a folder of somebody else's: they make it, and only what is theirs is given away.
make_folder_there() {
  reach "$1"
  if [ -z "$who" ] && [ "$(pwd -P)" != / ] && [ "$(stat -c %u .)" = 0 ]; then
    make_folder_here "./$name" "$2" "$3" "$4" "$5"
    return
  fi
  there=${who:-$stranger}
  as_user root "$there" mkdir -p -m "$3" -- "$1" || return
  heir=0
  [ -z "$2" ] || heir=$(id -u -- "$4")
  [ "$heir" != "$there" ] || return 0
  cd -P -- "$1" && [ "$(stat -c %u .)" = "$there" ] && chown -h -- "$heir:${5:-0}" .
}

remove() { # path, how to be the user, user
  if [ ! -e "${1%/*}/" ]; then return 0; fi
  reach "$1" || return
  if [ -n "$who" ]; then remove_there "$@"; return; fi
  if [ -d "./$name" ] && [ ! -L "./$name" ]; then
    case $2 in
      sudo) as_user sudo "$3" empty "$1" || return ;;
      systemd) printf '%s\n' "$library" | systemd-run --quiet --pipe --wait --collect --no-ask-password --service-type=exec "--uid=$3" -- \
        /bin/sh -c 'library=$(cat); eval "$library"; empty "$1"' sh "$1" || return ;;
    esac
    rm -rf -- "./$name" 2>/dev/null || { chmod -R u+rwX -- "./$name" && rm -rf -- "./$name"; }
  else
    rm -f -- "./$name" && flush .
  fi
}

remove_there() {
  there=$who
  if [ -d "$1" ] && [ ! -L "$1" ]; then
    owner=$(stat -c %u -- "$1")
    case $owner in 0 | "$there") ;; *) as_user root "$owner" empty "$1" || return ;; esac
  fi
  as_user root "$there" rm -rf -- "$1"
}

# What only the folder's own user can remove; the folder itself stays.
empty() {
  cd -P -- "$1" || return
  chmod -R u+rwX -- . 2>/dev/null # what is not ours we need not be able to change
  for empty_each in * .[!.]* ..?*; do
    if [ -e "./$empty_each" ] || [ -L "./$empty_each" ]; then rm -rf -- "./$empty_each" || return; fi
  done
}

# -- short commands

# A short command with a limit, at which it and all that it started is killed: 137.
perform() { # seconds, command
  perform_limit=$1
  shift
  command -v "$1" >/dev/null 2>&1 || { printf '%s: not found' "$1" >&2 && return 127; }
  timeout -s KILL "$perform_limit" "$@"
}

# As root, where sudoers lets us do exactly this; else as we are, and polkit may.
perform_with_rights() {
  rights_limit=$1
  shift
  if [ "$me" != 0 ] && command -v sudo >/dev/null && sudo -n -l -- "$@" >/dev/null 2>&1; then set -- sudo -n -- "$@"; fi
  perform "$rights_limit" "$@"
}

# What a fraise's own program answers, as its user: the script is no argument, for those are seen by everybody.
ask_for() { # seconds, how to be the user, user, script in base64
  case $2 in
    root) decode "$4" | as_root "$3" timeout -s KILL "$1" /bin/sh ;;
    sudo) decode "$4" | (cd / && exec sudo -n -u "$3" -- timeout -s KILL "$1" /bin/sh) ;;
    systemd) decode "$4" | systemd-run --quiet --pipe --wait --collect --no-ask-password --service-type=exec \
      "--uid=$3" -- timeout -s KILL "$1" /bin/sh ;;
    *) decode "$4" | timeout -s KILL "$1" /bin/sh ;;
  esac
}
