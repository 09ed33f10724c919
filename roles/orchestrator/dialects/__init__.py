"""Other programs' APIs, translated to and from jobs. Pure."""
