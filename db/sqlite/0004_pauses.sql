-- Who paused an environment, when and why: see db/postgresql/0004_pauses.sql.

ALTER TABLE tb_environments ADD COLUMN paused_by TEXT NOT NULL DEFAULT '';
ALTER TABLE tb_environments ADD COLUMN paused_at TEXT;
ALTER TABLE tb_environments ADD COLUMN paused_reason TEXT NOT NULL DEFAULT '';

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
       e.seen_tip,
       e.paused_by,
       e.paused_at,
       e.paused_reason
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

-- What waits, and whether somebody insists on it: it begins in a paused environment, too.
DROP VIEW v_unfinished_deployment;
CREATE VIEW v_unfinished_deployment AS
SELECT d.id,
       d.fraise      AS fraise_id,
       d.environment,
       d.status,
       CASE WHEN d.status = 'running' AND e.bound_labels <> '[]' THEN e.bound_labels
            ELSE e.labels END AS labels,
       d.pk          AS position,
       d.trigger,
       d.force
  FROM tb_environments e
 CROSS JOIN tb_deployments d
 WHERE d.fraise = e.fraise AND d.environment = e.name AND d.status IN ('running', 'pending')
 ORDER BY d.pk;
