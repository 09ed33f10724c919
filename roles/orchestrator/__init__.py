"""The orchestrator: takes jobs, keeps them on disk, decides everything, streams answers."""
