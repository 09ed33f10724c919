-- Version 7: what jobs are for, which may be something else than text.

ALTER TABLE jobs ADD COLUMN kind TEXT NOT NULL DEFAULT 'text-gen';  -- or 'embedding', 'rerank'
