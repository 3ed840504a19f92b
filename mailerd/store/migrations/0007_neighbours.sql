-- Crashes of daemons, and calls beside the letters.

-- crashes: so many daemons in a row have died while they had this letter in flight, and Google had not been asked yet.
ALTER TABLE job_recipients
  ADD COLUMN crashes TINYINT UNSIGNED NOT NULL DEFAULT 0;

-- stopped_at: it was told to stop, and did: what it left behind is no crash.
ALTER TABLE daemons
  ADD COLUMN stopped_at DATETIME(6) NULL;

-- calls_at: when units were last used for something else than letters (core/rate_limit.py).
ALTER TABLE senders
  ADD COLUMN calls_at DATETIME(6) NULL;
