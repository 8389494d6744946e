"""What a process that computes sets for itself: its threads, and that it ends with the process that started it."""

import multiprocessing
import os
import threading


def set_threads(threads: int) -> None:
    """Use `threads` threads in torch, and no threads of OpenCV's own."""
    import cv2  # imported here because only processes that compute need them
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(0)


def end_with_parent() -> None:
    """End this process as soon as the process that started it has ended, however that ended."""
    threading.Thread(target=_await_parent, daemon=True).start()


def _await_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
