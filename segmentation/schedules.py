"""Learning-rate schedules of segmenters, beside `training.optimisers.poly`. `step` counts updates from 0."""

from training.optimisers import Schedule, poly

REFRESH = 10  # updates between two values of the staircase
WARM_UP_RATIO = 1e-6  # of the first update's rate to the scheduled one (mmcv's linear warm-up)


def staircase(steps: int, power: float = 0.9) -> Schedule:
    """(1 - t / steps)^power with t the number of the step rounded down to a multiple of 10 (deeplab-pytorch)."""
    return lambda step: (1 - step // REFRESH * REFRESH / steps) ** power


def warmed_up(steps: int, power: float = 0.9, warm_up: int = 0, floor: float = 0.0) -> Schedule:
    """Polynomial decay from 1 to `floor`, which a linear warm-up multiplies in the first updates (mmcv)."""
    decay = poly(steps, power)

    def factor(step: int) -> float:
        decayed = floor + (1 - floor) * decay(step)
        return decayed if step >= warm_up else decayed * (1 - (1 - step / warm_up) * (1 - WARM_UP_RATIO))

    return factor
