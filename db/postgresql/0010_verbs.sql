-- The functions anew, where they differed from the verbs or from themselves under another session's settings.
--
-- * fn_request_deployment: nothing is deployed where there is no repository; in a paused environment the newest
--   wish takes the place of those that are held back, as with `fraisier deploy`.
-- * fn_complete_deployment: takes only the causes that there are, releases and commits; bringing hosts along
--   (`heal`) is no deployment of what they run.
-- * fn_asker: who asks has a name of bounded length.
-- * `data` of deployments and runs no longer depends on the search_path of who reads a view.

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

DROP FUNCTION fn_decide(text, text, text, text, boolean, jsonb);

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
        UPDATE tb_environments SET seen_tip = '?' WHERE pk = v_place.pk;
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
