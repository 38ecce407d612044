-- Several hosts per environment. A step is about one of them; what each one runs is kept beside what the
-- environment is said to run. An environment with one host needs neither.

ALTER TABLE tb_deployment_steps ADD host text NOT NULL DEFAULT '';  -- '' = the only one, or all of them

DROP TRIGGER tr_steps_fixed ON tb_deployment_steps;
CREATE TRIGGER tr_steps_fixed BEFORE UPDATE OF
    deployment, attempt, phase, step, host, release, started_at ON tb_deployment_steps
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot change a step: steps are append-only');

CREATE TABLE tb_environment_hosts (
    id               uuid NOT NULL UNIQUE,
    fraise           text NOT NULL,
    environment      text NOT NULL,
    host             text NOT NULL,
    state            text NOT NULL DEFAULT 'unknown' CHECK (state IN ('waiting', 'changing', 'failed', 'returning',
                         'current', 'behind', 'broken', 'unreachable', 'unknown')),
    release          text NOT NULL DEFAULT '',  -- what it runs, as far as is known
    "commit"         text NOT NULL DEFAULT '',
    previous_release text NOT NULL DEFAULT '',  -- what it goes back to in `deployment`
    previous_commit  text NOT NULL DEFAULT '',
    deployment       uuid,                      -- the last one that was about it
    touched          boolean NOT NULL DEFAULT false,  -- whether its turn had come there
    unfinished       boolean NOT NULL DEFAULT false,  -- a turn was cut off: its unit may run something else
    cause            text,                      -- why it did not come along
    detail           text NOT NULL DEFAULT '',
    since            timestamptz NOT NULL,
    PRIMARY KEY (fraise, environment, host),
    FOREIGN KEY (fraise, environment) REFERENCES tb_environments (fraise, name)
) WITH (fillfactor = 50);

CREATE INDEX ix_environment_hosts_unwell ON tb_environment_hosts (state) WHERE state <> 'current';

-- Every host that is configured. `release` is what it runs as far as is known: of one that cannot be reached, what
-- was last known.
CREATE VIEW v_environment_hosts AS
SELECT s.*,
       jsonb_build_object('id', s.id, 'fraise_id', s.fraise_id, 'environment', s.environment, 'host', s.host,
           'state', s.state, 'release', s.release, 'commit', s."commit", 'healthy', s.healthy,
           'cause', s.cause, 'detail', s.detail, 'deployment_id', s.deployment_id,
           'previous_release', s.previous_release, 'since', fn_iso(s.since)) AS data
  FROM (SELECT h.id,
               h.fraise      AS fraise_id,
               h.environment,
               h.host,
               h.state,
               h.release,
               h."commit",
               CASE WHEN h.state IN ('current', 'behind', 'waiting') THEN true WHEN h.state = 'broken' THEN false END
                             AS healthy,
               h.cause,
               h.detail,
               h.deployment  AS deployment_id,
               h.previous_release,
               h.since,
               k.position
          FROM tb_environments e
         CROSS JOIN jsonb_array_elements_text(e.document -> 'hosts') WITH ORDINALITY k (host, position)
          JOIN tb_environment_hosts h ON h.fraise = e.fraise AND h.environment = e.name AND h.host = k.host
         WHERE e.published AND jsonb_array_length(coalesce(e.document -> 'hosts', '[]')) > 1
         UNION ALL
        SELECT e.id,
               e.fraise,
               e.name,
               e.document -> 'hosts' ->> 0,
               CASE WHEN e.healthy IS NULL THEN 'unknown' WHEN e.healthy THEN 'current' ELSE 'broken' END,
               e.current_release,
               e.current_commit,
               e.healthy,
               NULL,
               '',
               e.current_deployment,
               '',
               e.last_deployed_at,
               0
          FROM tb_environments e
         WHERE e.published AND jsonb_array_length(coalesce(e.document -> 'hosts', '[]')) = 1) s
 ORDER BY s.fraise_id, s.environment, s.position;
