-- Workers may be bound to environments by labels: a worker claims what it has all labels of. The worker's own are
-- in tb_workers.info.

-- What is published: who may begin a deployment.
ALTER TABLE tb_environments ADD labels jsonb NOT NULL DEFAULT '[]';
-- What was published when the deployment that runs was begun: who may go on with it, for it is half done on a
-- machine with these labels. Of no meaning while none runs.
ALTER TABLE tb_environments ADD bound_labels jsonb NOT NULL DEFAULT '[]';

-- What waits or runs, with the labels that a worker needs to take it.
CREATE VIEW v_unfinished_deployment AS
SELECT u.*,
       jsonb_build_object('id', u.id, 'fraise_id', u.fraise_id, 'environment', u.environment,
           'status', u.status, 'labels', u.labels) AS data
  FROM (SELECT d.id,
               d.fraise      AS fraise_id,
               d.environment,
               d.status,
               CASE WHEN d.status = 'running' AND e.bound_labels <> '[]' THEN e.bound_labels
                    ELSE e.labels END AS labels,
               d.pk          AS position
          FROM tb_environments e
          JOIN tb_deployments d ON d.fraise = e.fraise AND d.environment = e.name
                               AND d.status IN ('running', 'pending')) u
 ORDER BY u.position;
