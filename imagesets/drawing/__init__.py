"""The drawing of the built-in image set."""
