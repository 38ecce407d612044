-- Workers may be bound to environments by labels: see db/postgresql/0003_labels.sql.

ALTER TABLE tb_environments ADD COLUMN labels TEXT NOT NULL DEFAULT '[]';
ALTER TABLE tb_environments ADD COLUMN bound_labels TEXT NOT NULL DEFAULT '[]';

CREATE VIEW v_unfinished_deployment AS
SELECT d.id,
       d.fraise      AS fraise_id,
       d.environment,
       d.status,
       CASE WHEN d.status = 'running' AND e.bound_labels <> '[]' THEN e.bound_labels
            ELSE e.labels END AS labels,
       d.pk          AS position
  FROM tb_environments e
 CROSS JOIN tb_deployments d
 WHERE d.fraise = e.fraise AND d.environment = e.name AND d.status IN ('running', 'pending')
 ORDER BY d.pk;
