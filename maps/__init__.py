"""Maps: one float map per class that an image shows, how networks give them, how they are kept and how they are read."""
