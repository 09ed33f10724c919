"""The orchestrator's HTTP addresses: decode, one call, encode."""
