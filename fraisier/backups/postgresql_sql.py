"""What a PostgreSQL server is told: to empty a database, to make and drop one, to count its rows."""

from __future__ import annotations

_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")

# What an extension owns is left alone: the dump has only `CREATE EXTENSION IF NOT EXISTS` for it.
# https://www.postgresql.org/docs/current/catalog-pg-depend.html
CLEAR = """
SET client_min_messages = error;
DO $fraisier$
DECLARE one record;
BEGIN
    FOR one IN
        SELECT format('DROP SCHEMA IF EXISTS %I CASCADE', n.nspname) AS line
        FROM pg_catalog.pg_namespace n
        WHERE n.nspname NOT IN ('public', 'information_schema') AND n.nspname !~ '^pg_'
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                          WHERE d.classid = 'pg_catalog.pg_namespace'::regclass AND d.objid = n.oid
                            AND d.deptype = 'e')
    LOOP
        EXECUTE one.line;
    END LOOP;
    FOR one IN
        SELECT format('DROP %s IF EXISTS public.%I CASCADE',
                      CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
                           WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE'
                           ELSE 'TABLE' END, c.relname) AS line
        FROM pg_catalog.pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                          WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                            AND d.deptype = 'e')
        UNION ALL
        SELECT format('DROP ROUTINE IF EXISTS public.%I(%s) CASCADE', p.proname,
                      pg_catalog.pg_get_function_identity_arguments(p.oid))
        FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                          WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid
                            AND d.deptype = 'e')
        UNION ALL
        SELECT format('DROP TYPE IF EXISTS public.%I CASCADE', t.typname)
        FROM pg_catalog.pg_type t
        WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('d', 'e', 'r')
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                          WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid
                            AND d.deptype = 'e')
        UNION ALL
        SELECT format('DROP COLLATION IF EXISTS public.%I CASCADE', l.collname)
        FROM pg_catalog.pg_collation l
        WHERE l.collnamespace = 'public'::regnamespace
        UNION ALL
        SELECT format('SELECT pg_catalog.lo_unlink(%s)', o.oid)
        FROM pg_catalog.pg_largeobject_metadata o
    LOOP
        EXECUTE one.line;
    END LOOP;
END
$fraisier$;
RESET client_min_messages;
"""

# One line of JSON per table: pg_dump has data of ordinary tables, partitions among them, and of those of an
# extension only where it asks for it.
COUNT = r"""
SELECT format('SELECT json_build_object(%L, (SELECT count(*) FROM ONLY %I.%I));',
              quote_ident(n.nspname) || '.' || quote_ident(c.relname), n.nspname, c.relname)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1
\gexec
"""

# What CLEAR drops, and what goes with a schema, but COUNT does not count: one line of JSON, by kind.
BESIDE = r"""
WITH owned AS (SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'),
schemas AS (
    SELECT oid, nspname FROM pg_catalog.pg_namespace
    WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
      AND ('pg_catalog.pg_namespace'::regclass, oid) NOT IN (SELECT classid, objid FROM owned)
),
things AS (
    SELECT 'schemas' AS kind FROM schemas WHERE nspname <> 'public'
    UNION ALL
    SELECT CASE c.relkind WHEN 'v' THEN 'views' WHEN 'm' THEN 'materialized views' WHEN 'S' THEN 'sequences'
           WHEN 'f' THEN 'foreign tables' WHEN 'c' THEN 'types' ELSE 'partitioned tables' END
    FROM pg_catalog.pg_class c
    WHERE c.relnamespace IN (SELECT oid FROM schemas) AND c.relkind IN ('v', 'm', 'S', 'f', 'c', 'p')
      AND ('pg_catalog.pg_class'::regclass, c.oid) NOT IN (SELECT classid, objid FROM owned)
    UNION ALL
    SELECT 'routines' FROM pg_catalog.pg_proc p
    WHERE p.pronamespace IN (SELECT oid FROM schemas)
      AND ('pg_catalog.pg_proc'::regclass, p.oid) NOT IN (SELECT classid, objid FROM owned)
    UNION ALL
    SELECT 'types' FROM pg_catalog.pg_type t
    WHERE t.typnamespace IN (SELECT oid FROM schemas) AND t.typtype IN ('d', 'e', 'r')
      AND ('pg_catalog.pg_type'::regclass, t.oid) NOT IN (SELECT classid, objid FROM owned)
    UNION ALL
    SELECT 'collations' FROM pg_catalog.pg_collation l
    WHERE l.collnamespace IN (SELECT oid FROM schemas)
    UNION ALL
    SELECT 'large objects' FROM pg_catalog.pg_largeobject_metadata
)
SELECT coalesce(json_object_agg(kind, number ORDER BY kind), '{}')
FROM (SELECT kind, count(*) AS number FROM things GROUP BY kind) AS numbers;
"""


def create(name: str, prefix: str) -> str:
    """An empty database like the one that is asked. Where its name begins with `prefix`, others that do go
    first; a restore to a place of one's choice leaves those of a verification that runs beside it.
    """
    return rf"""
SELECT format('DROP DATABASE IF EXISTS %I WITH (FORCE)', datname)
FROM pg_catalog.pg_database
WHERE starts_with(datname, '{_checked(prefix)}') AND starts_with('{_plain(name)}', '{_checked(prefix)}')
\gexec
SELECT format('CREATE DATABASE %I TEMPLATE template0 ENCODING %L LC_COLLATE %L LC_CTYPE %L',
              '{_plain(name)}', pg_encoding_to_char(encoding), datcollate, datctype)
FROM pg_catalog.pg_database WHERE datname = current_database()
\gexec
"""


def drop(name: str) -> str:
    """https://www.postgresql.org/docs/current/sql-dropdatabase.html"""
    return f'DROP DATABASE IF EXISTS "{_checked(name)}" WITH (FORCE);'


def _checked(name: str) -> str:
    """A name that `scratch` made: no other is ever dropped."""
    if not name.startswith("fraisier_verify_") or not _NAME.issuperset(name):
        message = f"not a scratch database: {name!r}"
        raise ValueError(message)
    return name


def _plain(name: str) -> str:
    """A name that may stand in SQL as it is; one that a person chose for what is restored, too."""
    if not name or not _NAME.issuperset(name):
        message = f"not a plain name of a database: {name!r}"
        raise ValueError(message)
    return name
