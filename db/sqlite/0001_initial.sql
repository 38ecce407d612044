-- The first schema. Commands write tb_*, everything that reads uses v_*.
--
-- Times are UTC ISO 8601 text with microseconds and Z: they sort, and a person can read them. Lease and
-- retry times are CLOCK_BOOTTIME seconds beside the boot they belong to. Ids are uuids as text. A fraise
-- and an environment are referred to by name; rows of what is no longer published stay.

-- ------------------------------------------------------------------------------------ installation

CREATE TABLE tb_installation (
    pk           INTEGER PRIMARY KEY CHECK (pk = 1),
    id           TEXT NOT NULL,
    created_at   TEXT NOT NULL,
    digest       TEXT NOT NULL DEFAULT '',   -- of the configuration that is published
    published_at TEXT,
    pruned_event INTEGER NOT NULL DEFAULT 0  -- payloads of events up to this pk are gone
) STRICT;

INSERT INTO tb_installation (pk, id, created_at)
SELECT 1,
       lower(substr(u, 1, 8) || '-' || substr(u, 9, 4) || '-4' || substr(u, 14, 3) || '-a'
             || substr(u, 18, 3) || '-' || substr(u, 21, 12)),
       strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
  FROM (SELECT hex(randomblob(16)) AS u);

CREATE TABLE tb_fraises (
    name        TEXT PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    type        TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    forge       TEXT NOT NULL DEFAULT '',
    repository  TEXT NOT NULL DEFAULT '',
    published   INTEGER NOT NULL DEFAULT 1
) STRICT;

CREATE TABLE tb_environments (
    pk                 INTEGER PRIMARY KEY,
    id                 TEXT NOT NULL UNIQUE,
    fraise             TEXT NOT NULL REFERENCES tb_fraises (name),
    name               TEXT NOT NULL,
    document           TEXT NOT NULL DEFAULT '{}',  -- the checked configuration without secrets, JSON
    published          INTEGER NOT NULL DEFAULT 1,
    paused             INTEGER NOT NULL DEFAULT 0,
    seen_tip           TEXT NOT NULL DEFAULT '',    -- the last tip of its branch that was decided on; '?': to be looked up
    quarantine         TEXT NOT NULL DEFAULT '{}',  -- {commit: {at, deployment, cause}}
    current_release    TEXT NOT NULL DEFAULT '',
    current_commit     TEXT NOT NULL DEFAULT '',
    current_deployment TEXT NOT NULL DEFAULT '',
    healthy            INTEGER,                     -- NULL: nothing is known
    last_deployed_at   TEXT,
    releases           INTEGER NOT NULL DEFAULT 0,  -- the highest release number given out
    token              INTEGER NOT NULL DEFAULT 0,  -- the fencing token; only ever grows
    lease_worker       TEXT NOT NULL DEFAULT '',    -- '' = free
    lease_until        REAL NOT NULL DEFAULT 0,
    lease_boot         TEXT NOT NULL DEFAULT '',
    UNIQUE (fraise, name)
) STRICT;

CREATE TRIGGER tr_environments_token BEFORE UPDATE OF token ON tb_environments WHEN NEW.token < OLD.token
BEGIN SELECT RAISE(ABORT, 'cannot lower a fencing token'); END;

-- ------------------------------------------------------------------------------------------ events

CREATE TABLE tb_webhook_events (
    pk             INTEGER PRIMARY KEY,
    id             TEXT NOT NULL UNIQUE,
    forge          TEXT NOT NULL,
    delivery_id    TEXT NOT NULL,
    type           TEXT NOT NULL,
    repository     TEXT NOT NULL,
    ref            TEXT NOT NULL,              -- of the first change, like before and after
    before         TEXT NOT NULL,
    after          TEXT NOT NULL,
    changes        TEXT NOT NULL,              -- all of them, JSON
    sender         TEXT NOT NULL,
    remote         TEXT NOT NULL,
    received_at    TEXT NOT NULL,
    verdict        TEXT NOT NULL CHECK (verdict IN ('accepted', 'ignored', 'pong')),
    reason         TEXT NOT NULL,
    deployments    INTEGER NOT NULL,           -- how many it asked for
    payload_digest TEXT NOT NULL,              -- sha256 of the bytes as received
    payload_bytes  INTEGER NOT NULL,
    payload        BLOB                        -- deflate; NULL after `retention`. Last, so that lists skip it
) STRICT;

CREATE UNIQUE INDEX ix_webhook_events_delivery ON tb_webhook_events (forge, delivery_id)
 WHERE delivery_id <> '';
CREATE INDEX ix_webhook_events_verdict ON tb_webhook_events (verdict);

CREATE TRIGGER tr_webhook_events_kept BEFORE DELETE ON tb_webhook_events
BEGIN SELECT RAISE(ABORT, 'cannot delete an event: events are append-only'); END;

CREATE TRIGGER tr_webhook_events_fixed BEFORE UPDATE OF
    pk, id, forge, delivery_id, type, repository, ref, before, after, changes, sender, remote, received_at,
    verdict, reason, deployments, payload_digest, payload_bytes ON tb_webhook_events
BEGIN SELECT RAISE(ABORT, 'cannot change an event: events are append-only'); END;

CREATE TRIGGER tr_webhook_events_pruned BEFORE UPDATE OF payload ON tb_webhook_events
  WHEN NEW.payload IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'cannot change the payload of an event: it can only be pruned'); END;

-- ------------------------------------------------------------------------------------- deployments

CREATE TABLE tb_deployments (
    pk                  INTEGER PRIMARY KEY,
    id                  TEXT NOT NULL UNIQUE,
    fraise              TEXT NOT NULL,
    environment         TEXT NOT NULL,
    ref                 TEXT NOT NULL,
    "commit"            TEXT NOT NULL,          -- '' until the first fetch pins it
    status              TEXT NOT NULL CHECK (status IN ('pending', 'running', 'success', 'failed',
                            'rolled_back', 'rollback_failed', 'cancelled', 'superseded')),
    trigger             TEXT NOT NULL,
    requested_by        TEXT NOT NULL,
    requested_at        TEXT NOT NULL,
    event               TEXT REFERENCES tb_webhook_events (id),
    force               INTEGER NOT NULL DEFAULT 0,
    started_at          TEXT,
    completed_at        TEXT,
    duration            REAL,                   -- seconds from started_at to completed_at
    cause               TEXT,
    error_message       TEXT NOT NULL DEFAULT '',
    hint                TEXT NOT NULL DEFAULT '',
    release             TEXT NOT NULL DEFAULT '',
    previous_release    TEXT NOT NULL DEFAULT '',
    cancel_requested_by TEXT NOT NULL DEFAULT '',
    not_before          TEXT,                   -- when the next attempt is due, for people
    retry_at            REAL,                   -- the same, as CLOCK_BOOTTIME of retry_boot
    retry_boot          TEXT NOT NULL DEFAULT '',
    FOREIGN KEY (fraise, environment) REFERENCES tb_environments (fraise, name)
) STRICT;

-- Serves the queue, the history with any filter, and the newest deployment of an environment.
CREATE INDEX ix_deployments_place ON tb_deployments (fraise, environment, status);

CREATE TRIGGER tr_deployments_kept BEFORE DELETE ON tb_deployments
BEGIN SELECT RAISE(ABORT, 'cannot delete a deployment: the history is kept'); END;

CREATE TRIGGER tr_deployments_fixed BEFORE UPDATE OF
    pk, id, fraise, environment, ref, trigger, requested_by, requested_at, event, force ON tb_deployments
BEGIN SELECT RAISE(ABORT, 'cannot change what a deployment asked for'); END;

CREATE TRIGGER tr_deployments_pinned BEFORE UPDATE OF "commit" ON tb_deployments
  WHEN OLD."commit" <> '' AND NEW."commit" <> OLD."commit"
BEGIN SELECT RAISE(ABORT, 'cannot change the commit of a deployment: it is pinned'); END;

CREATE TRIGGER tr_deployments_final BEFORE UPDATE OF status ON tb_deployments
  WHEN OLD.status NOT IN ('pending', 'running')
BEGIN SELECT RAISE(ABORT, 'cannot change the status of a deployment that has ended'); END;

CREATE TABLE tb_deployment_attempts (
    pk         INTEGER PRIMARY KEY,
    deployment TEXT NOT NULL REFERENCES tb_deployments (id),
    number     INTEGER NOT NULL,
    worker     TEXT NOT NULL,
    token      INTEGER NOT NULL,
    resolved   TEXT NOT NULL,                   -- the environment as it was; secrets as references
    started_at TEXT NOT NULL,
    ended_at   TEXT,
    outcome    TEXT NOT NULL DEFAULT '',        -- a status, 'retry' or 'interrupted'; '' = under way
    error      TEXT NOT NULL DEFAULT '',
    UNIQUE (deployment, number)
) STRICT;

CREATE TRIGGER tr_attempts_kept BEFORE DELETE ON tb_deployment_attempts
BEGIN SELECT RAISE(ABORT, 'cannot delete an attempt: attempts are append-only'); END;

CREATE TRIGGER tr_attempts_fixed BEFORE UPDATE OF
    pk, deployment, number, worker, token, resolved, started_at ON tb_deployment_attempts
BEGIN SELECT RAISE(ABORT, 'cannot change an attempt: attempts are append-only'); END;

CREATE TRIGGER tr_attempts_completed_once BEFORE UPDATE OF ended_at, outcome, error ON tb_deployment_attempts
  WHEN OLD.ended_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'cannot change an attempt that has ended'); END;

CREATE TABLE tb_deployment_steps (
    pk         INTEGER PRIMARY KEY,
    deployment TEXT NOT NULL,
    attempt    INTEGER NOT NULL,
    phase      TEXT NOT NULL CHECK (phase IN ('deploy', 'rollback')),
    step       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('running', 'success', 'failed', 'cancelled', 'interrupted')),
    release    TEXT NOT NULL,
    started_at TEXT NOT NULL,
    ended_at   TEXT,
    duration   REAL,
    tail       TEXT NOT NULL DEFAULT '',        -- the end of its output
    error      TEXT NOT NULL DEFAULT '',
    FOREIGN KEY (deployment, attempt) REFERENCES tb_deployment_attempts (deployment, number)
) STRICT;

CREATE INDEX ix_steps_deployment ON tb_deployment_steps (deployment);

CREATE TRIGGER tr_steps_kept BEFORE DELETE ON tb_deployment_steps
BEGIN SELECT RAISE(ABORT, 'cannot delete a step: steps are append-only'); END;

CREATE TRIGGER tr_steps_fixed BEFORE UPDATE OF
    pk, deployment, attempt, phase, step, release, started_at ON tb_deployment_steps
BEGIN SELECT RAISE(ABORT, 'cannot change a step: steps are append-only'); END;

CREATE TRIGGER tr_steps_completed_once BEFORE UPDATE OF state, ended_at, duration, tail, error
  ON tb_deployment_steps WHEN OLD.state <> 'running'
BEGIN SELECT RAISE(ABORT, 'cannot change a step that has ended'); END;

-- What steps printed: the beginning and the end of each, and between them a row that says what is missing.
CREATE TABLE tb_step_output (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    deployment TEXT NOT NULL,
    step       INTEGER NOT NULL REFERENCES tb_deployment_steps (pk),
    part       TEXT NOT NULL CHECK (part IN ('head', 'gap', 'tail')),
    bytes      INTEGER NOT NULL,
    written_at TEXT NOT NULL,
    text       TEXT NOT NULL
) STRICT;

CREATE INDEX ix_step_output_deployment ON tb_step_output (deployment);
CREATE INDEX ix_step_output_step ON tb_step_output (step, part);

CREATE TABLE tb_step_volumes (
    step    INTEGER PRIMARY KEY REFERENCES tb_deployment_steps (pk),
    head    INTEGER NOT NULL DEFAULT 0,         -- bytes kept of the beginning
    tail    INTEGER NOT NULL DEFAULT 0,         -- bytes kept of the end
    dropped INTEGER NOT NULL DEFAULT 0          -- bytes between them
) STRICT;

-- ----------------------------------------------------------------------------------- workers, audit

CREATE TABLE tb_workers (
    id          TEXT PRIMARY KEY,
    host        TEXT NOT NULL DEFAULT '',
    pid         INTEGER NOT NULL DEFAULT 0,
    version     TEXT NOT NULL DEFAULT '',
    info        TEXT NOT NULL DEFAULT '{}',
    started_at  TEXT NOT NULL,
    seen_at     TEXT NOT NULL,
    alive_until REAL NOT NULL,                  -- CLOCK_BOOTTIME of `boot`
    boot        TEXT NOT NULL,
    retired_at  TEXT
) STRICT;

CREATE TABLE tb_audit_log (
    pk      INTEGER PRIMARY KEY,
    at      TEXT NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL DEFAULT '{}'
) STRICT;

CREATE TRIGGER tr_audit_log_kept BEFORE DELETE ON tb_audit_log
BEGIN SELECT RAISE(ABORT, 'cannot delete from the audit log'); END;

CREATE TRIGGER tr_audit_log_fixed BEFORE UPDATE ON tb_audit_log
BEGIN SELECT RAISE(ABORT, 'cannot change the audit log'); END;

-- -------------------------------------------------------------------------------------- statistics
-- Counted in the transactions that change a status, so that nobody has to count rows.

CREATE TABLE tb_counters (
    name  TEXT PRIMARY KEY,                     -- 'deployments.success', 'events.accepted', ...
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tb_deployment_days (
    fraise      TEXT NOT NULL,
    environment TEXT NOT NULL,
    day         TEXT NOT NULL,                  -- of requested_at, UTC
    status      TEXT NOT NULL,
    total       INTEGER NOT NULL DEFAULT 0,
    timed       INTEGER NOT NULL DEFAULT 0,     -- how many of them have a duration
    seconds     REAL NOT NULL DEFAULT 0,        -- the sum of those
    PRIMARY KEY (fraise, environment, day, status)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER tr_deployment_days_summed AFTER INSERT ON tb_deployment_days
BEGIN
    INSERT INTO tb_counters (name, value) VALUES ('deployments.' || NEW.status, NEW.total)
        ON CONFLICT (name) DO UPDATE SET value = value + NEW.total;
END;

CREATE TRIGGER tr_deployment_days_summed_again AFTER UPDATE OF total ON tb_deployment_days
BEGIN
    UPDATE tb_counters SET value = value + NEW.total - OLD.total WHERE name = 'deployments.' || NEW.status;
END;

CREATE TRIGGER tr_webhook_events_counted AFTER INSERT ON tb_webhook_events
BEGIN
    INSERT INTO tb_counters (name, value) VALUES ('events.' || NEW.verdict, 1)
        ON CONFLICT (name) DO UPDATE SET value = value + 1;
END;

-- ------------------------------------------------------------------------------------------- views

CREATE VIEW v_fraise AS
SELECT f.id,
       f.name        AS fraise_id,
       f.type,
       f.description,
       f.forge,
       f.repository,
       (SELECT json_group_array(name)
          FROM (SELECT e.name FROM tb_environments e
                 WHERE e.fraise = f.name AND e.published ORDER BY e.name)) AS environments
  FROM tb_fraises f
 WHERE f.published;

CREATE VIEW v_deployment_history AS
SELECT d.id,
       d.fraise           AS fraise_id,
       d.environment,
       d.ref,
       d."commit",
       d.status,
       d.trigger,
       d.requested_by,
       d.requested_at,
       d.started_at,
       d.completed_at,
       d.duration         AS duration_seconds,
       d.error_message,
       d.cause,
       d.hint,
       d.release,
       d.previous_release,
       d.event            AS event_id,
       d.force,
       d.cancel_requested_by,
       d.not_before,
       (SELECT count(*) FROM tb_deployment_attempts a WHERE a.deployment = d.id) AS attempts,
       d.pk               AS position
  FROM tb_deployments d;

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
       e.healthy,
       e.last_deployed_at   AS last_deployed,
       (SELECT d.id FROM tb_deployments d
         WHERE d.fraise = e.fraise AND d.environment = e.name AND d.status = 'running'
         ORDER BY d.pk DESC LIMIT 1) AS running_deployment_id,
       (SELECT count(*) FROM tb_deployments d
         WHERE d.fraise = e.fraise AND d.environment = e.name AND d.status = 'pending') AS pending,
       e.paused,
       (SELECT json_group_array(key) FROM json_each(e.quarantine)) AS quarantined_commits,
       nullif(e.lease_worker, '') AS lease_worker,
       e.seen_tip
  FROM tb_environments e
  JOIN tb_fraises f ON f.name = e.fraise
  LEFT JOIN tb_deployments n ON n.pk = (
        -- One look into the index per status: the newest of all without sorting any.
        SELECT max((SELECT d.pk FROM tb_deployments d
                     WHERE d.fraise = e.fraise AND d.environment = e.name AND d.status = s.column1
                     ORDER BY d.pk DESC LIMIT 1))
          FROM (VALUES ('pending'), ('running'), ('success'), ('failed'), ('rolled_back'),
                       ('rollback_failed'), ('cancelled'), ('superseded')) s)
 WHERE e.published;

CREATE VIEW v_deployment_stats AS
SELECT fraise      AS fraise_id,
       environment,
       sum(total)  AS total,
       sum(CASE status WHEN 'success' THEN total ELSE 0 END)         AS succeeded,
       sum(CASE status WHEN 'failed' THEN total ELSE 0 END)          AS failed,
       sum(CASE status WHEN 'rolled_back' THEN total ELSE 0 END)     AS rolled_back,
       sum(CASE status WHEN 'rollback_failed' THEN total ELSE 0 END) AS rollback_failed,
       sum(CASE status WHEN 'cancelled' THEN total ELSE 0 END)       AS cancelled,
       sum(CASE status WHEN 'superseded' THEN total ELSE 0 END)      AS superseded,
       sum(CASE status WHEN 'success' THEN total ELSE 0 END) * 1.0
         / nullif(sum(CASE WHEN status IN ('success', 'failed', 'rolled_back', 'rollback_failed')
                           THEN total ELSE 0 END), 0)                AS success_rate,
       sum(CASE status WHEN 'success' THEN seconds ELSE 0 END)
         / nullif(sum(CASE status WHEN 'success' THEN timed ELSE 0 END), 0) AS average_duration_seconds,
       (SELECT e.last_deployed_at FROM tb_environments e
         WHERE e.fraise = s.fraise AND e.name = s.environment)       AS last_deployed
  FROM tb_deployment_days s
 GROUP BY fraise, environment;

CREATE VIEW v_webhook_events AS
SELECT id, forge, delivery_id, type, repository, ref, before, after, changes, sender, remote, received_at,
       verdict, reason, deployments, payload_digest, payload_bytes,
       pk AS position
  FROM tb_webhook_events;
