-- Version 3: how the worker of an attempt came to be, where that was while the job waited for it.

ALTER TABLE attempts ADD COLUMN asked_ms INTEGER;    -- a pool was asked for the model's file or the worker
ALTER TABLE attempts ADD COLUMN fetched_ms INTEGER;  -- the file was there
ALTER TABLE attempts ADD COLUMN loading_ms INTEGER;  -- its process was up and began to load
ALTER TABLE attempts ADD COLUMN ready_ms INTEGER;    -- the model was loaded
