"""The pool: one per host. It executes what the orchestrator decides and reports facts."""
