-- * fn_request_deployment: after a person's decision `seen_tip` keeps the last tip that is known, and when it was, as
--   `?<tip>@<Unix seconds>`: what the branch is at later is a push. See `unseen_tip` of fraisier/domain/deployment.py.
-- * A schema may have a name that needs quotes: functions of another one had been found, or of none.

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
