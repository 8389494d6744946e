"""Random walk on a grid: maps spread along affinities between nearby cells (IRN section 4; PSA before it).

One step replaces every cell by the average of its neighbours, weighted by affinity^beta. The public code squares the dense
transition matrix (11,750 x 11,750 for a 375 x 500 image) 8 times. The walk is linear and the matrix has 69 diagonals, so
256 products of the matrix with the maps give the same. The 256th power is a Chebyshev series; 80 terms reach 1e-6
(Sachdeva & Vishnoi, Faster Algorithms via Approximation Theory, 2014, theorem 3.3).
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from math import ceil, exp, lgamma, log, sqrt

import numpy as np
import torch
from scipy.sparse import dia_array

from refiners.pair_geometry import Direction, path_minima

ERROR = 1e-5  # bound on the error of the cut Chebyshev series (in fact 3e-7 for 256 steps; float32 itself errs by up to 5e-5)


def walk(maps: torch.Tensor, boundary: torch.Tensor, radius: int = 5, beta: float = 10, exp_times: int = 8) -> torch.Tensor:
    """Spread maps [n,h,w] for 2^exp_times steps, held back by the boundary probabilities [h,w]: [n,h,w].

    Maps start as maps * (1 - boundary); cells nearer than `radius` are joined by (1 - largest boundary between them)^beta.
    """
    passable = 1 - boundary
    # the power is monotone, so it comes before the minimum along the paths: h*w values instead of 34*h*w
    affinities = {way: least.numpy() for way, least in path_minima(passable**beta, radius).items()}
    started = (maps * passable).numpy()
    return torch.from_numpy(propagate(started, neighbourhood(affinities, boundary.shape), 2**exp_times))


def neighbourhood(affinities: Mapping[Direction, np.ndarray], size: tuple[int, ...]) -> dia_array:
    """The symmetric matrix [h*w,h*w] of affinities [h-dy,w-|dx|] by direction, 1 on its diagonal, 0 elsewhere."""
    height, width = size
    diagonals: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(size, np.float32))
    for (dy, dx), values in affinities.items():
        if values.size == 0:  # a grid this small has no pair so far apart
            continue
        left, right = max(0, -dx), width - max(0, dx)
        # SciPy stores element (i, j) of the diagonal j - i in column j; in narrow grids two directions share a diagonal
        diagonals[dy * width + dx][dy:, left + dx : right + dx] += values
        diagonals[-dy * width - dx][: height - dy, left:right] += values
    diagonals[0] = np.ones(size, np.float32)  # added last: its rounding would lose the small values of the others
    stored = np.stack([diagonal.ravel() for diagonal in diagonals.values()])
    return dia_array((stored, list(diagonals)), shape=(height * width, height * width))


def propagate(maps: np.ndarray, neighbours: dia_array, steps: int) -> np.ndarray:
    """`steps` times, replace every cell of maps [n,h,w] by the average over its neighbours: float32 [n,h,w].

    The weights of a cell are its row of `neighbours` divided by the row's sum. (The public code divides by column sums, which is
    the same for a symmetric matrix.) An average leaves a constant map unchanged and never exceeds a maximum.
    """
    # row sums in double precision: their rounding errors would all point one way and grow with the number of steps
    inverse = (1 / (neighbours @ np.ones(neighbours.shape[0]))).astype(np.float32)
    spread = np.empty(maps.shape, np.float32)
    # class by class: SciPy's product with a vector runs along the diagonals, with a matrix it is 10 times slower
    for source, target in zip(maps, spread, strict=True):
        values = np.asarray(source, np.float32).ravel()
        target.flat = _polynomial(values, neighbours, inverse, power_coefficients(steps))
    return spread


def _polynomial(values: np.ndarray, neighbours: dia_array, inverse: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    """sum_k coefficients[k] T_k(P) values, with P the row-normalised `neighbours` and T_{k+1} = 2 P T_k - T_{k-1}."""
    total = np.float32(coefficients[0]) * values
    previous, current = values, values
    for order, coefficient in enumerate(coefficients[1:], start=1):
        averaged = inverse * (neighbours @ current)
        previous, current = current, averaged if order == 1 else 2 * averaged - previous
        if coefficient:
            total += np.float32(coefficient) * current
    return total


@cache
def power_coefficients(steps: int) -> tuple[float, ...]:
    """Chebyshev coefficients of x^steps on [-1, 1], cut where the rest is below `ERROR`, scaled to sum to 1 (as x = 1 needs).

    x^s = 2^(1-s) sum_k binomial(s, (s-k)/2) T_k(x) over k of the parity of s, k = 0 counted half; degree sqrt(2 s log(2/ERROR)).
    """
    degree = min(steps, ceil(sqrt(2 * steps * log(2 / ERROR))))
    found = [0.0 if (steps - order) % 2 else _coefficient(steps, order) for order in range(degree + 1)]
    return tuple(value / sum(found) for value in found)


def _coefficient(steps: int, order: int) -> float:
    logarithm = lgamma(steps + 1) - lgamma((steps - order) / 2 + 1) - lgamma((steps + order) / 2 + 1) - steps * log(2)
    return exp(logarithm) * (1 if order == 0 else 2)
