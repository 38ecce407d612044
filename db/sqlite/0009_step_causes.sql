-- Why a step has failed: see db/postgresql/0009_step_causes.sql.

ALTER TABLE tb_deployment_steps ADD COLUMN cause TEXT;
ALTER TABLE tb_deployment_steps ADD COLUMN hint TEXT NOT NULL DEFAULT '';

DROP TRIGGER tr_steps_completed_once;
CREATE TRIGGER tr_steps_completed_once BEFORE UPDATE OF state, ended_at, duration, tail, error, cause, hint
  ON tb_deployment_steps WHEN OLD.state <> 'running'
BEGIN SELECT RAISE(ABORT, 'cannot change a step that has ended'); END;
