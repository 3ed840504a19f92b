-- The tables of mailerd. Valid on MySQL 8.0 and MariaDB 10.6.
-- No foreign keys: an uncommitted child row would block every update of its job and hide it from SKIP LOCKED.
-- IF NOT EXISTS: each DDL statement commits by itself, so a migration that was interrupted is run again from its start.
-- A reason, such as `error`, stands in English for who looks here; `error_code` and `error_args` (JSON) have the same for
-- any language (core/reasons.py).
-- All times are UTC by the database's clock. utf8mb4_bin: addresses that differ in one byte are different addresses.

-- The daemons that run or ran.
-- heartbeat_at, heartbeats: when the daemon last reported that it lives, and how often it has done so. If the database
-- counts fewer heartbeats than the daemon, the database has lost commits (it was restored or failed over).
-- stopped_at: the daemon stopped in order. What it left in flight is no crash.
-- replayed_to: the server (and its start) to which this daemon has replayed what it has sent of late; NULL: it has
-- nothing to replay (store/queue/failover.py).
CREATE TABLE IF NOT EXISTS daemons (
  id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  host VARCHAR(255) NOT NULL,
  pid INT UNSIGNED NOT NULL,
  version VARCHAR(40) NOT NULL,
  started_at DATETIME(6) NOT NULL,
  heartbeat_at DATETIME(6) NOT NULL,
  heartbeats BIGINT UNSIGNED NOT NULL DEFAULT 0,
  stopped_at DATETIME(6) NULL,
  replayed_to VARCHAR(255) NULL,
  KEY heartbeat (heartbeat_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- A sender is one mailbox.
-- next_claim_at: when messages of this sender may next be claimed; NULL while none waits. The claim reads the senders
-- in the order of `KEY next_claim`.
-- tat: "theoretical arrival time", the state of the rate limit of one minute (GCRA, core/rate_limit.py).
-- gap_until: when the next message may go, where min_gap sets a pause between two messages.
-- other_calls_at: when units were last used for calls that send no message.
-- latency: seconds from the claim to Google's response, of the sender's slowest recent message; written only when it
-- matters for the rate limit. latency_at: when it was last measured. Ten minutes later it no longer counts.
-- paused_until, pause_reason, pause_cause: the pause, as text and as core/pauses.py's name. pauses: how many in a row.
-- Limits of its own; NULL is the configuration's default. units_per_minute: Google's units. per_minute, per_day:
-- messages. reserve: messages of each day that are left to the owner of the mailbox. min_gap: seconds between two messages.
-- warm_up: messages of the first day; warm_up_growth: how many more on each following day; warm_up_from: the first day,
-- NULL is created_at.
-- mode, project: how it sends ('draft' or 'direct') and whose quota it uses; known after the first sign-in.
-- concurrency: the most messages in flight, set when Google refused more, at concurrency_at; it grows again with time.
CREATE TABLE IF NOT EXISTS senders (
  email VARCHAR(320) NOT NULL PRIMARY KEY,
  next_claim_at DATETIME(6) NULL,
  tat DATETIME(6) NULL,
  gap_until DATETIME(6) NULL,
  other_calls_at DATETIME(6) NULL,
  latency DOUBLE NULL,
  latency_at DATETIME(6) NULL,
  paused_until DATETIME(6) NULL,
  pause_reason VARCHAR(500) NULL,
  pause_reason_code VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  pause_reason_args TEXT NULL,
  pause_cause VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  pauses SMALLINT UNSIGNED NOT NULL DEFAULT 0,
  units_per_minute INT UNSIGNED NULL,
  per_minute INT UNSIGNED NULL,
  per_day INT UNSIGNED NULL,
  reserve INT UNSIGNED NULL,
  min_gap DOUBLE NULL,
  warm_up INT UNSIGNED NULL,
  warm_up_growth INT UNSIGNED NULL,
  warm_up_from DATETIME(6) NULL,
  mode VARCHAR(6) CHARACTER SET ascii COLLATE ascii_bin NULL,
  project VARCHAR(190) NULL,
  concurrency SMALLINT UNSIGNED NULL,
  concurrency_at DATETIME(6) NULL,
  bounces_seen DATETIME(6) NULL,
  created_at DATETIME(6) NOT NULL,
  KEY next_claim (next_claim_at, email),
  KEY project (project)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Messages handed to Google per sender and hour: the rolling 24 hours of the daily limit.
-- copies: what their copies cost of the day beside one each (core/copies.py).
-- elsewhere: mail of the mailbox that mailerd did not send, by hand or by another program, as far as its inbox is read.
CREATE TABLE IF NOT EXISTS sender_hours (
  sender_email VARCHAR(320) NOT NULL,
  hour DATETIME NOT NULL,
  messages INT UNSIGNED NOT NULL,
  copies INT UNSIGNED NOT NULL DEFAULT 0,
  elsewhere INT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (sender_email, hour)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- A Google Cloud project, whose quota of units all its senders share.
-- tat: as in senders. latency, latency_at: those of the slowest of its senders.
CREATE TABLE IF NOT EXISTS projects (
  name VARCHAR(190) NOT NULL PRIMARY KEY,
  tat DATETIME(6) NULL,
  latency DOUBLE NULL,
  latency_at DATETIME(6) NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- A job is one request: a template, a sender, and recipients.
-- sender_email: the mailbox, whose credentials, limits and pauses count. from_email: the address in From, where it is
-- another one of the mailbox (a send-as alias). from_address: what From says; people search by it.
-- subject, html, text: the template in its default language; job_templates has the others. markdown: what a person wrote
-- in the console, from which the HTML was made. template_name and template_version: which named template it was, and
-- behind a "+" which version of its layout. inline_css: the rules of <style> are copied into the elements.
-- defaults: what variables are that neither job nor recipient has (JSON).
-- headers, metadata: JSON; headers of its messages beside those of mailerd, and what the application gets back with it.
-- attachments: how many rows of job_attachments there are.
-- copy_list: who gets a copy of each message that names none itself (JSON); NULL: no one. copies: what the copies of all
-- its messages cost of the sender's days.
-- next_claim_at: when the next recipient is due; NULL while none waits, or while the job is paused.
-- list_id: the list that its recipients can leave; NULL: it is no subscription mail. override_suppression: it goes also
-- to addresses that have opted out, but for hard bounces.
-- sent, failed: how many of its messages ended so, once it has finished. bounced, replied: how many have that result.
-- on_bounces: whether it is paused where too many of its messages come back (core/bounce_rule.py): 'pause' or 'go_on'.
-- pause_cause, pause_reason: while it is paused, by what and why: 'manual' (a person) or 'bounces'.
-- bounces_seen: when a person last resumed it after a pause for 'bounces'; what was sent before counts for its rule no more.
-- bounce_warning: half of what pauses it has come back, in words. braked_until: until when it waits, since what came
-- back is read first; brakes: how often in a row it did (store/inbox/mailboxes.py).
-- precedence: the negative priority, since MariaDB before 10.8 has no descending index.
CREATE TABLE IF NOT EXISTS jobs (
  id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  type VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  sender_email VARCHAR(320) NOT NULL,
  from_email VARCHAR(320) NULL,
  from_address VARCHAR(320) AS (COALESCE(from_email, sender_email)) VIRTUAL,
  sender_name VARCHAR(255) NULL,
  reply_to VARCHAR(320) NULL,
  subject TEXT NOT NULL,
  html MEDIUMTEXT NULL,
  text MEDIUMTEXT NULL,
  markdown MEDIUMTEXT NULL,
  template_name VARCHAR(100) NULL,
  template_version VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  inline_css TINYINT UNSIGNED NOT NULL DEFAULT 0,
  defaults TEXT NULL,
  variables LONGTEXT NOT NULL,
  headers TEXT NULL,
  metadata TEXT NULL,
  attachments INT UNSIGNED NOT NULL DEFAULT 0,
  copy_list TEXT NULL,
  copies INT UNSIGNED NOT NULL DEFAULT 0,
  reference VARCHAR(255) NULL,
  priority SMALLINT NOT NULL DEFAULT 0,
  precedence SMALLINT AS (-priority) VIRTUAL,
  list_id INT UNSIGNED NULL,
  override_suppression TINYINT UNSIGNED NOT NULL DEFAULT 0,
  status VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  total INT UNSIGNED NOT NULL,
  sent INT UNSIGNED NOT NULL DEFAULT 0,
  failed INT UNSIGNED NOT NULL DEFAULT 0,
  bounced INT UNSIGNED NOT NULL DEFAULT 0,
  replied INT UNSIGNED NOT NULL DEFAULT 0,
  on_bounces VARCHAR(5) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'pause',
  pause_cause VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NULL,
  pause_reason VARCHAR(500) NULL,
  pause_reason_code VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  pause_reason_args TEXT NULL,
  bounces_seen DATETIME(6) NULL,
  bounce_warning VARCHAR(500) NULL,
  bounce_warning_code VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  bounce_warning_args TEXT NULL,
  braked_until DATETIME(6) NULL,
  brakes TINYINT UNSIGNED NOT NULL DEFAULT 0,
  next_claim_at DATETIME(6) NULL,
  claimable TINYINT AS (IF(next_claim_at IS NULL, 0, 1)) VIRTUAL,
  api_key_id BIGINT UNSIGNED NULL,
  send_at DATETIME(6) NOT NULL,
  created_at DATETIME(6) NOT NULL,
  started_at DATETIME(6) NULL,
  finished_at DATETIME(6) NULL,
  KEY next_claim (sender_email, claimable, precedence, next_claim_at, id),
  KEY by_status (status, id),
  KEY finished (finished_at, sender_email),
  KEY finished_of_sender (sender_email, finished_at),
  KEY by_from (from_address, id),
  KEY by_reference (reference, id),
  CONSTRAINT jobs_status CHECK (status IN ('queued', 'sending', 'paused', 'completed', 'cancelled'))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- A recipient of a job: one message.
-- person: the one spelling of the mailbox, as `canonical` of core/suppression.py has it, by which a person's messages are
-- found.
-- headers, metadata: as in jobs, of its own; a header of the same name goes before the job's.
-- copy_list: who gets a copy of this message (JSON); NULL: those of its job. copies: what they cost of the sender's day
-- beside the one of the message.
-- due_at: the message is not sent before this time. send_at: the time of its own that it was posted with, never changed;
-- NULL: it has the job's.
-- claim_token, daemon_id: the claim that owns the row, and the daemon that made it. lease_until: while `sending`, when
-- the claim expires; while `unsure`, when the next check is due; otherwise NULL.
-- attempts: tries that counted. crashes: how many daemons in a row have died while the message was in flight and Google
-- had not been asked to send it.
-- mode: how the message was handed to Google, written before it is handed over.
-- draft_id, thread_id: its draft at Google. unanswered: a drafts.send of this draft got no response, so Google may have
-- sent it. discarding: the draft is being deleted by its worker, or was when that worker died.
-- handed_over_at: when Google was first about to be asked to send it; NULL: never, or it is not known when.
-- checks: how often the present doubt was checked. nothing_found_at: when a check in this doubt first read the sent mail
-- and did not find the message; a message is sent anew only after two such checks with a rest between them.
-- proof: what proves `sent`: 'answered', 'seen in SENT', 'draft gone' or 'person' (core/states.py); otherwise NULL.
-- result: what became of it after it was sent (core/results.py), since result_at; NULL: nothing was heard. result_kind: the class
-- of a bounce. result_code, result_reason: in the words of the notice.
-- came_back: an earlier sending of it came back, so a notice has to name the present one. given_back: it came back by a
-- limit notice of Google; no other one lets it wait again.
CREATE TABLE IF NOT EXISTS job_recipients (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  job_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  seq INT UNSIGNED NOT NULL,
  to_email VARCHAR(320) NOT NULL,
  person VARCHAR(320) AS (CASE
    WHEN LOWER(RIGHT(to_email, 10)) = '@gmail.com'
      THEN CONCAT(REPLACE(LOWER(LEFT(to_email, CHAR_LENGTH(to_email) - 10)), '.', ''), '@gmail.com')
    WHEN LOWER(RIGHT(to_email, 15)) = '@googlemail.com'
      THEN CONCAT(REPLACE(LOWER(LEFT(to_email, CHAR_LENGTH(to_email) - 15)), '.', ''), '@gmail.com')
    ELSE LOWER(to_email) END) VIRTUAL,
  to_name VARCHAR(255) NULL,
  variables LONGTEXT NULL,
  headers TEXT NULL,
  metadata TEXT NULL,
  copy_list TEXT NULL,
  copies TINYINT UNSIGNED NOT NULL DEFAULT 0,
  status VARCHAR(9) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  due_at DATETIME(6) NOT NULL,
  send_at DATETIME(6) NULL,
  claim_token CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NULL,
  daemon_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NULL,
  lease_until DATETIME(6) NULL,
  attempts SMALLINT UNSIGNED NOT NULL DEFAULT 0,
  crashes TINYINT UNSIGNED NOT NULL DEFAULT 0,
  mode VARCHAR(6) CHARACTER SET ascii COLLATE ascii_bin NULL,
  draft_id VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NULL,
  thread_id VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NULL,
  handed_over_at DATETIME(6) NULL,
  unanswered TINYINT UNSIGNED NOT NULL DEFAULT 0,
  discarding TINYINT UNSIGNED NOT NULL DEFAULT 0,
  checks SMALLINT UNSIGNED NOT NULL DEFAULT 0,
  nothing_found_at DATETIME(6) NULL,
  message_id VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NULL,
  proof VARCHAR(12) CHARACTER SET ascii COLLATE ascii_bin NULL,
  error VARCHAR(1000) NULL,
  error_code VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  error_args TEXT NULL,
  result VARCHAR(14) CHARACTER SET ascii COLLATE ascii_bin NULL,
  result_kind VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NULL,
  result_code VARCHAR(12) CHARACTER SET ascii COLLATE ascii_bin NULL,
  result_reason VARCHAR(500) NULL,
  result_at DATETIME(6) NULL,
  came_back TINYINT UNSIGNED NOT NULL DEFAULT 0,
  given_back TINYINT UNSIGNED NOT NULL DEFAULT 0,
  sent_at DATETIME(6) NULL,
  updated_at DATETIME(6) NOT NULL,
  UNIQUE KEY message (job_id, seq),
  KEY thread (thread_id),
  KEY claim (job_id, status, due_at, id),
  KEY lease (lease_until, id),
  KEY person (person, id),
  CONSTRAINT recipients_status CHECK (status IN ('waiting', 'sending', 'unsure', 'sent', 'failed', 'cancelled')),
  CONSTRAINT recipients_mode CHECK (mode IN ('draft', 'direct'))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What every worker has seen: append-only. A worker that has lost its claim still writes here.
-- event: what happened (core/moves.py: Line). A line is written with the change that it tells of, and once.
CREATE TABLE IF NOT EXISTS attempts (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  recipient_id BIGINT UNSIGNED NOT NULL,
  attempt SMALLINT UNSIGNED NOT NULL,
  claim_token CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  daemon_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  event VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  draft_id VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NULL,
  message_id VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NULL,
  error VARCHAR(1000) NULL,
  error_code VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  error_args TEXT NULL,
  at DATETIME(6) NOT NULL,
  UNIQUE KEY event_of_claim (recipient_id, claim_token, event),
  KEY at (at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- A job keeps the template that it was posted with. These are its further languages; jobs has the default one.
CREATE TABLE IF NOT EXISTS job_templates (
  job_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  language VARCHAR(35) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  subject TEXT NOT NULL,
  html MEDIUMTEXT NULL,
  text MEDIUMTEXT NULL,
  PRIMARY KEY (job_id, language)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- The named templates of the API (those of the folder are files). published: the version that a job gets which names
-- none; NULL: it has only drafts. archived_at: it was deleted, and its name finds nothing; a PUT brings it back.
-- senders: whose it is, those of the key that made it (JSON); NULL: everybody's (core/owners.py).
CREATE TABLE IF NOT EXISTS templates (
  name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  senders TEXT NULL,
  published CHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
  published_by VARCHAR(255) NULL,
  published_at DATETIME(6) NULL,
  created_by VARCHAR(255) NOT NULL,
  created_at DATETIME(6) NOT NULL,
  archived_at DATETIME(6) NULL,
  KEY archived (archived_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Their versions. version: a digest of all files, as a folder has it. about: the file template.json. files: the paths
-- and sizes of the others (JSON), whose contents follow one another in template_chunks. subject: for lists.
CREATE TABLE IF NOT EXISTS template_versions (
  name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  version CHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  about TEXT NOT NULL,
  files MEDIUMTEXT NOT NULL,
  subject VARCHAR(255) NOT NULL,
  comment VARCHAR(255) NULL,
  created_by VARCHAR(255) NOT NULL,
  created_at DATETIME(6) NOT NULL,
  PRIMARY KEY (name, version)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Their contents, in chunks that fit into any packet.
CREATE TABLE IF NOT EXISTS template_chunks (
  name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  version CHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  seq SMALLINT UNSIGNED NOT NULL,
  content MEDIUMBLOB NOT NULL,
  PRIMARY KEY (name, version, seq)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- The tags of a job, by which it is found.
CREATE TABLE IF NOT EXISTS job_tags (
  tag VARCHAR(50) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  job_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  PRIMARY KEY (tag, job_id),
  KEY job (job_id, tag)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- A file that a job's messages carry. recipient_seq: the one recipient that gets it; NULL: all of them get it.
-- content_id: the message's HTML shows it. digest: SHA-256 of its content, which stands in attachment_chunks.
CREATE TABLE IF NOT EXISTS job_attachments (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  job_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  recipient_seq INT UNSIGNED NULL,
  filename VARCHAR(255) NOT NULL,
  content_type VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  content_id VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NULL,
  digest BINARY(32) NOT NULL,
  size INT UNSIGNED NOT NULL,
  KEY message (job_id, recipient_seq, id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- The content of attachments: each content once per job, in chunks that fit into any packet.
CREATE TABLE IF NOT EXISTS attachment_chunks (
  job_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  digest BINARY(32) NOT NULL,
  seq SMALLINT UNSIGNED NOT NULL,
  content MEDIUMBLOB NOT NULL,
  PRIMARY KEY (job_id, digest, seq)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What people and programs asked of a job (pause, cancel, settle a message of it, …), of a sender (pause, …), of a
-- webhook, of suppressions or of a list (detail: its name): append-only. job_id, sender, webhook (its name): at most one
-- of them. actor: who asked. changed: whether it made a difference. messages: how many messages or suppressions it changed.
CREATE TABLE IF NOT EXISTS job_actions (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  job_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NULL,
  sender VARCHAR(320) NULL,
  webhook VARCHAR(100) NULL,
  action VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  actor VARCHAR(150) NOT NULL,
  detail VARCHAR(100) NULL,
  changed TINYINT UNSIGNED NOT NULL,
  messages INT UNSIGNED NOT NULL,
  at DATETIME(6) NOT NULL,
  KEY job (job_id, id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- An API key; its secret is shown once and never stored. digest: SHA-256 of the secret. hint: its last characters.
-- senders: the mailboxes that it may use, permissions: what it may ask for; JSON lists, NULL is everything.
-- per_minute: requests per daemon; NULL is no limit.
-- old_digest: the secret before the last rotation, valid until old_until.
-- sent_tables: of the last tables that it sent in the console, what their columns were used as, a digest of their
-- addresses, and the job (JSON).
CREATE TABLE IF NOT EXISTS api_keys (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name VARCHAR(100) NOT NULL,
  digest BINARY(32) NOT NULL,
  hint VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  senders TEXT NULL,
  permissions TEXT NULL,
  per_minute INT UNSIGNED NULL,
  old_digest BINARY(32) NULL,
  old_until DATETIME(6) NULL,
  sent_tables MEDIUMTEXT NULL,
  created_at DATETIME(6) NOT NULL,
  revoked_at DATETIME(6) NULL,
  last_used_at DATETIME(6) NULL,
  UNIQUE KEY digest (digest),
  KEY old_digest (old_digest)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- The response to each idempotency key of an API key. It is written in the transaction that stores the job: where there
-- is a job there is its response, and where there is no job the key is still free.
-- request_digest: SHA-256 of the request's body. final: the response has its forecast, which is made after the COMMIT;
-- it stays 0 if the daemon died in between.
CREATE TABLE IF NOT EXISTS idempotency_responses (
  api_key_id BIGINT UNSIGNED NOT NULL,
  idempotency_key VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  request_digest BINARY(32) NOT NULL,
  job_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  response MEDIUMTEXT NOT NULL,
  final TINYINT UNSIGNED NOT NULL DEFAULT 0,
  created_at DATETIME(6) NOT NULL,
  PRIMARY KEY (api_key_id, idempotency_key),
  KEY created (created_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Who gets no messages. suppressions.list_id 0: of no list at all; digest: core/suppression.py makes it of the address.

-- What a person can leave. senders: whose it is, those of the key that made it (JSON); NULL: everybody's
-- (core/owners.py).
CREATE TABLE IF NOT EXISTS lists (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name VARCHAR(100) NOT NULL,
  title VARCHAR(255) NULL,
  senders TEXT NULL,
  created_at DATETIME(6) NOT NULL,
  UNIQUE KEY name (name)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Each row binds all jobs, and ending one ends no other. origin: whose it is: the address in From of the job by whose
-- message it came, `key:ID` of a key for some senders that added it, or empty: it is for keys of all senders.
-- recipient_id: whose message's link was used.
CREATE TABLE IF NOT EXISTS suppressions (
  digest BINARY(16) NOT NULL,
  list_id INT UNSIGNED NOT NULL,
  origin VARCHAR(320) NOT NULL DEFAULT '',
  reason VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  source VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  address VARCHAR(320) NULL,
  recipient_id BIGINT UNSIGNED NULL,
  detail VARCHAR(255) NULL,
  actor VARCHAR(150) NULL,
  created_at DATETIME(6) NOT NULL,
  PRIMARY KEY (digest, list_id, origin),
  KEY age (created_at, digest, list_id, origin),  -- MySQL sorts by no column that an index has only of the primary key
  KEY by_list (list_id, created_at, digest, origin),
  KEY by_reason (reason, created_at, digest, list_id, origin),
  KEY by_origin (origin, created_at, digest, list_id, reason)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Each suppression and each end of one, append-only.
CREATE TABLE IF NOT EXISTS suppression_log (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  digest BINARY(16) NOT NULL,
  list_id INT UNSIGNED NOT NULL,
  origin VARCHAR(320) NOT NULL DEFAULT '',
  action VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  reason VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NULL,
  source VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  actor VARCHAR(150) NULL,
  at DATETIME(6) NOT NULL,
  KEY person (digest, id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Keys that all daemons share. `address`: makes the digests; never changes. `token:N`: signs unsubscribe links.
CREATE TABLE IF NOT EXISTS secrets (
  name VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  value VARBINARY(64) NOT NULL,
  created_at DATETIME(6) NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What the application hears of. A row is written in the transaction that makes the change (store/event_feed.py).
-- uid: the name of the event outside. cause: what made the change, so that a repeated transaction writes no second row.
-- sender_email: whose event it is; NULL: only a key for all senders sees it. data: JSON. recipient_id: the one message
-- that it is about.
-- position: its place in the feed, given after the COMMIT (store/event_feed.py), since ids are not committed in order.
CREATE TABLE IF NOT EXISTS events (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  uid CHAR(30) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  type VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  cause VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  job_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NULL,
  sender_email VARCHAR(320) NULL,
  recipient_id BIGINT UNSIGNED NULL,
  data MEDIUMTEXT NOT NULL,
  at DATETIME(6) NOT NULL,
  position BIGINT UNSIGNED NULL,
  UNIQUE KEY uid (uid),
  UNIQUE KEY cause (type, cause),
  UNIQUE KEY position (position),
  KEY sender (sender_email, position),
  KEY at (at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- The last place of the feed that was given, the last that was deleted by age, and the server that gave places last: one
-- row. A server that takes over begins a leap further on (store/event_feed.py).
CREATE TABLE IF NOT EXISTS event_positions (
  id TINYINT UNSIGNED NOT NULL PRIMARY KEY,
  last BIGINT UNSIGNED NOT NULL,
  pruned BIGINT UNSIGNED NOT NULL DEFAULT 0,
  server VARCHAR(300) NOT NULL DEFAULT ''
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

INSERT IGNORE INTO event_positions (id, last) VALUES (1, 0);

-- How many messages came to what, by minute and sender; each daemon has rows of its own (store/sender_changes.py).
CREATE TABLE IF NOT EXISTS tallies (
  minute DATETIME NOT NULL,
  sender_email VARCHAR(320) NOT NULL,
  daemon CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  sent INT UNSIGNED NOT NULL DEFAULT 0,
  failed INT UNSIGNED NOT NULL DEFAULT 0,
  put_off INT UNSIGNED NOT NULL DEFAULT 0,
  unsure INT UNSIGNED NOT NULL DEFAULT 0,
  bounced INT UNSIGNED NOT NULL DEFAULT 0,
  replied INT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (minute, sender_email, daemon)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- The tallies of an hour, once it is over for a day.
CREATE TABLE IF NOT EXISTS tally_hours (
  hour DATETIME NOT NULL,
  sender_email VARCHAR(320) NOT NULL,
  sent INT UNSIGNED NOT NULL DEFAULT 0,
  failed INT UNSIGNED NOT NULL DEFAULT 0,
  put_off INT UNSIGNED NOT NULL DEFAULT 0,
  unsure INT UNSIGNED NOT NULL DEFAULT 0,
  bounced INT UNSIGNED NOT NULL DEFAULT 0,
  replied INT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (hour, sender_email)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What was red (store/trouble_history.py). about, code: of what, and its cause, as core/situation.py has them. until: 9999-12-31
-- while it lasts, so that a cause is open once. text: JSON (core/reasons.py).
CREATE TABLE IF NOT EXISTS troubles (
  about VARCHAR(400) NOT NULL,
  code VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  until DATETIME(6) NOT NULL,
  since DATETIME(6) NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (about, code, until),
  KEY until (until)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Who is signed in to the console, and one-time links that sign a person in (store/api_keys.py).
-- digest: SHA-256 of the cookie's or the link's secret. seen_at: of a session, at most a minute behind.
-- key_digest: of the secret of its key that it was begun with, and lasts with.
-- is_link: it is a link that was not used yet; using it makes a session of it.
CREATE TABLE IF NOT EXISTS sessions (
  digest BINARY(32) NOT NULL PRIMARY KEY,
  api_key_id BIGINT UNSIGNED NOT NULL,
  key_digest BINARY(32) NOT NULL,
  is_link TINYINT UNSIGNED NOT NULL DEFAULT 0,
  ip VARCHAR(45) CHARACTER SET ascii COLLATE ascii_bin NULL,
  created_at DATETIME(6) NOT NULL,
  seen_at DATETIME(6) NOT NULL,
  KEY api_key (api_key_id),
  KEY seen (seen_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Jobs that are being prepared in the console (store/drafts.py). A draft is the row of part 0; the rows of part 1 are its
-- table, compressed JSON in pieces, and those of part 2 the file that this was read from.
-- mapping, message, options: JSON. pressed_at: when its button was pressed, which stores the job of the idempotency key
-- draft-ID. is_sent: that is done. kept_from: seven days later it is deleted; once it is sent, minutes later.
CREATE TABLE IF NOT EXISTS job_drafts (
  id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  part TINYINT UNSIGNED NOT NULL,
  seq SMALLINT UNSIGNED NOT NULL,
  api_key_id BIGINT UNSIGNED NOT NULL,
  mapping MEDIUMTEXT NULL,
  message MEDIUMTEXT NULL,
  options MEDIUMTEXT NULL,
  content MEDIUMBLOB NULL,
  kept_from DATETIME(6) NOT NULL,
  pressed_at DATETIME(6) NULL,
  is_sent TINYINT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (id, part, seq),
  KEY api_key (api_key_id, part, kept_from),
  KEY kept (kept_from)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- The inboxes that are read, one daemon at a time.
-- history_id: what came up to there is read; NULL: nothing yet. internal_date: everything up to that moment is read
-- (milliseconds since 1970, Google's own measure), for the case that Google has forgotten its history.
-- next_at: when it is read next. read_at: when it was last read to its end.
-- waiting_from: behind that history id mail waits to be examined that stands in no thread of a message.
-- lease_token, lease_until: whose turn it is.
-- scope: what the sign-in allows to read: 'readonly', 'metadata' or ''. state: 'new', 'read', 'behind', 'no scope' or
-- 'refused'; detail: why.
-- failing_id, failures: the received mail that could not be read, and how often.
CREATE TABLE IF NOT EXISTS mailboxes (
  email VARCHAR(320) NOT NULL PRIMARY KEY,
  history_id BIGINT UNSIGNED NULL,
  internal_date BIGINT UNSIGNED NULL,
  waiting_from BIGINT UNSIGNED NULL,
  next_at DATETIME(6) NOT NULL,
  read_at DATETIME(6) NULL,
  lease_token CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NULL,
  lease_until DATETIME(6) NULL,
  scope VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  state VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'new',
  detail VARCHAR(255) NULL,
  detail_code VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  detail_args TEXT NULL,
  failing_id VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL,
  failures TINYINT UNSIGNED NOT NULL DEFAULT 0,
  KEY next (next_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What reading has cost of late: the units of each round and when it ended, for a day.
CREATE TABLE IF NOT EXISTS mailbox_units (
  mailbox VARCHAR(320) NOT NULL,
  at DATETIME(6) NOT NULL,
  units INT UNSIGNED NOT NULL,
  PRIMARY KEY (mailbox, at),
  KEY at (at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What was found in the inboxes, append-only; of mail that does not concern a message there is no row.
-- kind: what it is (core/notices.py), or 'manual' (mail that the person sent) or 'passed_over' (it could not be
-- read). email: to whom the message went. sender_email: what its From said, which is whose finding this is; NULL: of no
-- message, and only a key for all senders sees it. believed: 0 if its proof was missing, and it changed nothing.
CREATE TABLE IF NOT EXISTS notices (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  mailbox VARCHAR(320) NOT NULL,
  gmail_id VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  thread_id VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  recipient_id BIGINT UNSIGNED NULL,
  job_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NULL,
  email VARCHAR(320) NULL,
  sender_email VARCHAR(320) NULL,
  kind VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  code VARCHAR(12) CHARACTER SET ascii COLLATE ascii_bin NULL,
  detail VARCHAR(500) NULL,
  believed TINYINT UNSIGNED NOT NULL,
  at DATETIME(6) NOT NULL,
  UNIQUE KEY once (mailbox, gmail_id),
  KEY recipient (recipient_id),
  KEY job (job_id, recipient_id),
  KEY by_kind (mailbox, kind, at),
  KEY by_sender (sender_email, kind, at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Endpoints of applications that events are posted to. owner: the API key that made it; 0: the operator.
-- secret, old_secret: sign each post; the old one, from before the last rotation, until old_until.
-- types, senders: JSON lists of what it gets; NULL is everything, but for types that come only if asked for.
-- failures: attempts in a row that failed; failing_since: the first of them. retry_at: until then the endpoint rests.
-- position: up to which place of the feed its rows in webhook_deliveries are made.
CREATE TABLE IF NOT EXISTS webhooks (
  id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  owner BIGINT UNSIGNED NOT NULL DEFAULT 0,
  name VARCHAR(100) NOT NULL,
  url VARCHAR(2000) NOT NULL,
  secret VARBINARY(64) NOT NULL,
  old_secret VARBINARY(64) NULL,
  old_until DATETIME(6) NULL,
  types TEXT NULL,
  senders TEXT NULL,
  state VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  pause_cause VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NULL,
  failures INT UNSIGNED NOT NULL DEFAULT 0,
  failing_since DATETIME(6) NULL,
  retry_at DATETIME(6) NULL,
  position BIGINT UNSIGNED NOT NULL,
  created_at DATETIME(6) NOT NULL,
  UNIQUE KEY name (name),
  CONSTRAINT webhooks_state CHECK (state IN ('on', 'paused', 'gone'))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- An event on its way to an endpoint. token, lease_until: the daemon that posts it now, and when its claim expires.
-- http, error, took_ms, tried_at: the last attempt, and why it was no success.
CREATE TABLE IF NOT EXISTS webhook_deliveries (
  webhook_id CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  position BIGINT UNSIGNED NOT NULL,
  status VARCHAR(9) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  attempts SMALLINT UNSIGNED NOT NULL,
  created_at DATETIME(6) NOT NULL,
  due_at DATETIME(6) NOT NULL,
  token CHAR(26) CHARACTER SET ascii COLLATE ascii_bin NULL,
  lease_until DATETIME(6) NULL,
  http SMALLINT UNSIGNED NULL,
  error VARCHAR(300) NULL,
  error_code VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  error_args TEXT NULL,
  took_ms INT UNSIGNED NULL,
  tried_at DATETIME(6) NULL,
  PRIMARY KEY (webhook_id, position),
  KEY due (webhook_id, status, due_at),
  KEY undelivered (webhook_id, status, position),
  CONSTRAINT webhook_deliveries_status CHECK (status IN ('waiting', 'sending', 'delivered', 'failed'))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
