# -- scopes: what holds a long command together, so that all of it can be ended

# The process table, a line each: pid, parent, group, session, start in clock ticks since boot.
process_table() {
  for table_entry in /proc/[0-9]*; do
    table_text=
    while IFS= read -r table_line || [ -n "$table_line" ]; do table_text=$table_text$table_line; done \
      <"$table_entry/stat" || continue
    # proc(5): the name, in parentheses, may hold anything; what follows are numbers.
    set -- ${table_text##*)}
    case ${1:-Z} in Z | X) continue ;; esac
    printf '%s %s %s %s %s\n' "${table_entry#/proc/}" "$2" "$3" "$4" "${20}"
  done 2>/dev/null
}

# Every living process of a session scope: in its session or group, with its cookie, or started by one of these.
members() { # cookie, pid of the first process (0: not known), its start
  members_table=$(process_table)
  found=' '
  for members_pid in $(grep -l "FRAISIER_SCOPE=$1" /proc/[0-9]*/environ 2>/dev/null); do
    members_pid=${members_pid#/proc/}
    found="$found${members_pid%/environ} "
  done
  if [ "$2" != 0 ]; then
    leader=$(printf '%s\n' "$members_table" | while read -r pid _ _ _ began; do
      [ "$pid" != "$2" ] || printf %s "$began"; done)
    # Another one under this pid: the number was given out again.
    if [ -z "$leader" ] || [ "$leader" = "$3" ]; then
      for members_pid in $(printf '%s\n' "$members_table" | while read -r pid _ group session began; do
        case "$2" in "$group" | "$session") [ "$began" -lt "$3" ] || printf '%s ' "$pid" ;; esac; done); do
        found="$found$members_pid "
      done
    fi
  fi
  while :; do
    members_more=$(printf '%s\n' "$members_table" | while read -r pid parent _; do
      case $found in *" $pid "*) continue ;; esac
      case $found in *" $parent "*) printf '%s ' "$pid" ;; esac; done)
    [ -n "$members_more" ] || break
    found="$found$members_more"
  done
  living=
  for members_pid in $found; do
    case $members_table in
      "$members_pid "* | *"
$members_pid "*) [ "$members_pid" = "$$" ] || living="$living $members_pid" ;;
    esac
  done
}

# Seconds that never jump.
uptime() {
  IFS=' .' read -r now _ </proc/uptime
}

# End a session scope: ask, after 2 s kill, until two looks find nothing: between two, a program may be replacing
# itself by another one, whose environment is empty for that moment.
end_session() { # cookie, pid, start
  end_asked=' ' end_clean=0 end_signal=TERM
  uptime && end_until=$((now + 10)) end_kill=$((now + 2))
  while [ "$end_clean" -lt 2 ]; do
    members "$@"
    if [ -z "$living" ]; then
      end_clean=$((end_clean + 1))
    else
      end_clean=0
      uptime
      [ "$now" -le "$end_until" ] || return $STAYS
      [ "$now" -lt "$end_kill" ] || end_signal=KILL
      for end_pid in $living; do
        case $end_signal$end_asked in TERM*" $end_pid "*) continue ;; esac
        kill -"$end_signal" "$end_pid" 2>/dev/null
        end_asked="$end_asked$end_pid "
      done
    fi
    [ "$end_clean" -ge 2 ] || sleep 0.02
  done
}

unit_is_gone() { # manager, unit
  unit_state=$(systemctl "--$1" --no-ask-password show --property=ActiveState --value -- "$2") || return
  case $unit_state in inactive | failed) return 0 ;; *) return $STAYS ;; esac
}

end_unit() {
  unit_is_gone "$@" && return
  [ $? = $STAYS ] || return 1
  # The unit's TimeoutStopSec= is the grace, so that this asks and then kills.
  timeout -s KILL 10 systemctl "--$1" --no-ask-password stop -- "$2"
  unit_is_gone "$@"
}

end_scope() { # kind, cookie, pid, start, how to be its user, user
  case $1 in
    session)
      case $5 in
        sudo) as_user sudo "$6" end_session "$2" "$3" "$4" ;;
        *) end_session "$2" "$3" "$4" ;;
      esac
      ;;
    *) end_unit "$1" "fraisier-$2.service" ;;
  esac
}

started_at() {
  started=0 started_text=
  while IFS= read -r started_line || [ -n "$started_line" ]; do started_text=$started_text$started_line; done \
    <"/proc/$1/stat" || return 0
  set -- ${started_text##*)}
  started=${20}
} 2>/dev/null
