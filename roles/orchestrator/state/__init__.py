"""What is on disk: every SQL statement lives here."""
