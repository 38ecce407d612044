"""What the doctor says of the programs that migrations and dumps are made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fraisier.application.check_database import database_problems
from fraisier.application.ports import Finished, Problem
from fraisier.application.tools import Tools
from fraisier.backups.postgresql import PostgreSQL
from fraisier.backups.sqlite import Sqlite
from fraisier.domain.fraise import Database
from fraisier.migrations.alembic import Alembic
from fraisier.migrations.confiture import Confiture
from fraisier.migrations.django import Django
from fraisier.wiring import SystemClock
from tests import factories
from tests.fake_repository import FakeRepository
from tests.fakes import FakeHost

RELEASE = "3-aaaaaaaaaa"


class Machine(FakeHost):
    """A host on whose PATH are these programs."""

    def __init__(self, *programs: str) -> None:
        super().__init__("web1")
        self.programs = programs

    def inspect(self, argv: Any, *, timeout: float = 10.0) -> Finished:
        return Finished(code=0 if argv[-1] in self.programs else 127, stdout=b"", stderr=b"")


def found(folder: Path, host: FakeHost, release: str = RELEASE, **keys: Any) -> list[Problem]:
    tools = Tools(
        hosts={"localhost": host},
        targets={},
        probers={},
        migrations={"alembic": Alembic(), "django": Django(), "confiture": Confiture()},
        dumpers={"postgresql": PostgreSQL(), "sqlite": Sqlite()},
        repository=FakeRepository(),
        clock=SystemClock(),
    )
    made = factories.environment(app_path=str(folder), database=Database(**keys))
    return list(database_problems(made, host, tools, release))


def test_pg_dump_is_looked_for_where_a_deployment_makes_a_dump(tmp_path: Path) -> None:
    (dump, restore) = found(tmp_path, Machine(), up="x", backup_before_deploy=True)
    assert "web1 has no pg_dump" in dump.message
    assert "postgresql-client" in dump.hint
    assert dump.fatal
    assert "pg_restore" in restore.message
    assert found(tmp_path, Machine("pg_dump", "pg_restore"), up="x", backup_before_deploy=True) == []


def test_no_dump_no_pg_dump_and_sqlite_has_its_own(tmp_path: Path) -> None:
    assert found(tmp_path, Machine(), up="x") == []
    assert found(tmp_path, Machine(), up="x", backup_before_deploy=True, url="sqlite:////srv/db") == []
    assert found(tmp_path, Machine(), up="x", backup_before_deploy=True, backup_command="bin/dump") == []


@pytest.mark.parametrize(
    ("framework", "program"),
    [("alembic", ".venv/bin/python"), ("django", ".venv/bin/python"), ("confiture", ".venv/bin/confiture")],
)
def test_the_frameworks_program_is_looked_for_in_the_release_that_runs(
    tmp_path: Path, framework: str, program: str
) -> None:
    (problem,) = found(tmp_path, Machine(), framework=framework)
    assert f"{RELEASE}/{program}, which {framework} is run with" in problem.message
    assert not problem.fatal, "the next release may bring it"
    place = tmp_path / "releases" / RELEASE / program
    place.parent.mkdir(parents=True)
    place.touch()
    assert found(tmp_path, Machine(), framework=framework) == []


def test_before_the_first_release_nobody_knows_and_a_program_of_the_host_is_on_its_path(
    tmp_path: Path,
) -> None:
    assert found(tmp_path, Machine(), "", framework="alembic") == []
    assert found(tmp_path, Machine("python3"), framework="alembic", python="python3") == []
    assert len(found(tmp_path, Machine(), framework="alembic", python="python3")) == 1
