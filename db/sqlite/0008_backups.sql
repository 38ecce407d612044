-- Copies of backups: see db/postgresql/0008_backups.sql.

CREATE TABLE tb_backups (
    pk           INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    fraise       TEXT NOT NULL,
    environment  TEXT NOT NULL,
    destination  TEXT NOT NULL,
    name         TEXT NOT NULL,                -- when it was begun (UTC), and the end of its run's id
    made_at      TEXT NOT NULL,
    bytes        INTEGER NOT NULL DEFAULT 0,
    manifest     TEXT NOT NULL DEFAULT '',     -- the manifest's sha256; '' = not read yet
    state        TEXT NOT NULL DEFAULT 'unknown' CHECK (state IN ('unknown', 'whole', 'damaged', 'gone')),
    detail       TEXT NOT NULL DEFAULT '',     -- what is wrong with it
    looked_at    TEXT,
    verified_at  TEXT,                         -- when it was last brought back and found good
    verified_run TEXT,
    flaw         TEXT NOT NULL DEFAULT '',     -- what was wrong when it was last brought back
    safety       INTEGER NOT NULL DEFAULT 0,   -- made before a restore
    pruned_at    TEXT,                         -- no rule kept it
    UNIQUE (fraise, environment, destination, name),
    FOREIGN KEY (fraise, environment) REFERENCES tb_environments (fraise, name)
) STRICT;

CREATE INDEX ix_backups_kept ON tb_backups (fraise, environment, made_at) WHERE pruned_at IS NULL;

CREATE TRIGGER tr_backups_kept BEFORE DELETE ON tb_backups
BEGIN SELECT RAISE(ABORT, 'cannot delete a backup: what became of it is kept'); END;

CREATE TRIGGER tr_backups_fixed BEFORE UPDATE OF pk, id, fraise, environment, destination, name ON tb_backups
BEGIN SELECT RAISE(ABORT, 'cannot change which backup a row is about'); END;

CREATE VIEW v_backups AS
SELECT b.id,
       b.fraise       AS fraise_id,
       b.environment,
       b.destination,
       b.name,
       b.made_at,
       b.bytes,
       b.manifest     AS manifest_sha256,
       b.state,
       b.detail,
       b.looked_at,
       b.verified_at,
       b.verified_run AS verified_run_id,
       b.flaw,
       b.safety,
       b.pruned_at
  FROM tb_backups b;
