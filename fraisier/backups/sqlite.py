"""SQLite: its online backup, which copies a database that is being written whole and at one moment.

https://www.sqlite.org/backup.html, by the program `sqlite3` or, where there is none, by Python's module. The
copy is verified by `PRAGMA integrity_check` (https://www.sqlite.org/pragma.html#pragma_integrity_check).
"""

from __future__ import annotations

from fraisier.backups.script import script
from fraisier.domain.acts import Command
from fraisier.domain.secret import Secret

_COPY = """
import sqlite3, sys
source, to = sqlite3.connect(sys.argv[1], timeout=60), sqlite3.connect(sys.argv[2])
source.backup(to)
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
_SCRIPT = script(
    make=f"""
if [ ! -e "$2" ]; then echo '{{"nothing": "there is no database yet"}}'; exit 0; fi
if command -v python3 >/dev/null; then python3 -c '{_COPY}' "$2" "$part"
else sqlite3 -bail -cmd '.timeout 60000' "$2" ".backup '$part'"; fi
""",
    verify=f"""
if command -v python3 >/dev/null; then entries=$(python3 -c '{_CHECK}' "$part")
else
    said=$(sqlite3 -bail "$part" "PRAGMA integrity_check")
    [ "$said" = ok ] || {{ echo "the dump is damaged: $said" >&2; exit 1; }}
    entries=$(sqlite3 -bail "$part" "SELECT count(*) FROM sqlite_master")
fi
rm -f "$part-wal" "$part-shm" "$part-journal"
""",  # noqa: S608 - a program for sh
)


class Sqlite:
    """A database that is a file on the host."""

    suffix = ".sqlite"

    def dump(self, url: str | Secret, file: str, *, timeout: float) -> Command:
        """`url` is `sqlite://` and an absolute path."""
        text = url.reveal() if isinstance(url, Secret) else url
        path = "/" + text.partition("://")[2].partition("?")[0].lstrip("/")
        argv = ("/bin/sh", "-c", _SCRIPT, "backup", file, path)
        return Command(argv=argv, cwd="/", timeout=timeout, background=True)
