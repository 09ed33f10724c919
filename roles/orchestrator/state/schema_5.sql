-- Version 5: files and batches of OpenAI's API. The files themselves are beside the database, in the folder `files`.

CREATE TABLE files (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT    NOT NULL UNIQUE,           -- also its name in the folder
    filename     TEXT    NOT NULL,                  -- what the client called it
    purpose      TEXT    NOT NULL CHECK (purpose IN ('batch', 'batch_output')),
    bytes        INTEGER NOT NULL,
    created_ms   INTEGER NOT NULL,
    kept_from_ms INTEGER NOT NULL                   -- the retention time counts from here
) STRICT;

CREATE TABLE batches (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT    NOT NULL UNIQUE,
    status         TEXT    NOT NULL CHECK (status IN ('validating', 'failed', 'in_progress', 'finalizing',
                       'completed', 'expired', 'cancelling', 'cancelled')),
    endpoint       TEXT    NOT NULL,
    input_file_id  TEXT    NOT NULL,
    metadata       TEXT,                            -- JSON
    owner          TEXT    NOT NULL,                -- fingerprint of the token that created it
    correlation_id TEXT    NOT NULL,
    created_ms     INTEGER NOT NULL,
    expires_ms     INTEGER NOT NULL,
    in_progress_ms INTEGER,
    finalizing_ms  INTEGER,
    cancelling_ms  INTEGER,
    ended_ms       INTEGER,
    total          INTEGER NOT NULL DEFAULT 0,
    completed      INTEGER NOT NULL DEFAULT 0,
    failed         INTEGER NOT NULL DEFAULT 0,
    errors         TEXT,                            -- JSON
    output_file_id TEXT,
    error_file_id  TEXT
) STRICT;

CREATE INDEX batches_in_work ON batches (seq) WHERE ended_ms IS NULL;

-- The requests of batches in work, and their answers until they are in a file.
CREATE TABLE batch_lines (
    batch_seq INTEGER NOT NULL REFERENCES batches (seq) ON DELETE CASCADE,
    number    INTEGER NOT NULL,                     -- of the line in the input file, from 1
    custom_id TEXT    NOT NULL,
    start     INTEGER NOT NULL,                     -- where the line begins, in bytes
    outcome   TEXT CHECK (outcome IN ('completed', 'failed')),
    answer    BLOB,                                 -- the line of the output or error file
    PRIMARY KEY (batch_seq, number),
    UNIQUE (batch_seq, custom_id)
) STRICT;
