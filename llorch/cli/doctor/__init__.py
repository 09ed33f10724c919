"""`llorch dev doctor`: one small check a fact, each returning frozen results."""
