"""Training: the one loop for every network, and the interface between stages and their functions."""
