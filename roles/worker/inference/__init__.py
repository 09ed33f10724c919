"""Jobs of a worker: their events, their text, their end."""
