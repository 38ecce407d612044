"""The SQL of PostgreSQL where SQLite's is another."""

from __future__ import annotations

from fraisier.database.transaction import Statements

# Sorted, so that two transactions do not wait for each other.
_COUNT = """
INSERT INTO tb_counters AS c (name, shard, value)
SELECT k->>0, fn_shard(), (k->>1)::bigint FROM jsonb_array_elements(CAST(? AS jsonb)) k ORDER BY 1
    ON CONFLICT (name, shard) DO UPDATE SET value = c.value + excluded.value
"""
_COUNT_DAYS = """
INSERT INTO tb_deployment_days AS s (fraise, environment, day, status, total, timed, seconds)
SELECT k->>0, k->>1, k->>2, k->>3, (k->>4)::integer, (k->>5)::integer, (k->>6)::double precision
  FROM jsonb_array_elements(CAST(? AS jsonb)) k ORDER BY 1, 2, 3, 4
    ON CONFLICT (fraise, environment, day, status) DO UPDATE
   SET total = s.total + excluded.total, timed = s.timed + excluded.timed,
       seconds = s.seconds + excluded.seconds
"""

# All that a batch has to know, as one row of two JSON texts.
#
# First the deliveries that are stored already, of {forge: {delivery id: position}}; LIMIT keeps the planner
# from walking through all events. Then, of a list of [fraise, environment], the state that wishes are decided
# on: the newest deployment that is not superseded, found by one look into the index per status, and all that
# wait.
_READ_PLACES = """
SELECT (SELECT coalesce(jsonb_agg(jsonb_build_array(d.position::integer, v.id)), '[]')
          FROM jsonb_each(CAST(:deliveries AS jsonb)) f (forge, ids)
         CROSS JOIN jsonb_each_text(f.ids) d (delivery_id, position)
         CROSS JOIN LATERAL (SELECT e.id FROM tb_webhook_events e
                              WHERE e.forge = f.forge AND e.delivery_id = d.delivery_id
                                AND e.delivery_id <> '' LIMIT 1) v),
       (SELECT coalesce(jsonb_agg(jsonb_build_array(e.fraise, e.name, e.seen_tip, e.quarantine,
                 (SELECT jsonb_build_array(n.id, n.status, n.trigger, n."commit", fn_iso(n.requested_at))
                    FROM tb_deployments n
                   WHERE n.pk = (SELECT max((SELECT d.pk FROM tb_deployments d
                                              WHERE d.fraise = e.fraise AND d.environment = e.name
                                                AND d.status = s.status
                                              ORDER BY d.pk DESC LIMIT 1))
                                   FROM (VALUES ('pending'), ('running'), ('success'), ('failed'),
                                                ('rolled_back'), ('rollback_failed'), ('cancelled'))
                                        s (status))),
                 (SELECT coalesce(jsonb_agg(jsonb_build_array(p.id, p.status, p.trigger, p."commit",
                                                              fn_iso(p.requested_at)) ORDER BY p.pk), '[]')
                    FROM tb_deployments p
                   WHERE p.fraise = e.fraise AND p.environment = e.name AND p.status = 'pending'))), '[]')
          FROM jsonb_array_elements(CAST(:keys AS jsonb)) k
          JOIN tb_environments e ON e.fraise = k->>0 AND e.name = k->>1 AND e.published)
"""

# By an array: of a join with jsonb_each the planner expects a hundred rows, and reads the whole table.
_SUPERSEDE = """
UPDATE tb_deployments
   SET status = 'superseded', completed_at = ?, cause = 'superseded', hint = ?,
       error_message = 'superseded by the newer deployment ' || (CAST(? AS jsonb) ->> id::text)
 WHERE status = 'pending'
   AND id = ANY (ARRAY(SELECT k::uuid FROM jsonb_object_keys(CAST(? AS jsonb)) k))
"""
_REMEMBER = """
UPDATE tb_environments e
   SET seen_tip = k->>2, quarantine = (k->>3)::jsonb
  FROM jsonb_array_elements(CAST(? AS jsonb)) k
 WHERE e.fraise = k->>0 AND e.name = k->>1
"""

_BY_ID = """
SELECT * FROM tb_deployments
 WHERE id = CASE WHEN CAST(:id AS text) ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN :id END::uuid
"""

# What may change about a deployment. Its wish never does; triggers of the schema hold that.
_CHANGE = """
UPDATE tb_deployments
   SET status = :status, "commit" = :commit, started_at = :started_at, completed_at = :completed_at,
       duration = :duration, cause = :cause, error_message = :error, hint = :hint, release = :release,
       previous_release = :previous_release, cancel_requested_by = :cancel_requested_by,
       not_before = :not_before
 WHERE id = :id
"""

_SERVES = """
UPDATE tb_environments
   SET current_release = :release, current_commit = :commit,
       current_deployment = nullif(CAST(:deployment AS text), '')::uuid, healthy = :healthy
 WHERE fraise = :fraise AND name = :environment
"""
_HELD_TOKEN = "SELECT token FROM tb_environments WHERE fraise = ? AND name = ? FOR NO KEY UPDATE"
_LET_GO = "UPDATE tb_environments SET lease_worker = '', lease_until = NULL WHERE fraise = ? AND name = ?"

# Nothing where a worker of that name lives in another process.
_REGISTER_WORKER = """
INSERT INTO tb_workers AS w (id, host, pid, version, info, started_at, seen_at, alive_until)
VALUES (:id, :host, :pid, :version, :info, :now, :now, :until)
    ON CONFLICT (id) DO UPDATE
   SET host = excluded.host, pid = excluded.pid, version = excluded.version, info = excluded.info,
       started_at = excluded.started_at, seen_at = excluded.seen_at, alive_until = excluded.alive_until,
       retired_at = NULL
 WHERE w.retired_at IS NOT NULL OR w.alive_until <= clock_timestamp() OR w.seen_at > clock_timestamp()
    OR (w.host, w.pid) = (excluded.host, excluded.pid)
"""

# With a filter: the newest of each environment and status that it allows, each straight from the index;
# then the newest of those.
_HISTORY_OF_SOME = """
SELECT h.* FROM v_deployment_history h
 WHERE h.position = ANY (ARRAY(
       SELECT d.pk
         FROM tb_environments e
        CROSS JOIN (VALUES ('pending'), ('running'), ('success'), ('failed'), ('rolled_back'),
                           ('rollback_failed'), ('cancelled'), ('superseded')) s (status)
        CROSS JOIN LATERAL (SELECT n.pk FROM tb_deployments n
                             WHERE n.fraise = e.fraise AND n.environment = e.name AND n.status = s.status
                             ORDER BY n.pk DESC LIMIT CAST(:limit AS bigint) + CAST(:offset AS bigint)) d
        WHERE (:fraise = '' OR e.fraise = :fraise) AND (:environment = '' OR e.name = :environment)
          AND (:status = '' OR s.status = :status)
        ORDER BY d.pk DESC LIMIT CAST(:limit AS bigint) OFFSET CAST(:offset AS bigint)))
 ORDER BY h.position DESC
"""

_NOTE_PLANNED = """
INSERT INTO tb_job_plans AS p (fraise, environment, job, planned_until)
SELECT k->>0, k->>1, k->>2, (k->>3)::timestamptz
  FROM jsonb_array_elements(CAST(? AS jsonb)) k ORDER BY 1, 2, 3
    ON CONFLICT (fraise, environment, job) DO UPDATE SET planned_until = excluded.planned_until
 WHERE excluded.planned_until > p.planned_until
"""

POSTGRESQL = Statements(
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
    held_run="SELECT * FROM tb_runs WHERE id = ? FOR NO KEY UPDATE",
    note_planned=_NOTE_PLANNED,
    history_of_some=_HISTORY_OF_SOME,
)
