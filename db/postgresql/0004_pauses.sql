-- Who paused an environment, when and why. While it is paused nothing begins in it but rollbacks and what somebody
-- insists on with force; whatever is asked for waits, and what runs goes on to its end.

ALTER TABLE tb_environments ADD paused_by text NOT NULL DEFAULT '';
ALTER TABLE tb_environments ADD paused_at timestamptz;
ALTER TABLE tb_environments ADD paused_reason text NOT NULL DEFAULT '';

-- Replaced, not made anew: whoever may read them keeps the right to. So new columns stand behind `data`.

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
           'paused_at', fn_iso(s.paused_at), 'paused_reason', s.paused_reason) AS data,
       s.paused_by, s.paused_at, s.paused_reason
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
               e.healthy,
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
               e.paused_reason
          FROM tb_environments e
          JOIN tb_fraises f ON f.name = e.fraise
          LEFT JOIN tb_deployments n ON n.pk = (
                -- One look into the index per status: the newest of all without sorting any.
                SELECT max((SELECT d.pk FROM tb_deployments d
                             WHERE d.fraise = e.fraise AND d.environment = e.name AND d.status = s.status
                             ORDER BY d.pk DESC LIMIT 1))
                  FROM (VALUES ('pending'), ('running'), ('success'), ('failed'), ('rolled_back'),
                               ('rollback_failed'), ('cancelled'), ('superseded')) s (status))
         WHERE e.published) s
 ORDER BY s.fraise_id, s.environment;

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
