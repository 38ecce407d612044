# -- the right to change: the lock of an environment, held by descriptor 9, and its token

leave() { exec 9>&-; }

# Lock; with a token and an owner only if they are still the newest. `said` tells more.
enter() { # .fraisier, patience in seconds, token, owner
  leave
  go_to_own "$1" || return
  for enter_try in 1 2 3 4 5; do
    said=$( (umask 077 && : >>./lock) 2>&1 ) || return 1
    exec 9<>./lock
    flock -w "$2" 9 || { leave && return $BUSY; }
    # The folder may have been replaced while we waited: what counts is the file that others would lock.
    [ ! ./lock -ef /proc/self/fd/9 ] || break
    leave
    go_to_own "$1" || return
  done
  [ "$#" -gt 2 ] || return 0
  said= enter_owner=
  [ ! -r ./token ] || IFS= read -r said <./token || :
  [ ! -r ./owner ] || IFS= read -r enter_owner <./owner || :
  if [ -z "$said" ]; then leave; return $NEVER; fi
  if [ "$said" != "$3" ] || [ "$enter_owner" != "$4" ]; then leave; return $OUTDATED; fi
}

# Create what an environment needs; other people's files in its folder leave it alone.
prepare() { # app_path, names that are ours there, each followed by a slash
  if [ ! -d "$1" ]; then make_folder "$1" '' 755 || return; fi
  foreign=$(cd -- "$1" && for each in * .[!.]* ..?*; do
    case "/$2" in */"$each"/*) ;; *) [ ! -e "./$each" ] || printf x ;; esac; done)
  if [ -z "$foreign" ]; then
    for each in releases shared; do
      [ -d "$1/$each" ] || make_folder "$1/$each" '' 755 || return
    done
  fi
  reach "$1/.fraisier" || return
  [ -e ./.fraisier ] || [ -L ./.fraisier ] || mkdir -m 700 -- ./.fraisier || return
  if [ -L ./.fraisier ] || [ ! -d ./.fraisier ] || [ "$(stat -c %u ./.fraisier)" != "$me" ]; then
    printf '%s' "$(stat -c %u ./.fraisier)"
    return $OWNER
  fi
  cd -P ./.fraisier || return
  for each in scopes releases; do
    [ -d "./$each" ] || mkdir -m 700 -- "./$each" || return
    if [ -L "./$each" ] || [ "$(stat -c %u "./$each")" != "$me" ]; then
      printf '%s' "$(stat -c %u "./$each")"
      return $OWNER
    fi
  done
}

# Token and owner as they are, in base64; then every recorded scope: name and content.
ground_state() {
  go_to_own "$1" || { printf %s "$said" >&2 && return 1; }
  printf '%s.%s' "$(base64 -w0 ./token 2>/dev/null)" "$(base64 -w0 ./owner 2>/dev/null)"
  cd -P ./scopes 2>/dev/null || return 0
  [ "$(stat -c %u .)" = "$me" ] || return $OWNER
  for each in *; do
    [ ! -f "./$each" ] || printf '.%s.%s' "$each" "$(base64 -w0 "./$each")"
  done
}

# What a killed worker had only begun to write.
remove_halves() {
  for folder in "$1" "$1/releases" "$1/instances" "$1/scopes"; do
    [ -d "$folder" ] || continue
    go_to_own "$folder" || { printf %s "$said" >&2 && return 1; }
    for each in .[!.]* ..?*; do
      [ ! -f "./$each" ] || rm -f -- "./$each" || return
    done
  done
}

record() { # .fraisier, cookie, content. Needs no sync: what a power loss takes, it also ends
  go_to_own "$1/scopes" || return
  (umask 077 && printf %s "$3" >"./.$2") && mv -fT -- "./.$2" "./$2"
}

forget() {
  go_to_own "$1/scopes" && rm -f -- "./$2"
}
