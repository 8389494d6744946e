"""Maps, one float map per class that an image shows: how networks make them, how they are stored and read."""
