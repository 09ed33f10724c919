-- Version 8: what an error says for programs.

ALTER TABLE jobs ADD COLUMN error_details TEXT;      -- a JSON object
