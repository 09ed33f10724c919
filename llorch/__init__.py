"""llorch: one executable that turns all your machines into one service for language models."""

__version__ = "0.1.0"
