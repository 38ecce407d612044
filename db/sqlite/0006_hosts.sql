-- Several hosts per environment: see db/postgresql/0006_hosts.sql.

-- '' = the only one, or all of them
ALTER TABLE tb_deployment_steps ADD COLUMN host TEXT NOT NULL DEFAULT '';

DROP TRIGGER tr_steps_fixed;
CREATE TRIGGER tr_steps_fixed BEFORE UPDATE OF
    pk, deployment, attempt, phase, step, host, release, started_at ON tb_deployment_steps
BEGIN SELECT RAISE(ABORT, 'cannot change a step: steps are append-only'); END;

CREATE TABLE tb_environment_hosts (
    id               TEXT NOT NULL UNIQUE,
    fraise           TEXT NOT NULL,
    environment      TEXT NOT NULL,
    host             TEXT NOT NULL,
    state            TEXT NOT NULL DEFAULT 'unknown' CHECK (state IN ('waiting', 'changing', 'failed', 'returning',
                         'current', 'behind', 'broken', 'unreachable', 'unknown')),
    release          TEXT NOT NULL DEFAULT '',  -- what it runs, as far as is known
    "commit"         TEXT NOT NULL DEFAULT '',
    previous_release TEXT NOT NULL DEFAULT '',  -- what it goes back to in `deployment`
    previous_commit  TEXT NOT NULL DEFAULT '',
    deployment       TEXT,                      -- the last one that was about it
    touched          INTEGER NOT NULL DEFAULT 0,  -- whether its turn had come there
    unfinished       INTEGER NOT NULL DEFAULT 0,  -- a turn was cut off: its unit may run something else
    cause            TEXT,                      -- why it did not come along
    detail           TEXT NOT NULL DEFAULT '',
    since            TEXT NOT NULL,
    PRIMARY KEY (fraise, environment, host),
    FOREIGN KEY (fraise, environment) REFERENCES tb_environments (fraise, name)
) STRICT;

CREATE INDEX ix_environment_hosts_unwell ON tb_environment_hosts (state) WHERE state <> 'current';

CREATE VIEW v_environment_hosts AS
SELECT h.id,
       h.fraise      AS fraise_id,
       h.environment,
       h.host,
       h.state,
       h.release,
       h."commit",
       CASE h.state WHEN 'current' THEN 1 WHEN 'behind' THEN 1 WHEN 'waiting' THEN 1 WHEN 'broken' THEN 0 END AS healthy,
       h.cause,
       h.detail,
       h.deployment  AS deployment_id,
       h.previous_release,
       h.since,
       k.key         AS position
  FROM tb_environments e
 CROSS JOIN json_each(json_extract(e.document, '$.hosts')) k
 CROSS JOIN tb_environment_hosts h ON h.fraise = e.fraise AND h.environment = e.name AND h.host = k.value
 WHERE e.published AND json_array_length(e.document, '$.hosts') > 1
UNION ALL
SELECT e.id,
       e.fraise,
       e.name,
       json_extract(e.document, '$.hosts[0]'),
       CASE WHEN e.healthy IS NULL THEN 'unknown' WHEN e.healthy THEN 'current' ELSE 'broken' END,
       e.current_release,
       e.current_commit,
       e.healthy,
       NULL,
       '',
       nullif(e.current_deployment, ''),
       '',
       e.last_deployed_at,
       0
  FROM tb_environments e
 WHERE e.published AND json_array_length(e.document, '$.hosts') = 1;
