"""The learning-rate schedule that all trainings share."""

import math


def cosine(step: int, steps: int, warmup: int, floor: float = 0.02) -> float:
    """Factor on the peak rate: linear warm-up, then half a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def trapezoid(step: int, steps: int, decay: int, warmup: int) -> float:
    """Linear rise over `warmup` steps, then 1, then a linear fall over the last `decay` steps.

    A run can be prolonged from any checkpoint before the fall.
    """
    return min(1.0, (step + 1) / warmup, (steps - step) / max(1, decay))
