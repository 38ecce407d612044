"""The SQL of SQLite where PostgreSQL's is another."""

from __future__ import annotations

from fraisier.database.transaction import Statements

_COUNT = """
INSERT INTO tb_counters (name, value)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?) WHERE true
    ON CONFLICT (name) DO UPDATE SET value = value + excluded.value
"""
_COUNT_DAYS = """
INSERT INTO tb_deployment_days (fraise, environment, day, status, total, timed, seconds)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
       json_extract(value, '$[6]')
  FROM json_each(?) WHERE true
    ON CONFLICT (fraise, environment, day, status) DO UPDATE
   SET total = total + excluded.total, timed = timed + excluded.timed, seconds = seconds + excluded.seconds
"""

# All that a batch has to know, as one row of two JSON texts: each row, and each statement, would be a
# hand-over of Python's lock. CROSS JOIN is how SQLite is told the order: one look into the index per
# delivery, never a walk through a forge's events.
#
# First the deliveries that are stored already, of {forge: {delivery id: position}}. Then, of a list of
# [fraise, environment], the state that wishes are decided on: the newest deployment that is not
# superseded, found by one look into the index per status, and all that wait.
_READ_PLACES = """
SELECT (SELECT json_group_array(json_array(d.value, v.id))
          FROM json_each(:deliveries) f
         CROSS JOIN json_each(f.value) d
         CROSS JOIN tb_webhook_events v ON v.forge = f.key AND v.delivery_id = d.key AND v.delivery_id <> ''),
       (SELECT json_group_array(json_array(e.fraise, e.name, e.seen_tip, json(e.quarantine),
                 (SELECT json_array(n.id, n.status, n.trigger, n."commit", n.requested_at)
                    FROM tb_deployments n
                   WHERE n.pk = (SELECT max((SELECT d.pk FROM tb_deployments d
                                              WHERE d.fraise = e.fraise AND d.environment = e.name
                                                AND d.status = s.column1
                                              ORDER BY d.pk DESC LIMIT 1))
                                   FROM (VALUES ('pending'), ('running'), ('success'), ('failed'),
                                                ('rolled_back'), ('rollback_failed'), ('cancelled')) s)),
                 (SELECT json_group_array(json_array(p.id, p.status, p.trigger, p."commit", p.requested_at))
                    FROM tb_deployments p
                   WHERE p.fraise = e.fraise AND p.environment = e.name AND p.status = 'pending')))
          FROM json_each(:keys) k
         CROSS JOIN tb_environments e ON e.fraise = json_extract(k.value, '$[0]')
                                     AND e.name = json_extract(k.value, '$[1]') AND e.published)
"""

# The last two values are the same object: id -> id of the newer one.
_SUPERSEDE = """
UPDATE tb_deployments
   SET status = 'superseded', completed_at = ?, cause = 'superseded', hint = ?,
       error_message = 'superseded by the newer deployment ' || json_extract(?, '$."' || id || '"')
 WHERE status = 'pending' AND id IN (SELECT key FROM json_each(?))
"""

# From a list of [fraise, environment, seen_tip, quarantine].
_REMEMBER = """
UPDATE tb_environments
   SET seen_tip = json_extract(k.value, '$[2]'), quarantine = json_extract(k.value, '$[3]')
  FROM json_each(?) k
 WHERE fraise = json_extract(k.value, '$[0]') AND name = json_extract(k.value, '$[1]')
"""

_BY_ID = "SELECT * FROM tb_deployments WHERE id = :id"

# What may change about a deployment. Its wish never does; triggers of the schema hold that.
_CHANGE = """
UPDATE tb_deployments
   SET status = :status, "commit" = :commit, started_at = :started_at, completed_at = :completed_at,
       duration = :duration, cause = :cause, error_message = :error, hint = :hint, release = :release,
       previous_release = :previous_release, cancel_requested_by = :cancel_requested_by,
       not_before = :not_before, retry_at = :until, retry_boot = :boot
 WHERE id = :id
"""


_SERVES = """
UPDATE tb_environments
   SET current_release = :release, current_commit = :commit, current_deployment = :deployment,
       healthy = :healthy
 WHERE fraise = :fraise AND name = :environment
"""
_HELD_TOKEN = "SELECT token FROM tb_environments WHERE fraise = ? AND name = ?"
_LET_GO = """
UPDATE tb_environments SET lease_worker = '', lease_until = 0, lease_boot = '' WHERE fraise = ? AND name = ?
"""

_REGISTER_WORKER = """
INSERT INTO tb_workers (id, host, pid, version, info, started_at, seen_at, alive_until, boot)
VALUES (:id, :host, :pid, :version, :info, :now, :now, :until, :boot)
    ON CONFLICT (id) DO UPDATE
   SET host = excluded.host, pid = excluded.pid, version = excluded.version, info = excluded.info,
       started_at = excluded.started_at, seen_at = excluded.seen_at, alive_until = excluded.alive_until,
       boot = excluded.boot, retired_at = NULL
"""
# With a filter: the newest of each environment and status that it allows, each straight from the index;
# then the newest of those. No index would serve every combination of filters, and none is needed.
_HISTORY_OF_SOME = """
SELECT h.* FROM v_deployment_history h
 WHERE h.position IN (
       SELECT d.pk
         FROM tb_environments e
        CROSS JOIN (VALUES ('pending'), ('running'), ('success'), ('failed'), ('rolled_back'),
                           ('rollback_failed'), ('cancelled'), ('superseded')) s
        CROSS JOIN tb_deployments d ON d.pk IN (
              SELECT n.pk FROM tb_deployments n
               WHERE n.fraise = e.fraise AND n.environment = e.name AND n.status = s.column1
               ORDER BY n.pk DESC LIMIT :limit + :offset)
        WHERE (:fraise = '' OR e.fraise = :fraise) AND (:environment = '' OR e.name = :environment)
          AND (:status = '' OR s.column1 = :status)
        ORDER BY d.pk DESC LIMIT :limit OFFSET :offset)
 ORDER BY h.position DESC
"""

_NOTE_PLANNED = """
INSERT INTO tb_job_plans (fraise, environment, job, planned_until)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]')
  FROM json_each(?) WHERE true
    ON CONFLICT (fraise, environment, job) DO UPDATE SET planned_until = excluded.planned_until
 WHERE excluded.planned_until > planned_until
"""

SQLITE = Statements(
    count=_COUNT,
    count_days=_COUNT_DAYS,
    read_places=_READ_PLACES,
    supersede=_SUPERSEDE,
    remember=_REMEMBER,
    deployment_by_id=_BY_ID,
    change_deployment=_CHANGE,
    serves=_SERVES,
    held_token=_HELD_TOKEN,
    let_go=_LET_GO,
    register_worker=_REGISTER_WORKER,
    held_run="SELECT * FROM tb_runs WHERE id = ?",
    note_planned=_NOTE_PLANNED,
    history_of_some=_HISTORY_OF_SOME,
)
