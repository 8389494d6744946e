"""Segmenters: networks that learn from pseudo masks and predict a label map for each image."""
