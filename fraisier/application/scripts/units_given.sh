
# -- by root, who says what the row would
as_root=yes
verb=$1
use_name "$2"
user=$3 app=$4 env_file=$5 log_file=$6
shift 6
perform "$verb" "$@"
