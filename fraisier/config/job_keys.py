"""Every key of a job, wherever it stands, and those of the types that have jobs: see `keys`."""

from __future__ import annotations

from fraisier.config import texts
from fraisier.config.job_kinds import Default, Script, When, Zone, artefact
from fraisier.config.kinds import Choice, Duration, Flag, ShellLine, Text, Whole
from fraisier.config.sections import Either, Key, Many, Section, Table

_line = ShellLine()
_lines = Many(_line, or_one=True)
_script = Text("path in the repository", texts.relative)

SMOKE = Section(
    {
        "run": Key(_line, "shell line, run in the new release's folder as `user`", required=True),
        "timeout": Key(Duration(0.1), "how long it may take", default=600.0),
    }
)

SCRIPT = Section(
    {
        "type": Key(
            Choice("command", "script", later=("slack", "discord", "email", "teams", "webhook")),
            "what follows: a command",
            default="command",
        ),
        "command": Key(Script(), "shell line"),
        "script": Key(Script(), "the same"),
    },
    later=dict.fromkeys(
        ("webhook_url", "url", "channel", "to", "from", "recipients", "smtp_host", "token"), "telling people"
    ),
)

NOTIFICATIONS = Section(
    {
        "on_success": Key(Many(Either(Script(), SCRIPT, into="command"), or_one=True), "`on_success`"),
        "on_failure": Key(Many(Either(Script(), SCRIPT, into="command"), or_one=True), "`on_failure`"),
    },
    later={"on_rollback": "telling people"},
)

# When a job is due.
WHEN = {
    "schedule": Key(
        When(),
        "when it is due: a cron expression, or one as systemd's OnCalendar has them",
        shown="by hand only",
    ),
    "timezone": Key(
        Zone(), "the time zone of `schedule`, e.g. Europe/Berlin", shown="that of the machine which keeps it"
    ),
    "jitter": Key(Duration(0, 86400), "each run begins up to so much later", default=0.0),
    "persistent": Key(
        Flag(), "one run is caught up where some were missed while nobody looked", default=True
    ),
    "grace": Key(
        Duration(0, 90 * 86400),
        "so long after it was due, a run that has not begun raises an alert",
        default=300.0,
        shown="5m",
    ),
    "keeper": Key(
        Choice("systemd", "worker"),
        "who keeps the schedule: timers that Fraisier writes, or its own worker",
        shown="scheduled: systemd, where there is one; else worker",
    ),
}

# How often it is tried, and what follows.
TRIES = {
    "timeout": Key(Duration(0.1), "how long a run may take", default=3600.0, shown="1h"),
    "retries": Key(Whole(0, 100), "further tries of a run that failed", default=0),
    "retry_delay": Key(
        Duration(0, 86400),
        "the pause before the first of them; each later one is twice as long",
        default=30.0,
    ),
    "on_success": Key(_lines, "shell lines that follow a run, after its last try", default=()),
    "on_failure": Key(_lines, "the same, where it failed", default=()),
    "notifications": Key(NOTIFICATIONS, "older files: scripts as `on_success` and `on_failure`"),
}

# What it is.
WHAT = {
    "command": Key(_line, "the job's shell line, run in the release's folder as `user`"),
    "script_path": Key(
        _script, "older files: a file of the release; .py is run by python3, .sh by sh, others by themselves"
    ),
    "systemd_timer": Key(
        Text("unit", texts.unit),
        "older files: a timer of your own, which a deployment starts; its schedule is its own",
    ),
    "depends_on": Key(
        Text("name", texts.name),
        "another job of the environment: this one follows each success of it; with a `schedule`, it is"
        " skipped unless that one's last run was a success",
    ),
    "concurrency": Key(Whole(1, 100), "how many runs there may be at a time", default=1),
    "parameters": Key(
        Table(Default(), texts.variable),
        "what a run may be given, with defaults: $FRAISIER_PARAM_NAME; no value: each run needs one",
        default={},
    ),
    "artefacts": Key(
        Many(Text("pattern", artefact), or_one=True),
        "patterns of files that a run makes, in the release or absolute; their paths are listed with it",
        default=(),
    ),
}

JOB = Section(
    {
        "run": Key(_line, "the job's shell line, run in the release's folder as `user`"),
        **{name: key for name, key in WHAT.items() if name != "command"},
        "command": Key(_line, "the same as `run`"),
        "systemd_service": Key(
            Text("unit", texts.unit), "older files: what systemd_timer starts; Fraisier leaves it alone"
        ),
        **WHEN,
        **TRIES,
    }
)

# `verify` of a backup: when backups are tried.
VERIFY = Section(
    {name: key for name, key in WHEN.items() if name != "keeper"}
    | {name: TRIES[name] for name in ("timeout", "retries", "retry_delay")}
)

FLAT = {
    **WHAT,
    **WHEN,
    **TRIES,
    "jobs": Key(
        Table(JOB, texts.name, needed=True),
        "scheduled: its jobs, by name; what stands beside is their default",
    ),
    "smoke": Key(
        Either(_line, SMOKE, into="run"),
        "tries a new release before it is switched to: a line, or {run, timeout}",
    ),
    "dry_run": Key(Flag(), "the same, by the job's line with --dry-run after it", default=False),
    "run_on_deploy": Key(Flag(), "etl: a deployment is followed by a run", default=False),
    "on_running": Key(
        Choice("wait", "cancel", "new_release_next"),
        "what a deployment does where a run is under way as it comes to the migration, else to the switch",
        default="wait",
    ),
    "log_file": Key(
        Text("path", texts.absolute),
        "where runs that systemd starts write, with a rule for logrotate; in a folder of root's, e.g."
        " /var/log/fraisier/reports.log",
        shown="systemd's journal",
    ),
    "verify": Key(VERIFY, "backup: when backups are brought back in a place of their own and tried"),
}
