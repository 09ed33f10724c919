-- Version 6: how long requests have asked for workers to be kept, and how much of a prompt was there already.

CREATE TABLE kept_workers (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    worker_id    TEXT    NOT NULL UNIQUE,
    keep_alive_s REAL    NOT NULL                    -- below 0 is for ever
) STRICT;

ALTER TABLE jobs ADD COLUMN tokens_cached INTEGER;   -- of the prompt, computed for an earlier job
