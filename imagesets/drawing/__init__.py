"""How the built-in image set is drawn."""
