-- What deployments do to the databases of their environments, as notes: the revision before a migration (planned), a
-- dump that was made first (backed_up), the revision after it (migrated), where it was taken back to (taken_back),
-- or why it was not (left). A migration begins only when its `planned` note is on disk.

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
