-- A letter is sent anew only when the sent mail was read twice, with a rest between, and it was not there.

-- nothing_found_at: when a look read the sent mail first in the present doubt and did not find the letter.
ALTER TABLE job_recipients ADD COLUMN nothing_found_at DATETIME(6) NULL;
