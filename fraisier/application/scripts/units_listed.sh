
# -- as a program of its own, which sudo or systemd start: the row is in root's list
list=/etc/fraisier/units.list as_root=no
[ "$(id -u)" = 0 ] || die "write units: this needs root"
[ -f $list ] && [ ! -L $list ] && [ "$(stat -c %u $list)" = 0 ] || die "write units: $list is not there, or not root's"
case $(stat -c %A $list) in ?????w???? | ????????w?) die "write units: $list can be written by others" ;; esac
if [ "${1-}" = names ]; then
  cut -f 2 $list
  exit
fi
[ $# -ge 2 ] || die "do this: which environment?"
verb=$1
use_name "$2"
shift 2
caller=${SUDO_USER:-root} found=no
tab=$(printf '\t')
while IFS= read -r line; do
  case $line in "$caller$tab$name$tab"* | "*$tab$name$tab"*) found=yes && break ;; esac
  [ "$caller" != root ] || case $line in *"$tab$name$tab"*) found=yes && break ;; esac
done <$list
[ $found = yes ] || die "write units of $name: $list does not let $caller. Run: fraisier bootstrap"
field() { printf '%s\n' "$line" | cut -f "$1"; }
user=$(field 3) app=$(field 4) env_file=$(field 5) log_file=$(field 6)
[ -n "$user" ] && [ "$user" != root ] || die "write units of $name: its row in $list has no user, or root"
perform "$verb" "$@"
