"""Projects with real Alembic, Django, confiture and psql migrations, as files to be pushed.

A project has numbered migrations of a kind: `plain` creates the table t<number>; `irreversible` does so without a way
down; `destroys` drops the table before it; `broken` creates a table and then fails; `held` waits, in the database,
while the project's `hold` file is there, then creates its table. After `up` has ended, a project waits while its
`hold_after` is there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FRAMEWORKS = ("alembic", "django", "confiture", "command")


@dataclass(frozen=True)
class Project:
    """One framework's project on one database; `folder` is one that the server's user may look into."""

    framework: str
    url: str
    folder: Path

    @property
    def hold(self) -> Path:
        return self.folder / f"hold-{self._name}"

    @property
    def hold_after(self) -> Path:
        return self.folder / f"hold-after-{self._name}"

    @property
    def _name(self) -> str:
        return self.url.partition("@/")[2].partition("?")[0]

    def config(self, more: str = "") -> str:
        """The environment's `database:`, as one line."""
        own = {
            "alembic": 'framework: alembic, python: "sh bin/python"',
            "django": 'framework: django, python: "sh bin/python"',
            "confiture": 'framework: confiture, command: "sh bin/confiture"',
            "command": "up: sh bin/up, down: sh bin/down, current: sh bin/current, pending: sh bin/pending",
        }[self.framework]
        return f'database: {{{own}, url: "{self.url}"{", " + more if more else ""}}}'

    def files(self, *kinds: str) -> dict[str, str]:
        """The repository's files, with one migration for each kind."""
        make = {"alembic": _alembic, "django": _django, "confiture": _confiture, "command": _command}
        waits = f"while [ -e {self.hold_after} ]; do touch {self.hold_after}.began; sleep 0.02; done; exit $code\n"
        bin_folder = Path(sys.executable).parent
        wrappers = {
            "bin/python": f'{sys.executable} "$@"; code=$?\ncase "$1$2$3$4$5" in\n'
            f"*upgrade*|manage.pymigrate*) {waits.strip()};;\nesac\nexit $code\n",
            "bin/confiture": f'{bin_folder}/confiture "$@"; code=$?\n[ "$2" = up ] || exit $code\n{waits}',
        }
        return {**wrappers, **make[self.framework](self, kinds)}

    def branched(self, **revisions: str) -> dict[str, str]:
        """Alembic's files of revisions that are no line: each with its parents and its kind, as `b2="a1 b1 plain"`.

        The table of each is called t and its name.
        """
        files = self.files()
        for name, (*parents, kind) in ((name, text.split()) for name, text in revisions.items()):
            files[f"migrations/versions/{name}.py"] = _revision(self, name, tuple(parents), kind)
        return files

    def names(self, *kinds: str) -> Sequence[str]:
        """What the framework calls these migrations, without what it adds."""
        numbers = range(1, len(kinds) + 1)
        if self.framework == "django":
            return [f"shop.{n:04}_step" for n in numbers]
        return [f"{n:04}_step" if self.framework != "command" else f"{n:04}" for n in numbers]

    def revision(self, number: int) -> str:
        """What it calls the state after that many migrations."""
        if number == 0:
            return "base"
        return f"shop.{number:04}_step" if self.framework == "django" else f"{number:04}"

    def sql(self, kind: str, n: int | str) -> tuple[str, str | None]:
        """Up and down."""
        create, drop = f"CREATE TABLE t{n} (id int)", f"DROP TABLE t{n}"
        if kind == "irreversible":
            return create, None
        if kind == "destroys":
            assert isinstance(n, int)
            return f"DROP TABLE t{n - 1}", f"CREATE TABLE t{n - 1} (id int)"
        if kind == "broken":
            return f"{create}; SELECT 1/0", drop
        if kind == "held":
            wait = f"WHILE (pg_stat_file('{self.hold}', true)).size IS NOT NULL LOOP PERFORM pg_sleep(0.02); END LOOP"
            return f"DO $$ BEGIN {wait}; END $$; {create}", drop
        return create, drop


def _alembic(project: Project, kinds: Sequence[str]) -> dict[str, str]:
    env = """
import os
from alembic import context
from sqlalchemy import create_engine, pool
print("env.py prints, too")
url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
"""
    files = {"alembic.ini": "[alembic]\nscript_location = migrations\n", "migrations/env.py": env}
    for n, kind in enumerate(kinds, 1):
        previous = (f"{n - 1:04}",) if n > 1 else ()
        files[f"migrations/versions/{n:04}.py"] = _revision(project, f"{n:04}", previous, kind, table=n)
    return files


def _revision(
    project: Project, name: str, parents: tuple[str, ...], kind: str, *, table: int | None = None
) -> str:
    up, down = project.sql(kind, name if table is None else table)
    body = f"op.execute({down!r})" if down else "raise NotImplementedError"
    return (
        f'"""step"""\nfrom alembic import op\nrevision = "{name}"\ndown_revision = {parents or None!r}\n'
        f"def upgrade():\n    op.execute({up!r})\ndef downgrade():\n    {body}\n"
    )


def _django(project: Project, kinds: Sequence[str]) -> dict[str, str]:
    manage = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
print("manage.py prints, too")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
    settings = """
import os
from urllib.parse import parse_qs, urlsplit
parts = urlsplit(os.environ["DATABASE_URL"])
SECRET_KEY, INSTALLED_APPS, USE_TZ = "x", ["shop"], True
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": parts.path.strip("/"),
    "USER": parts.username, "HOST": parse_qs(parts.query)["host"][0]}}
"""
    files = {
        "manage.py": manage,
        "settings.py": settings,
        "shop/__init__.py": "",
        "shop/migrations/__init__.py": "",
    }
    for n, kind in enumerate(kinds, 1):
        up, down = project.sql(kind, n)
        back = f", reverse_sql={down!r}" if down else ""
        operation = f"migrations.RunSQL({up!r}{back})"
        if kind == "plain":
            fields = '[("id", models.IntegerField(primary_key=True))]'
            operation = f'migrations.CreateModel("T{n}", {fields}, options={{"db_table": "t{n}"}})'
        before = f'[("shop", "{n - 1:04}_step")]' if n > 1 else "[]"
        files[f"shop/migrations/{n:04}_step.py"] = (
            "from django.db import migrations, models\nclass Migration(migrations.Migration):\n"
            f"    dependencies = {before}\n    operations = [{operation}]\n"
        )
    return files


def _confiture(project: Project, kinds: Sequence[str]) -> dict[str, str]:
    files = {}
    for n, kind in enumerate(kinds, 1):
        up, down = project.sql(kind, n)
        files[f"db/migrations/{n:04}_step.up.sql"] = up + ";\n"
        if down:
            files[f"db/migrations/{n:04}_step.down.sql"] = down + ";\n"
    return files


_FIND = "for file in sql/*.up.sql; do n=$(basename $file .up.sql)"
_IS = """
is() { psql -qAtX "$DATABASE_URL" -v ON_ERROR_STOP=1 -c "$1"; }
is 'CREATE TABLE IF NOT EXISTS steps (n text)' 2>/dev/null
applied() { [ "$(is "SELECT count(*) FROM steps WHERE n = '$1'")" = 1 ]; }
perform() { (echo 'BEGIN;'; cat $1; echo "$2"; echo 'COMMIT;') | psql -qX "$DATABASE_URL" -v ON_ERROR_STOP=1; }
"""


def _command(project: Project, kinds: Sequence[str]) -> dict[str, str]:
    waits = f"while [ -e {project.hold_after} ]; do touch {project.hold_after}.began; sleep 0.02; done\n"
    files = {
        "bin/up": f"set -e\n{_IS}{_FIND}\napplied $n || perform $file \"INSERT INTO steps VALUES ('$n');\"; done\n"
        + waits,
        "bin/down": f"set -e\n{_IS}for file in $(ls -r sql/*.down.sql); do n=$(basename $file .down.sql)\n"
        '[ "$n" = "$FRAISIER_REVISION" ] && exit 0\n'
        "if applied $n; then perform $file \"DELETE FROM steps WHERE n = '$n';\"; fi; done\n",
        "bin/current": f"set -e\n{_IS}is 'SELECT max(n) FROM steps'\n",
        "bin/pending": f"set -e\n{_IS}{_FIND}\napplied $n || echo $n; done\n",
    }
    for n, kind in enumerate(kinds, 1):
        up, down = project.sql(kind, n)
        files[f"sql/{n:04}.up.sql"] = up + ";\n"
        files[f"sql/{n:04}.down.sql"] = (down or "SELECT 1") + ";\n"
    return files
