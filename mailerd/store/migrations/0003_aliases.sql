-- Send-as aliases: sender_email stays the mailbox, by whose credentials, pace and pauses a job is sent; from_email is what
-- its letters say in From when that is another address of the mailbox.
ALTER TABLE jobs ADD COLUMN from_email VARCHAR(320) NULL;
