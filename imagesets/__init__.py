"""Image sets: lists, image-level labels and masks on disk, and what turns an image into a network's input."""
