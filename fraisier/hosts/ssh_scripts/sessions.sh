# -- the sessions: what is at the other end of a connection's channels

# Looks and short acts. A request is a line with its mark and its form, then quoted words. The answer: what the
# act prints, as it is, a line with the mark and the code, the errors, and a line with the mark, which is in no
# process table: what an act prints cannot pass for the end of it.
agent() {
  exec 8>&1
  printf '\n%s\n' "$nonce"
  while IFS=' ' read -r mark form && read_request; do
    eval "set -- $request"
    case $1 in
      enter | leave)
        "$@" 2>/dev/null
        agent_code=$?
        cd /
        printf '%s\n%s %s\n\n%s\n' "${said:-}" "$mark" "$agent_code" "$mark" >&8
        said=
        ;;
      *)
        agent_errors=$({ "$@" 8>&- 9>&- </dev/null; } 2>&1 >&8; agent_code=$?; printf .; exit "$agent_code")
        printf '\n%s %s\n%s\n%s\n' "$mark" "$?" "${agent_errors%.}" "$mark" >&8
        ;;
    esac
  done
}

# The words of a request: so many line breaks are in them, or, for 'encoded', one line of base64. A shell reads
# bytes, but not each of them every byte: what is not ASCII comes encoded.
read_request() {
  IFS= read -r request || return
  if [ "$form" = encoded ]; then
    request=$(decode "$request")
    return
  fi
  while [ "$form" -gt 0 ]; do
    IFS= read -r request_line || return
    request="$request
$request_line"
    form=$((form - 1))
  done
}

# A word to whoever started us, beside the command's own output.
tell() { printf '\n%s %s %s\n' "$nonce" "$1" "$(printf %s "${2:-}" | base64 -w0)" >&8; }

# A long command: reads what to run, then 'go PID' or the end, then 'done', or anything else, or the end.
runner() {
  exec 8>&2
  IFS= read -r request || return
  eval "set -- $(decode "$request")"
  own=$1 patience=$2 token=$3 owner=$4 kind=$5 cookie=$6 how=$7 user=$8 boot=$9
  shift 9
  program=$1 program_path=$2 cwd=$3 order=$4
  run_steer | run_command
}

scope_json() {
  printf '{"cookie": "%s", "kind": "%s", "pid": %s, "started": %s, "boot": "%s", "how": "%s", "user": "%s"}' \
    "$cookie" "$kind" "$1" "$2" "$boot" "$how" "$user"
}

# What steers a command: whose output is its input. Records, waits until the command's shell has greeted whoever
# started us, and only then, all under the lock, tells it what to run.
run_steer() {
  trap '' PIPE # whoever started us may be gone, and then the more is to be done
  run_may_start || return
  record "$own" "$cookie" "$(scope_json 0 0)" || { tell refused "1 ${said:-cannot record the command}" && return; }
  printf 'begin\nprintf "ready %s %%s\\n" "$$"\n' "$cookie"
  IFS=' ' read -r go pid || go=
  if [ "$go" = go ]; then
    started=0
    if [ "$kind" = session ]; then
      started_at "$pid"
      record "$own" "$cookie" "$(scope_json "$pid" "$started")"
    else
      pid=0
    fi
    decode "$order"
    leave
    exec >&-
    IFS= read -r last || last=lost
    case $last in
      'done') return ;;
      lost) tell lost ;; # it is ended because nobody is heard any more: that is no failure of its own
    esac
  else
    pid=0 started=0
    leave
    exec >&-
  fi
  cd /
  end_scope "$kind" "$cookie" "$pid" "$started" "$how" "$user" >&2
}

run_may_start() {
  enter "$own" "$patience" "$token" "$owner" || { tell refused "$? $said" && return 1; }
  [ -n "$program" ] || return 0
  (cd -- "$cwd" 2>/dev/null; PATH=$program_path; command -v "$program") >/dev/null || {
    tell refused 127 && return 1
  }
}

# The command itself, in its scope. What it leaves behind is ended, too.
run_command() {
  IFS= read -r begin && [ "$begin" = begin ] || return
  run_in_scope 2>&1 8>&- 9>&-
  run_code=$?
  exec </dev/null
  run_stays=
  if [ "$kind" = session ] || [ "$run_code" != 0 ]; then
    run_pid=0 run_started=0
    if [ "$kind" = session ]; then read_record; fi
    run_stays=$(end_scope "$kind" "$cookie" "$run_pid" "$run_started" "$how" "$user" 2>&1) || {
      tell stays "$run_stays"
      return
    }
  fi
  forget "$own" "$cookie" 2>/dev/null
  exec >&-
  tell ended "$run_code"
}

read_record() {
  run_record=$(cat "$own/scopes/$cookie" 2>/dev/null)
  run_rest=${run_record#*'"pid": '} run_pid=${run_rest%%,*}
  run_rest=${run_rest#*'"started": '} run_started=${run_rest%%,*}
  case $run_pid$run_started in '' | *[!0-9]*) run_pid=0 run_started=0 ;; esac
}

run_in_scope() {
  cd /
  set -- env -i "FRAISIER_SCOPE=$cookie" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /bin/sh
  if [ "$kind" = session ]; then
    case $how in
      root) as_root "$user" setsid "$@" ;;
      sudo) sudo -n -u "$user" -- setsid "$@" ;;
      *) setsid "$@" ;;
    esac
    return
  fi
  [ -z "$how" ] || set -- "--uid=$user" -- env -i /bin/sh
  [ -n "$how" ] || set -- -- env -i /bin/sh
  systemd-run "--$kind" --quiet --pipe --wait --collect --no-ask-password --service-type=exec \
    "--unit=fraisier-$cookie.service" '--description=A command of a deployment by Fraisier' \
    --property=KillMode=control-group --property=TimeoutStopSec=2 "$@"
}

# Unpack the tar stream that comes in, or pack a folder into one that goes out, as its user. $1 and $2: how to be
# the user, and who; then what tar does.
stream() {
  exec 8>&2
  stream_how=$1 stream_user=$2
  shift 2
  stream_errors=$(stream_tar "$@" 2>&1 >&7)
  tell ended "$? $stream_errors"
} 7>&1

stream_tar() {
  case $stream_how in
    root) as_root "$stream_user" "$@" ;;
    sudo) sudo -n -u "$stream_user" -- "$@" ;;
    systemd) systemd-run --quiet --pipe --wait --collect --no-ask-password --service-type=exec \
      "--uid=$stream_user" -- "$@" ;;
    *) "$@" ;;
  esac
}
