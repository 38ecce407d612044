-- Copies of backups: what is known of each one at each of its destinations. The backups themselves are there, with a
-- manifest each: this is a note of them, which looking at the destinations brings up to date.

CREATE TABLE tb_backups (
    pk           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           uuid NOT NULL UNIQUE,
    fraise       text NOT NULL,
    environment  text NOT NULL,
    destination  text NOT NULL,
    name         text NOT NULL,                   -- when it was begun (UTC), and the end of its run's id
    made_at      timestamptz NOT NULL,
    bytes        bigint NOT NULL DEFAULT 0,
    manifest     text NOT NULL DEFAULT '',        -- the manifest's sha256; '' = not read yet
    state        text NOT NULL DEFAULT 'unknown' CHECK (state IN ('unknown', 'whole', 'damaged', 'gone')),
    detail       text NOT NULL DEFAULT '',        -- what is wrong with it
    looked_at    timestamptz,
    verified_at  timestamptz,                     -- when it was last brought back and found good
    verified_run uuid,
    flaw         text NOT NULL DEFAULT '',        -- what was wrong when it was last brought back
    safety       boolean NOT NULL DEFAULT false,  -- made before a restore
    pruned_at    timestamptz,                     -- no rule kept it
    UNIQUE (fraise, environment, destination, name),
    FOREIGN KEY (fraise, environment) REFERENCES tb_environments (fraise, name)
) WITH (fillfactor = 70);

CREATE INDEX ix_backups_kept ON tb_backups (fraise, environment, made_at) WHERE pruned_at IS NULL;

CREATE TRIGGER tr_backups_kept BEFORE DELETE ON tb_backups
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot delete a backup: what became of it is kept');
CREATE TRIGGER tr_backups_all_kept BEFORE TRUNCATE ON tb_backups
    EXECUTE FUNCTION fn_refuse('cannot delete a backup: what became of it is kept');
CREATE TRIGGER tr_backups_fixed BEFORE UPDATE OF id, fraise, environment, destination, name ON tb_backups
    FOR EACH ROW EXECUTE FUNCTION fn_refuse('cannot change which backup a row is about');

CREATE VIEW v_backups AS
SELECT s.*,
       jsonb_build_object('id', s.id, 'fraise_id', s.fraise_id, 'environment', s.environment,
           'destination', s.destination, 'name', s.name, 'made_at', fn_iso(s.made_at), 'bytes', s.bytes,
           'manifest_sha256', s.manifest_sha256, 'state', s.state, 'detail', s.detail,
           'looked_at', fn_iso(s.looked_at), 'verified_at', fn_iso(s.verified_at),
           'verified_run_id', s.verified_run_id, 'flaw', s.flaw, 'safety', s.safety,
           'pruned_at', fn_iso(s.pruned_at)) AS data
  FROM (SELECT b.id,
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
          FROM tb_backups b) s
 ORDER BY s.fraise_id, s.environment, s.made_at DESC, s.name DESC, s.destination;
