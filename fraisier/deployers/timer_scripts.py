"""What a job's unit performs around the job's own line: tries, pauses, and a report of each.

Both are for sh, and run as the environment's user. A report is a file `JOB.INVOCATION` of lines:

    begin TRY SECONDS TRIGGER RELEASE
    end TRY SECONDS CODE
    stopped
    final SECONDS RESULT CODE STATUS BYTES

RESULT, CODE and STATUS are systemd's $SERVICE_RESULT, $EXIT_CODE and $EXIT_STATUS: systemd.exec(5).
"""

SPARE = 10.0  # seconds from a try's end by its timeout to SIGKILL

# $1: the line, $2: seconds for each try (0: systemd knows them), $3...: pauses before the next tries.
# What started it: systemd >= 252 sets TRIGGER_UNIT, >= 251 MONITOR_UNIT. Before, a run is its timer's if it
# begins within a second of the last elapse. Times are printed in a zone that every date can read.
# https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#%24TRIGGER_UNIT
RUN = """\
line=$1 limit=$2 n=1 stopped= f=$FRAISIER_REPORTS/$FRAISIER_JOB.$INVOCATION_ID
shift 2
time_of() {
  w=$(TZ=UTC LC_ALL=C systemctl show --value -p "$1" -- "$2") && [ -n "$w" ] && date -d "$w" +%s
}
by_timer() (
  v=$(systemctl --version | sed -n '1s/^systemd \\([0-9]*\\).*/\\1/p')
  [ "${v:-252}" -lt 252 ] || return 1
  u=$(sed -n 's|.*/\\(fraisier-.*\\)[.]service$|\\1|p' /proc/self/cgroup | head -n 1)
  due=$(time_of LastTriggerUSec "$u.timer") && begun=$(time_of InactiveExitTimestamp "$u.service") &&
    [ $((begun - due)) -ge -1 ] && [ $((begun - due)) -le 1 ]
) 2>/dev/null
t=manual
if [ -n "$TRIGGER_UNIT" ]; then t=scheduled
elif [ -n "$MONITOR_UNIT" ]; then t=dependency
elif by_timer; then t=scheduled; fi
tell() { echo "$*" >>"$f"; } 2>/dev/null
trap 'stopped=1; tell stopped' TERM
export FRAISIER_RUN="$INVOCATION_ID" FRAISIER_ATTEMPT
while :; do
  FRAISIER_ATTEMPT=$n
  tell begin $n "$(date +%s.%N)" $t "$FRAISIER_RELEASE"
  if [ "$limit" = 0 ]; then sh -c "$line"; else timeout -k 10 "$limit" sh -c "$line"; fi
  code=$?
  tell end $n "$(date +%s.%N)" $code
  [ -z "$stopped" ] || exit 143
  if [ $code = 0 ] || [ $# = 0 ]; then exit $code; fi
  echo "try $n exited with $code, the next one follows in $1 s"
  sleep "$1" & wait $!
  [ -z "$stopped" ] || exit 143
  shift
  n=$((n + 1))
done"""

# $1: how many of the following are for a success, then lines for that, then those for a failure.
END = """\
f=$FRAISIER_REPORTS/$FRAISIER_JOB.$INVOCATION_ID
g=$(sed -n 's/^0:://p' /proc/self/cgroup)
p=$(cat "/sys/fs/cgroup$g/memory.peak" 2>/dev/null)
{ echo "final $(date +%s.%N) $SERVICE_RESULT $EXIT_CODE $EXIT_STATUS ${p:-0}" >>"$f"; } 2>/dev/null
case $SERVICE_RESULT in
  timeout | oom-kill | watchdog) ;;
  *) ! grep -qs '^stopped' "$f" || exit 0 ;;
esac
export FRAISIER_RUN="$INVOCATION_ID"
n=$1 i=0 want=failed
shift
[ "$SERVICE_RESULT" != success ] || want=success
for hook; do
  i=$((i + 1)) of=failed
  [ $i -gt $n ] || of=success
  [ $of = $want ] || continue
  sh -c "$hook" || echo "on_$of: $hook exited with $?"
done
exit 0"""
