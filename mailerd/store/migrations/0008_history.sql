-- A database that was replaced by another, or has forgotten something, is told again what its daemons know.

-- told: the server, and its start, that this daemon has told what it knows; NULL: it has nothing to tell.
-- beats: how often it was heard of. Less than the daemon remembers: the database has forgotten something.
ALTER TABLE daemons
  ADD COLUMN told VARCHAR(255) NULL,
  ADD COLUMN beats BIGINT UNSIGNED NOT NULL DEFAULT 0;
