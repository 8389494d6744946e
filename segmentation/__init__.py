"""Segmenters: trained on pseudo masks, tested on their own."""
