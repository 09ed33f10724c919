-- The orchestrator's database, version 1. Times are Unix milliseconds, sizes bytes.
-- `seq` is the order of submission; it is also the row id, so that newest-first is a walk along the table.

CREATE TABLE jobs (
    seq             INTEGER PRIMARY KEY,
    id              TEXT    NOT NULL UNIQUE,
    state           TEXT    NOT NULL CHECK (state IN
                        ('queued', 'dispatched', 'running', 'cancelling', 'completed', 'failed', 'cancelled')),
    model           TEXT    NOT NULL,           -- as the client wrote it
    model_ref       TEXT    NOT NULL,           -- what it stood for when the job was accepted
    request         BLOB,                       -- the submitted body; NULL once the job is final
    prompt_sha256   TEXT    NOT NULL,
    priority        TEXT    NOT NULL,
    session_id      TEXT,
    owner           TEXT    NOT NULL,           -- fingerprint of the token that submitted it
    correlation_id  TEXT    NOT NULL,
    on_disconnect   TEXT    NOT NULL,
    seed            TEXT    NOT NULL,           -- an unsigned 64-bit integer, in decimal
    max_tokens      INTEGER NOT NULL,
    tag             INTEGER NOT NULL,           -- place in the fair order of its class; see queue/order.py
    idempotency_key TEXT,
    request_sha256  TEXT    NOT NULL,
    submitted_ms    INTEGER NOT NULL,
    deadline_ms     INTEGER NOT NULL,
    not_before_ms   INTEGER NOT NULL DEFAULT 0, -- a retry waits until then
    dispatched_ms   INTEGER,
    started_ms      INTEGER,
    first_token_ms  INTEGER,
    finished_ms     INTEGER,
    attempt         INTEGER NOT NULL DEFAULT 0,
    worker_id       TEXT,
    pool_id         TEXT,
    engine          TEXT,
    started_event   INTEGER,                    -- serial of the first `started` event
    final_event     INTEGER,                    -- serial of the terminal event
    tokens_in       INTEGER,
    tokens_out      INTEGER,
    pieces          INTEGER NOT NULL DEFAULT 0, -- token events in all, set when the job is final
    decode_ms       INTEGER,
    stop_reason     TEXT,
    output_sha256   TEXT,
    error_code      TEXT,
    error_message   TEXT,
    error_retriable INTEGER
) STRICT;

CREATE UNIQUE INDEX jobs_by_key ON jobs (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_by_state ON jobs (state, seq);
CREATE INDEX jobs_by_model ON jobs (model, seq);
CREATE INDEX jobs_by_session ON jobs (session_id, seq) WHERE session_id IS NOT NULL;
CREATE INDEX jobs_by_end ON jobs (finished_ms) WHERE finished_ms IS NOT NULL;

CREATE TABLE attempts (
    job_seq       INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    number        INTEGER NOT NULL,
    worker_id     TEXT    NOT NULL,
    pool_id       TEXT    NOT NULL,
    dispatched_ms INTEGER NOT NULL,
    ended_ms      INTEGER,
    outcome       TEXT,                         -- a final state, or the code of the error that ended it
    PRIMARY KEY (job_seq, number)
) STRICT, WITHOUT ROWID;

-- Token events exactly as they go to readers, some dozens a row.
CREATE TABLE output (
    job_seq INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    first   INTEGER NOT NULL,                   -- index of the first token event in it
    count   INTEGER NOT NULL,
    events  BLOB    NOT NULL,
    PRIMARY KEY (job_seq, first)
) STRICT, WITHOUT ROWID;
