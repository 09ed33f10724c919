"""What this host has to compute with."""
