-- Tables, triggers and views of the PostgreSQL store.
-- Made by `make schema` from db/postgresql/*.sql (0011_unseen_tips is the newest). Do not edit, do not apply.

CREATE TABLE tb_installation (
    pk           integer PRIMARY KEY CHECK (pk = 1),
    id           uuid NOT NULL,
    created_at   timestamptz NOT NULL,
    digest       text NOT NULL DEFAULT '',   -- of the configuration that is published
    published_at timestamptz,
    pruned_event bigint NOT NULL DEFAULT 0   -- payloads of events up to this pk are gone
);

INSERT INTO tb_installation (pk, id, created_at) VALUES (1, gen_random_uuid(), clock_timestamp());

CREATE TABLE tb_fraises (
    name        text PRIMARY KEY,
    id          uuid NOT NULL UNIQUE,
    type        text NOT NULL,
    description text NOT NULL DEFAULT '',
    forge       text NOT NULL DEFAULT '',
    repository  text NOT NULL DEFAULT '',
    published   boolean NOT NULL DEFAULT true
);

CREATE TABLE tb_environments (
    pk                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id                 uuid NOT NULL UNIQUE,
    fraise             text NOT NULL REFERENCES tb_fraises (name),
    name               text NOT NULL,
    document           jsonb NOT NULL DEFAULT '{}',  -- the checked configuration without secrets
    published          boolean NOT NULL DEFAULT true,
    paused             boolean NOT NULL DEFAULT false,
    seen_tip           text NOT NULL DEFAULT '',     -- the last tip of its branch that was decided on; '?': to be looked up
    quarantine         jsonb NOT NULL DEFAULT '{}',  -- {commit: {at, deployment, cause}}
    current_release    text NOT NULL DEFAULT '',
    current_commit     text NOT NULL DEFAULT '',
    current_deployment uuid,
    healthy            boolean,                      -- NULL: nothing is known
    last_deployed_at   timestamptz,
    releases           bigint NOT NULL DEFAULT 0,    -- the highest release number given out
    token              bigint NOT NULL DEFAULT 0,    -- the fencing token; only ever grows
    lease_worker       text NOT NULL DEFAULT '',     -- '' = free
    lease_until        timestamptz,                  -- by the server's clock
    UNIQUE (fraise, name)
) WITH (fillfactor = 50);                            -- a lease is renewed in place

CREATE TRIGGER tr_environments_token BEFORE UPDATE OF token ON tb_environments
    FOR EACH ROW WHEN (NEW.token < OLD.token)
    EXECUTE FUNCTION fn_refuse('cannot lower a fencing token');

CREATE TABLE tb_webhook_events (
    pk             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             uuid NOT NULL UNIQUE,
    forge          text NOT NULL,
    delivery_id    text NOT NULL,
    type           text NOT NULL,
    repository     text NOT NULL,
    ref            text NOT NULL,              -- of the first change, like before and after
    before         text NOT NULL,
    after          text NOT NULL,
    changes        jsonb NOT NULL,             -- all of them
    sender         text NOT NULL,
    remote         text NOT NULL,
    received_at    timestamptz NOT NULL,
    verdict        text NOT NULL CHECK (verdict IN ('accepted', 'ignored', 'pong')),
    reason         text NOT NULL,
    deployments    integer NOT NULL,           -- how many it asked for
    payload_digest text NOT NULL,              -- sha256 of the bytes as received
    payload_bytes  integer NOT NULL,
    payload        bytea                       -- deflate; NULL after `retention`
);

ALTER TABLE tb_webhook_events ALTER payload SET STORAGE EXTERNAL;  -- it is compressed already

CREATE UNIQUE INDEX ix_webhook_events_delivery ON tb_webhook_events (forge, delivery_id)
 WHERE delivery_id <> '';

CREATE INDEX ix_webhook_events_verdict ON tb_webhook_events (verdict, pk);

CREATE TRIGGER tr_webhook_events_kept BEFORE DELETE ON tb_webhook_events
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot delete an event: events are append-only');

CREATE TRIGGER tr_webhook_events_all_kept BEFORE TRUNCATE ON tb_webhook_events
    EXECUTE FUNCTION fn_refuse('cannot delete an event: events are append-only');

CREATE TRIGGER tr_webhook_events_fixed BEFORE UPDATE OF
    id, forge, delivery_id, type, repository, ref, before, after, changes, sender, remote, received_at,
    verdict, reason, deployments, payload_digest, payload_bytes ON tb_webhook_events
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot change an event: events are append-only');

CREATE TRIGGER tr_webhook_events_pruned BEFORE UPDATE OF payload ON tb_webhook_events
    FOR EACH ROW WHEN (NEW.payload IS NOT NULL)
    EXECUTE FUNCTION fn_refuse('cannot change the payload of an event: it can only be pruned');

CREATE TABLE tb_deployments (
    pk                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id                  uuid NOT NULL UNIQUE,
    fraise              text NOT NULL,
    environment         text NOT NULL,
    ref                 text NOT NULL,
    "commit"            text NOT NULL,          -- '' until the first fetch pins it
    status              text NOT NULL CHECK (status IN ('pending', 'running', 'success', 'failed',
                            'rolled_back', 'rollback_failed', 'cancelled', 'superseded')),
    trigger             text NOT NULL,
    requested_by        text NOT NULL,
    requested_at        timestamptz NOT NULL,
    event               uuid REFERENCES tb_webhook_events (id),
    force               boolean NOT NULL DEFAULT false,
    started_at          timestamptz,
    completed_at        timestamptz,
    duration            double precision,       -- seconds from started_at to completed_at
    cause               text,
    error_message       text NOT NULL DEFAULT '',
    hint                text NOT NULL DEFAULT '',
    release             text NOT NULL DEFAULT '',
    previous_release    text NOT NULL DEFAULT '',
    cancel_requested_by text NOT NULL DEFAULT '',
    not_before          timestamptz,            -- when the next attempt is due, by the server's clock
    FOREIGN KEY (fraise, environment) REFERENCES tb_environments (fraise, name)
);

-- Serves the queue, the history with any filter, and the newest deployment of an environment.
CREATE INDEX ix_deployments_place ON tb_deployments (fraise, environment, status, pk);

-- "The newest with this status" is looked up for one status after the other. By its statistics the planner
-- takes every status for a common one, and walks through all deployments for one that is rare: half a second
-- at 300,000. Told that a status is as rare as can be, it takes the index.
ALTER TABLE tb_deployments ALTER status SET (n_distinct = -1);

CREATE TRIGGER tr_deployments_kept BEFORE DELETE ON tb_deployments
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot delete a deployment: the history is kept');

CREATE TRIGGER tr_deployments_all_kept BEFORE TRUNCATE ON tb_deployments
    EXECUTE FUNCTION fn_refuse('cannot delete a deployment: the history is kept');

CREATE TRIGGER tr_deployments_fixed BEFORE UPDATE OF
    id, fraise, environment, ref, trigger, requested_by, requested_at, event, force ON tb_deployments
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot change what a deployment asked for');

CREATE TRIGGER tr_deployments_pinned BEFORE UPDATE OF "commit" ON tb_deployments
    FOR EACH ROW WHEN (OLD."commit" <> '' AND NEW."commit" <> OLD."commit")
    EXECUTE FUNCTION fn_refuse('cannot change the commit of a deployment: it is pinned');

CREATE TRIGGER tr_deployments_final BEFORE UPDATE OF status ON tb_deployments
    FOR EACH ROW WHEN (OLD.status NOT IN ('pending', 'running'))
    EXECUTE FUNCTION fn_refuse('cannot change the status of a deployment that has ended');

CREATE TABLE tb_deployment_attempts (
    pk         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment uuid NOT NULL REFERENCES tb_deployments (id),
    number     integer NOT NULL,
    worker     text NOT NULL,
    token      bigint NOT NULL,
    resolved   text NOT NULL,                   -- the environment as it was; secrets as references
    started_at timestamptz NOT NULL,
    ended_at   timestamptz,
    outcome    text NOT NULL DEFAULT '',        -- a status, 'retry' or 'interrupted'; '' = under way
    error      text NOT NULL DEFAULT '',
    UNIQUE (deployment, number)
);

CREATE TRIGGER tr_attempts_kept BEFORE DELETE ON tb_deployment_attempts
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot delete an attempt: attempts are append-only');

CREATE TRIGGER tr_attempts_all_kept BEFORE TRUNCATE ON tb_deployment_attempts
    EXECUTE FUNCTION fn_refuse('cannot delete an attempt: attempts are append-only');

CREATE TRIGGER tr_attempts_fixed BEFORE UPDATE OF
    deployment, number, worker, token, resolved, started_at ON tb_deployment_attempts
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot change an attempt: attempts are append-only');

CREATE TRIGGER tr_attempts_completed_once BEFORE UPDATE OF ended_at, outcome, error ON tb_deployment_attempts
    FOR EACH ROW WHEN (OLD.ended_at IS NOT NULL)
    EXECUTE FUNCTION fn_refuse('cannot change an attempt that has ended');

CREATE TABLE tb_deployment_steps (
    pk         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment uuid NOT NULL,
    attempt    integer NOT NULL,
    phase      text NOT NULL CHECK (phase IN ('deploy', 'rollback')),
    step       text NOT NULL,
    state      text NOT NULL CHECK (state IN ('running', 'success', 'failed', 'cancelled', 'interrupted')),
    release    text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz,
    duration   double precision,
    tail       text NOT NULL DEFAULT '',        -- the end of its output
    error      text NOT NULL DEFAULT '',
    FOREIGN KEY (deployment, attempt) REFERENCES tb_deployment_attempts (deployment, number)
);

CREATE INDEX ix_steps_deployment ON tb_deployment_steps (deployment);

CREATE TRIGGER tr_steps_kept BEFORE DELETE ON tb_deployment_steps
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot delete a step: steps are append-only');

CREATE TRIGGER tr_steps_all_kept BEFORE TRUNCATE ON tb_deployment_steps
    EXECUTE FUNCTION fn_refuse('cannot delete a step: steps are append-only');

-- What steps printed: the beginning and the end of each, and between them a row that says what is missing.
CREATE TABLE tb_step_output (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment uuid NOT NULL,
    step       bigint NOT NULL REFERENCES tb_deployment_steps (pk),
    part       text NOT NULL CHECK (part IN ('head', 'gap', 'tail')),
    bytes      integer NOT NULL,
    written_at timestamptz NOT NULL,
    text       text NOT NULL
);

CREATE INDEX ix_step_output_deployment ON tb_step_output (deployment, seq);

CREATE INDEX ix_step_output_step ON tb_step_output (step, part, seq);

CREATE TABLE tb_step_volumes (
    step    bigint PRIMARY KEY REFERENCES tb_deployment_steps (pk),
    head    bigint NOT NULL DEFAULT 0,          -- bytes kept of the beginning
    tail    bigint NOT NULL DEFAULT 0,          -- bytes kept of the end
    dropped bigint NOT NULL DEFAULT 0           -- bytes between them
) WITH (fillfactor = 50);

CREATE TABLE tb_workers (
    id          text PRIMARY KEY,
    host        text NOT NULL DEFAULT '',
    pid         bigint NOT NULL DEFAULT 0,
    version     text NOT NULL DEFAULT '',
    info        jsonb NOT NULL DEFAULT '{}',
    started_at  timestamptz NOT NULL,
    seen_at     timestamptz NOT NULL,
    alive_until timestamptz NOT NULL,           -- by the server's clock
    retired_at  timestamptz
) WITH (fillfactor = 50);

CREATE TABLE tb_audit_log (
    pk      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL,
    actor   text NOT NULL,
    action  text NOT NULL,
    subject text NOT NULL,
    detail  jsonb NOT NULL DEFAULT '{}'
);

CREATE TRIGGER tr_audit_log_kept BEFORE DELETE ON tb_audit_log
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot delete from the audit log');

CREATE TRIGGER tr_audit_log_all_kept BEFORE TRUNCATE ON tb_audit_log
    EXECUTE FUNCTION fn_refuse('cannot delete from the audit log');

CREATE TRIGGER tr_audit_log_fixed BEFORE UPDATE ON tb_audit_log
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot change the audit log');

-- One row for each connection that writes. Its transactions count `serial` up: whoever lost the answer to a
-- COMMIT locks the row over another connection, which waits for the lost one's end, and sees whether it counts.
CREATE TABLE tb_receipts (
    connection uuid PRIMARY KEY,
    serial     bigint NOT NULL,
    at         timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE tb_counters (
    name  text NOT NULL,                        -- 'deployments.success', 'events.accepted', ...
    shard smallint NOT NULL,                    -- fn_shard() of who counted; a counter is the sum of its shards
    value bigint NOT NULL,
    PRIMARY KEY (name, shard)
) WITH (fillfactor = 50);

CREATE TABLE tb_deployment_days (
    fraise      text NOT NULL,
    environment text NOT NULL,
    day         text NOT NULL,                  -- of requested_at, UTC: 2026-11-22
    status      text NOT NULL,
    total       integer NOT NULL DEFAULT 0,
    timed       integer NOT NULL DEFAULT 0,     -- how many of them have a duration
    seconds     double precision NOT NULL DEFAULT 0,  -- the sum of those
    PRIMARY KEY (fraise, environment, day, status)
) WITH (fillfactor = 50);

CREATE TRIGGER tr_deployment_days_summed AFTER INSERT ON tb_deployment_days
    REFERENCING NEW TABLE AS new_days FOR EACH STATEMENT EXECUTE FUNCTION fn_sum_new_days();

CREATE TRIGGER tr_deployment_days_summed_again AFTER UPDATE ON tb_deployment_days
    REFERENCING OLD TABLE AS old_days NEW TABLE AS new_days
    FOR EACH STATEMENT EXECUTE FUNCTION fn_sum_changed_days();

CREATE TRIGGER tr_webhook_events_counted AFTER INSERT ON tb_webhook_events
    REFERENCING NEW TABLE AS new_events FOR EACH STATEMENT EXECUTE FUNCTION fn_count_events();

CREATE VIEW v_fraise AS
SELECT f.*,
       jsonb_build_object('id', f.id, 'fraise_id', f.fraise_id, 'type', f.type, 'description', f.description,
                          'forge', f.forge, 'repository', f.repository, 'environments', f.environments) AS data
  FROM (SELECT f.id,
               f.name        AS fraise_id,
               f.type,
               f.description,
               f.forge,
               f.repository,
               coalesce((SELECT jsonb_agg(e.name ORDER BY e.name)
                           FROM tb_environments e
                          WHERE e.fraise = f.name AND e.published), '[]') AS environments
          FROM tb_fraises f
         WHERE f.published) f
 ORDER BY f.fraise_id;

-- `data` of a deployment. The planner puts the expression itself in place of the call.
CREATE OR REPLACE FUNCTION fn_deployment_data(d tb_deployments, p_attempts bigint) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN jsonb_build_object('id', d.id, 'fraise_id', d.fraise, 'environment', d.environment, 'ref', d.ref,
               'commit', d."commit", 'status', d.status, 'trigger', d.trigger, 'requested_by', d.requested_by,
               'requested_at', fn_iso(d.requested_at), 'started_at', fn_iso(d.started_at),
               'completed_at', fn_iso(d.completed_at), 'duration_seconds', d.duration,
               'error_message', d.error_message, 'cause', d.cause, 'hint', d.hint, 'release', d.release,
               'previous_release', d.previous_release, 'event_id', d.event, 'force', d.force,
               'cancel_requested_by', d.cancel_requested_by, 'not_before', fn_iso(d.not_before),
               'attempts', p_attempts);

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
       a.attempts,
       d.pk               AS position,
       fn_deployment_data(d, a.attempts) AS data
  FROM tb_deployments d
 CROSS JOIN LATERAL (SELECT count(*) AS attempts
                       FROM tb_deployment_attempts a WHERE a.deployment = d.id) a
 ORDER BY d.pk DESC;

CREATE VIEW v_deployment_stats AS
SELECT s.*,
       jsonb_build_object('id', s.id, 'fraise_id', s.fraise_id, 'environment', s.environment,
           'total', s.total, 'succeeded', s.succeeded, 'failed', s.failed, 'rolled_back', s.rolled_back,
           'rollback_failed', s.rollback_failed, 'cancelled', s.cancelled, 'superseded', s.superseded,
           'success_rate', s.success_rate, 'average_duration_seconds', s.average_duration_seconds,
           'last_deployed', fn_iso(s.last_deployed)) AS data
  FROM (SELECT e.id,
               d.fraise     AS fraise_id,
               d.environment,
               sum(d.total) AS total,
               coalesce(sum(d.total) FILTER (WHERE d.status = 'success'), 0)         AS succeeded,
               coalesce(sum(d.total) FILTER (WHERE d.status = 'failed'), 0)          AS failed,
               coalesce(sum(d.total) FILTER (WHERE d.status = 'rolled_back'), 0)     AS rolled_back,
               coalesce(sum(d.total) FILTER (WHERE d.status = 'rollback_failed'), 0) AS rollback_failed,
               coalesce(sum(d.total) FILTER (WHERE d.status = 'cancelled'), 0)       AS cancelled,
               coalesce(sum(d.total) FILTER (WHERE d.status = 'superseded'), 0)      AS superseded,
               coalesce(sum(d.total) FILTER (WHERE d.status = 'success'), 0)::double precision
                 / nullif(sum(d.total) FILTER (WHERE d.status IN ('success', 'failed', 'rolled_back',
                                                                  'rollback_failed')), 0) AS success_rate,
               sum(d.seconds) FILTER (WHERE d.status = 'success')
                 / nullif(sum(d.timed) FILTER (WHERE d.status = 'success'), 0) AS average_duration_seconds,
               e.last_deployed_at AS last_deployed
          FROM tb_deployment_days d
          JOIN tb_environments e ON e.fraise = d.fraise AND e.name = d.environment
         GROUP BY e.id, d.fraise, d.environment, e.last_deployed_at) s
 ORDER BY s.fraise_id, s.environment;

CREATE VIEW v_webhook_events AS
SELECT id, forge, delivery_id, type, repository, ref, before, after, changes, sender, remote, received_at,
       verdict, reason, deployments, payload_digest, payload_bytes,
       pk AS position,
       jsonb_build_object('id', id, 'forge', forge, 'delivery_id', delivery_id, 'type', type,
           'repository', repository, 'ref', ref, 'before', before, 'after', after, 'changes', changes,
           'sender', sender, 'remote', remote, 'received_at', fn_iso(received_at), 'verdict', verdict,
           'reason', reason, 'deployments', deployments, 'payload_digest', payload_digest,
           'payload_bytes', payload_bytes) AS data
  FROM tb_webhook_events
 ORDER BY pk DESC;

CREATE VIEW v_environment AS
SELECT e.id,
       e.fraise                                       AS fraise_id,
       e.name                                         AS environment,
       coalesce(e.document ->> 'branch', '')          AS branch,
       coalesce(e.document ->> 'tag', '')             AS tag,
       coalesce(e.document -> 'hosts', '[]')          AS hosts,
       coalesce(e.document ->> 'app_path', '')        AS app_path,
       e.paused,
       jsonb_build_object('id', e.id, 'fraise_id', e.fraise, 'environment', e.name,
           'branch', coalesce(e.document ->> 'branch', ''), 'tag', coalesce(e.document ->> 'tag', ''),
           'hosts', coalesce(e.document -> 'hosts', '[]'),
           'app_path', coalesce(e.document ->> 'app_path', ''), 'paused', e.paused) AS data
  FROM tb_environments e
 WHERE e.published
 ORDER BY e.fraise, e.name;

CREATE SCHEMA IF NOT EXISTS core;

CREATE SEQUENCE IF NOT EXISTS core.seq_entity_change_log;

CREATE TABLE IF NOT EXISTS core.tb_entity_change_log (
    pk_entity_change_log bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    object_type          text NOT NULL,         -- the type's name in GraphQL
    modification_type    text NOT NULL,         -- INSERT, UPDATE or DELETE
    id                   uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at           timestamptz NOT NULL DEFAULT now(),
    seq                  bigint DEFAULT nextval('core.seq_entity_change_log'),
    tenant_id            uuid,
    object_id            uuid,                  -- a NULL would stall the server's poller for ever
    object_data          jsonb,                 -- `data` of the view, afterwards
    object_data_before   jsonb,
    updated_fields       text[],
    cascade              jsonb,
    duration_ms          integer,
    started_at           timestamptz,
    commit_time          timestamptz,
    actor_type           text,
    acting_for           uuid,
    schema_version       text,
    trace_id             text,
    trace_context        jsonb,
    change_status        text,
    extra_metadata       jsonb,
    fk_customer_org      bigint,
    fk_contact           bigint,
    nats_published_at    timestamptz,
    nats_event_id        uuid
);

CREATE INDEX IF NOT EXISTS idx_entity_log_created ON core.tb_entity_change_log (created_at);

-- The server reads its observers from here when it starts. It may stay empty, but not be missing.
CREATE TABLE IF NOT EXISTS tb_observer (
    pk_observer          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id                   uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    name                 varchar(255) NOT NULL,
    description          text,
    entity_type          varchar(255),
    event_type           varchar(50) CHECK (event_type IN ('INSERT', 'UPDATE', 'DELETE', 'CUSTOM')),
    condition_expression text,
    actions              jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(actions) = 'array'),
    enabled              boolean NOT NULL DEFAULT true,
    priority             integer NOT NULL DEFAULT 100,
    retry_config         jsonb NOT NULL
                         DEFAULT '{"max_attempts": 3, "backoff": "exponential", "initial_delay_ms": 1000}',
    timeout_ms           integer NOT NULL DEFAULT 30000,
    fk_customer_org      bigint,
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    created_by           varchar(255),
    updated_by           varchar(255),
    deleted_at           timestamptz
);

CREATE TRIGGER tr_deployments_new_logged AFTER INSERT ON tb_deployments
    REFERENCING NEW TABLE AS new_deployments
    FOR EACH STATEMENT EXECUTE FUNCTION fn_log_new_deployments();

CREATE TRIGGER tr_deployments_changes_logged AFTER UPDATE ON tb_deployments
    REFERENCING OLD TABLE AS old_deployments NEW TABLE AS new_deployments
    FOR EACH STATEMENT EXECUTE FUNCTION fn_log_changed_deployments();

CREATE TRIGGER tr_webhook_events_logged AFTER INSERT ON tb_webhook_events
    REFERENCING NEW TABLE AS new_events
    FOR EACH STATEMENT EXECUTE FUNCTION fn_log_new_events();

-- What is published: who may begin a deployment.
ALTER TABLE tb_environments ADD labels jsonb NOT NULL DEFAULT '[]';

-- What was published when the deployment that runs was begun: who may go on with it, for it is half done on a
-- machine with these labels. Of no meaning while none runs.
ALTER TABLE tb_environments ADD bound_labels jsonb NOT NULL DEFAULT '[]';

ALTER TABLE tb_environments ADD paused_by text NOT NULL DEFAULT '';

ALTER TABLE tb_environments ADD paused_at timestamptz;

ALTER TABLE tb_environments ADD paused_reason text NOT NULL DEFAULT '';

CREATE OR REPLACE VIEW v_unfinished_deployment AS
SELECT u.id, u.fraise_id, u.environment, u.status, u.labels, u.position,
       jsonb_build_object('id', u.id, 'fraise_id', u.fraise_id, 'environment', u.environment,
           'status', u.status, 'labels', u.labels, 'trigger', u.trigger, 'force', u.force) AS data,
       u.trigger, u.force
  FROM (SELECT d.id,
               d.fraise      AS fraise_id,
               d.environment,
               d.status,
               CASE WHEN d.status = 'running' AND e.bound_labels <> '[]' THEN e.bound_labels
                    ELSE e.labels END AS labels,
               d.pk          AS position,
               d.trigger,
               d.force
          FROM tb_environments e
          JOIN tb_deployments d ON d.fraise = e.fraise AND d.environment = e.name
                               AND d.status IN ('running', 'pending')) u
 ORDER BY u.position;

CREATE TABLE tb_database_changes (
    pk         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment uuid NOT NULL REFERENCES tb_deployments (id),
    attempt    integer NOT NULL,
    at         timestamptz NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('planned', 'backed_up', 'migrated', 'taken_back', 'left')),
    revision   text NOT NULL,                   -- where the database was then; '' = nobody tells
    detail     jsonb NOT NULL DEFAULT '{}'
);

CREATE INDEX ix_database_changes_deployment ON tb_database_changes (deployment);

CREATE TRIGGER tr_database_changes_kept BEFORE DELETE ON tb_database_changes
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot delete a note of a database: notes are append-only');

CREATE TRIGGER tr_database_changes_all_kept BEFORE TRUNCATE ON tb_database_changes
    EXECUTE FUNCTION fn_refuse('cannot delete a note of a database: notes are append-only');

CREATE TRIGGER tr_database_changes_fixed BEFORE UPDATE ON tb_database_changes
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot change a note of a database: notes are append-only');

-- Which deployment works on a database: no other one migrates it meanwhile. Of no meaning once it has ended; one
-- that was interrupted keeps it until whoever takes it over has ended its commands.
CREATE TABLE tb_database_locks (
    name       text PRIMARY KEY,
    deployment uuid NOT NULL REFERENCES tb_deployments (id),
    taken_at   timestamptz NOT NULL
);

-- A rollback that was asked to take the database back, too.
ALTER TABLE tb_deployments ADD with_database boolean NOT NULL DEFAULT false;

-- What an older Fraisier has begun to migrate has no note of it; without one it would count as not begun.
INSERT INTO tb_database_changes (deployment, attempt, at, kind, revision)
SELECT s.deployment, s.attempt, s.started_at, 'planned', ''
  FROM tb_deployment_steps s JOIN tb_deployments d ON d.id = s.deployment
 WHERE d.status = 'running' AND s.step = 'migrate' AND s.phase = 'deploy' AND s.state <> 'success';

CREATE VIEW v_database_change AS
SELECT c.deployment     AS deployment_id,
       d.fraise         AS fraise_id,
       d.environment,
       d.release,
       c.attempt,
       c.at,
       c.kind,
       c.revision,
       c.detail,
       c.pk             AS position,
       jsonb_build_object('deployment_id', c.deployment, 'fraise_id', d.fraise, 'environment', d.environment,
           'release', d.release, 'attempt', c.attempt, 'at', fn_iso(c.at), 'kind', c.kind,
           'revision', c.revision, 'detail', c.detail) AS data
  FROM tb_database_changes c JOIN tb_deployments d ON d.id = c.deployment;

ALTER TABLE tb_deployment_steps ADD host text NOT NULL DEFAULT '';  -- '' = the only one, or all of them

CREATE TRIGGER tr_steps_fixed BEFORE UPDATE OF
    deployment, attempt, phase, step, host, release, started_at ON tb_deployment_steps
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot change a step: steps are append-only');

CREATE TABLE tb_environment_hosts (
    id               uuid NOT NULL UNIQUE,
    fraise           text NOT NULL,
    environment      text NOT NULL,
    host             text NOT NULL,
    state            text NOT NULL DEFAULT 'unknown' CHECK (state IN ('waiting', 'changing', 'failed', 'returning',
                         'current', 'behind', 'broken', 'unreachable', 'unknown')),
    release          text NOT NULL DEFAULT '',  -- what it runs, as far as is known
    "commit"         text NOT NULL DEFAULT '',
    previous_release text NOT NULL DEFAULT '',  -- what it goes back to in `deployment`
    previous_commit  text NOT NULL DEFAULT '',
    deployment       uuid,                      -- the last one that was about it
    touched          boolean NOT NULL DEFAULT false,  -- whether its turn had come there
    unfinished       boolean NOT NULL DEFAULT false,  -- a turn was cut off: its unit may run something else
    cause            text,                      -- why it did not come along
    detail           text NOT NULL DEFAULT '',
    since            timestamptz NOT NULL,
    PRIMARY KEY (fraise, environment, host),
    FOREIGN KEY (fraise, environment) REFERENCES tb_environments (fraise, name)
) WITH (fillfactor = 50);

CREATE INDEX ix_environment_hosts_unwell ON tb_environment_hosts (state) WHERE state <> 'current';

-- Every host that is configured. `release` is what it runs as far as is known: of one that cannot be reached, what
-- was last known.
CREATE VIEW v_environment_hosts AS
SELECT s.*,
       jsonb_build_object('id', s.id, 'fraise_id', s.fraise_id, 'environment', s.environment, 'host', s.host,
           'state', s.state, 'release', s.release, 'commit', s."commit", 'healthy', s.healthy,
           'cause', s.cause, 'detail', s.detail, 'deployment_id', s.deployment_id,
           'previous_release', s.previous_release, 'since', fn_iso(s.since)) AS data
  FROM (SELECT h.id,
               h.fraise      AS fraise_id,
               h.environment,
               h.host,
               h.state,
               h.release,
               h."commit",
               CASE WHEN h.state IN ('current', 'behind', 'waiting') THEN true WHEN h.state = 'broken' THEN false END
                             AS healthy,
               h.cause,
               h.detail,
               h.deployment  AS deployment_id,
               h.previous_release,
               h.since,
               k.position
          FROM tb_environments e
         CROSS JOIN jsonb_array_elements_text(e.document -> 'hosts') WITH ORDINALITY k (host, position)
          JOIN tb_environment_hosts h ON h.fraise = e.fraise AND h.environment = e.name AND h.host = k.host
         WHERE e.published AND jsonb_array_length(coalesce(e.document -> 'hosts', '[]')) > 1
         UNION ALL
        SELECT e.id,
               e.fraise,
               e.name,
               e.document -> 'hosts' ->> 0,
               CASE WHEN e.healthy IS NULL THEN 'unknown' WHEN e.healthy THEN 'current' ELSE 'broken' END,
               e.current_release,
               e.current_commit,
               e.healthy,
               NULL,
               '',
               e.current_deployment,
               '',
               e.last_deployed_at,
               0
          FROM tb_environments e
         WHERE e.published AND jsonb_array_length(coalesce(e.document -> 'hosts', '[]')) = 1) s
 ORDER BY s.fraise_id, s.environment, s.position;

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
CREATE OR REPLACE FUNCTION fn_run_data(r tb_runs) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN jsonb_build_object('id', r.id, 'fraise_id', r.fraise, 'environment', r.environment, 'host', r.host,
               'job', r.job, 'kind', r.kind, 'trigger', r.trigger, 'status', r.status, 'release', r.release,
               'commit', r."commit", 'parameters', r.parameters, 'requested_by', r.requested_by,
               'requested_at', fn_iso(r.requested_at), 'due', fn_iso(r.due), 'not_before', fn_iso(r.not_before),
               'started_at', fn_iso(r.started_at), 'ended_at', fn_iso(r.ended_at),
               'duration_seconds', r.duration, 'exit_code', r.exit_code,
               'peak_memory_bytes', r.peak_memory_bytes, 'attempt', r.attempt, 'retry_of', r.retry_of)
        || jsonb_build_object('cause', r.cause, 'error_message', r.error_message, 'hint', r.hint,
               'artefacts', r.artefacts, 'detail', r.detail, 'cancel_requested_by', r.cancel_requested_by,
               'invocation', r.invocation);

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

CREATE TABLE tb_backups (
    pk           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           uuid NOT NULL UNIQUE,
    fraise       text NOT NULL,
    environment  text NOT NULL,
    destination  text NOT NULL,
    name         text NOT NULL,                   -- when it was begun (UTC), and the end of its run's id
    made_at      timestamptz NOT NULL,
    bytes        bigint NOT NULL DEFAULT 0,
    manifest     text NOT NULL DEFAULT '',        -- the manifest's sha256; '' = not read yet
    state        text NOT NULL DEFAULT 'unknown' CHECK (state IN ('unknown', 'whole', 'damaged', 'gone')),
    detail       text NOT NULL DEFAULT '',        -- what is wrong with it
    looked_at    timestamptz,
    verified_at  timestamptz,                     -- when it was last brought back and found good
    verified_run uuid,
    flaw         text NOT NULL DEFAULT '',        -- what was wrong when it was last brought back
    safety       boolean NOT NULL DEFAULT false,  -- made before a restore
    pruned_at    timestamptz,                     -- no rule kept it
    UNIQUE (fraise, environment, destination, name),
    FOREIGN KEY (fraise, environment) REFERENCES tb_environments (fraise, name)
) WITH (fillfactor = 70);

CREATE INDEX ix_backups_kept ON tb_backups (fraise, environment, made_at) WHERE pruned_at IS NULL;

CREATE TRIGGER tr_backups_kept BEFORE DELETE ON tb_backups
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot delete a backup: what became of it is kept');

CREATE TRIGGER tr_backups_all_kept BEFORE TRUNCATE ON tb_backups
    EXECUTE FUNCTION fn_refuse('cannot delete a backup: what became of it is kept');

CREATE TRIGGER tr_backups_fixed BEFORE UPDATE OF id, fraise, environment, destination, name ON tb_backups
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot change which backup a row is about');

CREATE VIEW v_backups AS
SELECT s.*,
       jsonb_build_object('id', s.id, 'fraise_id', s.fraise_id, 'environment', s.environment,
           'destination', s.destination, 'name', s.name, 'made_at', fn_iso(s.made_at), 'bytes', s.bytes,
           'manifest_sha256', s.manifest_sha256, 'state', s.state, 'detail', s.detail,
           'looked_at', fn_iso(s.looked_at), 'verified_at', fn_iso(s.verified_at),
           'verified_run_id', s.verified_run_id, 'flaw', s.flaw, 'safety', s.safety,
           'pruned_at', fn_iso(s.pruned_at)) AS data
  FROM (SELECT b.id,
               b.fraise       AS fraise_id,
               b.environment,
               b.destination,
               b.name,
               b.made_at,
               b.bytes,
               b.manifest     AS manifest_sha256,
               b.state,
               b.detail,
               b.looked_at,
               b.verified_at,
               b.verified_run AS verified_run_id,
               b.flaw,
               b.safety,
               b.pruned_at
          FROM tb_backups b) s
 ORDER BY s.fraise_id, s.environment, s.made_at DESC, s.name DESC, s.destination;

ALTER TABLE tb_deployment_steps ADD cause text;

ALTER TABLE tb_deployment_steps ADD hint text NOT NULL DEFAULT '';

CREATE TRIGGER tr_steps_completed_once
    BEFORE UPDATE OF state, ended_at, duration, tail, error, cause, hint ON tb_deployment_steps
    FOR EACH ROW WHEN (OLD.state <> 'running')
    EXECUTE FUNCTION fn_refuse('cannot change a step that has ended');
