"""MySQL and MariaDB: `mariadb-dump`, or `mysqldump`, of one database, compressed.

https://mariadb.com/kb/en/mariadb-dump/, https://dev.mysql.com/doc/refman/8.4/en/mysqldump.html

Where to log in is told by an option file that is no file but a pipe, so that it is no argument of a process:
https://dev.mysql.com/doc/refman/8.4/en/option-files.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from urllib.parse import parse_qsl, unquote, urlsplit

from fraisier.application.hear import look
from fraisier.application.ports import Desk, Problem
from fraisier.backups.script import PACKING, QUIETLY, script
from fraisier.domain.acts import Command
from fraisier.domain.backup import Source
from fraisier.domain.secret import Secret

_PREFIX = "fraisier_verify_"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
# "$database" is the one that is worked on. A dump has rows of a table in lines that begin with INSERT, one
# line each or all in one; a line's end within a string is written as \\n.
_TOOLS = f"""{PACKING}{QUIETLY}
first_of() {{
    for one; do if command -v "$one"; then return; fi; done
    echo "there is no program $1" >&2
    exit 1
}}
client=$(first_of mariadb mysql)
ask_server() {{
    "$client" --defaults-extra-file=/dev/fd/3 --batch --skip-column-names --raw "$@" 3<<FRAISIER
$FRAISIER_OPTIONS
FRAISIER
}}
"""
_COUNT = r"""
function name(line,    i, c, out) {
    for (i = 1; i <= length(line); i++) {
        c = substr(line, i, 1)
        if (c == "`") { if (substr(line, i + 1, 1) != "`") break; i++ }
        out = out (c ~ /["\\]/ ? "\\" c : c)
    }
    return out
}
function count(line) {
    gsub(/\047([^\047\\]|\\.|\047\047)*\047/, "", line)
    inside = line !~ /;$/
    return (line ~ /^ ?\(/) + gsub(/\),\(/, "", line)
}
inside { rows[table] += count($0); next }
/^INSERT INTO `/ {
    line = substr($0, 14); table = name(line)
    sub(/^.*` VALUES/, "", line) || sub(/^[^(]*\(`[^)]*\) VALUES/, "", line)
    rows[table] += count(substr($0, index($0, " VALUES") + 7)); next
}
/^CREATE TABLE `/ {
    table = name(substr($0, 15))
    if (!(table in rows)) { rows[table] = 0; order[++n] = table }
}
$0 == "-- fraisier: whole" { whole = 1 }
END {
    if (!whole || inside) exit 1
    for (i = 1; i <= n; i++) printf "%s\"%s\": %d", (i > 1 ? ", " : ""), order[i], rows[order[i]]
}
"""
_DUMP = f"""{_TOOLS}
dump=$(first_of mariadb-dump mysqldump)
database=$2
{{
    "$dump" --defaults-extra-file=/dev/fd/3 --single-transaction --quick --routines --triggers --events \\
        --hex-blob --no-tablespaces --default-character-set=utf8mb4 --loose-set-gtid-purged=OFF \\
        "$database" 3<<FRAISIER &&
$FRAISIER_OPTIONS
FRAISIER
        echo '-- fraisier: whole' || echo >"$part.bad"
}} | pack >"$part"
[ ! -e "$part.bad" ] || exit 1
"""
_VERIFY = f"""
tables=$({{ unpack "$part" || echo >"$part.bad"; }} | LC_ALL=C awk '{_COUNT}') ||
    {{ echo "the dump is damaged" >&2; exit 1; }}
[ ! -e "$part.bad" ] || {{ echo "the dump is damaged" >&2; exit 1; }}
entries=$(printf '%s' "$tables" | tr -cd ':' | wc -c)
also=", \\"tables\\": {{$tables}}"
"""
_SCRIPT = script(make=_DUMP, verify=_VERIFY)
# $1: the dump; $2: the database; $3: '' or a scratch database. MySQL commits with each CREATE, so all of the
# dump is read before anything is dropped. Events do not come into a scratch database: they would act there.
_RESTORE = f"""
set -eu
umask 077
{_TOOLS}
said=$(mktemp); trap 'rm -f "$said"' EXIT
{{ unpack "$1" && echo good >"$said"; }} | tail -n 1 | grep -qx -e '-- fraisier: whole' && [ -s "$said" ] ||
    {{ echo "cannot bring $1 back: it is damaged; nothing was changed" >&2; exit 1; }}
if [ -n "$3" ]; then
    unpack "$1" | LC_ALL=C awk '
        /^-- Dumping events for database/ {{ skip = 1 }}
        /^-- (Dumping routines for database|fraisier: whole|Dump completed)/ {{ skip = 0 }}
        /^\\/\\*!40103 SET TIME_ZONE=@OLD/ {{ skip = 0 }}
        !skip' | ask_server "$3"
    exit
fi
charset=$(ask_server -e "SELECT CONCAT('CHARACTER SET ', default_character_set_name, ' COLLATE ',
    default_collation_name) FROM information_schema.schemata WHERE schema_name = DATABASE()" "$2")
quoted=$(printf '%s' "$2" | sed 's/`/``/g')
ask_server -e "DROP DATABASE \\`$quoted\\`; CREATE DATABASE \\`$quoted\\` $charset"
unpack "$1" | ask_server "$2" ||
    {{ echo "the database $2 is not whole now: bring its safety copy back" >&2; exit 1; }}
"""
_SQL = f"""set -e
{_TOOLS}
answer=$(printf '%s\\n' "$FRAISIER_SQL" | quietly ask_server ${{1:+"$1"}})
printf '%s\\n' "$answer" | tr '\\t' '|'
"""
_ROWS = f"""set -e
{_TOOLS}
lines=$(printf '%s\\n' "$FRAISIER_SQL" | quietly ask_server "$1")
rows=$(printf '%s\\n' "$lines" | quietly ask_server "$1")
printf '{{"tables": {{%s}}}}\\n' "$(printf '%s\\n' "$rows" | paste -sd, -)"
"""
_TABLES = """
SELECT CONCAT('SELECT CONCAT(', QUOTE(CONCAT(JSON_QUOTE(table_name), ': ')), ', COUNT(*)) FROM `',
              REPLACE(table_name, '`', '``'), '`;')
FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'
ORDER BY table_name;
"""
_BESIDE = f"""set -e
{_TOOLS}
found=$(printf '%s\\n' "$FRAISIER_SQL" | quietly ask_server "$1")
printf '{{"beside": {{%s}}}}\\n' "$(printf '%s\\n' "$found" | paste -sd, -)"
"""
# MariaDB's sequences and versioned tables are no base tables.
_OTHERS = """
SELECT CONCAT(JSON_QUOTE(kind), ': ', COUNT(*)) FROM (
    SELECT CASE table_type WHEN 'VIEW' THEN 'views' WHEN 'SEQUENCE' THEN 'sequences'
           ELSE 'other tables' END AS kind
    FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type <> 'BASE TABLE'
    UNION ALL SELECT 'routines' FROM information_schema.routines WHERE routine_schema = DATABASE()
    UNION ALL SELECT 'events' FROM information_schema.events WHERE event_schema = DATABASE()
) AS things GROUP BY kind ORDER BY kind;
"""
_LOOK = f"""{_TOOLS}
first_of mariadb-dump mysqldump >/dev/null
if complaint=$(ask_server -e 'SELECT 1' "$1" 2>&1); then :; else printf '%s\\n' "$complaint" | tail -n 1; fi
"""
# A URL's parameters, and what they are called in an option file.
_OPTIONS = {
    "socket": "socket",
    "unix_socket": "socket",
    "ssl_ca": "ssl-ca",
    "ssl_cert": "ssl-cert",
    "ssl_key": "ssl-key",
    "ssl_mode": "loose-ssl-mode",
}


class MySQL:
    """One database of a server. `to` is the name of another one there."""

    kind = "mysql"
    suffix = ".sql.packed"

    def dump(self, url: str | Secret, file: str, *, timeout: float) -> Command:
        """`url`: mysql://user:password@host:port/database, or mariadb://…; ?socket=/path for a socket."""
        return _command(_SCRIPT, (file, _database(url)), url, timeout)

    def dump_source(self, source: Source, file: str, *, timeout: float) -> Command:
        """Tables in one transaction, with routines, triggers and events."""
        return self.dump(source.url, file, timeout=timeout)

    def restore(self, source: Source, file: str, to: str, *, timeout: float) -> Command:
        """In place the database is dropped and made anew, once all of the dump was read."""
        return _command(_RESTORE, (file, _database(source.url), to), source.url, timeout)

    def scratch(self, source: Source, folder: str, run: str) -> str:
        """A database's name: the beginning is the source's own."""
        return _prefix(source) + "".join(c for c in run.lower() if c.isalnum())[:16]

    def make_scratch(self, source: Source, to: str, *, timeout: float) -> Command:
        """The user needs ALL on `fraisier\\_verify\\_%`.* for it."""
        return _command(_MAKE, (_plain(to), _prefix(source)), source.url, timeout)

    def drop_scratch(self, source: Source, to: str, *, timeout: float) -> Command:
        """DROP DATABASE."""
        return _asked(source, f"DROP DATABASE IF EXISTS {_checked(to)};", "", timeout)

    def count(self, source: Source, to: str, *, timeout: float) -> Command:
        """The rows of every table."""
        return _command(_ROWS, (to or _database(source.url),), source.url, timeout, FRAISIER_SQL=_TABLES)

    def beside(self, source: Source, to: str, *, timeout: float) -> Command:
        """Views, routines, events, and what MariaDB has besides; triggers belong to tables."""
        return _command(_BESIDE, (to or _database(source.url),), source.url, timeout, FRAISIER_SQL=_OTHERS)

    def ask(self, source: Source, to: str, *, timeout: float) -> Command:
        """The query's rows, columns separated by '|'."""
        return _asked(source, source.query + ";", to or _database(source.url), timeout)

    def problems(self, source: Source, desk: Desk) -> Sequence[Problem]:
        """Missing programs, a database that does not answer."""
        command = _command(_LOOK, (_database(source.url),), source.url, 30.0)
        _, answer, complaints = look(desk, command)
        hint = f"See its URL, and that {desk.host.name} has the clients (Debian: mariadb-client)"
        lines = (answer or complaints).strip().splitlines()
        return [Problem(f"cannot back up {source.name}: {line}", hint) for line in lines[-1:]]


# Those that an earlier verification left are found by name; a restore to a place of one's choice leaves them.
_MAKE = f"""set -e
{_TOOLS}
old=$(ask_server -e "SELECT CONCAT('DROP DATABASE ', schema_name, ';') FROM information_schema.schemata
    WHERE LEFT(schema_name, CHAR_LENGTH('$2')) = '$2' AND LEFT('$1', CHAR_LENGTH('$2')) = '$2'")
[ -z "$old" ] || printf '%s\\n' "$old" | ask_server
ask_server -e "CREATE DATABASE $1"
"""


def _asked(source: Source, sql: str, database: str, timeout: float) -> Command:
    return _command(_SQL, (database,), source.url, timeout, FRAISIER_SQL=sql)


def _command(
    text: str, words: tuple[str, ...], url: str | Secret, timeout: float, **env: str | Secret
) -> Command:
    return Command(
        argv=("/bin/sh", "-c", text, "backup", *words),
        env={"FRAISIER_OPTIONS": _options(url), "LC_ALL": "C.UTF-8", **env},
        timeout=timeout,
        background=True,
    )


def _text(url: str | Secret) -> str:
    return url.reveal() if isinstance(url, Secret) else url


def _database(url: str | Secret) -> str:
    return unquote(urlsplit(_text(url)).path.strip("/"))


def _options(url: str | Secret) -> Secret:
    """An option file; in quotes, a backslash and the quote itself are escaped."""
    parts = urlsplit(_text(url))
    found = {
        "host": unquote(parts.hostname or ""),
        "port": str(parts.port or ""),
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        **{_OPTIONS[name]: value for name, value in parse_qsl(parts.query) if name in _OPTIONS},
    }
    lines = (f'{name}="{_quoted(value)}"' for name, value in found.items() if value)
    reference = url.reference if isinstance(url, Secret) else "database.url"
    return Secret("\n".join(("[client]", *lines)), reference)


def _quoted(value: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
    return "".join(escapes.get(c, c) for c in value)


def _prefix(source: Source) -> str:
    """What the names of all scratch databases of one source begin with."""
    parts = urlsplit(_text(source.url))
    what = "\0".join((source.name, parts.hostname or "", parts.path, parts.query))
    return f"{_PREFIX}{hashlib.sha256(what.encode()).hexdigest()[:8]}_"


def _plain(name: str) -> str:
    """A name that may stand in SQL as it is; one that a person chose for what is restored, too."""
    if not name or not _NAME.issuperset(name):
        message = f"not a plain name of a database: {name!r}"
        raise ValueError(message)
    return name


def _checked(name: str) -> str:
    """A name that `scratch` made: no other is ever dropped."""
    if not name.startswith(_PREFIX) or not _NAME.issuperset(name):
        message = f"not a scratch database: {name!r}"
        raise ValueError(message)
    return name
