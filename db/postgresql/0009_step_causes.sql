-- Why a step has failed. Whoever takes over from a worker that died right after that judges as it would have: a full
-- disk blames no commit, a build does. NULL: it did not fail, or nobody noted why.

ALTER TABLE tb_deployment_steps ADD cause text;
ALTER TABLE tb_deployment_steps ADD hint text NOT NULL DEFAULT '';

DROP TRIGGER tr_steps_completed_once ON tb_deployment_steps;
CREATE TRIGGER tr_steps_completed_once
    BEFORE UPDATE OF state, ended_at, duration, tail, error, cause, hint ON tb_deployment_steps
    FOR EACH ROW WHEN (OLD.state <> 'running')
    EXECUTE FUNCTION fn_refuse('cannot change a step that has ended');
