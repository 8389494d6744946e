"""k-means over vectors that need not fit in memory."""
