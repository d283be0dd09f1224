"""Where a scoring job may write, and under which names."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.errors import UserError
from foundrank.dist.score.kept_columns import check_names_apart
from foundrank.dist.score.work_list import planned_parts

UNUSED: Any = None


def planned(source: Path, out: Path) -> None:
    planned_parts(str(source), str(out), {}, UNUSED, UNUSED, {}, False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "all" / "input"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"user": [1]}), folder / "a.parquet")
    return folder


@pytest.mark.parametrize("below", ["", "below", "below/deeper"])
def test_output_is_never_part_of_the_input(source: Path, below: str):
    with pytest.raises(UserError, match="is part of the input"):
        planned(source, source / below)
    assert [one.name for one in source.iterdir()] == ["a.parquet"]


def test_a_folder_that_holds_the_input_is_not_written_to(source: Path):
    with pytest.raises(UserError, match="is not empty and holds no scoring job"):
        planned(source, source.parent)


def test_names_of_the_output_are_not_those_of_kept_columns():
    check_names_apart({"request": "--keep"}, ["domain", "score_click"])
    with pytest.raises(UserError, match="--keep: 'score_click' is the name of a column that is written here"):
        check_names_apart({"score_click": "--keep", "request": "--keep"}, ["domain", "score_click"])
