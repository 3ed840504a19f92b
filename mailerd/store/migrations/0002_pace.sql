-- Pace: what a sender may have of its own beyond the minute and the day, and what is learnt about it.
-- NULL means the configuration's default. All by the database's clock.

-- reserve: letters of the day that are left to the person. min_gap: seconds between two letters at least; gap_until:
-- when the next one may go. warm_up: letters of the first day, warm_up_growth: more each day, counted from
-- warm_up_from (NULL: created_at). mode, project: how it sends and whose quota it uses, known after its first sign-in.
-- concurrency: letters in hand at most, set when Google complained at concurrency_at; it grows again with time.
ALTER TABLE senders
  ADD COLUMN reserve INT UNSIGNED NULL,
  ADD COLUMN min_gap DOUBLE NULL,
  ADD COLUMN gap_until DATETIME(6) NULL,
  ADD COLUMN warm_up INT UNSIGNED NULL,
  ADD COLUMN warm_up_growth INT UNSIGNED NULL,
  ADD COLUMN warm_up_from DATETIME(6) NULL,
  ADD COLUMN mode VARCHAR(6) CHARACTER SET ascii COLLATE ascii_bin NULL,
  ADD COLUMN project VARCHAR(190) NULL,
  ADD COLUMN concurrency SMALLINT UNSIGNED NULL,
  ADD COLUMN concurrency_at DATETIME(6) NULL,
  ADD KEY project (project);

-- The ledger of a Cloud project's units: tat as on senders.
CREATE TABLE IF NOT EXISTS projects (
  name VARCHAR(190) NOT NULL PRIMARY KEY,
  tat DATETIME(6) NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
