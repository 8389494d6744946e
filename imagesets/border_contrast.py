"""A classical saliency: how far the colours of an image are from those at its border. It learns nothing and sees no labels.

Objects are seldom all along the border (the border prior of Wei et al., Geodesic Saliency Using Background Priors, ECCV 2012, and
many after it), so colours there are taken to be background. It is for images such as `shapes`, where it covers what masks cover
at an IoU of 0.8; on photographs a trained network is far better.
"""

import numpy as np

BLUR = 0.008  # standard deviation of the blur that removes noise, as a share of the longer side
STRIP = 0.08  # width of the border as a share of the shorter side
PARTS = 4  # pieces of each side, whose colours may differ
QUARTER = 4  # a colour is as salient as it is far from the nearest quarter of all pieces
NOISE = 2.0  # standard deviation of colours, in Lab, that no piece goes below
SLOPE = 0.2  # of the step from background to object, as a share of the level between them


def border_contrast(rgb: np.ndarray) -> np.ndarray:
    """The saliency uint8 [H,W] of an image uint8 [H,W,3]: near 255 where colours are unlike those at the border, else near 0."""
    import cv2  # only processes that read images need it

    blurred = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB), (0, 0), BLUR * max(rgb.shape[:2])).astype(np.float32)
    distances = np.stack([_distances(blurred, piece) for piece in _pieces(blurred)])
    near = np.partition(distances, len(distances) // QUARTER, axis=0)[len(distances) // QUARTER]
    grey = np.clip(255 * near / max(np.percentile(near, 99), 1e-6), 0, 255).astype(np.uint8)
    level = max(1.0, cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)[0])
    return (255 / (1 + np.exp((level - grey) / (SLOPE * level)))).astype(np.uint8)


def _pieces(colours: np.ndarray) -> list[np.ndarray]:
    """The colours [n,3] of the pieces of the border of [H,W,3]."""
    width = max(1, round(STRIP * min(colours.shape[:2])))
    upright = colours.transpose(1, 0, 2)
    sides = colours[:width], colours[-width:], upright[:width], upright[-width:]
    return [piece.reshape(-1, 3) for side in sides for piece in np.array_split(side, min(PARTS, side.shape[1]), axis=1)]


def _distances(colours: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """The Mahalanobis distances [H,W] of colours [H,W,3] from those of a piece [n,3]."""
    off = piece - piece.mean(axis=0)
    inverse = np.linalg.inv(off.T @ off / len(off) + np.eye(3, dtype=np.float32) * NOISE**2)
    apart = colours - piece.mean(axis=0)
    return np.sqrt(np.einsum("hwc,cd,hwd->hw", apart, inverse, apart, optimize=True))
