-- Version 2: what a restarted orchestrator needs to find a running job, and what an exact continuation needs.

ALTER TABLE attempts ADD COLUMN worker_url TEXT;    -- where the worker answers; NULL once the attempt has ended
ALTER TABLE attempts ADD COLUMN worker_token TEXT;  -- what it asks for; NULL once the attempt has ended
ALTER TABLE attempts ADD COLUMN tokens_before INTEGER NOT NULL DEFAULT 0;  -- put out by earlier attempts
ALTER TABLE attempts ADD COLUMN started BLOB;       -- its `started` event exactly as readers got it

ALTER TABLE output ADD COLUMN ids BLOB;                       -- the model's tokens behind it, 32 bits each, little-endian
ALTER TABLE output ADD COLUMN held TEXT NOT NULL DEFAULT '';  -- text of them that no event holds yet

CREATE TABLE pools (
    pool_id  TEXT PRIMARY KEY,
    endpoint TEXT NOT NULL                          -- where to say that the orchestrator is back
) STRICT, WITHOUT ROWID;
