"""PostgreSQL: `pg_dump` in its custom format, read back as a whole by `pg_restore`.

`pg_restore --list` reads the table of contents, which stands at the beginning of the file, so a dump that was
cut off has one too; only writing everything out again reads, and decompresses, all of it. That is also where
the rows of each table are counted: as many lines as there are between COPY and its end.
https://www.postgresql.org/docs/current/app-pgdump.html, https://www.postgresql.org/docs/current/app-pgrestore.html
https://www.postgresql.org/docs/current/sql-copy.html

The connection is told by libpq's variables, which no other user sees, as an argument would be:
https://www.postgresql.org/docs/current/libpq-envars.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from urllib.parse import parse_qsl, unquote, urlsplit

from fraisier.application.hear import look
from fraisier.application.ports import Desk, Problem
from fraisier.backups import postgresql_sql as sql
from fraisier.backups.script import QUIETLY, script
from fraisier.domain.acts import Command
from fraisier.domain.backup import Source
from fraisier.domain.secret import Secret

# Reads what `pg_restore --section=data` writes. A line of data is one row, and cannot be taken for the end of
# its table; only outside of a table's data are other lines looked at. grep numbers the few lines that may
# matter, several times as fast as awk comes to the end of all of them.
_SEEN = r"grep -na -e '^COPY .* FROM stdin;$' -e '^\\\.$' -e '^-- fraisier: whole$'"
_COUNT = r"""
function name(line,    i, c, quoted, out) {
    sub(/^COPY /, "", line)
    for (i = 1; i <= length(line); i++) {
        c = substr(line, i, 1)
        if (c == "\"") quoted = !quoted
        if (c == " " && !quoted) break
        out = out (c ~ /["\\]/ ? "\\" c : c)
    }
    return out
}
{ colon = index($0, ":"); at = substr($0, 1, colon - 1); line = substr($0, colon + 1) }
begun && line == "\\." {
    tables = tables (tables == "" ? "" : ", ") "\"" table "\": " (at - begun - 1)
    begun = 0
    next
}
begun { next }
line ~ /^COPY .* FROM stdin;$/ { table = name(line); begun = at; next }
line == "-- fraisier: whole" { whole = 1 }
END { if (!whole || begun) exit 1; print tables }
"""
_VERIFY = f"""
entries=$(pg_restore --list "$part" | grep -vc '^;' || true)
tables=$({{ pg_restore --section=data --file=- "$part" && echo '-- fraisier: whole'; }} |
    LC_ALL=C {_SEEN} | LC_ALL=C awk '{_COUNT}') || {{ echo "the dump is damaged" >&2; exit 1; }}
also=", \\"tables\\": {{$tables}}"
"""
_DUMP = """
pg_dump --format=custom --no-password --file="$part" >&2
"""
# Only a superuser may read passwords; without them a role has to be given a new one after a restore.
# The server is asked while the dump is read; what is to be told comes by a file.
_BEGIN_ROLES = """
roles() { pg_dumpall --roles-only --no-password ${PGDATABASE:+"--database=$PGDATABASE"} "$@" >"$part.roles"; }
{
    if roles 2>/dev/null; then :
    elif complaint=$(roles --no-role-passwords 2>&1); then
        echo "the roles are kept without their passwords, which only a superuser may read"
    else
        rm -f "$part.roles"
        echo "the roles are not in the backup: $(printf '%s' "$complaint" | tail -n 1)"
    fi
    [ ! -s "$part.roles" ] || sync "$part.roles"
} >"$part.said" & asking=$!
"""
_END_ROLES = """
wait $asking
while read -r line; do tell "$line"; done <"$part.said"
if [ -s "$part.roles" ]; then
    roles=$(sha256sum <"$part.roles"); roles=${roles%% *}
    size=$(stat -c %s "$part.roles")
    mv -fT "$part.roles" "$1.roles.sql"
    roles="\\"suffix\\": \\".roles.sql\\", \\"bytes\\": $size, \\"sha256\\": \\"$roles\\""
    also="$also, \\"more\\": [{$roles}]"
fi
"""
_SCRIPT = script(make=_DUMP, verify=_VERIFY)
_WITH_ROLES = script(make=_DUMP, verify=_BEGIN_ROLES + _VERIFY + _END_ROLES)
# $1: the dump; $2: '' or a scratch database. One transaction, which is committed only after the last line of
# the dump; what an extension consists of, and says of itself, is not the database's owner's to change.
_RESTORE = r"""
set -eu
umask 077
list=$(mktemp); trap 'rm -f "$list"' EXIT
pg_restore --list "$1" | grep -v ' COMMENT - EXTENSION ' >"$list"
if [ -z "$2" ] && [ -s "$1.roles.sql" ]; then
    known=$(printf '%s\n' 'SELECT quote_ident(rolname) FROM pg_roles;' | psql -qAtX -v ON_ERROR_STOP=1)
    known="$known" LC_ALL=C awk '
        BEGIN { n = split(ENVIRON["known"], names, "\n"); for (i = 1; i <= n; i++) known[names[i] ";"] = 1 }
        /^CREATE ROLE / && !($3 in known) { role = $3; sub(/;$/, "", role); new[role] = new[role ";"] = 1 }
        /^(CREATE|ALTER) ROLE / && ($3 in new)
        /^GRANT / { for (i = 2; i <= NF; i++) if ($i == "TO" && ($(i + 1) in new)) print }
    ' "$1.roles.sql" | psql -qAtX >&2 || true
fi
said=$({
    echo 'BEGIN;'
    [ -n "$2" ] || printf '%s\n' "$FRAISIER_CLEAR"
    if [ -z "$2" ]; then pg_restore --file=- --use-list="$list" "$1"
    else pg_restore --file=- --use-list="$list" --no-owner --no-privileges "$1"; fi &&
        printf '\nCOMMIT;\n\\echo fraisier: whole\n'
} | psql -qAtX -v ON_ERROR_STOP=1 | tail -n 1)
[ "$said" = "fraisier: whole" ] || { echo "cannot bring $1 back: nothing was changed" >&2; exit 1; }
"""
_PSQL = f"""set -e
{QUIETLY}
printf '%s\\n' "$FRAISIER_SQL" | quietly psql -qAtX -v ON_ERROR_STOP=1
"""
_COUNTED = f"""set -e
{QUIETLY}
rows=$(printf '%s\\n' "$FRAISIER_SQL" | quietly psql -qAtX -v ON_ERROR_STOP=1)
printf '{{"tables": {{%s}}}}\\n' "$(printf '%s\\n' "$rows" | sed -e 's/^{{//' -e 's/}}$//' | paste -sd, -)"
"""
_BESIDE = f"""set -e
{QUIETLY}
found=$(printf '%s\\n' "$FRAISIER_SQL" | quietly psql -qAtX -v ON_ERROR_STOP=1)
printf '{{"beside": %s}}\\n' "$found"
"""
_LOOK = """
for program in pg_dump pg_restore pg_dumpall psql; do
    command -v $program >/dev/null || { echo "missing $program"; exit; }
done
if server=$(psql -qAtXw -c 'SHOW server_version_num' 2>&1); then
    tool=$(pg_dump --version | sed 's/^[^0-9]*//; s/[^0-9].*//')
    [ "$tool" -ge $((server / 10000)) ] || echo "older $tool $((server / 10000))"
else echo "silent $server" | tail -n 1
fi
"""
# What a URL's parameters are called among libpq's variables.
_VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "options": "PGOPTIONS",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "channel_binding": "PGCHANNELBINDING",
}


class PostgreSQL:
    """A database on a PostgreSQL server. `to` is the name of another database there.

    Where `url` is '' libpq's own variables of the environment say where the database is.
    """

    kind = "postgresql"
    suffix = ".dump"
    programs = ("pg_dump", "pg_restore")

    def dump(self, url: str | Secret, file: str, *, timeout: float) -> Command:
        """One database, without the roles, which belong to the server."""
        return _command(_SCRIPT, (file,), url, timeout)

    def dump_source(self, source: Source, file: str, *, timeout: float) -> Command:
        """The database, and beside it the server's roles."""
        return _command(_WITH_ROLES, (file,), source.url, timeout)

    def restore(self, source: Source, file: str, to: str, *, timeout: float) -> Command:
        """One transaction. In place, everything in the database goes first, and roles that the server does
        not know are made; a scratch database gets neither owners nor privileges.
        """
        command = _command(_RESTORE, (file, to), source.url, timeout, database=to)
        return _with(command, FRAISIER_CLEAR=sql.CLEAR)

    def scratch(self, source: Source, folder: str, run: str) -> str:
        """A database's name: the beginning is the source's own."""
        return _prefix(source) + "".join(c for c in run.lower() if c.isalnum())[:16]

    def make_scratch(self, source: Source, to: str, *, timeout: float) -> Command:
        """CREATE DATABASE, with the encoding and locale of the source's; the user needs CREATEDB."""
        text = sql.create(to, _prefix(source))
        return _with(_command(_PSQL, (), source.url, timeout), FRAISIER_SQL=text)

    def drop_scratch(self, source: Source, to: str, *, timeout: float) -> Command:
        """DROP DATABASE, whoever is still connected."""
        return _with(_command(_PSQL, (), source.url, timeout), FRAISIER_SQL=sql.drop(to))

    def count(self, source: Source, to: str, *, timeout: float) -> Command:
        """The rows of every table that a dump has data of."""
        return _with(_command(_COUNTED, (), source.url, timeout, database=to), FRAISIER_SQL=sql.COUNT)

    def beside(self, source: Source, to: str, *, timeout: float) -> Command:
        """Schemas, views, sequences, routines, types, large objects; not what belongs to an extension."""
        return _with(_command(_BESIDE, (), source.url, timeout, database=to), FRAISIER_SQL=sql.BESIDE)

    def ask(self, source: Source, to: str, *, timeout: float) -> Command:
        """The query's rows, columns separated by '|'."""
        return _with(_command(_PSQL, (), source.url, timeout, database=to), FRAISIER_SQL=source.query)

    def problems(self, source: Source, desk: Desk) -> Sequence[Problem]:
        """Missing programs, a database that does not answer, a pg_dump that is older than the server."""
        code, answer, complaints = look(desk, _command(_LOOK, (), source.url, 30.0))
        word, _, rest = (answer.strip() or f"silent {complaints.strip()}").partition(" ")
        if code == 0 and not answer.strip():
            return []
        if word == "missing":
            message = f"cannot back up {source.name}: {desk.host.name} has no {rest}"
            return [Problem(message, "Install PostgreSQL's clients there (Debian: postgresql-client)")]
        if word == "older":
            tool, server = rest.split()
            message = f"cannot back up {source.name}: pg_dump {tool} refuses a server of version {server}"
            return [Problem(message, f"Install PostgreSQL's clients of version {server} or newer there")]
        message = f"cannot back up {source.name}: {rest}"
        return [Problem(message, "See that its URL is right, and that the user may log in")]


def _command(
    text: str, words: tuple[str, ...], url: str | Secret, timeout: float, *, database: str = ""
) -> Command:
    env = {**_variables(url), "LC_ALL": "C.UTF-8"}
    if database:
        env["PGDATABASE"] = database
    argv = ("/bin/sh", "-c", text, "backup", *words)
    return Command(argv=argv, env=env, timeout=timeout, background=True)


def _with(command: Command, **env: str) -> Command:
    return Command(
        argv=command.argv,
        env={**command.env, **env},
        timeout=command.timeout,
        background=command.background,
    )


def _prefix(source: Source) -> str:
    """What the names of all scratch databases of one source begin with."""
    url = source.url.reveal() if isinstance(source.url, Secret) else source.url
    parts = urlsplit(url)
    what = "\0".join((source.name, parts.hostname or "", parts.path, parts.query))
    return f"fraisier_verify_{hashlib.sha256(what.encode()).hexdigest()[:8]}_"


def _variables(url: str | Secret) -> dict[str, str | Secret]:
    text = url.reveal() if isinstance(url, Secret) else url
    if not text:
        return {}
    parts = urlsplit(text)
    found: dict[str, str | Secret] = {
        "PGHOST": unquote(parts.hostname or ""),
        "PGPORT": str(parts.port or ""),
        "PGUSER": unquote(parts.username or ""),
        "PGDATABASE": unquote(parts.path.strip("/")),
    }
    for name, value in parse_qsl(parts.query):
        if name in _VARIABLES:
            found[_VARIABLES[name]] = value
    if parts.password:
        reference = url.reference if isinstance(url, Secret) else "database.url"
        found["PGPASSWORD"] = Secret(unquote(parts.password), reference)
    return {name: value for name, value in found.items() if value}
