"""The labels of a domain's tasks, as everybody reads them: training, counting, metrics and the baseline."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..config.sections.domains import DomainConfig


def read_labels(domain: DomainConfig, task: str, table: pa.Table) -> NDArray[np.float64]:
    """``[N]`` float64 labels of a task of a domain; NaN where a row has none.

    Args:
        domain: which has the task.
        task: its name.
        table: events of the domain, with the columns of all its labels.
    """
    return domain.tasks[task].label.read(table)
