"""The programs that ask a framework in a release's own Python, and what they print: one JSON document.

They run with whatever Python and framework the release has, so they are plain and use what has been there for
long. A database that cannot be reached is exit code 75.
"""

from __future__ import annotations

from typing import Any

from fraisier.application.ports import Answer, CannotTell
from fraisier.domain.migration import Pending
from fraisier.migrations.lines import documents, failed

ANSWER = "fraisier-answer: "  # begins the line with the document: a project's own code may print, too

# SQL that removes what no way down brings back.
_DESTROYS = r"(?i)\b(DROP\s+(TABLE|COLUMN|SCHEMA|DATABASE)|TRUNCATE|DELETE\s+FROM)\b"

# What both of Alembic's programs begin with. argv: the configuration's path, and what is wanted.
_ALEMBIC = """
import ast, inspect, json, re, sys, textwrap
from alembic.config import Config, main
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
path, what = sys.argv[1:]
config = Config(toml_file=path) if path.endswith(".toml") else Config(path)
script = ScriptDirectory.from_config(config)
found = {}
def look(heads, context):
    several = heads if isinstance(heads, (tuple, list, set)) else [heads] if heads else []
    found["heads"] = tuple(sorted(several))
    found["atomic"] = bool(context.impl.transactional_ddl)
    return []
try:
    with EnvironmentContext(config, script, fn=look, dont_mutate=True):
        script.run_env()
except Exception as error:
    print(type(error).__name__ + ": " + str(error), file=sys.stderr)
    names = [each.__name__ for each in type(error).__mro__]
    sys.exit(75 if "OperationalError" in names or "InterfaceError" in names else 1)
def parents(revision):
    for several in (revision.down_revision, getattr(revision, "dependencies", None)):
        for each in (several if isinstance(several, (tuple, list)) else [several]):
            if each:
                yield script.get_revision(each)
def up_to(heads):
    below, waiting = {}, [script.get_revision(each) for each in heads]
    while waiting:
        revision = waiting.pop()
        if revision.revision not in below:
            below[revision.revision] = revision
            waiting.extend(parents(revision))
    return below
"""

# Wanted are the heads to go back to, joined by commas. `alembic downgrade` takes back what is above one
# revision, so it is told of each that grows out of what is to stay, and of its line: b1@a1 is a1, but of what
# is above only b1 and what is above that.
ALEMBIC_DOWN = f"""{_ALEMBIC}
stays, applied = up_to(what.split(",")), up_to(found["heads"])
for name, revision in applied.items():
    below = [each.revision for each in parents(revision)]
    if name not in stays and all(each in stays for each in below):
        lines = revision.down_revision or "base"
        line = lines if isinstance(lines, str) else lines[0]
        main(argv=["-c", path, "downgrade", name + "@" + line])
"""

# Wanted is `current` or `pending`.
ALEMBIC = f"""{_ALEMBIC}
def body(module, name):
    function = getattr(module, name, None)
    if function is None:
        return []
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    return [each for each in tree.body if not isinstance(each, ast.Pass)
            and not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))]
def names_in(nodes):
    walked = [each for node in nodes for each in ast.walk(node)]
    constants = [each.value for each in walked if isinstance(each, ast.Constant)]
    texts = " ".join(each for each in constants if isinstance(each, str))
    return {{each.attr for each in walked if isinstance(each, ast.Attribute)}}, texts
def describe(revision):
    up, down = body(revision.module, "upgrade"), body(revision.module, "downgrade")
    called, texts = names_in(up)
    return {{
        "name": revision.revision + ("_" + revision.doc if revision.doc else ""),
        "reversible": not up or any(not isinstance(each, ast.Raise) for each in down),
        "destroys": bool(called & {{"drop_table", "drop_column"}} or re.search({_DESTROYS!r}, texts)),
        "atomic": found["atomic"] and "autocommit_block" not in called,
    }}
answer = {{"current": ",".join(found["heads"]) or "base"}}
if what == "pending":
    applied = up_to(found["heads"])
    every = reversed(list(script.walk_revisions()))
    answer["pending"] = [describe(each) for each in every if each.revision not in applied]
print("\\n{ANSWER}" + json.dumps(answer))
"""

# WHAT is `current` or `pending`. All in one function: `exec` gives a program's comprehensions other names to
# see.
DJANGO = f"""
def ask(what):
    import json, re, sys
    from django.db import DEFAULT_DB_ALIAS, connections
    from django.db.migrations.executor import MigrationExecutor
    from django.db.migrations.operations.models import DeleteModel
    from django.db.migrations.operations.fields import RemoveField
    from django.db.utils import InterfaceError, OperationalError
    connection = connections[DEFAULT_DB_ALIAS]
    try:
        executor = MigrationExecutor(connection)
    except (OperationalError, InterfaceError) as error:
        print(type(error).__name__ + ": " + str(error), file=sys.stderr)
        sys.exit(75)
    graph, applied = executor.loader.graph, set(executor.loader.applied_migrations)
    newest = {{}}
    for key in sorted(applied):
        children = graph.node_map[key].children if key in graph.node_map else ()
        if not any(child.key[0] == key[0] and child.key in applied for child in children):
            newest[key[0]] = max(newest.get(key[0], ""), key[1])
    answer = {{"current": " ".join(app + "." + name for app, name in sorted(newest.items())) or "base"}}
    def flat(operations):
        for each in operations:
            yield each
            yield from flat(getattr(each, "database_operations", ()))
    def destroys(operation):
        sql = getattr(operation, "sql", "")
        if isinstance(operation, (DeleteModel, RemoveField)):
            return True
        return bool(re.search({_DESTROYS!r}, sql if isinstance(sql, str) else str(sql)))
    if what == "pending":
        transactional = connection.features.can_rollback_ddl
        answer["pending"] = [
            {{
                "name": migration.app_label + "." + migration.name,
                "reversible": all(each.reversible for each in flat(migration.operations)),
                "destroys": any(destroys(each) for each in flat(migration.operations)),
                "atomic": bool(transactional and migration.atomic),
            }}
            for migration, _ in executor.migration_plan(graph.leaf_nodes())
        ]
    print("\\n{ANSWER}" + json.dumps(answer))
ask(WHAT)
"""


def answer_in(answer: Answer) -> dict[str, Any]:
    """The document that one of our programs printed, whatever a project's own code printed besides.

    Raises:
        CannotTell: there is none.
    """
    if answer.code != 0:
        raise failed(answer)
    lines = [each for each in answer.text.splitlines() if each.startswith(ANSWER)]
    if not lines:
        raise CannotTell("the program that asks it printed nothing")
    found: dict[str, Any] = documents(Answer(0, lines[-1].removeprefix(ANSWER)))[0]
    return found


def pending_of(listed: Any) -> tuple[Pending, ...]:
    """The migrations of a document.

    Raises:
        CannotTell: it has none.
    """
    try:
        return tuple(
            Pending(
                name=str(each["name"])[:200],
                reversible=bool(each["reversible"]),
                destroys=bool(each["destroys"]),
                atomic=bool(each["atomic"]),
            )
            for each in listed
        )
    except (KeyError, TypeError):
        raise CannotTell("it printed another list of migrations than was asked for") from None
