"""Files of requests, carried out on the queue when nothing more urgent waits: OpenAI's batches."""
