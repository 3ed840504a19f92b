-- The spine: senders, jobs, recipients, attempts, keys, daemons. Valid on MySQL 8.0 and MariaDB 10.6.
-- No foreign keys: an uncommitted child row would block every update of its job and hide it from SKIP LOCKED.
-- IF NOT EXISTS: DDL commits by itself, so a migration that was cut off is simply run again.
-- All times are UTC by the database's own clock. utf8mb4_bin: addresses that differ in a byte are different.

CREATE TABLE IF NOT EXISTS daemons (
  id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  host VARCHAR(255) NOT NULL,
  pid INT UNSIGNED NOT NULL,
  version VARCHAR(40) NOT NULL,
  started_at DATETIME(6) NOT NULL,
  beat_at DATETIME(6) NOT NULL,
  KEY beat (beat_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- turn_at: when this sender may next be claimed for; NULL while nothing waits. `KEY turn` is the claim's ORDER BY.
-- tat: the ledger's "theoretical arrival time" (GCRA).
CREATE TABLE IF NOT EXISTS senders (
  email VARCHAR(320) NOT NULL PRIMARY KEY,
  turn_at DATETIME(6) NULL,
  tat DATETIME(6) NULL,
  units_per_minute INT UNSIGNED NULL,
  per_minute INT UNSIGNED NULL,
  per_day INT UNSIGNED NULL,
  paused_until DATETIME(6) NULL,
  pause_reason VARCHAR(500) NULL,
  pause_cause VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  pauses SMALLINT UNSIGNED NOT NULL DEFAULT 0,
  created_at DATETIME(6) NOT NULL,
  KEY turn (turn_at, email)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Letters handed to Google per sender and hour: the rolling 24 hours of the daily limit.
CREATE TABLE IF NOT EXISTS sender_hours (
  sender_email VARCHAR(320) NOT NULL,
  hour DATETIME NOT NULL,
  letters INT UNSIGNED NOT NULL,
  PRIMARY KEY (sender_email, hour)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- turn_at: when the job's next recipient is due; NULL while none waits, or while the job is paused.
-- precedence is priority upside down, since MariaDB before 10.8 has no descending index.
CREATE TABLE IF NOT EXISTS jobs (
  id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  type VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  sender_email VARCHAR(320) NOT NULL,
  sender_name VARCHAR(255) NULL,
  reply_to VARCHAR(320) NULL,
  subject TEXT NOT NULL,
  html MEDIUMTEXT NULL,
  text MEDIUMTEXT NULL,
  variables LONGTEXT NOT NULL,
  reference VARCHAR(255) NULL,
  priority SMALLINT NOT NULL DEFAULT 0,
  precedence SMALLINT AS (-priority) VIRTUAL,
  status VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  total INT UNSIGNED NOT NULL,
  turn_at DATETIME(6) NULL,
  claimable TINYINT AS (IF(turn_at IS NULL, 0, 1)) VIRTUAL,
  api_key_id BIGINT UNSIGNED NULL,
  send_at DATETIME(6) NOT NULL,
  created_at DATETIME(6) NOT NULL,
  started_at DATETIME(6) NULL,
  finished_at DATETIME(6) NULL,
  KEY turn (sender_email, claimable, precedence, turn_at, id),
  KEY open_jobs (status, id),
  CONSTRAINT jobs_status CHECK (status IN ('queued', 'sending', 'paused', 'completed', 'cancelled'))
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- due_at: not before this. lease_until: while `sending`, the claim lapses then; while `unsure`, nobody looks before
-- then; else NULL. claim_token: whoever holds the row now. mode: how it was handed to Google, set before it is.
CREATE TABLE IF NOT EXISTS job_recipients (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  job_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  seq INT UNSIGNED NOT NULL,
  to_email VARCHAR(320) NOT NULL,
  to_name VARCHAR(255) NULL,
  variables LONGTEXT NULL,
  status VARCHAR(9) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  attempts SMALLINT UNSIGNED NOT NULL DEFAULT 0,
  looks SMALLINT UNSIGNED NOT NULL DEFAULT 0,
  due_at DATETIME(6) NOT NULL,
  claim_token CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NULL,
  daemon_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NULL,
  lease_until DATETIME(6) NULL,
  mode VARCHAR(6) CHARACTER SET ascii COLLATE ascii_bin NULL,
  draft_id VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NULL,
  thread_id VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NULL,
  message_id VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NULL,
  error VARCHAR(1000) NULL,
  sent_at DATETIME(6) NULL,
  updated_at DATETIME(6) NOT NULL,
  UNIQUE KEY letter (job_id, seq),
  KEY claim (job_id, status, due_at, id),
  KEY lease (lease_until, id),
  CONSTRAINT recipients_status CHECK (status IN ('waiting', 'sending', 'unsure', 'sent', 'failed', 'cancelled')),
  CONSTRAINT recipients_mode CHECK (mode IN ('draft', 'direct'))
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What every worker saw, append-only and never fenced: a worker that was fenced off still leaves its knowledge here.
-- applied says whether the row took the change.
CREATE TABLE IF NOT EXISTS attempts (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  recipient_id BIGINT UNSIGNED NOT NULL,
  attempt SMALLINT UNSIGNED NOT NULL,
  claim_token CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  daemon_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  event VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  applied TINYINT UNSIGNED NOT NULL,
  draft_id VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NULL,
  message_id VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NULL,
  error VARCHAR(1000) NULL,
  at DATETIME(6) NOT NULL,
  UNIQUE KEY once (recipient_id, claim_token, event),
  KEY at (at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- The key itself is shown once and never stored.
CREATE TABLE IF NOT EXISTS api_keys (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name VARCHAR(100) NOT NULL,
  digest BINARY(32) NOT NULL,
  hint VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  senders TEXT NULL,
  created_at DATETIME(6) NOT NULL,
  revoked_at DATETIME(6) NULL,
  last_used_at DATETIME(6) NULL,
  UNIQUE KEY digest (digest)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
