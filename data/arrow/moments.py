"""Mean and deviation of values that come in parts."""

import numpy as np


def add_moments(old: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rows, mean and sum of squared differences from it (Chan et al., 1979): exact also far from zero."""
    if len(values) == 0:
        return old
    (rows, mean, squares), new = old, len(values)
    shift = values.mean() - mean
    squares += np.square(values - values.mean()).sum() + shift**2 * rows * new / (rows + new)
    return np.array([rows + new, mean + shift * new / (rows + new), squares])


def mean_deviation(moments: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation; a deviation of 1 where the values are all but the same."""
    rows, mean, squares = moments
    deviation = float(np.sqrt(squares / max(rows, 1)))
    return float(mean), deviation if deviation > 1e-8 * max(abs(mean), 1.0) else 1.0
