"""Admission and order of jobs (pure), and the one loop that acts on decisions."""
