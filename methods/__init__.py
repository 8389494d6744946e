"""The published methods, one file each: what a network is trained on and how maps are read from it."""
