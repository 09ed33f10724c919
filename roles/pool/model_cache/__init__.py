"""What model files this host has, and what is in them."""
