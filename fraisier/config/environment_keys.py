"""Every key of an environment, its kind, its default and a sentence: see `keys`."""

from __future__ import annotations

from fraisier.config import later, texts
from fraisier.config.backup_keys import BACKUP
from fraisier.config.job_keys import FLAT
from fraisier.config.kinds import (
    Choice,
    DatabaseUrl,
    Duration,
    Flag,
    FlagOrAuto,
    Place,
    Share,
    ShellLine,
    Size,
    Text,
    Times,
    Value,
    Whole,
)
from fraisier.config.reading import Variables
from fraisier.config.sections import Either, Key, Many, Section, Table

_path = Text("absolute path", texts.absolute, Variables.path)
_relative = Text("path in the repository", texts.relative)
_line = ShellLine()

BUILD = Section(
    {
        "run": Key(_line, "shell line, run in the release's folder as `user`", required=True),
        "timeout": Key(Duration(0.1), "how long it may take", shown="`build_timeout`"),
    }
)

MIGRATION = Section(
    {
        "framework": Key(
            Text("name", texts.name),
            "what migrates: alembic, confiture, django, command (`up` and its like), or a plugin's",
            default="command",
        ),
        "name": Key(Text(), "the database's name, for people; without `url`, databases are told apart by it"),
        "url": Key(
            DatabaseUrl(),
            "where the database is; migrations get it as DATABASE_URL, backups connect to it",
            shown="`DATABASE_URL` of `env` or `env_file`",
        ),
        "config": Key(
            _relative,
            "the framework's own file in the release",
            shown="`alembic.ini`, `manage.py`; confiture: DATABASE_URL instead",
        ),
        "folder": Key(_relative, "confiture: where the migrations are", shown="`db/migrations`"),
        "python": Key(
            _line, "alembic, django: how the release's Python is called", shown="`.venv/bin/python`"
        ),
        "command": Key(_line, "confiture: how it is called", shown="`.venv/bin/confiture`"),
        "up": Key(_line, "command: shell line that migrates; run in the new release's folder"),
        "down": Key(
            _line,
            "command: shell line that takes the database back to the revision $FRAISIER_REVISION",
            shown="not reversible",
        ),
        "current": Key(
            _line, "command: shell line that prints the database's revision", shown="it is not told"
        ),
        "pending": Key(
            _line,
            "command: shell line that prints what is pending, one migration a line",
            shown="it is not told",
        ),
        "timeout": Key(Duration(0.1), "how long a migration may take", default=1800.0),
        "reversible": Key(
            FlagOrAuto(),
            "whether migrations can be taken back; auto: as the framework tells",
            default="auto",
        ),
        "on_irreversible": Key(
            Choice("refuse", "backup", "proceed"),
            "what becomes of a deployment whose migrations cannot be taken back; backup: a dump first",
            default="proceed",
        ),
        "backup_before_deploy": Key(Flag(), "a verified dump before each migration", default=False),
        "backup_command": Key(
            _line,
            "shell line that dumps the database into $FRAISIER_BACKUP",
            shown="pg_dump, or SQLite's own",
        ),
        "backup_folder": Key(
            Text("absolute path", texts.app_path), "where dumps are kept", shown="`<app_path>/backups`"
        ),
        "backup_timeout": Key(Duration(0.1), "how long a dump may take", default=3600.0),
        "keep_backups": Key(Whole(1, 1000), "how many dumps stay on the disk", default=3),
        "lock": Key(
            Text(), "what the database is called among all that are migrated", shown="`url`, or `name`"
        ),
        "lock_timeout": Key(
            Duration(0, 86400), "how long a deployment waits for others' migrations of it", default=600.0
        ),
    },
    later=later.KEYS["migration"],
    other=Text(),
)

HEALTH = Section(
    {
        "url": Key(Text("URL", texts.web_url), "checked by GET; redirects are not followed"),
        "tcp": Key(Text("host:port", texts.tcp), "checked by connecting"),
        "command": Key(_line, "checked by running it in the release's folder as `user`: exit code 0 passes"),
        "expect_status": Key(
            Many(Whole(100, 599), or_one=True), "HTTP status, or several", default=(), shown="any 2xx"
        ),
        "expect_body": Key(Text(), "a text that the body must contain"),
        "expect_headers": Key(Table(Text(), texts.header), "headers that the answer must have", default={}),
        "headers": Key(Table(Value(one_line=True), texts.header), "headers that are sent", default={}),
        "interval": Key(Duration(0.05, 3600), "time between two probes, less at the start", default=1.0),
        "request_timeout": Key(Duration(0.05, 3600), "how long one probe may take", default=5.0),
        "timeout": Key(Duration(0.1, 86400), "how long the release has to become healthy", default=30.0),
        "passes": Key(Whole(1, 100), "how many probes must pass in a row", default=2),
    },
    later=later.KEYS["health"],
)

TARGET = Section(
    {
        "type": Key(
            Text("name", texts.name), "brand: systemd, supervisord, compose, or a plugin's", required=True
        ),
        "unit": Key(Text(), "what the brand calls the thing that runs", required=True),
    },
    other=Text(),
)

PROXY = Section(
    {"type": Key(Text("name", texts.name), "brand: haproxy, caddy, or a plugin's", required=True)},
    other=Text(),
)

ROLLOUT = Section(
    {
        "batch": Key(
            Share(),
            "how many hosts are changed at once: a number, or a percentage of all",
            default=(1, False),
            shown="1",
        ),
        "max_failures": Key(
            Whole(0, 100000), "with more hosts than these that fail, every host goes back", default=0
        ),
        "pause": Key(Duration(0, 86400), "how long to wait between two batches", default=0.0),
        "canary": Key(
            Whole(0, 100000),
            "how many hosts come first; if one of them fails, every host goes back",
            default=1,
        ),
    }
)

ENVIRONMENT = Section(
    {
        "branch": Key(
            Text("name", texts.branch), "the branch that is followed; this, `tag` or branch_mapping"
        ),
        "tag": Key(Text("pattern", texts.tag), "a pattern of tags that are followed, e.g. v*"),
        "hosts": Key(
            Many(Text("host", texts.host), or_one=True),
            "where it runs: this machine, or others that are reached over SSH, see ssh.md",
            shown="this machine",
        ),
        "rollout": Key(ROLLOUT, "in which order several hosts get a release: see rollout.md"),
        "labels": Key(
            Many(Text("label", texts.label), or_one=True),
            "deployed only by workers that have all of these, e.g. the name of the machine where it lives",
            default=(),
            shown="workers without labels",
        ),
        "app_path": Key(
            Text("absolute path", texts.app_path),
            "the folder of releases/, shared/ and current; this environment's alone",
            required=True,
        ),
        "user": Key(
            Text("name", texts.user), "runs build, migration and health commands", shown="Fraisier's own"
        ),
        "systemd_service": Key(Text("unit", texts.unit), "restarted after the switch; left out: nothing is"),
        "systemd_manager": Key(Choice("system", "user"), "whose manager has the unit", default="system"),
        "supervisord_program": Key(
            Text("program", texts.program), "the same, where supervisord runs the process"
        ),
        "supervisord_config": Key(
            _path, "supervisord's configuration file", shown="where supervisorctl looks"
        ),
        "compose_file": Key(
            Many(Text("path in the repository", texts.compose_file), or_one=True),
            "the same, where Docker Compose runs the release: its files, as in `docker compose -f`",
        ),
        "compose_project": Key(
            Text("project", texts.compose_project),
            "the project's name for Docker Compose; changing it starts a second one beside the first",
            shown="fraise-environment",
        ),
        "target": Key(TARGET, "the same, for any brand: {type, unit, and the brand's own settings}"),
        "unit_file": Key(_relative, "a file of the release that is installed as the unit"),
        "run": Key(
            _line,
            "the command that serves, in the release's folder as `user`; the unit is written from it, and"
            " the service is told where to listen: $FRAISIER_SOCKET, or $PORT",
        ),
        "listen": Key(
            Many(Place(), or_one=True),
            "where the service listens: the path of a unix socket (`%i`: the release), or ports",
            default=(),
            shown="blue_green: a socket below /run",
        ),
        "cutover": Key(
            Choice("restart", "socket", "blue_green"),
            "how the traffic comes to a new release: see zero-downtime.md",
            default="restart",
        ),
        "drain_timeout": Key(
            Duration(0, 86400), "how long requests and WebSockets of the old release may last", default=30.0
        ),
        "bake": Key(
            Duration(0, 86400), "how long a release that serves is watched before it is left", default=0.0
        ),
        "proxy": Key(
            PROXY,
            "the proxy that is told which release serves, where they listen on ports: {type, and the brand's"
            " own settings}",
        ),
        "build": Key(Many(Either(_line, BUILD, into="run")), "shell lines, or {run, timeout}", default=()),
        "build_on": Key(
            Choice("each", "first", "here"),
            "where it is built: on each host, on the first one, or here and sent over",
            default="each",
        ),
        "build_timeout": Key(Duration(0.1), "how long each of them may take", default=1800.0),
        "env": Key(
            Table(Value(), texts.environment_variable),
            "variables for build, migration and health commands",
            default={},
        ),
        "env_file": Key(_path, "the same, from a file of NAME=value lines on the host"),
        "shared": Key(
            Many(_relative),
            "linked into each release from <app_path>/shared; a folder ends with /",
            default=(),
        ),
        "submodules": Key(Flag(), "check submodules out", default=False),
        "lfs": Key(Flag(), "fetch LFS objects", default=False),
        "root": Key(_relative, "the folder of the repository that is deployed", shown="all of it"),
        "paths": Key(
            Many(Text("pattern", texts.pattern)),
            "a push that touches none of these deploys nothing",
            default=(),
        ),
        "database": Key(MIGRATION, "how the release's database is migrated"),
        "health_check": Key(HEALTH, "when a release counts as healthy: one of url, tcp, command"),
        "keep_releases": Key(Whole(2, 1000), "how many releases stay on the disk", default=5),
        "on_force_push": Key(
            Choice("deploy", "refuse"),
            "what becomes of a push that does not descend from what runs",
            default="deploy",
        ),
        "retry_for": Key(
            Duration(), "how long disk, network and host failures are retried", default=900.0, shown="15m"
        ),
        "min_free_disk": Key(
            Size(), "free space without which nothing is begun", default=200 << 20, shown="200MiB"
        ),
        "restart_timeout": Key(
            Duration(0.1, 86400), "how long a restart, or `docker compose up`, may take", default=90.0
        ),
        "allowed": Key(
            Many(Times(), or_one=True),
            "when deployments begin by themselves, e.g. mon-fri 08:00-17:00 Europe/Berlin; else they wait",
            default=(),
            shown="always",
        ),
        **FLAT,
        **BACKUP,
    },
    later=later.KEYS["environment"],
)
