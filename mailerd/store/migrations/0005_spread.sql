-- How late letters reach Google. spread: seconds from the claim to Google's answer of the sender's slowest letter of
-- late, noted only when the pace has to know of it; spread_at: when one was last noted. Ten minutes later it no longer
-- counts; nobody clears it.
ALTER TABLE senders
  ADD COLUMN spread DOUBLE NULL,
  ADD COLUMN spread_at DATETIME(6) NULL;

-- A project's is that of the slowest of its senders.
ALTER TABLE projects
  ADD COLUMN spread DOUBLE NULL,
  ADD COLUMN spread_at DATETIME(6) NULL;
