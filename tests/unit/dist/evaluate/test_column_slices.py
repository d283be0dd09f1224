"""Rows by the values of a column of the events."""

import datetime
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.sections.bad_data import BadDataConfig
from foundrank.data.errors import UserError
from foundrank.data.events.event_files import list_events
from foundrank.dist.evaluate.column_slices import MOST_VALUES, check_slices, read_slices

FAIL = BadDataConfig()


def files_of(folder: Path, **tables: list[dict]) -> dict:
    """Domain -> its files, one of each list's columns in row groups of two rows."""
    out = {}
    for name, parts in tables.items():
        for number, columns in enumerate(parts):
            (folder / name).mkdir(exist_ok=True)
            pq.write_table(pa.table(columns), folder / name / f"{number}.parquet", row_group_size=2)
        out[name] = list_events(str(folder / name / "*.parquet"), "events", FAIL)
    return out


def sliced(folder: Path, column: str, **tables: list[dict]) -> dict[str, list[int]]:
    """Slice -> positions of its rows."""
    files = files_of(folder, **tables)
    check_slices([column], files)
    (found,) = read_slices([column], files, list(tables), FAIL)
    return {name: np.flatnonzero(mask).tolist() for name, mask in found.masks().items()}


def test_values_in_the_order_of_domains_and_files_and_what_is_missing(tmp_path):
    found = sliced(
        tmp_path,
        "device",
        shop=[{"device": ["phone", None, "desk"]}, {"device": ["phone"]}],
        feed=[{"other": [1, 2]}],
        find=[{"device": ["desk", "tv"]}],
    )
    assert found == {"device=desk": [2, 6], "device=phone": [0, 3], "device=tv": [7], "device missing": [1]}


def test_numbers_are_cut_into_quarters_of_all_domains_rows(tmp_path):
    price = [float(n) for n in range(100)]
    found = sliced(
        tmp_path, "price", shop=[{"price": [*price[::2], float("nan"), None]}], feed=[{"price": price[1::2]}]
    )
    assert list(found) == ["price<=24", "24<price<=49", "49<price<=74", "price>74", "price missing"]
    assert [len(rows) for rows in found.values()] == [25, 25, 25, 25, 2]
    assert found["price missing"] == [50, 51]


@pytest.mark.parametrize(("values", "names"), [
    ([3, 1, 1, 2], ["n=1", "n=2", "n=3", "n missing"]),
    ([0.5, 1.0, 1.0], ["n=0.5", "n=1", "n missing"]),
    ([True, False, None], ["n=False", "n=True", "n missing"]),
    ([7] * 90 + list(range(20)), ["n<=7", "n>7", "n missing"]),
    ([70] * 90 + list(range(20)), ["n<=19", "n>19", "n missing"]),
    ([2**60 + n for n in range(12)], [f"n<={2**60 + 2}", f"{2**60 + 2}<n<={2**60 + 5}", f"{2**60 + 5}<n<={2**60 + 8}", f"n>{2**60 + 8}", "n missing"]),
    ([datetime.date(2026, 1, day) for day in range(1, 13)], ["n<=2026-01-03", "2026-01-03<n<=2026-01-06", "2026-01-06<n<=2026-01-09", "n>2026-01-09", "n missing"]),
])  # fmt: skip
def test_few_numbers_are_values_and_many_are_bands(tmp_path, values, names):
    found = sliced(tmp_path, "n", shop=[{"n": values}])
    assert list(found) == names
    assert sum(map(len, found.values())) == len(values)


def test_of_many_values_the_commonest_have_slices(tmp_path):
    values = [f"v{n}" for n in range(30) for _ in range(30 - n)]
    found = sliced(tmp_path, "v", shop=[{"v": values}])
    assert len(found) == MOST_VALUES + 2
    counts = Counter(values)
    assert len(found["v=(other)"]) == sum(sorted(counts.values())[:10])
    assert all(len(found[f"v=v{n}"]) == 30 - n for n in range(MOST_VALUES))


LONG = "https://shop.example/a/path/that/is/far/longer/than/a/slice/name/may/be/"


@pytest.mark.parametrize("values", [
    [1700000000.0 + n for n in range(500)],
    [1700000000.0 + n / 8 for n in range(5)],
    [LONG + str(n) for n in range(6)],
    [LONG + str(n) for n in range(40)],
    [str(n) for n in range(30)] * 2 + ["(other)"] * 9,
    ["a", "a #2", LONG + "1", LONG[:60], LONG[:60] + " #2"],
])  # fmt: skip
def test_every_row_is_in_one_slice_whatever_values_are_called(tmp_path, values):
    found = sliced(tmp_path, "t", shop=[{"t": [*values, None]}])
    assert sorted(at for rows in found.values() for at in rows) == list(range(len(values) + 1))
    assert found["t missing"] == [len(values)]


def test_floats_have_as_many_digits_as_tell_them_apart(tmp_path):
    found = sliced(tmp_path, "t", shop=[{"t": [1700000000.0 + n for n in range(500)]}])
    assert list(found)[:2] == ["t<=1700000124", "1700000124<t<=1700000249"]
    assert [len(rows) for rows in found.values()] == [125, 125, 125, 125, 0]


def test_mistakes_are_told(tmp_path):
    files = files_of(tmp_path, shop=[{"device": ["a"], "past": [[1]]}, {"past": [[1]]}])
    with pytest.raises(UserError, match=r"no domain's events have a column 'devise'.*Did you mean 'device'"):
        check_slices(["devise"], files)
    with pytest.raises(UserError, match="has no column 'device', which other files of shop have"):
        check_slices(["device"], files)
    with pytest.raises(UserError, match="'past' is list"):
        check_slices(["past"], files)
