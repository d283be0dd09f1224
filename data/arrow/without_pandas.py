"""Arrow without pandas, which it imports, where it is installed, the first time it makes a value from one of Python's."""

import sys
from collections.abc import Sequence


def leave_pandas_out() -> None:
    """Has Arrow take it for good that there is no pandas, and ask nothing of the values that foundrank makes: a third of a second and
    35 MB in each process.

    For processes that run foundrank's code alone, as commands do. `pa.Table.from_pandas` and `to_pandas` would still do what they do
    elsewhere, but `pa.array` of a series knows none of pandas' nulls any more.
    """
    import pyarrow as pa  # so that whoever starts ranks may import this before

    if "pandas" in sys.modules:
        return
    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        pa.scalar(0)  # asks once, and keeps the answer
    finally:
        sys.meta_path.remove(absent)


class _Absent:
    """Finds pandas missing."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)
