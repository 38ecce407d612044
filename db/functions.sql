-- The functions of the PostgreSQL store.
-- Made by `make schema` from db/postgresql/*.sql (0011_unseen_tips is the newest). Do not edit, do not apply.

SET check_function_bodies = off;  -- they name tables, which come with schema.sql

-- STABLE, as to_char is: of an IMMUTABLE one the planner could not put the expression in place of the call.
CREATE FUNCTION fn_iso(moment timestamptz) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;

-- Refuses what its trigger fires for, with the trigger's argument as the message.
CREATE FUNCTION fn_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = 'integrity_constraint_violation';
END
$$;

CREATE FUNCTION fn_shard() RETURNS smallint
    LANGUAGE sql STABLE AS $$ SELECT (pg_backend_pid() % 128)::smallint $$;

CREATE FUNCTION fn_sum_new_days() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tb_counters AS c (name, shard, value)
    SELECT 'deployments.' || status, fn_shard(), sum(total) FROM new_days GROUP BY status ORDER BY 1
        ON CONFLICT (name, shard) DO UPDATE SET value = c.value + excluded.value;
    RETURN NULL;
END
$$;

CREATE FUNCTION fn_sum_changed_days() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tb_counters AS c (name, shard, value)
    SELECT 'deployments.' || status, fn_shard(), sum(change)
      FROM (SELECT status, total AS change FROM new_days UNION ALL SELECT status, -total FROM old_days) d
     GROUP BY status ORDER BY 1
        ON CONFLICT (name, shard) DO UPDATE SET value = c.value + excluded.value;
    RETURN NULL;
END
$$;

CREATE FUNCTION fn_count_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tb_counters AS c (name, shard, value)
    SELECT 'events.' || verdict, fn_shard(), count(*) FROM new_events GROUP BY verdict ORDER BY 1
        ON CONFLICT (name, shard) DO UPDATE SET value = c.value + excluded.value;
    RETURN NULL;
END
$$;

-- The names and their order are fraiseql-server's (2.15: fraiseql-core/src/runtime/mutation_result.rs).
CREATE TYPE mutation_result AS (
    succeeded      boolean,
    state_changed  boolean,
    error_class    text,      -- NULL if it succeeded
    status_detail  text,      -- a stable word of ours
    http_status    smallint,
    message        text,
    entity_id      uuid,
    entity_type    text,
    entity         jsonb,     -- the same as `data` of the view
    updated_fields text[],    -- names in GraphQL
    cascade        jsonb,
    error_detail   jsonb,     -- {field, hint}
    metadata       jsonb
);

CREATE FUNCTION fn_done(p_changed boolean, p_deployment uuid, p_detail text, p_http integer, p_message text,
                        p_updated text[], p_metadata jsonb) RETURNS mutation_result
    LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_data jsonb := (SELECT h.data FROM v_deployment_history h WHERE h.id = p_deployment);
BEGIN
    RETURN ROW(true, p_changed, NULL, p_detail, p_http, p_message, p_deployment, 'Deployment', v_data,
               p_updated, NULL, NULL, p_metadata)::mutation_result;
END
$$;

-- The kinds and statuses of refusals: as in STATUS_OF_CODE of fraisier/domain/errors.py.
CREATE FUNCTION fn_refused(p_class text, p_detail text, p_message text, p_hint text,
                           p_field text DEFAULT NULL) RETURNS mutation_result
    LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_http integer := CASE p_class WHEN 'validation' THEN 400 WHEN 'not_found' THEN 404 ELSE 409 END;
BEGIN
    RETURN ROW(false, false, p_class, p_detail, v_http, p_message, NULL, NULL, NULL, '{}', NULL,
               jsonb_strip_nulls(jsonb_build_object('field', p_field, 'hint', p_hint)),
               NULL)::mutation_result;
END
$$;

-- A full object name, SHA-1 or SHA-256, that is not the zero one: is_sha of fraisier/domain/push.py.
CREATE FUNCTION fn_is_sha(p_text text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT p_text ~ '^([0-9a-f]{40}|[0-9a-f]{64})$' AND p_text !~ '^0*$'
$$;

-- Whether git accepts refs/heads/<name>: is_ref_name of fraisier/domain/push.py.
CREATE FUNCTION fn_is_ref_name(p_name text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT octet_length(p_name) BETWEEN 1 AND 1024
       AND p_name !~ '[\u0001-\u0020\u007f~^:?*[\\]'
       AND p_name !~ '\.\.|@\{|//'
       AND p_name !~ '[./]$'
       AND p_name !~ '(^|/)\.'
       AND p_name !~ '\.lock(/|$)'
       AND p_name !~ '^/'
$$;

-- The newest of an environment's deployments, less the superseded: by one look into the index per status.
CREATE FUNCTION fn_newest_deployment(p_fraise text, p_environment text) RETURNS bigint
    LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT max((SELECT d.pk FROM tb_deployments d
                         WHERE d.fraise = p_fraise AND d.environment = p_environment AND d.status = s.status
                         ORDER BY d.pk DESC LIMIT 1))
              FROM (VALUES ('pending'), ('running'), ('success'), ('failed'), ('rolled_back'),
                           ('rollback_failed'), ('cancelled')) s (status));
END
$$;

CREATE TYPE decision AS (requested boolean, reason text, superseded uuid[]);

-- Which status may follow which: MAY_FOLLOW of fraisier/domain/deployment.py.
CREATE FUNCTION fn_may_follow(p_status text, p_following text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE p_status
           WHEN 'pending' THEN p_following IN ('running', 'cancelled', 'superseded', 'failed')
           WHEN 'running' THEN p_following IN ('success', 'failed', 'rolled_back', 'rollback_failed',
                                               'cancelled', 'superseded', 'pending')
           ELSE false END
$$;

-- Seconds between two moments; never negative, for clocks jump.
CREATE FUNCTION fn_seconds(p_from timestamptz, p_to timestamptz) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN p_from IS NOT NULL AND p_to IS NOT NULL
                THEN greatest(0, extract(epoch FROM p_to - p_from))::double precision END
$$;

-- Count deployments whose status has just changed. `p_before` is NULL for new ones.
CREATE FUNCTION fn_count_deployments(p_ids uuid[], p_before text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tb_deployment_days AS c (fraise, environment, day, status, total, timed, seconds)
    SELECT fraise, environment, left(fn_iso(requested_at), 10), state, sum(number), sum(timed), sum(took)
      FROM (SELECT d.*, d.status AS state, 1 AS number,
                   (d.duration IS NOT NULL)::int AS timed, coalesce(d.duration, 0) AS took
              FROM tb_deployments d WHERE d.id = ANY (p_ids)
             UNION ALL
            SELECT d.*, p_before, -1, 0, 0
              FROM tb_deployments d WHERE d.id = ANY (p_ids) AND p_before IS NOT NULL) changes
     GROUP BY fraise, environment, left(fn_iso(requested_at), 10), state
     ORDER BY 1, 2, 3, 4
        ON CONFLICT (fraise, environment, day, status) DO UPDATE
       SET total = c.total + excluded.total, timed = c.timed + excluded.timed,
           seconds = c.seconds + excluded.seconds;
END
$$;

-- An audit row. Beside who is said to have asked stands the role that really was connected.
CREATE FUNCTION fn_audit(p_actor text, p_action text, p_subject text, p_detail jsonb) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tb_audit_log (at, actor, action, subject, detail)
    VALUES (clock_timestamp(), p_actor, p_action, p_subject,
            p_detail || jsonb_build_object('role', session_user));
END
$$;

-- Workers and followers listen to this channel; they hear it after the commit, once per transaction.
CREATE FUNCTION fn_wake() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('fraisier', '');
END
$$;

-- Lock the environment of a deployment, so that all that concerns it happens one after the other. What is
-- read after this is as it is now.
CREATE FUNCTION fn_lock_deployment(p_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM tb_environments e
       JOIN tb_deployments d ON d.fraise = e.fraise AND d.environment = e.name
      WHERE d.id = p_id
        FOR NO KEY UPDATE OF e;
END
$$;

-- Cancel a pending deployment; ask the worker of a running one to stop it.
CREATE FUNCTION fn_cancel_deployment(p_id uuid, p_requested_by text DEFAULT NULL) RETURNS mutation_result
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_by         text := fn_asker(p_requested_by);
    v_deployment tb_deployments;
    v_now        timestamptz;
    v_fields     text[] := ARRAY['cancelRequestedBy'];
BEGIN
    IF p_id IS NULL THEN
        RETURN fn_refused('validation', 'missing_argument', 'cannot cancel a deployment without its id',
                          'Give the id', 'id');
    END IF;
    PERFORM fn_lock_deployment(p_id);
    SELECT * INTO v_deployment FROM tb_deployments d WHERE d.id = p_id;
    IF NOT FOUND THEN
        RETURN fn_refused('not_found', 'unknown_deployment', format('cannot find the deployment %s', p_id),
                          'See v_deployment_history', 'id');
    END IF;
    v_now := clock_timestamp();
    CASE v_deployment.status
    WHEN 'pending' THEN
        UPDATE tb_deployments
           SET status = 'cancelled', completed_at = v_now, duration = fn_seconds(started_at, v_now),
               cause = 'cancelled', error_message = 'cancelled by ' || v_by, cancel_requested_by = v_by,
               hint = format('Request it again with `fraisier deploy %s %s`', fraise, environment)
         WHERE id = p_id;
        PERFORM fn_count_deployments(ARRAY[p_id], 'pending');
        v_fields := v_fields || ARRAY['status', 'completedAt', 'durationSeconds', 'cause', 'errorMessage',
                                      'hint'];
    WHEN 'running' THEN
        IF v_deployment.cancel_requested_by <> '' THEN
            RETURN fn_done(false, p_id, 'already_requested', 200,
                           'its worker was asked to stop it before', '{}', NULL);
        END IF;
        UPDATE tb_deployments SET cancel_requested_by = v_by WHERE id = p_id;
    ELSE
        RETURN fn_refused('conflict', 'ended',
                          format('cannot cancel the deployment %s: it has ended (%s)', p_id,
                                 v_deployment.status),
                          format('Go back with `fraisier rollback %s %s`', v_deployment.fraise,
                                 v_deployment.environment), 'id');
    END CASE;
    PERFORM fn_audit(v_by, 'cancel', p_id::text, jsonb_build_object('status', v_deployment.status));
    PERFORM fn_wake();
    RETURN fn_done(true, p_id,
                   CASE v_deployment.status WHEN 'pending' THEN 'cancelled' ELSE 'cancel_requested' END, 200,
                   format('cancelled by %s', v_by), v_fields, NULL);
END
$$;

-- Inside the server's own transactions nothing is logged here: it logs the mutation, and twice would be once
-- too often (fraiseql: docs/architecture/external-write-capture.md).
CREATE FUNCTION fn_is_logged_by_server() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(current_setting('fraiseql.cdc_mediated', true), '') = 'on'
$$;

-- `data` is made of the rows at hand: to ask the view for each of them costs more.
CREATE FUNCTION fn_log_new_deployments() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NOT fn_is_logged_by_server() THEN
        INSERT INTO core.tb_entity_change_log (object_type, modification_type, object_id, object_data,
                                               change_status, commit_time)
        SELECT 'Deployment', 'INSERT', n.id, fn_deployment_data(ROW(n.*)::tb_deployments, 0),
               'success', clock_timestamp()
          FROM new_deployments n
         ORDER BY n.pk;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION fn_log_changed_deployments() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NOT fn_is_logged_by_server() THEN
        INSERT INTO core.tb_entity_change_log (object_type, modification_type, object_id, object_data,
                                               change_status, commit_time)
        SELECT 'Deployment', 'UPDATE', n.id, fn_deployment_data(ROW(n.*)::tb_deployments, (SELECT count(*) FROM tb_deployment_attempts a
                                                              WHERE a.deployment = n.id)),
               'success', clock_timestamp()
          FROM new_deployments n
          JOIN old_deployments o ON o.pk = n.pk
         WHERE n.status <> o.status OR n.cancel_requested_by <> o.cancel_requested_by
         ORDER BY n.pk;
    END IF;
    RETURN NULL;
END
$$;

-- `data` as in v_webhook_events, written out: taken from the view it would cost four times as much, for each
-- delivery.
CREATE FUNCTION fn_log_new_events() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO core.tb_entity_change_log (object_type, modification_type, object_id, object_data,
                                           change_status, commit_time)
    SELECT 'WebhookEvent', 'INSERT', id,
           jsonb_build_object('id', id, 'forge', forge, 'delivery_id', delivery_id, 'type', type,
               'repository', repository, 'ref', ref, 'before', before, 'after', after, 'changes', changes,
               'sender', sender, 'remote', remote, 'received_at', fn_iso(received_at), 'verdict', verdict,
               'reason', reason, 'deployments', deployments, 'payload_digest', payload_digest,
               'payload_bytes', payload_bytes),
           'success', clock_timestamp()
      FROM new_events
     ORDER BY pk;
    RETURN NULL;
END
$$;

-- Drop up to `p_limit` rows of the change log that were written before `p_before`; returns how many.
CREATE FUNCTION fn_prune_change_log(p_before timestamptz, p_limit integer) RETURNS integer
    LANGUAGE plpgsql AS $$
DECLARE
    v_dropped integer;
BEGIN
    DELETE FROM core.tb_entity_change_log
     WHERE pk_entity_change_log IN (SELECT c.pk_entity_change_log FROM core.tb_entity_change_log c
                                     WHERE c.created_at < p_before ORDER BY c.created_at LIMIT p_limit);
    GET DIAGNOSTICS v_dropped = ROW_COUNT;
    RETURN v_dropped;
END
$$;

DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT p.oid FROM pg_proc p
         WHERE p.pronamespace = current_schema()::regnamespace AND p.prosecdef AND p.proname LIKE 'fn\_%'
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %I, pg_temp', v_function,
                       current_schema());
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', v_function);
    END LOOP;
END
$$;

-- Why a deployment may have ended otherwise than `success`: Cause of fraisier/domain/errors.py, which refuses to read
-- any other word.
CREATE FUNCTION fn_is_cause(p_text text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT p_text IN ('preflight', 'repository', 'commit_not_found', 'commit_not_on_ref', 'force_push_refused',
                      'older_than_current', 'paths_unchanged', 'superseded', 'build', 'migration',
                      'migration_interrupted', 'irreversible', 'backup', 'database', 'restart', 'unhealthy',
                      'run', 'timeout', 'disk', 'network', 'host', 'store', 'owner', 'cancelled',
                      'quarantined', 'interrupted', 'rollback', 'internal')
$$;

-- Who asks, as it is stored: what the server took from the token, else the role that is connected. A subject has at
-- most 255 characters (OpenID Connect Core 1.0, section 2).
CREATE OR REPLACE FUNCTION fn_asker(p_requested_by text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(nullif(left(trim(p_requested_by), 255), ''), session_user::text)
$$;

-- Whether a wish becomes a deployment, and which pending ones it supersedes; also what persons asked for and is held
-- back in a paused environment, or waits for its next try while this one goes first (`replaced_by` of
-- fraisier/application/find_holds.py): `decide` of fraisier/domain/deployment.py, word by word;
-- tests/integration/test_postgresql_functions.py compares them.
CREATE FUNCTION fn_decide(p_fraise text, p_environment text, p_trigger text, p_commit text, p_force boolean,
                          p_quarantine jsonb, p_paused boolean) RETURNS decision
    LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_entry       jsonb   := p_quarantine -> p_commit;
    v_refused     boolean := coalesce(v_entry ->> 'cause' = 'force_push_refused', false);
    v_quarantined boolean := v_entry IS NOT NULL AND NOT v_refused;
    v_automatic   boolean := p_trigger IN ('webhook', 'sweep') AND p_commit <> '';
    v_newest      bigint  := fn_newest_deployment(p_fraise, p_environment);
BEGIN
    IF v_automatic AND p_commit = (SELECT d."commit" FROM tb_deployments d WHERE d.pk = v_newest) THEN
        RETURN ROW(false, 'already_requested', '{}')::decision;
    END IF;
    IF v_quarantined AND NOT p_force AND p_trigger <> 'rollback' THEN
        RETURN ROW(false, 'quarantined', '{}')::decision;
    END IF;
    IF v_automatic AND v_refused THEN
        RETURN ROW(false, 'refused', '{}')::decision;
    END IF;
    RETURN ROW(true, '', ARRAY(SELECT d.id FROM tb_deployments d
                                WHERE d.fraise = p_fraise AND d.environment = p_environment
                                  AND d.status = 'pending'
                                  AND (d.trigger IN ('webhook', 'sweep', 'api')
                                       OR p_paused AND d.trigger <> 'rollback' AND NOT d.force
                                       OR (p_force OR p_trigger = 'rollback') AND d.not_before IS NOT NULL)
                                ORDER BY d.pk))::decision;
END
$$;

-- The last transaction of a deployment, for whoever performs it: its status and why, what runs now, whether
-- the commit is quarantined, and the end of the lease. `p_token` is the fencing token of the claim,
-- `p_attempt` the attempt that was begun with it. `p_release` NULL leaves what runs as it is, '' says that
-- nothing runs. Told again (the answer was lost), it changes nothing and succeeds.
CREATE OR REPLACE FUNCTION fn_complete_deployment(p_id uuid, p_token bigint, p_attempt integer, p_status text,
                                       p_cause text DEFAULT NULL, p_error_message text DEFAULT NULL,
                                       p_hint text DEFAULT NULL, p_release text DEFAULT NULL,
                                       p_commit text DEFAULT NULL, p_healthy boolean DEFAULT NULL,
                                       p_quarantine boolean DEFAULT NULL) RETURNS mutation_result
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_deployment tb_deployments;
    v_place      tb_environments;
    v_attempt    record;
    v_now        timestamptz;
    v_deployed   boolean;  -- hosts that were brought along are no deployment of anything new
BEGIN
    IF p_id IS NULL OR p_token IS NULL OR p_attempt IS NULL OR p_status IS NULL THEN
        RETURN fn_refused('validation', 'missing_argument',
                          'cannot complete a deployment without its id, token, attempt and status',
                          'Give all four');
    END IF;
    IF p_status NOT IN ('success', 'failed', 'rolled_back', 'rollback_failed', 'cancelled', 'superseded') THEN
        RETURN fn_refused('validation', 'bad_status',
                          format('cannot complete a deployment with status %L', left(p_status, 80)),
                          'Give one that is final', 'status');
    END IF;
    IF p_status <> 'success' AND coalesce(p_cause, '') = '' THEN
        RETURN fn_refused('validation', 'missing_argument',
                          'cannot complete a deployment without saying why it did not succeed',
                          'Give the cause', 'cause');
    END IF;
    IF coalesce(p_cause, '') <> '' AND NOT fn_is_cause(p_cause) THEN
        RETURN fn_refused('validation', 'bad_cause',
                          format('cannot complete a deployment with cause %L', left(p_cause, 80)),
                          'Give a word that Fraisier has for it: internal, if no other one fits', 'cause');
    END IF;
    IF p_release <> '' AND p_release !~ '^[0-9]{1,9}-[0-9a-f]{1,64}$' THEN
        RETURN fn_refused('validation', 'bad_release',
                          format('cannot complete a deployment with release %L', left(p_release, 80)),
                          'Give the name of its folder: <number>-<short commit>', 'release');
    END IF;
    IF p_commit <> '' AND NOT fn_is_sha(p_commit) THEN
        RETURN fn_refused('validation', 'bad_commit',
                          format('cannot complete a deployment with commit %L: it is no full object name',
                                 left(p_commit, 80)),
                          'Give all 40 or 64 hexadecimal digits in lower case', 'commit');
    END IF;
    PERFORM fn_lock_deployment(p_id);
    SELECT * INTO v_deployment FROM tb_deployments d WHERE d.id = p_id;
    IF NOT FOUND THEN
        RETURN fn_refused('not_found', 'unknown_deployment', format('cannot find the deployment %s', p_id),
                          'See v_deployment_history', 'id');
    END IF;
    SELECT * INTO v_place FROM tb_environments e
     WHERE e.fraise = v_deployment.fraise AND e.name = v_deployment.environment;
    SELECT a.token, a.worker, a.outcome, a.ended_at INTO v_attempt FROM tb_deployment_attempts a
     WHERE a.deployment = p_id AND a.number = p_attempt;
    IF v_deployment.status = p_status AND v_attempt.token = p_token AND v_attempt.outcome = p_status THEN
        RETURN fn_done(false, p_id, 'already_completed', 200, 'it was completed before', '{}', NULL);
    END IF;
    IF NOT fn_may_follow(v_deployment.status, p_status) OR v_deployment.status <> 'running' THEN
        RETURN fn_refused('conflict', 'forbidden_transition',
                          format('cannot change a deployment from %s to %s', v_deployment.status, p_status),
                          'A deployment that ended stays as it is; request a new one', 'status');
    END IF;
    IF v_place.token <> p_token OR v_attempt.token IS DISTINCT FROM p_token THEN
        RETURN fn_refused('conflict', 'token_outdated',
                          format('cannot go on with %s/%s: another worker has taken it over',
                                 v_deployment.fraise, v_deployment.environment),
                          'Nothing to do: that worker finishes the deployment', 'token');
    END IF;
    IF v_attempt.ended_at IS NOT NULL THEN
        RETURN fn_refused('conflict', 'attempt_ended',
                          format('cannot complete %s: attempt %s has ended', p_id, p_attempt),
                          'Begin another attempt', 'attempt');
    END IF;

    v_now := clock_timestamp();
    v_deployed := p_status = 'success' AND v_deployment.trigger <> 'heal';
    UPDATE tb_deployments
       SET status = p_status, completed_at = v_now, duration = fn_seconds(started_at, v_now),
           cause = nullif(p_cause, ''), error_message = coalesce(p_error_message, ''),
           hint = coalesce(p_hint, '')
     WHERE id = p_id;
    PERFORM fn_count_deployments(ARRAY[p_id], 'running');
    UPDATE tb_deployment_steps SET state = 'interrupted', ended_at = v_now
     WHERE deployment = p_id AND state = 'running';
    UPDATE tb_deployment_attempts
       SET ended_at = v_now, outcome = p_status, error = coalesce(p_error_message, '')
     WHERE deployment = p_id AND number = p_attempt;
    UPDATE tb_environments
       SET current_release    = coalesce(p_release, current_release),
           current_commit     = CASE WHEN p_release IS NULL THEN current_commit
                                     ELSE coalesce(p_commit, '') END,
           current_deployment = CASE WHEN p_release IS NULL THEN current_deployment
                                     WHEN v_deployed THEN p_id
                                     WHEN p_release <> '' AND p_release = current_release
                                     THEN current_deployment END,
           healthy            = CASE WHEN p_release IS NULL THEN healthy ELSE coalesce(p_healthy, false) END,
           last_deployed_at   = CASE WHEN v_deployed THEN v_now ELSE last_deployed_at END,
           quarantine         = CASE
               WHEN v_deployed THEN quarantine - v_deployment."commit"
               WHEN v_deployment."commit" <> ''
                    AND (coalesce(p_quarantine, false) OR p_cause = 'force_push_refused')
               THEN quarantine || jsonb_build_object(v_deployment."commit", jsonb_build_object(
                        'at', fn_iso(v_now), 'deployment', p_id, 'cause', p_cause))
               ELSE quarantine END,
           lease_worker       = '',
           lease_until        = NULL
     WHERE pk = v_place.pk;
    PERFORM fn_audit(v_attempt.worker, 'complete', p_id::text,
                     jsonb_build_object('status', p_status, 'attempt', p_attempt, 'token', p_token));
    PERFORM fn_wake();
    RETURN fn_done(true, p_id, 'completed', 200, format('the deployment ended: %s', p_status),
                   ARRAY['status', 'completedAt', 'durationSeconds', 'cause', 'errorMessage', 'hint'], NULL);
END
$$;

-- As after 0002, since a function that is replaced loses its settings. Regular expressions are read by the rules of
-- the caller's session otherwise.
DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT p.oid FROM pg_proc p
         WHERE p.pronamespace = current_schema()::regnamespace AND p.prosecdef AND p.proname LIKE 'fn\_%'
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %I, pg_temp', v_function,
                       current_schema());
        EXECUTE format('ALTER FUNCTION %s SET standard_conforming_strings = on', v_function);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', v_function);
    END LOOP;
END
$$;

-- Ask for a deployment, with trigger `api`: of a commit, of the tip of a ref, or of what the environment
-- follows. Without a commit the first fetch pins it. Of wishes from webhook, sweep and api that wait only the
-- newest stays.
CREATE OR REPLACE FUNCTION fn_request_deployment(p_fraise_id text, p_environment text, p_ref text DEFAULT NULL,
                                      p_commit text DEFAULT NULL, p_force boolean DEFAULT NULL,
                                      p_requested_by text DEFAULT NULL) RETURNS mutation_result
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_by       text := fn_asker(p_requested_by);
    v_commit   text := coalesce(p_commit, '');
    v_ref      text := coalesce(p_ref, '');
    v_force    boolean := coalesce(p_force, false);
    v_place    record;
    v_decision decision;
    v_id       uuid := gen_random_uuid();
    v_now      timestamptz;
BEGIN
    IF coalesce(p_fraise_id, '') = '' OR coalesce(p_environment, '') = '' THEN
        RETURN fn_refused('validation', 'missing_argument',
                          'cannot request a deployment without a fraise and an environment', 'Name both',
                          CASE WHEN coalesce(p_fraise_id, '') = '' THEN 'fraiseId' ELSE 'environment' END);
    END IF;
    IF v_commit <> '' AND NOT fn_is_sha(v_commit) THEN
        RETURN fn_refused('validation', 'bad_commit',
                          format('cannot deploy commit %L: it is no full object name', left(v_commit, 80)),
                          'Give all 40 or 64 hexadecimal digits in lower case', 'commit');
    END IF;

    SELECT e.pk, e.document, e.quarantine, e.paused INTO v_place
      FROM tb_environments e
     WHERE e.fraise = p_fraise_id AND e.name = p_environment AND e.published
       FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN fn_refused('not_found', 'unknown_environment',
                          format('cannot find environment %s/%s', left(p_fraise_id, 80),
                                 left(p_environment, 80)),
                          'See v_fraise_status for those that are published', 'environment');
    END IF;

    IF v_place.document -> 'source' ->> 'clone_url' = '' THEN
        RETURN fn_refused('validation', 'nothing_to_deploy',
                          format('cannot deploy %s/%s: it has no repository, and what is backed up needs none',
                                 p_fraise_id, p_environment),
                          format('To make a backup: fraisier backup run %s %s', p_fraise_id, p_environment),
                          'environment');
    END IF;
    IF v_ref = '' AND v_commit = '' THEN
        IF coalesce(v_place.document ->> 'branch', '') = '' THEN
            RETURN fn_refused('validation', 'missing_argument',
                              format('cannot tell which tag of %L to deploy', v_place.document ->> 'tag'),
                              'Name a ref, or a commit', 'ref');
        END IF;
        v_ref := 'refs/heads/' || (v_place.document ->> 'branch');
    ELSIF v_ref <> '' THEN
        IF v_ref !~ '^refs/(heads|tags)/' THEN
            v_ref := CASE WHEN coalesce(v_place.document ->> 'branch', '') <> '' THEN 'refs/heads/'
                          ELSE 'refs/tags/' END || v_ref;
        END IF;
        IF NOT fn_is_ref_name(regexp_replace(v_ref, '^refs/(heads|tags)/', '')) THEN
            RETURN fn_refused('validation', 'bad_ref',
                              format('cannot deploy ref %L: git accepts no such name', left(p_ref, 80)),
                              'See `git check-ref-format`', 'ref');
        END IF;
    END IF;

    v_decision := fn_decide(p_fraise_id, p_environment, 'api', v_commit, v_force, v_place.quarantine,
                            v_place.paused);
    IF NOT v_decision.requested THEN  -- of what `api` asks for, only a quarantined commit is refused
        RETURN fn_refused('conflict', v_decision.reason,
                          format('cannot deploy %s to %s/%s: it failed there before', left(v_commit, 12),
                                 p_fraise_id, p_environment),
                          'Push a fix, or insist with force', 'commit');
    END IF;
    IF v_force AND v_place.quarantine ? v_commit THEN
        UPDATE tb_environments SET quarantine = quarantine - v_commit WHERE pk = v_place.pk;
    END IF;

    IF v_commit <> '' THEN  -- a person's decision, which no sweep undoes: whatever the branch is at now
        UPDATE tb_environments
           SET seen_tip = '?' || coalesce(substring(seen_tip FROM '[0-9a-f]{40,}') || '@'
                                          || floor(extract(epoch FROM clock_timestamp()))::bigint, '')
         WHERE pk = v_place.pk;
    END IF;

    v_now := clock_timestamp();  -- after the lock: what was requested later has the later time
    INSERT INTO tb_deployments (id, fraise, environment, ref, "commit", status, trigger, requested_by,
                                requested_at, force)
    VALUES (v_id, p_fraise_id, p_environment, v_ref, v_commit, 'pending', 'api', v_by, v_now, v_force);
    PERFORM fn_count_deployments(ARRAY[v_id], NULL);
    IF v_decision.superseded <> '{}' THEN
        UPDATE tb_deployments
           SET status = 'superseded', completed_at = v_now, cause = 'superseded',
               duration = fn_seconds(started_at, v_now),
               error_message = 'superseded by the newer deployment ' || v_id,
               hint = 'Nothing to do: the newer one takes its place'
         WHERE id = ANY (v_decision.superseded);
        PERFORM fn_count_deployments(v_decision.superseded, 'pending');
    END IF;
    PERFORM fn_audit(v_by, 'request', v_id::text,
                     jsonb_build_object('environment', p_fraise_id || '/' || p_environment, 'trigger', 'api',
                                        'ref', v_ref, 'commit', v_commit, 'force', v_force));
    PERFORM fn_wake();
    RETURN fn_done(true, v_id, 'requested', 202,
                   format('requested a deployment of %s/%s', p_fraise_id, p_environment),
                   ARRAY['id', 'status'], jsonb_build_object('superseded', to_jsonb(v_decision.superseded)));
END
$$;

-- As after 0010, since a function that is replaced loses its settings. Regular expressions are read by the rules of
-- the caller's session otherwise.
DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT p.oid FROM pg_proc p
         WHERE p.pronamespace = quote_ident(current_schema())::regnamespace AND p.prosecdef AND p.proname LIKE 'fn\_%'
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %I, pg_temp', v_function,
                       current_schema());
        EXECUTE format('ALTER FUNCTION %s SET standard_conforming_strings = on', v_function);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', v_function);
    END LOOP;
END
$$;
