-- What deployments do to the databases of their environments: see db/postgresql/0005_database_changes.sql.

CREATE TABLE tb_database_changes (
    pk         INTEGER PRIMARY KEY,
    deployment TEXT NOT NULL REFERENCES tb_deployments (id),
    attempt    INTEGER NOT NULL,
    at         TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('planned', 'backed_up', 'migrated', 'taken_back', 'left')),
    revision   TEXT NOT NULL,                   -- where the database was then; '' = nobody tells
    detail     TEXT NOT NULL DEFAULT '{}'
) STRICT;

CREATE INDEX ix_database_changes_deployment ON tb_database_changes (deployment);

CREATE TRIGGER tr_database_changes_kept BEFORE DELETE ON tb_database_changes
BEGIN SELECT RAISE(ABORT, 'cannot delete a note of a database: notes are append-only'); END;

CREATE TRIGGER tr_database_changes_fixed BEFORE UPDATE ON tb_database_changes
BEGIN SELECT RAISE(ABORT, 'cannot change a note of a database: notes are append-only'); END;

CREATE TABLE tb_database_locks (
    name       TEXT PRIMARY KEY,
    deployment TEXT NOT NULL REFERENCES tb_deployments (id),
    taken_at   TEXT NOT NULL
) STRICT;

ALTER TABLE tb_deployments ADD COLUMN with_database INTEGER NOT NULL DEFAULT 0;

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
       c.pk             AS position
  FROM tb_database_changes c JOIN tb_deployments d ON d.id = c.deployment;
