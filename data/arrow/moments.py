"""Mean and deviation of values that come in parts."""

import numpy as np


def moments_of(values: np.ndarray) -> np.ndarray:
    """How many ``[N]`` float64 values there are, their mean and the sum of squared differences from it, ``[3]`` float64."""
    if len(values) == 0:
        return np.zeros(3)
    mean = values.mean()
    return np.array([len(values), mean, np.square(values - mean).sum()])


def add_moments(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """`moments_of` two parts together (Chan et al., 1979): exact also far from zero."""
    (rows, mean, squares), (more, other, further) = old, new
    if more == 0:
        return old
    shift = other - mean
    squares += further + shift**2 * rows * more / (rows + more)
    return np.array([rows + more, mean + shift * more / (rows + more), squares])


def mean_deviation(moments: np.ndarray) -> tuple[float, float]:
    """Mean, and standard deviation to divide by."""
    mean = float(moments[1])
    return mean, to_divide_by(mean, deviation_of(moments))


def deviation_of(moments: np.ndarray) -> float:
    """Standard deviation of the values themselves, not of what they are a sample of."""
    return float(np.sqrt(moments[2] / max(moments[0], 1)))


def to_divide_by(mean: float, deviation: float) -> float:
    """The deviation, or 1 where the values are all but the same."""
    return deviation if deviation > 1e-8 * max(abs(mean), 1.0) else 1.0
