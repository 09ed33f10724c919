"""From one snapshot to a list of decisions. Pure."""
