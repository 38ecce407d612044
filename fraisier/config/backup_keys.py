"""Every key of a backup: what is backed up, where to, for how long, and how it is tried. See `keys`."""

from __future__ import annotations

from fraisier.config import texts
from fraisier.config.backup_kinds import Expected, SourcePlace, destination_place, recipient, source_path
from fraisier.config.kinds import DatabaseUrl, Duration, Flag, ShellLine, Text, Value, Whole
from fraisier.config.reading import Variables
from fraisier.config.sections import Either, Key, Many, Section, Table

_line = ShellLine()
_path = Text("absolute path", texts.absolute, Variables.path)

SOURCE = Section(
    {
        "type": Key(
            Text("name", texts.name),
            "brand: postgresql, mysql (MariaDB too), sqlite, folder, command, or a plugin's",
            shown="what `url`, `path` or `command` tells",
        ),
        "url": Key(DatabaseUrl(), "where a database is"),
        "path": Key(Text("path", source_path, Variables.path), "a folder: absolute, or in the release"),
        "exclude": Key(
            Many(Text("pattern"), or_one=True), "patterns of what is left out of a folder", default=()
        ),
        "command": Key(_line, "shell line that writes what is to be kept into the file $FRAISIER_BACKUP"),
        "restore": Key(
            _line,
            "command: shell line that brings it back from the file $FRAISIER_BACKUP: into the folder"
            " $FRAISIER_RESTORE_TO, or where that is empty to where it came from",
        ),
        "query": Key(
            _line,
            "asked of what was brought back: SQL; for a folder or a command a shell line, run in it",
        ),
        "expect": Key(Expected(), "what `query` has to answer", shown="anything but nothing, 0 and false"),
        "rows": Key(
            Flag(),
            "whether every table must have as many rows as when it was dumped",
            default=True,
        ),
    },
    other=Text(),
)

DESTINATION = Section(
    {
        "type": Key(
            Text("name", texts.name),
            "brand: folder, rsync, s3, restic, or a plugin's",
            shown="what `place` tells",
        ),
        "place": Key(
            Text("place", destination_place, Variables.path),
            "a folder on the host, `[user@]host:/folder`, `s3://bucket/prefix`, or a restic repository",
            required=True,
        ),
    },
    other=Value(one_line=True),
)

_many = Whole(0, 10000)
RETENTION = Section(
    {
        "keep_last": Key(_many, "the newest ones", default=0),
        "keep_daily": Key(_many, "the newest of each of so many days that have any", default=0),
        "keep_weekly": Key(_many, "the same of weeks", default=0),
        "keep_monthly": Key(_many, "the same of months", default=0),
    }
)

ENCRYPTION = Section(
    {
        "recipients": Key(
            Many(Text("recipient", recipient), or_one=True),
            "public keys of age, or SSH: only whoever has one of their private keys reads the backups",
            required=True,
        ),
        "identity": Key(
            _path, "file on the host with a private key; verifying and restoring need it, backing up does not"
        ),
    }
)

BACKUP = {
    "sources": Key(
        Table(Either(SourcePlace(), SOURCE, into="url"), texts.name, needed=True),
        "backup: what is backed up, by name: a database's URL, a folder's absolute path, or a section",
    ),
    "destinations": Key(
        Table(
            Either(Text("place", destination_place, Variables.path), DESTINATION, into="place"),
            texts.name,
            needed=True,
        ),
        "backup: where to, by name; each gets every backup",
    ),
    "retention": Key(RETENTION, "backup: which backups are kept; the rest goes", shown="the newest 7"),
    "retention_days": Key(Whole(1, 10000), "older files: the newest backup of each of so many days is kept"),
    "encryption": Key(ENCRYPTION, "backup: files are encrypted before they leave the host"),
    "verified_within": Key(
        Duration(0),
        "backup: so old the newest verified backup may become, or the environment counts as unhealthy;"
        " 0: nobody asks",
        default=8 * 86400.0,
        shown="8d",
    ),
    "staging": Key(
        Text("absolute path", texts.app_path),
        "backup: folder on the host where dumps are made, and brought back",
        shown="`<app_path>/backups/staging`",
    ),
}
