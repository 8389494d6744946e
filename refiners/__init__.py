"""From maps to pseudo masks: thresholding, dense CRF, and IRN's boundary network with its random walk."""
