"""Bodies and events that cross HTTP, and their codecs. Types and pure functions, no I/O."""
