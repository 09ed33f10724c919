-- Version 4: pools that an operator drains, until they say otherwise, whoever restarts meanwhile.

CREATE TABLE drained_pools (
    pool_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
