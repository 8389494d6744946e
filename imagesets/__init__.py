"""Image sets: lists, image-level labels and masks on disk, and the way from an image to a network's input."""
