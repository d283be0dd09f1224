"""A week of the nights that `make chaos` has two hundred of."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from .faults import Broken
from .nights import Season


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Season:
    season = Season(tmp_path_factory.mktemp("nights"), seed=1)
    for number in range(7):
        season.night(number)
    return season


def test_each_row_of_each_day_has_one_score_of_the_current_model(season: Season):
    season.check()


def test_a_row_that_is_scored_twice_or_by_nobody_would_be_seen(season: Season):
    """The check itself."""
    part = next((season.platform.folder / "out" / f"day={season.days[-1].name}").glob("part-*.parquet"))
    table = pq.read_table(part)
    for spoilt in (pa.concat_tables([table, table.slice(0, 1)]), table.slice(1)):
        pq.write_table(spoilt, part)
        with pytest.raises(Broken, match=season.days[-1].name):
            season.check()
