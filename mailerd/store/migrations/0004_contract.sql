-- The intake as a contract: answers given once, who changed what, keys with scopes, letters with attachments.

-- One answer per idempotency key of an API key. It is written in the transaction that stores the job: where there is
-- a job there is its answer, and where there is none the key is still free. body: SHA-256 of the request's bytes.
-- whole: the forecast, which is made after the commit, stands in the answer; 0 for long after a crash in between.
CREATE TABLE IF NOT EXISTS answers (
  api_key_id BIGINT UNSIGNED NOT NULL,
  idempotency_key VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  body BINARY(32) NOT NULL,
  job_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  answer MEDIUMTEXT NOT NULL,
  whole TINYINT UNSIGNED NOT NULL DEFAULT 0,
  created_at DATETIME(6) NOT NULL,
  PRIMARY KEY (api_key_id, idempotency_key),
  KEY age (created_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Who asked for what and when, append-only; changed says whether it made a difference, letters how many it touched.
CREATE TABLE IF NOT EXISTS job_actions (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  job_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  action VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  who VARCHAR(150) NOT NULL,
  detail VARCHAR(100) NULL,
  changed TINYINT UNSIGNED NOT NULL,
  letters INT UNSIGNED NOT NULL,
  at DATETIME(6) NOT NULL,
  KEY job (job_id, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- A job keeps the templates that it was posted with. Further languages of a template that has some; the default one
-- stands in jobs itself.
CREATE TABLE IF NOT EXISTS job_templates (
  job_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  language VARCHAR(35) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  subject TEXT NOT NULL,
  html MEDIUMTEXT NULL,
  text MEDIUMTEXT NULL,
  PRIMARY KEY (job_id, language)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What is attached, each content once per job and in pieces that any packet holds.
CREATE TABLE IF NOT EXISTS job_contents (
  job_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  digest BINARY(32) NOT NULL,
  piece SMALLINT UNSIGNED NOT NULL,
  content MEDIUMBLOB NOT NULL,
  PRIMARY KEY (job_id, digest, piece)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- recipient: the seq of the one recipient who gets it; NULL for everybody. content_id: it is shown in the letter.
CREATE TABLE IF NOT EXISTS job_attachments (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  job_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  recipient INT UNSIGNED NULL,
  filename VARCHAR(255) NOT NULL,
  content_type VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  content_id VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NULL,
  digest BINARY(32) NOT NULL,
  size INT UNSIGNED NOT NULL,
  KEY letter (job_id, recipient, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- inline_css: the rules of <style> are copied into the elements of each letter. attachments: how many rows there are.
-- from_address: what From says, the mailbox or its alias; it is what people look for.
ALTER TABLE jobs
  ADD COLUMN template_name VARCHAR(100) NULL,
  ADD COLUMN template_version VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  ADD COLUMN inline_css TINYINT UNSIGNED NOT NULL DEFAULT 0,
  ADD COLUMN attachments INT UNSIGNED NOT NULL DEFAULT 0,
  ADD COLUMN from_address VARCHAR(320) AS (COALESCE(from_email, sender_email)) VIRTUAL,
  ADD KEY by_from (from_address, id),
  ADD KEY by_reference (reference, id);

-- calls: what the key may ask for, a JSON list, NULL for everything. per_minute: requests, per daemon; NULL for no limit.
-- old_digest: the key before the last rotation, good until old_until.
ALTER TABLE api_keys
  ADD COLUMN calls TEXT NULL,
  ADD COLUMN per_minute INT UNSIGNED NULL,
  ADD COLUMN old_digest BINARY(32) NULL,
  ADD COLUMN old_until DATETIME(6) NULL,
  ADD KEY old_digest (old_digest);
