"""SQLite: its online backup, which copies a database that is being written whole and at one moment.

https://www.sqlite.org/backup.html, by the program `sqlite3` or, where there is none, by Python's module. The
copy is verified by `PRAGMA integrity_check` (https://www.sqlite.org/pragma.html#pragma_integrity_check).
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from fraisier.application.hear import look
from fraisier.application.ports import Desk, Problem
from fraisier.backups.script import QUIETLY, script
from fraisier.domain.acts import Command
from fraisier.domain.backup import Source
from fraisier.domain.secret import Secret

_COPY = """
import sqlite3, sys
source, to = sqlite3.connect(sys.argv[1], timeout=60), sqlite3.connect(sys.argv[2], timeout=60)
source.backup(to)
if sys.argv[3:]:
    to.execute("PRAGMA journal_mode = DELETE")
to.close()
"""
_CHECK = """
import sqlite3, sys
copy = sqlite3.connect(sys.argv[1])
said = [row[0] for row in copy.execute("PRAGMA integrity_check")]
if said != ["ok"]:
    sys.exit("the dump is damaged: " + str(said[:3]))
print(copy.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
"""
_ROWS = """
import json, sqlite3, sys
copy = sqlite3.connect(sys.argv[1])
query = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL %'"
names = [row[0] for row in copy.execute(query + " AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY name")]
quoted = {name: '"' + name.replace('"', '""') + '"' for name in names}
print(json.dumps({n: copy.execute(f"SELECT count(*) FROM {q}").fetchone()[0] for n, q in quoted.items()}))
"""
_ASKED = """
import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]):
    print("|".join("" if each is None else str(each) for each in row))
"""
_LIST = """
SELECT 'SELECT json_quote(' || quote(name) || ') || '': '' || (SELECT count(*) FROM "' ||
    replace(name, '"', '""') || '");'
FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL %'
    AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY name
"""
_OTHERS = """
SELECT '{"beside": ' || json_group_object(kind, number) || '}' FROM (
    SELECT CASE type WHEN 'view' THEN 'views' ELSE 'virtual tables' END AS kind, count(*) AS number
    FROM sqlite_master WHERE type = 'view' OR (type = 'table' AND sql LIKE 'CREATE VIRTUAL %')
    GROUP BY 1 ORDER BY 1
)
"""
# The programs in single quotes contain such quotes themselves.
_PROGRAMS = "\n".join(
    f"{name}=$(cat <<'FRAISIER'\n{text.strip()}\nFRAISIER\n)"
    for name, text in (
        ("copy", _COPY),
        ("check", _CHECK),
        ("rows", _ROWS),
        ("asked", _ASKED),
        ("list", _LIST),
    )
)
_SHELL = f"""{_PROGRAMS}
has_python() {{ command -v python3 >/dev/null && python3 -c 'import sqlite3' 2>/dev/null; }}
rows_of() {{
    if has_python; then python3 -c "$rows" "$1"
    else
        lines=$(sqlite3 -bail "$1" "$list")
        lines=$(printf '%s\\n' "$lines" | sqlite3 -bail "$1")
        printf '{{%s}}\\n' "$(printf '%s\\n' "$lines" | paste -sd, -)"
    fi
}}
check() {{
    [ -s "$1" ] || {{ echo "the dump is empty" >&2; return 1; }}
    if has_python; then python3 -c "$check" "$1"; return; fi
    said=$(sqlite3 -bail "$1" "PRAGMA integrity_check")
    [ "$said" = ok ] || {{ echo "the dump is damaged: $said" >&2; return 1; }}
    sqlite3 -bail "$1" "SELECT count(*) FROM sqlite_master"
}}
"""
_SCRIPT = script(
    make=f"""{_SHELL}
if [ ! -e "$2" ]; then echo '{{"nothing": "there is no database yet"}}'; exit 0; fi
if has_python; then python3 -c "$copy" "$2" "$part" plain
else sqlite3 -bail -cmd '.timeout 60000' "$2" ".backup '$part'"; fi
""",
    verify="""
entries=$(check "$part")
tables=$(rows_of "$part")
also=", \\"tables\\": $tables"
rm -f "$part-wal" "$part-shm" "$part-journal"
""",
)
# $1: the dump; $2: the database, or a file that is not there yet. Whoever has it open sees either the old
# content or the new one: the copy is one transaction.
_RESTORE = f"""
set -eu
{_SHELL}
check "$1" >/dev/null
if has_python; then python3 -c "$copy" "$1" "$2"
else sqlite3 -bail -cmd '.timeout 60000' "$2" ".restore '$1'"; fi
check "$2" >/dev/null
sync "$2"
"""
_COUNT = f"""set -e
{_SHELL}
tables=$(rows_of "$1")
printf '{{"tables": %s}}\\n' "$tables"
"""
_ASK = f"""{QUIETLY}{_SHELL}
if has_python; then quietly python3 -c "$asked" "$1" "$2"
else quietly sqlite3 -bail -batch -noheader -list "$1" "$2"; fi
"""
_LOOK = f"""{_SHELL}
has_python || command -v sqlite3 >/dev/null || echo "neither sqlite3 nor Python is there"
if [ ! -e "$1" ]; then echo "there is no database $1"
elif [ ! -r "$1" ]; then echo "$(id -un) may not read $1"; fi
"""


class Sqlite:
    """A database that is a file on the host. `to` is another file."""

    kind = "sqlite"
    suffix = ".sqlite"

    def dump(self, url: str | Secret, file: str, *, timeout: float) -> Command:
        """`url` is `sqlite://` and an absolute path."""
        return _command(_SCRIPT, file, _path(url), timeout=timeout)

    def dump_source(self, source: Source, file: str, *, timeout: float) -> Command:
        """As `dump`, or the database at `path`."""
        return _command(_SCRIPT, file, _of(source), timeout=timeout)

    def restore(self, source: Source, file: str, to: str, *, timeout: float) -> Command:
        """The dump is copied over what is there in one transaction, whoever has it open."""
        return _command(_RESTORE, file, to or _of(source), timeout=timeout)

    def scratch(self, source: Source, folder: str, run: str) -> str:
        """A file of its own."""
        return posixpath.join(folder, f"scratch-{source.name}-{run[:8]}.sqlite")

    def make_scratch(self, source: Source, to: str, *, timeout: float) -> Command:
        """Its folder; the file is made by what is copied into it."""
        return _command('mkdir -p -m 0700 -- "$1"', posixpath.dirname(to), timeout=timeout)

    def drop_scratch(self, source: Source, to: str, *, timeout: float) -> Command:
        """Remove the file, and what SQLite keeps beside it."""
        return _command('rm -f -- "$1" "$1"-wal "$1"-shm "$1"-journal', to, timeout=timeout)

    def count(self, source: Source, to: str, *, timeout: float) -> Command:
        """The rows of every table that is no virtual one."""
        return _command(_COUNT, to or _of(source), timeout=timeout)

    def beside(self, source: Source, to: str, *, timeout: float) -> Command:
        """Views, and tables that are virtual."""
        return _command(_ASK, to or _of(source), _OTHERS, timeout=timeout)

    def ask(self, source: Source, to: str, *, timeout: float) -> Command:
        """The query's rows, columns separated by '|'."""
        return _command(_ASK, to or _of(source), source.query, timeout=timeout)

    def problems(self, source: Source, desk: Desk) -> Sequence[Problem]:
        """No such file, or nothing to read it with."""
        _, answer, complaints = look(desk, _command(_LOOK, _of(source), timeout=30.0))
        hint = f"See `url` of the source {source.name}, and install sqlite3 or python3 on {desk.host.name}"
        lines = (answer or complaints).strip().splitlines()
        return [Problem(f"cannot back up {source.name}: {line}", hint) for line in lines]


def _of(source: Source) -> str:
    return source.path or _path(source.url)


def _path(url: str | Secret) -> str:
    text = url.reveal() if isinstance(url, Secret) else url
    return "/" + text.partition("://")[2].partition("?")[0].lstrip("/")


def _command(text: str, *words: str, timeout: float) -> Command:
    return Command(argv=("/bin/sh", "-c", text, "backup", *words), timeout=timeout, background=True)
