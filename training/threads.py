"""The threads of a process that computes."""

import torch


def set_threads(threads: int) -> None:
    """Use `threads` threads in torch, and no threads of OpenCV's own."""
    import cv2  # imported here because only processes that compute need it

    torch.set_num_threads(threads)
    cv2.setNumThreads(0)
