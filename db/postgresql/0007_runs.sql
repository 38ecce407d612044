-- Runs of jobs. A run is one row: what was asked for, then who performs it, then how it ended. A try that failed is
-- one, the next try another (`retry_of` is the first). What a host performs by itself has an `invocation`, and no
-- worker.
--
-- An environment's `run_token` fences its runs as `token` fences its deployments; each claim of a run raises it. While
-- the deployment `runs_held_by` runs, no run of its environment begins.

ALTER TABLE tb_environments ADD run_token bigint NOT NULL DEFAULT 0;
ALTER TABLE tb_environments ADD runs_held_by uuid;

CREATE TRIGGER tr_environments_run_token BEFORE UPDATE OF run_token ON tb_environments
    FOR EACH ROW WHEN (NEW.run_token < OLD.run_token)
    EXECUTE FUNCTION fn_refuse('cannot lower a fencing token');

CREATE TABLE tb_runs (
    pk                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id                  uuid NOT NULL UNIQUE,
    fraise              text NOT NULL,
    environment         text NOT NULL,
    host                text NOT NULL DEFAULT '',
    job                 text NOT NULL,
    kind                text NOT NULL,
    trigger             text NOT NULL,
    status              text NOT NULL CHECK (status IN ('pending', 'running', 'success', 'failed', 'cancelled',
                            'skipped', 'missed')),
    parameters          jsonb NOT NULL DEFAULT '{}',
    requested_by        text NOT NULL,
    requested_at        timestamptz NOT NULL,
    due                 timestamptz,              -- when its schedule wanted it
    not_before          timestamptz,              -- when it may begin; NULL: at once
    attempt             integer NOT NULL DEFAULT 1,
    retry_of            uuid REFERENCES tb_runs (id),
    concurrency         integer NOT NULL DEFAULT 1,  -- the job's, when it was asked for
    worker              text NOT NULL DEFAULT '',
    token               bigint NOT NULL DEFAULT 0,
    slot                integer NOT NULL DEFAULT 0,  -- no two of a job that are under way have the same
    bound_labels        jsonb NOT NULL DEFAULT '[]',  -- who may end it if its worker dies
    release             text NOT NULL DEFAULT '',
    "commit"            text NOT NULL DEFAULT '',
    started_at          timestamptz,
    ended_at            timestamptz,
    duration            double precision,         -- seconds from started_at to ended_at
    exit_code           integer,
    peak_memory_bytes   bigint,
    cause               text,
    error_message       text NOT NULL DEFAULT '',
    hint                text NOT NULL DEFAULT '',
    artefacts           jsonb NOT NULL DEFAULT '[]',  -- paths on its host
    detail              jsonb NOT NULL DEFAULT '{}',  -- what else its kind tells
    cancel_requested_by text NOT NULL DEFAULT '',
    invocation          text NOT NULL DEFAULT '',  -- systemd's name of a run that the host performs by itself
    FOREIGN KEY (fraise, environment) REFERENCES tb_environments (fraise, name)
);

CREATE INDEX ix_runs_place ON tb_runs (fraise, environment, job, status, pk);
CREATE INDEX ix_runs_active ON tb_runs (status, pk) WHERE status IN ('pending', 'running');
CREATE INDEX ix_runs_begun ON tb_runs (fraise, environment, pk) WHERE started_at IS NOT NULL;
CREATE INDEX ix_runs_begun_of_job ON tb_runs (fraise, environment, job, pk) WHERE started_at IS NOT NULL;
-- A time of a schedule is used once; the tries that follow have the same.
CREATE UNIQUE INDEX ix_runs_due ON tb_runs (fraise, environment, job, due) WHERE due IS NOT NULL AND attempt = 1;
CREATE UNIQUE INDEX ix_runs_invocation ON tb_runs (invocation) WHERE invocation <> '';

CREATE TRIGGER tr_runs_kept BEFORE DELETE ON tb_runs
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot delete a run: the history is kept');
CREATE TRIGGER tr_runs_all_kept BEFORE TRUNCATE ON tb_runs
    EXECUTE FUNCTION fn_refuse('cannot delete a run: the history is kept');

CREATE TRIGGER tr_runs_fixed BEFORE UPDATE OF
    id, fraise, environment, job, kind, trigger, parameters, requested_by, requested_at, due, not_before, attempt,
    retry_of, concurrency, invocation ON tb_runs
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot change what a run was asked for');

CREATE TRIGGER tr_runs_final BEFORE UPDATE ON tb_runs
    FOR EACH ROW WHEN (OLD.status NOT IN ('pending', 'running'))
    EXECUTE FUNCTION fn_refuse('cannot change a run that has ended');

-- What runs printed, as tb_step_output has it of steps.
CREATE TABLE tb_run_output (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run        uuid NOT NULL REFERENCES tb_runs (id),
    part       text NOT NULL CHECK (part IN ('head', 'gap', 'tail')),
    bytes      integer NOT NULL,
    written_at timestamptz NOT NULL,
    text       text NOT NULL
);

CREATE INDEX ix_run_output_run ON tb_run_output (run, seq);
CREATE INDEX ix_run_output_part ON tb_run_output (run, part, seq);

CREATE TABLE tb_run_volumes (
    run     uuid PRIMARY KEY REFERENCES tb_runs (id),
    head    bigint NOT NULL DEFAULT 0,          -- bytes kept of the beginning
    tail    bigint NOT NULL DEFAULT 0,          -- bytes kept of the end
    dropped bigint NOT NULL DEFAULT 0           -- bytes between them
) WITH (fillfactor = 50);

-- Up to when a job's schedule was looked at: what was due before is a run, or was missed.
CREATE TABLE tb_job_plans (
    fraise        text NOT NULL,
    environment   text NOT NULL,
    job           text NOT NULL,
    planned_until timestamptz NOT NULL,
    PRIMARY KEY (fraise, environment, job)
) WITH (fillfactor = 50);

-- What a person should look at; one of a kind stands for a job at a time.
CREATE TABLE tb_alerts (
    pk          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          uuid NOT NULL UNIQUE,
    fraise      text NOT NULL,
    environment text NOT NULL,
    job         text NOT NULL,
    kind        text NOT NULL,
    message     text NOT NULL,
    hint        text NOT NULL DEFAULT '',
    run         uuid REFERENCES tb_runs (id),
    raised_at   timestamptz NOT NULL,
    cleared_at  timestamptz,                    -- NULL: it stands
    cleared_by  text NOT NULL DEFAULT '',
    FOREIGN KEY (fraise, environment) REFERENCES tb_environments (fraise, name)
);

CREATE UNIQUE INDEX ix_alerts_standing ON tb_alerts (fraise, environment, job, kind) WHERE cleared_at IS NULL;

CREATE TRIGGER tr_alerts_kept BEFORE DELETE ON tb_alerts
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot delete an alert: alerts are append-only');
CREATE TRIGGER tr_alerts_all_kept BEFORE TRUNCATE ON tb_alerts
    EXECUTE FUNCTION fn_refuse('cannot delete an alert: alerts are append-only');

CREATE TRIGGER tr_alerts_fixed BEFORE UPDATE OF
    id, fraise, environment, job, kind, message, hint, run, raised_at ON tb_alerts
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot change an alert: alerts are append-only');

CREATE TRIGGER tr_alerts_cleared_once BEFORE UPDATE OF cleared_at, cleared_by ON tb_alerts
    FOR EACH ROW WHEN (OLD.cleared_at IS NOT NULL)
    EXECUTE FUNCTION fn_refuse('cannot change an alert that was cleared');

-- `data` of a run. The planner puts the expression itself in place of the call.
CREATE FUNCTION fn_run_data(r tb_runs) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT jsonb_build_object('id', r.id, 'fraise_id', r.fraise, 'environment', r.environment, 'host', r.host,
               'job', r.job, 'kind', r.kind, 'trigger', r.trigger, 'status', r.status, 'release', r.release,
               'commit', r."commit", 'parameters', r.parameters, 'requested_by', r.requested_by,
               'requested_at', fn_iso(r.requested_at), 'due', fn_iso(r.due), 'not_before', fn_iso(r.not_before),
               'started_at', fn_iso(r.started_at), 'ended_at', fn_iso(r.ended_at),
               'duration_seconds', r.duration, 'exit_code', r.exit_code,
               'peak_memory_bytes', r.peak_memory_bytes, 'attempt', r.attempt, 'retry_of', r.retry_of)
        || jsonb_build_object('cause', r.cause, 'error_message', r.error_message, 'hint', r.hint,
               'artefacts', r.artefacts, 'detail', r.detail, 'cancel_requested_by', r.cancel_requested_by,
               'invocation', r.invocation)
$$;

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
       r.pk                AS position,
       fn_run_data(r)      AS data
  FROM tb_runs r
 ORDER BY r.pk DESC;

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
       a.pk          AS position,
       jsonb_build_object('id', a.id, 'fraise_id', a.fraise, 'environment', a.environment, 'job', a.job,
           'kind', a.kind, 'message', a.message, 'hint', a.hint, 'run_id', a.run,
           'raised_at', fn_iso(a.raised_at), 'cleared_at', fn_iso(a.cleared_at),
           'cleared_by', a.cleared_by) AS data
  FROM tb_alerts a
 ORDER BY a.pk DESC;

-- An environment is not healthy while an alert stands. `last_run` is when the newest of its runs began.
CREATE OR REPLACE VIEW v_fraise_status AS
SELECT s.id, s.fraise_id, s.environment, s.type, s.status, s.deployment_id, s.requested_at, s.error_message,
       s.cause, s.hint, s.current_release, s.current_commit, s.current_deployment_id, s.healthy,
       s.last_deployed, s.running_deployment_id, s.pending, s.paused, s.quarantined_commits, s.lease_worker,
       s.seen_tip,
       jsonb_build_object('id', s.id, 'fraise_id', s.fraise_id, 'environment', s.environment, 'type', s.type,
           'status', s.status, 'deployment_id', s.deployment_id, 'requested_at', fn_iso(s.requested_at),
           'error_message', s.error_message, 'cause', s.cause, 'hint', s.hint,
           'current_release', s.current_release, 'current_commit', s.current_commit,
           'current_deployment_id', s.current_deployment_id, 'healthy', s.healthy,
           'last_deployed', fn_iso(s.last_deployed), 'running_deployment_id', s.running_deployment_id,
           'pending', s.pending, 'paused', s.paused, 'quarantined_commits', s.quarantined_commits,
           'lease_worker', s.lease_worker, 'seen_tip', s.seen_tip, 'paused_by', s.paused_by,
           'paused_at', fn_iso(s.paused_at), 'paused_reason', s.paused_reason, 'alerts', s.alerts,
           'last_run', fn_iso(s.last_run), 'last_run_status', s.last_run_status) AS data,
       s.paused_by, s.paused_at, s.paused_reason, s.alerts, s.last_run, s.last_run_status
  FROM (SELECT e.id,
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
               CASE WHEN a.alerts > 0 THEN false ELSE e.healthy END AS healthy,
               e.last_deployed_at   AS last_deployed,
               (SELECT d.id FROM tb_deployments d
                 WHERE d.fraise = e.fraise AND d.environment = e.name AND d.status = 'running'
                 ORDER BY d.pk DESC LIMIT 1) AS running_deployment_id,
               (SELECT count(*) FROM tb_deployments d
                 WHERE d.fraise = e.fraise AND d.environment = e.name AND d.status = 'pending') AS pending,
               e.paused,
               (SELECT coalesce(jsonb_agg(q.key ORDER BY q.key), '[]')
                  FROM jsonb_object_keys(e.quarantine) q (key)) AS quarantined_commits,
               nullif(e.lease_worker, '') AS lease_worker,
               e.seen_tip,
               e.paused_by,
               e.paused_at,
               e.paused_reason,
               a.alerts,
               l.started_at         AS last_run,
               l.status             AS last_run_status
          FROM tb_environments e
          JOIN tb_fraises f ON f.name = e.fraise
          LEFT JOIN tb_deployments n ON n.pk = (
                -- One look into the index per status: the newest of all without sorting any.
                SELECT max((SELECT d.pk FROM tb_deployments d
                             WHERE d.fraise = e.fraise AND d.environment = e.name AND d.status = s.status
                             ORDER BY d.pk DESC LIMIT 1))
                  FROM (VALUES ('pending'), ('running'), ('success'), ('failed'), ('rolled_back'),
                               ('rollback_failed'), ('cancelled'), ('superseded')) s (status))
         CROSS JOIN LATERAL (SELECT count(*) AS alerts FROM tb_alerts a
                              WHERE a.fraise = e.fraise AND a.environment = e.name AND a.cleared_at IS NULL) a
          LEFT JOIN tb_runs l ON l.pk = (
                SELECT max(r.pk) FROM tb_runs r
                 WHERE r.fraise = e.fraise AND r.environment = e.name AND r.started_at IS NOT NULL)
         WHERE e.published) s
 ORDER BY s.fraise_id, s.environment;
