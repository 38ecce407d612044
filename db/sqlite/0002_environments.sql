-- What is published of environments, to be read: as in db/postgresql/0002_functions.sql, whose functions SQLite
-- has no place for.

CREATE VIEW v_environment AS
SELECT e.id,
       e.fraise                                              AS fraise_id,
       e.name                                                AS environment,
       coalesce(json_extract(e.document, '$.branch'), '')    AS branch,
       coalesce(json_extract(e.document, '$.tag'), '')       AS tag,
       coalesce(json_extract(e.document, '$.hosts'), '[]')   AS hosts,
       coalesce(json_extract(e.document, '$.app_path'), '')  AS app_path,
       e.paused
  FROM tb_environments e
 WHERE e.published
 ORDER BY e.fraise, e.name;
