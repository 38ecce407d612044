"""PostgreSQL: `pg_dump` in its custom format, read back as a whole by `pg_restore`.

`pg_restore --list` reads the table of contents, which stands at the beginning of the file, so a dump that was
cut off has one too; only writing everything out again (to /dev/null) reads, and decompresses, all of it.
https://www.postgresql.org/docs/current/app-pgdump.html, https://www.postgresql.org/docs/current/app-pgrestore.html

The connection is told by libpq's variables, which no other user sees, as an argument would be:
https://www.postgresql.org/docs/current/libpq-envars.html
"""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

from fraisier.backups.script import script
from fraisier.domain.acts import Command
from fraisier.domain.secret import Secret

_SCRIPT = script(
    make='pg_dump --format=custom --no-password --file="$part" >&2',
    verify="""
entries=$(pg_restore --list "$part" | grep -vc '^;' || true)
pg_restore --file=/dev/null "$part"
""",
)
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
    """A database on a PostgreSQL server."""

    suffix = ".dump"

    def dump(self, url: str | Secret, file: str, *, timeout: float) -> Command:
        """`url` may be '': then libpq's own variables of the environment say where the database is."""
        env = {**_variables(url), "LC_ALL": "C.UTF-8"}
        return Command(
            argv=("/bin/sh", "-c", _SCRIPT, "backup", file),
            cwd="/",
            env=env,
            timeout=timeout,
            background=True,
        )


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
