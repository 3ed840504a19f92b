-- "sent" only with proof, and what Google was asked about a letter's draft.

-- proof: what speaks for `sent`: 'answered', 'seen in SENT', 'draft gone' or 'person' (core/states.py); NULL otherwise.
-- unanswered: a drafts.send of the present draft had no answer, so that it may have been carried out.
-- discarding: the present draft is being deleted by its worker, or was meant to be when that one died.
ALTER TABLE job_recipients
  ADD COLUMN proof VARCHAR(12) CHARACTER SET ascii COLLATE ascii_bin NULL,
  ADD COLUMN unanswered TINYINT UNSIGNED NOT NULL DEFAULT 0,
  ADD COLUMN discarding TINYINT UNSIGNED NOT NULL DEFAULT 0;

-- What was sent before this column was there: a look that could not read the sent mail brought no message id.
UPDATE job_recipients r
   SET r.proof = CASE WHEN r.error LIKE 'settled by hand%' THEN 'person'
                      WHEN r.message_id IS NULL THEN 'draft gone'
                      WHEN EXISTS (SELECT 1 FROM attempts a WHERE a.recipient_id = r.id AND a.event = 'sent')
                      THEN 'answered' ELSE 'seen in SENT' END
 WHERE r.status = 'sent' AND r.proof IS NULL;

-- What is under way, or was once in doubt, is read as before: a draft that is gone then speaks for `sent`.
UPDATE job_recipients r SET r.unanswered = 1
 WHERE r.draft_id IS NOT NULL
   AND (r.status IN ('sending', 'unsure')
        OR (r.status = 'waiting' AND EXISTS (SELECT 1 FROM attempts a WHERE a.recipient_id = r.id
                                                AND a.draft_id = r.draft_id AND a.event IN ('lost', 'lapsed'))));
