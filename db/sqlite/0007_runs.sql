-- Runs of jobs, up to when their schedules were looked at, and alerts: see db/postgresql/0007_runs.sql.

ALTER TABLE tb_environments ADD COLUMN run_token INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tb_environments ADD COLUMN runs_held_by TEXT NOT NULL DEFAULT '';

CREATE TRIGGER tr_environments_run_token BEFORE UPDATE OF run_token ON tb_environments
  WHEN NEW.run_token < OLD.run_token
BEGIN SELECT RAISE(ABORT, 'cannot lower a fencing token'); END;

CREATE TABLE tb_runs (
    pk                  INTEGER PRIMARY KEY,
    id                  TEXT NOT NULL UNIQUE,
    fraise              TEXT NOT NULL,
    environment         TEXT NOT NULL,
    host                TEXT NOT NULL DEFAULT '',
    job                 TEXT NOT NULL,
    kind                TEXT NOT NULL,
    trigger             TEXT NOT NULL,
    status              TEXT NOT NULL CHECK (status IN ('pending', 'running', 'success', 'failed', 'cancelled',
                            'skipped', 'missed')),
    parameters          TEXT NOT NULL DEFAULT '{}',
    requested_by        TEXT NOT NULL,
    requested_at        TEXT NOT NULL,
    due                 TEXT,
    not_before          TEXT,
    attempt             INTEGER NOT NULL DEFAULT 1,
    retry_of            TEXT REFERENCES tb_runs (id),
    concurrency         INTEGER NOT NULL DEFAULT 1,
    worker              TEXT NOT NULL DEFAULT '',
    token               INTEGER NOT NULL DEFAULT 0,
    slot                INTEGER NOT NULL DEFAULT 0,
    bound_labels        TEXT NOT NULL DEFAULT '[]',
    release             TEXT NOT NULL DEFAULT '',
    "commit"            TEXT NOT NULL DEFAULT '',
    started_at          TEXT,
    ended_at            TEXT,
    duration            REAL,
    exit_code           INTEGER,
    peak_memory_bytes   INTEGER,
    cause               TEXT,
    error_message       TEXT NOT NULL DEFAULT '',
    hint                TEXT NOT NULL DEFAULT '',
    artefacts           TEXT NOT NULL DEFAULT '[]',
    detail              TEXT NOT NULL DEFAULT '{}',
    cancel_requested_by TEXT NOT NULL DEFAULT '',
    invocation          TEXT NOT NULL DEFAULT '',
    FOREIGN KEY (fraise, environment) REFERENCES tb_environments (fraise, name)
) STRICT;

CREATE INDEX ix_runs_place ON tb_runs (fraise, environment, job, status);
CREATE INDEX ix_runs_active ON tb_runs (status) WHERE status IN ('pending', 'running');
CREATE INDEX ix_runs_begun ON tb_runs (fraise, environment) WHERE started_at IS NOT NULL;
CREATE INDEX ix_runs_begun_of_job ON tb_runs (fraise, environment, job) WHERE started_at IS NOT NULL;
CREATE UNIQUE INDEX ix_runs_due ON tb_runs (fraise, environment, job, due) WHERE due IS NOT NULL AND attempt = 1;
CREATE UNIQUE INDEX ix_runs_invocation ON tb_runs (invocation) WHERE invocation <> '';

CREATE TRIGGER tr_runs_kept BEFORE DELETE ON tb_runs
BEGIN SELECT RAISE(ABORT, 'cannot delete a run: the history is kept'); END;

CREATE TRIGGER tr_runs_fixed BEFORE UPDATE OF
    pk, id, fraise, environment, job, kind, trigger, parameters, requested_by, requested_at, due, not_before, attempt,
    retry_of, concurrency, invocation ON tb_runs
BEGIN SELECT RAISE(ABORT, 'cannot change what a run was asked for'); END;

CREATE TRIGGER tr_runs_final BEFORE UPDATE ON tb_runs WHEN OLD.status NOT IN ('pending', 'running')
BEGIN SELECT RAISE(ABORT, 'cannot change a run that has ended'); END;

CREATE TABLE tb_run_output (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    run        TEXT NOT NULL REFERENCES tb_runs (id),
    part       TEXT NOT NULL CHECK (part IN ('head', 'gap', 'tail')),
    bytes      INTEGER NOT NULL,
    written_at TEXT NOT NULL,
    text       TEXT NOT NULL
) STRICT;

CREATE INDEX ix_run_output_run ON tb_run_output (run, part);

CREATE TABLE tb_run_volumes (
    run     TEXT PRIMARY KEY REFERENCES tb_runs (id),
    head    INTEGER NOT NULL DEFAULT 0,
    tail    INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE tb_job_plans (
    fraise        TEXT NOT NULL,
    environment   TEXT NOT NULL,
    job           TEXT NOT NULL,
    planned_until TEXT NOT NULL,
    PRIMARY KEY (fraise, environment, job)
) STRICT, WITHOUT ROWID;

CREATE TABLE tb_alerts (
    pk          INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    fraise      TEXT NOT NULL,
    environment TEXT NOT NULL,
    job         TEXT NOT NULL,
    kind        TEXT NOT NULL,
    message     TEXT NOT NULL,
    hint        TEXT NOT NULL DEFAULT '',
    run         TEXT REFERENCES tb_runs (id),
    raised_at   TEXT NOT NULL,
    cleared_at  TEXT,
    cleared_by  TEXT NOT NULL DEFAULT '',
    FOREIGN KEY (fraise, environment) REFERENCES tb_environments (fraise, name)
) STRICT;

CREATE UNIQUE INDEX ix_alerts_standing ON tb_alerts (fraise, environment, job, kind) WHERE cleared_at IS NULL;

CREATE TRIGGER tr_alerts_kept BEFORE DELETE ON tb_alerts
BEGIN SELECT RAISE(ABORT, 'cannot delete an alert: alerts are append-only'); END;

CREATE TRIGGER tr_alerts_fixed BEFORE UPDATE OF
    pk, id, fraise, environment, job, kind, message, hint, run, raised_at ON tb_alerts
BEGIN SELECT RAISE(ABORT, 'cannot change an alert: alerts are append-only'); END;

CREATE TRIGGER tr_alerts_cleared_once BEFORE UPDATE OF cleared_at, cleared_by ON tb_alerts
  WHEN OLD.cleared_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'cannot change an alert that was cleared'); END;

CREATE VIEW v_run_history AS
SELECT r.id,
       r.fraise            AS fraise_id,
       r.environment,
       r.host,
       r.job,
       r.kind,
       r.trigger,
       r.status,
       r.release,
       r."commit",
       r.parameters,
       r.requested_by,
       r.requested_at,
       r.due,
       r.not_before,
       r.started_at,
       r.ended_at,
       r.duration          AS duration_seconds,
       r.exit_code,
       r.peak_memory_bytes,
       r.attempt,
       r.retry_of,
       r.cause,
       r.error_message,
       r.hint,
       r.artefacts,
       r.detail,
       r.cancel_requested_by,
       r.invocation,
       r.pk                AS position
  FROM tb_runs r;

CREATE VIEW v_alerts AS
SELECT a.id,
       a.fraise      AS fraise_id,
       a.environment,
       a.job,
       a.kind,
       a.message,
       a.hint,
       a.run         AS run_id,
       a.raised_at,
       a.cleared_at,
       a.cleared_by,
       a.pk          AS position
  FROM tb_alerts a;

DROP VIEW v_fraise_status;
CREATE VIEW v_fraise_status AS
SELECT e.id,
       e.fraise             AS fraise_id,
       e.name               AS environment,
       f.type,
       n.status,
       n.id                 AS deployment_id,
       n.requested_at,
       n.error_message,
       n.cause,
       n.hint,
       e.current_release,
       e.current_commit,
       e.current_deployment AS current_deployment_id,
       CASE WHEN a.alerts > 0 THEN 0 ELSE e.healthy END AS healthy,
       e.last_deployed_at   AS last_deployed,
       (SELECT d.id FROM tb_deployments d
         WHERE d.fraise = e.fraise AND d.environment = e.name AND d.status = 'running'
         ORDER BY d.pk DESC LIMIT 1) AS running_deployment_id,
       (SELECT count(*) FROM tb_deployments d
         WHERE d.fraise = e.fraise AND d.environment = e.name AND d.status = 'pending') AS pending,
       e.paused,
       (SELECT json_group_array(key) FROM json_each(e.quarantine)) AS quarantined_commits,
       nullif(e.lease_worker, '') AS lease_worker,
       e.seen_tip,
       e.paused_by,
       e.paused_at,
       e.paused_reason,
       coalesce(a.alerts, 0) AS alerts,
       l.started_at          AS last_run,
       l.status              AS last_run_status
  FROM tb_environments e
  JOIN tb_fraises f ON f.name = e.fraise
  LEFT JOIN tb_deployments n ON n.pk = (
        -- One look into the index per status: the newest of all without sorting any.
        SELECT max((SELECT d.pk FROM tb_deployments d
                     WHERE d.fraise = e.fraise AND d.environment = e.name AND d.status = s.column1
                     ORDER BY d.pk DESC LIMIT 1))
          FROM (VALUES ('pending'), ('running'), ('success'), ('failed'), ('rolled_back'),
                       ('rollback_failed'), ('cancelled'), ('superseded')) s)
  LEFT JOIN (SELECT fraise, environment, count(*) AS alerts FROM tb_alerts WHERE cleared_at IS NULL
              GROUP BY fraise, environment) a ON a.fraise = e.fraise AND a.environment = e.name
  LEFT JOIN tb_runs l ON l.pk = (
        SELECT max(r.pk) FROM tb_runs r
         WHERE r.fraise = e.fraise AND r.environment = e.name AND r.started_at IS NOT NULL)
 WHERE e.published;
