"""Maps: one float map per class that an image shows; how networks make them, how the store keeps them, how they are read."""
