"""What to do about what PostgreSQL says."""

from __future__ import annotations

import re

# libpq gives no SQLSTATE of a session that was refused, only the server's words.
_REFUSALS = {
    "28": re.compile(
        r"authentication failed|no pg_hba\.conf entry|no password supplied|role \".*\" does not exist"
    ),
    "3D": re.compile(r"database \".*\" does not exist"),
    "53": re.compile(r"too many (clients|connections)|remaining connection slots"),
}
SESSIONS = "Name the server itself in database.url, or a pooler in session mode: Fraisier needs sessions"
_HINTS = {
    "28": "Check user and password of database.url, and the server's pg_hba.conf",
    "3D": "Create the database: createdb, as a user who may",
    "3F": "Create the schema that the role's search_path names, or name another one there",
    "42": "Connect as the role that owns the tables and the database, as `fraisier serve` does",
    "53": "Free disk or memory of the server, or raise max_connections",
    "25": "Give the primary in database.url if this is a standby; else see default_transaction_read_only",
    "55": "Another session holds a lock: see pg_locks and pg_stat_activity",
    "26": SESSIONS,
    "42P05": SESSIONS,
    "08P01": SESSIONS,
}


def advice(state: str, words: str) -> str:
    """What to do about an error: by its SQLSTATE, or by the words where that is ''."""
    known = state or next((each for each, refusal in _REFUSALS.items() if refusal.search(words)), "")
    unknown = "Check that the server runs and can be reached; Fraisier connects again by itself"
    return _HINTS.get(known) or _HINTS.get(known[:2]) or unknown
