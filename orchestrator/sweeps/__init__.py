"""One experiment over many values of its settings."""
