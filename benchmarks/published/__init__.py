"""Every stage as the public code computes it, beside ours as the engine runs it: CPU seconds per image and agreement.

Run from the repository root: python -m benchmarks.published --batch 4   (ten minutes, 9 GB, one thread)

The published forms are our own plain re-implementations of the public procedures: torchvision's networks, NCHW, batch norms in
evaluation mode, one forward pass per scale of an image and its mirror. A file holds the stages of one method. Images and weights
are made here; batch norms get the statistics of these images, so activations have a usual size.
"""
